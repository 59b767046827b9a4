package auth

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/document"
)

// Config is what a Backend needs. All but the last group must be set.
type Config struct {
	Store   document.Store
	Methods map[string]Method // by type
	Tokens  Tokens
	Logger  *slog.Logger

	// End ends every token that was made at a mount, and with them what was issued to them. It is durable on return.
	End func(ctx context.Context, m *Mount) error
	// Changed is called when the table of mounts is another one.
	Changed func() error
	// Own are the mounts below auth/ that others serve: they are shown, and their paths are taken.
	Own []*gate.Mount
	// Limits guard logins; see Limits.
	Limits Limits
}

// Backend keeps the table of auth mounts and serves them, and sys/auth. It is safe for concurrent use.
type Backend struct {
	cfg   Config
	guard *guard
	table atomic.Pointer[table]

	mu sync.Mutex // held by whoever changes the table
}

// table is the mounts, by path. It is not changed once it is in use.
type table struct {
	mounts map[string]*Mount // those that serve
	ending []*Mount          // those whose end was not finished
}

// New makes a Backend with the mounts that the store has.
func New(ctx context.Context, cfg Config) (*Backend, error) {
	if cfg.Store == nil || cfg.Methods == nil || cfg.Tokens == nil || cfg.Logger == nil {
		return nil, errors.New("auth: a part is missing from the configuration")
	}
	if cfg.End == nil {
		cfg.End = func(context.Context, *Mount) error { return nil }
	}
	if cfg.Changed == nil {
		cfg.Changed = func() error { return nil }
	}
	b := &Backend{cfg: cfg, guard: newGuard(cfg.Limits)}
	b.table.Store(&table{})
	_, err := b.read(ctx)
	return b, err
}

// Mounts is the table as the gate routes by it.
func (b *Backend) Mounts() []*gate.Mount {
	t := b.table.Load()
	out := make([]*gate.Mount, 0, len(t.mounts))
	for _, m := range t.mounts {
		method, known := b.cfg.Methods[m.Type]
		if !known {
			continue
		}
		out = append(out, &gate.Mount{
			Path: m.FullPath(), Type: m.Type, Description: m.Description, Options: m.Options, Accessor: m.Accessor, UUID: m.UUID,
			DefaultTTL: m.Tune.DefaultTTL, MaxTTL: m.Tune.MaxTTL, Internal: true, Config: m.shown(),
			Backend: &mounted{b: b, m: m, method: method},
		})
	}
	return out
}

// mounted is a mount as a gate.Backend.
type mounted struct {
	b      *Backend
	m      *Mount
	method Method
}

// NeedsNoCaller tells which requests log in. See gate.Greeter.
func (x *mounted) NeedsNoCaller(r *gate.Request) bool { return x.method.Greets(r.Rest) }

// Exists tells a create from an update. See gate.Exister.
func (x *mounted) Exists(ctx context.Context, r *gate.Request) (exists, known bool, err error) {
	if e, ok := x.method.(Exister); ok {
		return e.Exists(ctx, x.m, r.Rest)
	}
	return false, false, nil
}

// Serve answers one request. See gate.Backend.
func (x *mounted) Serve(ctx context.Context, r *gate.Request) (*gate.Response, error) {
	body, err := readBody(r)
	if err != nil {
		return nil, err
	}
	c := &Call{Request: r, At: x.m, Body: body}
	var resp *gate.Response
	if x.method.Greets(r.Rest) {
		resp, err = x.login(ctx, c)
	} else {
		resp, err = x.method.Serve(ctx, c)
	}
	if err == nil {
		err = body.Err()
	}
	if errors.Is(err, document.ErrConflict) {
		return nil, &gate.Error{Kind: gate.Conflict, Msg: "somebody else has changed this meanwhile", Err: err}
	}
	if err != nil {
		return nil, err
	}
	return warned(resp, body), nil
}

// identify is a Caller as far as it is known while a login is under way, for its record.
func (x *mounted) identify(r *gate.Request, alias string) {
	r.Caller = identity.Caller{Method: x.m.Type, MountPath: x.m.FullPath(), AliasName: alias}
}
