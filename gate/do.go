package gate

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/policy"
)

// Config is what a Gate needs. All but Observe and Fault must be set.
type Config struct {
	Authenticator Authenticator
	Policies      Policies
	Mounts        func() *Mounts // the table that stands now
	Recorder      Recorder
	Logger        *slog.Logger

	// Observe is called once at the end of each request, for metrics. It must not block.
	Observe func(r *Request, status audit.Status, took time.Duration)
	// Fault is called at named points so that a test can end the process there:
	// request-recorded, served, response-recorded.
	Fault func(point string)
}

// Gate is the one way to a Backend. It is safe for concurrent use.
type Gate struct{ cfg Config }

// New makes a Gate.
func New(cfg Config) (*Gate, error) {
	if cfg.Authenticator == nil || cfg.Policies == nil || cfg.Mounts == nil || cfg.Recorder == nil || cfg.Logger == nil {
		return nil, errors.New("gate: a part is missing from the configuration")
	}
	if cfg.Observe == nil {
		cfg.Observe = func(*Request, audit.Status, time.Duration) {}
	}
	if cfg.Fault == nil {
		cfg.Fault = func(string) {}
	}
	return &Gate{cfg}, nil
}

// Do serves r: who, where, may it, record, serve, record. See Doer.
func (g *Gate) Do(ctx context.Context, r *Request) (*Response, error) {
	begin(r)
	if err := g.who(ctx, r); err != nil {
		return nil, g.end(ctx, r, nil, err)
	}
	where(g.cfg.Mounts(), r)
	if err := g.mayIt(ctx, r); err != nil {
		return nil, g.end(ctx, r, nil, err)
	}
	if r.Mount == nil {
		return nil, g.end(ctx, r, nil, Errorf(NotFound, "no handler for route %q. route entry not found.", r.Path))
	}
	if r.changes = changes(r); r.changes {
		// A kill from here on leaves a record that something was begun: whoever reads the trail knows to look.
		if err := g.record(ctx, r, audit.StageRequest, audit.Begun, nil, nil); err != nil {
			return nil, err
		}
		g.cfg.Fault("request-recorded")
	}
	resp, err := g.serve(ctx, r)
	g.cfg.Fault("served")
	if err := g.end(ctx, r, resp, err); err != nil {
		return nil, err
	}
	return resp, nil
}

// Refuse records that r can't be judged and returns what to answer. See Doer.
func (g *Gate) Refuse(ctx context.Context, r *Request, kind Kind, why string) error {
	begin(r)
	r.Path = quoted(r.Path)
	if err := g.who(ctx, r); err != nil && kind != Invalid && kind != TooLarge {
		return g.end(ctx, r, nil, err) // a caller who isn't known learns nothing of what is there
	}
	return g.end(ctx, r, nil, &Error{Kind: kind, Msg: why})
}

func begin(r *Request) {
	if r.Start.IsZero() {
		r.Start = time.Now()
	}
	if r.ID == "" {
		r.ID = newID()
	}
}

func (g *Gate) who(ctx context.Context, r *Request) error {
	caller, err := g.cfg.Authenticator.Authenticate(ctx, r.Token, r.ClientAddr)
	r.Caller = caller
	return err
}

func where(m *Mounts, r *Request) {
	if mount, rest, ok := m.Route(r.Path); ok {
		r.Mount, r.Rest = mount, rest
	}
}

// mayIt sets r.Decision, and r.Op to Create where a write turns out to be one.
func (g *Gate) mayIt(ctx context.Context, r *Request) error {
	if r.Mount != nil {
		if j, ok := r.Mount.Backend.(Judge); ok && j.Open(r) {
			r.Decision = policy.Decision{Allowed: true, Reason: "open to every known caller"}
			return nil
		}
	}
	acl := g.cfg.Policies.ACL(r.Caller.Policies)
	if err := g.judgeOp(ctx, acl, r); err != nil {
		return err
	}
	if !r.Decision.Allowed {
		return ErrDenied
	}
	if r.Mount == nil {
		return nil
	}
	if s, ok := r.Mount.Backend.(Guarded); ok && r.Op != policy.Help && !r.Decision.Sudo && s.NeedsSudo(r) {
		r.Decision.Allowed, r.Decision.Reason = false, "the path needs the sudo capability"
		return ErrDenied
	}
	return nil
}

// judgeOp decides, and finds out whether a write is a create or an update where that makes the difference.
func (g *Gate) judgeOp(ctx context.Context, acl *policy.ACL, r *Request) error {
	r.Decision = acl.Decide(r.Op, r.Path)
	if r.Op != policy.Update {
		return nil
	}
	create := acl.Decide(policy.Create, r.Path)
	if create.Allowed == r.Decision.Allowed {
		return nil
	}
	exists, known := true, false
	if r.Mount != nil {
		if x, ok := r.Mount.Backend.(Exister); ok {
			var err error
			if exists, known, err = x.Exists(ctx, r); err != nil {
				return err
			}
		}
	}
	if known && !exists {
		r.Op, r.Decision = policy.Create, create
	}
	return nil
}

func changes(r *Request) bool {
	if c, ok := r.Mount.Backend.(Changer); ok {
		return c.Changes(r)
	}
	return r.Op != policy.Read && r.Op != policy.List && r.Op != policy.Help
}

// serve calls the backend; a panic there is an internal error of this one request.
func (g *Gate) serve(ctx context.Context, r *Request) (resp *Response, err error) {
	defer func() {
		if p := recover(); p != nil {
			g.cfg.Logger.Error("a backend panicked", "request_id", r.ID, "mount", r.Mount.Path, "type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			resp, err = nil, errors.New("the backend panicked")
		}
	}()
	resp, err = r.Mount.Backend.Serve(ctx, r)
	if err == nil && resp == nil {
		err = errors.New("the backend gave no answer")
	}
	return resp, err
}

// end keeps the record of how r ended and returns what the door is to answer: err, or ErrNoRecord.
func (g *Gate) end(ctx context.Context, r *Request, resp *Response, err error) error {
	status := statusOf(resp, err)
	if rerr := g.record(ctx, r, audit.StageResponse, status, resp, err); rerr != nil {
		drop(resp)
		return rerr
	}
	g.cfg.Fault("response-recorded")
	g.cfg.Observe(r, status, time.Since(r.Start))
	return err
}

// drop lets go of an answer that can't be released.
func drop(resp *Response) {
	if resp == nil {
		return
	}
	if resp.Raw != nil {
		resp.Raw.Body.Close() //nolint:errcheck // nothing is read from it
	}
	if resp.Abandon != nil {
		resp.Abandon()
	}
}

// record is durable on return. It is kept also when the client has gone meanwhile.
func (g *Gate) record(ctx context.Context, r *Request, stage audit.Stage, status audit.Status, resp *Response, err error) error {
	rec := recordOf(r, stage, status, resp)
	rec.Error = g.describe(r, err)
	if err := g.cfg.Recorder.Append(context.WithoutCancel(ctx), rec); err != nil {
		g.cfg.Logger.Error("the audit trail can't be written", "request_id", r.ID, "stage", string(stage), "error", err)
		g.cfg.Observe(r, audit.Failed, time.Since(r.Start))
		return ErrNoRecord
	}
	return nil
}

func recordOf(r *Request, stage audit.Stage, status audit.Status, resp *Response) *audit.Record {
	rec := &audit.Record{
		Stage: stage, Status: status, RequestID: r.ID, Via: string(r.Via),
		Identity: r.Caller.Name, AccessID: r.Caller.AccessID, KeyID: r.Caller.KeyID, Method: r.Caller.Method,
		UserAgent: cut(r.UserAgent, 256), Op: string(r.Op), Path: r.Path, Rule: r.Decision.Rule,
	}
	if r.ClientAddr.IsValid() {
		rec.ClientAddr = r.ClientAddr.String()
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
	rec.Principal, rec.Detail, rec.LeaseID = resp.Principal, resp.Detail, resp.LeaseID
	if resp.Lease != nil {
		rec.LeaseID = resp.Lease.ID
	}
	if resp.Raw != nil {
		rec.Code = resp.Raw.Code
	}
	return rec
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
		return r.Decision.Reason
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
