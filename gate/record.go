package gate

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/policy"
)

func changes(r *Request) bool {
	if c, ok := r.Mount.Backend.(Changer); ok {
		return c.Changes(r)
	}
	return r.Op != policy.Read && r.Op != policy.List && r.Op != policy.Help
}

// record is durable on return. It is kept also when the client has gone meanwhile.
func (g *Gate) record(ctx context.Context, r *Request, stage audit.Stage, status audit.Status, resp *Response, err error) error {
	return g.keep(ctx, r, g.recordOf(r, stage, status, resp, err))
}

// keep appends rec, which is of r.
func (g *Gate) keep(ctx context.Context, r *Request, rec *audit.Record) error {
	if err := g.cfg.Recorder.Append(context.WithoutCancel(ctx), rec); err != nil {
		g.cfg.Logger.Error("the audit trail can't be written", "request_id", r.ID, "stage", string(rec.Stage), "error", err)
		g.cfg.Observe(r, audit.Failed, time.Since(r.Start))
		return ErrNoRecord
	}
	return nil
}

func (g *Gate) recordOf(r *Request, stage audit.Stage, status audit.Status, resp *Response, err error) *audit.Record {
	rec := &audit.Record{
		Error: g.describe(r, err),
		Stage: stage, Status: status, RequestID: r.ID, Via: string(r.Via),
		Identity: r.Caller.Name, AccessID: r.Caller.AccessID, KeyID: cmp.Or(r.Caller.KeyID, r.Caller.Accessor), Method: r.Caller.Method,
		UserAgent: cut(r.UserAgent, 256), Op: string(r.Op), Path: r.FullPath(), Rule: r.Decision.Rule,
	}
	if r.ClientAddr.IsValid() {
		rec.ClientAddr = r.ClientAddr.String()
	}
	if r.ProxyAddr.IsValid() {
		rec.ProxyAddr = r.ProxyAddr.String()
	}
	if r.Mount != nil {
		rec.Mount, rec.Target = r.Mount.Path, r.Mount.Target
		if e, ok := r.Mount.Backend.(Ender); ok && r.Decision.Allowed {
			rec.Essential = e.Ends(r)
		}
	}
	if stage == audit.StageResponse {
		rec.Micros = time.Since(r.Start).Microseconds()
	}
	if resp == nil {
		return rec
	}
	rec.Principal, rec.Detail, rec.LeaseID = resp.Principal, resp.Detail, leaseID(resp)
	if resp.Raw != nil {
		rec.Code = resp.Raw.Code
	}
	return rec
}

// leaseID is the lease that resp is about; empty where there is none.
func leaseID(resp *Response) string {
	if resp.Lease != nil {
		return resp.Lease.ID
	}
	return resp.LeaseID
}

// describe says in the record's words what went wrong; what is not meant for clients goes to the log alone.
func (g *Gate) describe(r *Request, err error) string {
	var refusal *identity.Refusal
	var said *Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &refusal):
		return refusal.Reason
	case errors.Is(err, ErrDenied):
		return r.Decision.Why()
	case errors.As(err, &said):
		if said.Err != nil {
			g.cfg.Logger.Warn("a request failed", "request_id", r.ID, "path", r.Path, "error", said.Err)
		}
		return said.Msg
	case errors.Is(err, identity.ErrUnauthenticated):
		return "unauthenticated"
	case errors.Is(err, context.Canceled):
		return "the client went away"
	default:
		g.cfg.Logger.Error("a request failed", "request_id", r.ID, "path", r.Path, "error", err)
		return "internal error"
	}
}

func statusOf(resp *Response, err error) audit.Status {
	var said *Error
	switch {
	case err == nil:
		if resp != nil && resp.Raw != nil && resp.Raw.Code >= 400 && resp.Raw.Code != 404 {
			return audit.Failed
		}
		return audit.OK
	case errors.Is(err, identity.ErrUnauthenticated), errors.Is(err, ErrDenied):
		return audit.Denied
	case errors.As(err, &said):
		return statusOfKind(said.Kind)
	default:
		return audit.Failed
	}
}

func statusOfKind(k Kind) audit.Status {
	switch k {
	case Forbidden:
		return audit.Denied
	case Invalid, NotFound, Unsupported, TooLarge, TooMany, Conflict:
		return audit.Refused
	default:
		return audit.Failed
	}
}

// newID is 128 random bits in the form in which Vault writes request ids.
func newID() string {
	var b [16]byte
	rand.Read(b[:]) //nolint:errcheck // never fails: see crypto/rand
	var s [36]byte
	hex.Encode(s[0:8], b[0:4])
	hex.Encode(s[9:13], b[4:6])
	hex.Encode(s[14:18], b[6:8])
	hex.Encode(s[19:23], b[8:10])
	hex.Encode(s[24:36], b[10:16])
	s[8], s[13], s[18], s[23] = '-', '-', '-', '-'
	return string(s[:])
}

// quoted makes any bytes fit for a record; what is fit already stays as it is, so that it is found by its path.
func quoted(s string) string {
	if len(s) <= 512 && utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return s
	}
	return strconv.QuoteToASCII(cut(s, 512))
}

func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "…"
}
