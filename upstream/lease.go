package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/policy"
)

// leaseScan is how much of an answer is looked at for a lease. What a Vault leases is a few lines.
const leaseScan = 256 << 10

// expects tells whether r is of the kind that makes an engine issue something under a lease, so that this is noted before it
// is sent. Engines that lease by other requests (a pki role with generate_lease) are followed without such a note.
func expects(r *gate.Request) bool {
	switch r.Op {
	case policy.Read, policy.Update, policy.Create:
	default:
		return false
	}
	switch r.Mount.Type {
	case "database", "aws", "azure", "gcp", "alicloud", "consul", "nomad", "rabbitmq", "kubernetes", "ldap", "openldap", "ad",
		"terraform", "mongodbatlas", "ssh", "cassandra", "mysql", "postgresql", "mssql", "mongodb":
	default:
		return false
	}
	switch first, _, _ := strings.Cut(r.Rest, "/"); first {
	case "creds", "sts", "token", "key", "roleset", "static-account", "impersonated-account":
		return true
	}
	return false
}

// serveLeased sends r on like Serve, and has the lease in its answer, if there is one, kept before the answer leaves.
func (b *backend) serveLeased(ctx context.Context, r *gate.Request) (*gate.Response, error) {
	intent := ""
	if expects(r) {
		if err := r.Recorded(ctx); err != nil {
			return nil, err
		}
		var err error
		if intent, err = b.v.adopter.Expect(ctx, r); err != nil {
			return nil, err
		}
	}
	resp, err := b.forward(ctx, r)
	if err != nil {
		// The note stays where the target may have heard of the request.
		if intent != "" && untouched(err) {
			return nil, errors.Join(err, b.v.adopter.Adopt(ctx, r, intent, nil))
		}
		return nil, err
	}
	if err := b.adopt(ctx, r, intent, resp); err != nil {
		resp.Raw.Body.Close() //nolint:errcheck // nothing more is read from it
		return nil, err
	}
	return resp, nil
}

// untouched tells whether err means that nothing was sent.
func untouched(err error) bool {
	var dial *dialError
	var said *gate.Error
	return errors.As(err, &dial) || errors.As(err, &said) && (said.Kind == gate.TooMany || said.Kind == gate.Invalid || said.Kind == gate.Unsupported)
}

// adopt looks for a lease in the answer, and has it kept.
func (b *backend) adopt(ctx context.Context, r *gate.Request, intent string, resp *gate.Response) error {
	raw := resp.Raw
	if raw.Code < 200 || raw.Code > 299 {
		return b.v.adopter.Adopt(ctx, r, intent, nil)
	}
	head, err := io.ReadAll(io.LimitReader(raw.Body, leaseScan))
	if err != nil {
		return err
	}
	found := findLease(head)
	if found == nil {
		raw.Body = rest(head, raw.Body)
		return b.v.adopter.Adopt(ctx, r, intent, nil)
	}
	found.ID = r.Mount.Path + strings.TrimPrefix(found.Remote, b.remote+"/")
	if err := b.v.adopter.Adopt(ctx, r, intent, &found.TargetLease); err != nil {
		b.undo(ctx, found.Remote)
		return err
	}
	resp.Lease = &gate.Lease{ID: found.ID, Renewable: found.Renewable, Duration: found.Duration}
	resp.Abandon = func() { b.v.adopter.Abandon(context.WithoutCancel(ctx), found.ID) }
	if found.ID != found.Remote {
		text, err := json.Marshal(found.ID)
		if err != nil {
			return err
		}
		if raw.Length >= 0 {
			raw.Length += int64(len(text) - (found.to - found.from))
		}
		head = append(append(append(make([]byte, 0, len(head)+len(text)), head[:found.from]...), text...), head[found.to:]...)
	}
	raw.Body = rest(head, raw.Body)
	return nil
}

// undo ends a lease that could not be kept, at once. Where that fails too the Vault ends it by its own time.
func (b *backend) undo(ctx context.Context, remote string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), b.v.client.timeout)
	defer cancel()
	if err := b.v.RevokeLease(ctx, remote); err != nil {
		b.v.session.logger.Error("a lease could neither be kept nor ended: the Vault ends it by its own time", "error", err)
	}
}

// rest is what was read of a body, and then what was not.
func rest(head []byte, body io.ReadCloser) io.ReadCloser {
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(head), body), body}
}

// leaseIn is a lease as it stands in an answer, and where its name does.
type leaseIn struct {
	gate.TargetLease
	from, to int
}

// findLease reads the outermost fields of an answer, as far as it is there. It is nil where no lease is named. The fields
// that count stand in front of what can be long.
func findLease(b []byte) *leaseIn {
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil
	}
	var l leaseIn
	for seen := 0; seen < 3 && d.More(); {
		name, err := d.Token()
		if err != nil {
			break
		}
		var raw json.RawMessage
		if d.Decode(&raw) != nil {
			break
		}
		var n int64
		switch name {
		case "lease_id":
			seen++
			if json.Unmarshal(raw, &l.Remote) != nil {
				return nil
			}
			l.to = int(d.InputOffset())
			l.from = l.to - len(raw)
		case "renewable":
			seen++
			if json.Unmarshal(raw, &l.Renewable) != nil {
				return nil
			}
		case "lease_duration":
			seen++
			if json.Unmarshal(raw, &n) != nil {
				return nil
			}
			l.Duration = seconds(n)
		}
	}
	if l.Remote == "" {
		return nil
	}
	return &l
}

// RevokeLease ends a lease that the target keeps, and waits for that. One that isn't there is ended. Errors are ctx's own or
// *gate.Error; Refused tells the target's no from others.
func (v *Vault) RevokeLease(ctx context.Context, remote string) error {
	k, err := leaseCall("sys/leases/revoke", map[string]any{"lease_id": remote, "sync": true})
	if err != nil {
		return err
	}
	return gone(v.ask(ctx, k, nil))
}

// gone takes a target's word that a lease isn't there for its end.
func gone(err error) error {
	var no *refusal
	if errors.As(err, &no) && no.code == http.StatusBadRequest && no.missing {
		return nil
	}
	return err
}

// RenewLease renews a lease that the target keeps, by increment or by the target's default where that is zero, and returns how
// long it is kept from now. Errors as RevokeLease; ErrGone where the target has no such lease.
func (v *Vault) RenewLease(ctx context.Context, remote string, increment time.Duration) (granted time.Duration, warnings []string, err error) {
	k, err := leaseCall("sys/leases/renew", map[string]any{"lease_id": remote, "increment": int64(increment / time.Second)})
	if err != nil {
		return 0, nil, err
	}
	var out struct {
		Duration int64    `json:"lease_duration"`
		Warnings []string `json:"warnings"`
	}
	if err := v.ask(ctx, k, &out); err != nil {
		var no *refusal
		if errors.As(err, &no) && no.missing {
			return 0, nil, ErrGone
		}
		return 0, nil, err
	}
	return seconds(out.Duration), out.Warnings, nil
}

// ErrGone says that a target knows nothing of a lease.
var ErrGone = &gate.Error{Kind: gate.Invalid, Msg: "lease not found"}

// Refused tells whether err is the target's own no to a request of Bailiff's login.
func Refused(err error) bool {
	var no *refusal
	return errors.As(err, &no) && no.code == http.StatusForbidden
}

func leaseCall(path string, in map[string]any) (*call, error) {
	b, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	k := post(path, secret.Value{}, nil)
	k.body, k.length = bytes.NewReader(b), int64(len(b))
	return k, nil
}
