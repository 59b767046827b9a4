package gate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/identity"
)

// Config is what a Gate needs. All but Finish, Uses, Wrapper, Observe and Fault must be set.
type Config struct {
	Authenticator Authenticator
	Policies      Policies
	Mounts        func() *Mounts // the table that stands now
	Recorder      Recorder
	Logger        *slog.Logger

	// Finish is called when the answer to a request that was its token's last use is recorded; nil: nothing is. It must not
	// wait for a target.
	Finish func(ctx context.Context, who *identity.Caller)
	// Uses counts what policies grant only so many times; nil: that is not granted at all.
	Uses Uses
	// Wrapper keeps answers that are to be wrapped; nil where none can be.
	Wrapper Wrapper
	// Observe is called once at the end of each request, for metrics. It must not block.
	Observe func(r *Request, status audit.Status, took time.Duration)
	// Fault is called at named points so that a test can end the process there:
	// request-recorded, served, response-recorded. What is done beside a record may or may not be durable then.
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
	defer g.finish(ctx, r)
	where(g.cfg.Mounts(), r)
	if err := g.who(ctx, r); err != nil {
		return nil, g.end(ctx, r, nil, err)
	}
	if err := g.mayIt(ctx, r); err != nil {
		return nil, g.end(ctx, r, nil, err)
	}
	if r.Mount == nil {
		return nil, g.end(ctx, r, nil, Errorf(NotFound, "no handler for route %q. route entry not found.", r.Path))
	}
	if err := g.canWrap(r); err != nil {
		return nil, g.end(ctx, r, nil, err)
	}
	if r.changes = changes(r); r.changes {
		if err := g.begun(ctx, r); err != nil {
			return nil, err
		}
	}
	resp, err := g.serve(ctx, r)
	g.cfg.Fault("served")
	if rerr := r.overlap.wait(); rerr != nil {
		drop(resp)
		return nil, rerr
	}
	if resp, err = outlives(r, resp, err); err == nil {
		resp, err = g.wrap(ctx, r, resp, err)
	}
	if err := g.end(ctx, r, resp, err); err != nil {
		return nil, err
	}
	return resp, nil
}

// Refuse records that r can't be judged and returns what to answer. See Doer.
func (g *Gate) Refuse(ctx context.Context, r *Request, kind Kind, why string) error {
	begin(r)
	defer g.finish(ctx, r)
	r.Path = quoted(r.Path)
	if err := g.who(ctx, r); err != nil && kind != Invalid && kind != TooLarge {
		return g.end(ctx, r, nil, err) // a caller who isn't known learns nothing of what is there
	}
	return g.end(ctx, r, nil, &Error{Kind: kind, Msg: why})
}

// finish lets the token's end begin where this request was its last use.
func (g *Gate) finish(ctx context.Context, r *Request) {
	if r.Caller.LastUse && g.cfg.Finish != nil {
		g.cfg.Finish(context.WithoutCancel(ctx), &r.Caller)
	}
}

// outlives drops what was issued to a token that ends with this request, and the credential with it: as Vault does, in its words.
func outlives(r *Request, resp *Response, err error) (*Response, error) {
	if err != nil || !r.Caller.LastUse || resp.Lease == nil {
		return resp, err
	}
	drop(resp)
	return nil, Errorf(Invalid, "Secret cannot be returned; token had one use left, so leased credentials were immediately revoked.")
}

func begin(r *Request) {
	if r.Start.IsZero() {
		r.Start = time.Now()
	}
	if r.ID == "" {
		r.ID = newID()
	}
}

// who sets r.Caller. A path that needs no caller has none, whatever was presented: as in Vault.
func (g *Gate) who(ctx context.Context, r *Request) error {
	if greets(r) {
		return nil
	}
	caller, err := g.cfg.Authenticator.Authenticate(ctx, r.Token, r.ClientAddr)
	r.Caller = caller
	return err
}

func greets(r *Request) bool {
	if r.Mount == nil {
		return false
	}
	a, ok := r.Mount.Backend.(Greeter)
	return ok && a.NeedsNoCaller(r)
}

func where(m *Mounts, r *Request) {
	place(m, r)
	if mount, rest, ok := m.Route(r.Path); ok {
		r.Mount, r.Rest = mount, rest
	}
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

// end keeps the record of how r ended, beside what else must be durable by then, and returns what the door is to answer:
// err, the error of what was beside, or ErrNoRecord.
func (g *Gate) end(ctx context.Context, r *Request, resp *Response, err error) error {
	besides := func() error { return nil }
	if err == nil {
		besides = g.beside(ctx, r)
	}
	status := statusOf(resp, err)
	rerr := g.record(ctx, r, audit.StageResponse, status, resp, err)
	if rerr == nil {
		g.cfg.Fault("response-recorded")
	}
	if berr := besides(); berr != nil && rerr == nil { // the record has said more than is true: another one takes it back
		drop(resp)
		resp, err, status = &Response{LeaseID: leaseID(resp), Principal: resp.Principal}, berr, statusOf(nil, berr)
		rerr = g.record(ctx, r, audit.StageResponse, status, resp, err)
	}
	if rerr != nil {
		drop(resp)
		return rerr
	}
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
