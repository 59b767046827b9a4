package sys

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/audit/index"
	"github.com/bailiff-secrets/bailiff/audit/merkle"
	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/document"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/policy"
)

// Leases finds, renews and revokes leases; *broker.Broker is one. Errors are *gate.Error where the caller should learn
// more; one of a lease that isn't there wraps broker.ErrNoLease.
type Leases interface {
	// Lookup finds a lease in any state.
	Lookup(ctx context.Context, id string) (*broker.Lease, error)
	// Renew moves the end of a lease to increment from now; zero: its role's default. The words are warnings.
	Renew(ctx context.Context, id string, increment time.Duration) (*broker.Lease, []string, error)
	// Revoke promises durably to end a lease and, with sync, waits until it is ended.
	Revoke(ctx context.Context, id string, sync bool) error
	// Release is Revoke by one of those who share a lease: it stays for the others.
	Release(ctx context.Context, id string, sync bool) error
	// List pages through leases by Seq.
	List(ctx context.Context, f broker.Filter) ([]*broker.Lease, error)
}

// Trail answers questions about the past; *audit.Log is one.
type Trail interface {
	// Query calls fn for each record that matches, newest first; an error of fn ends it.
	Query(ctx context.Context, q audit.Query, fn func(*audit.Record) error) error
	// Head is the last durable record.
	Head() audit.Head
}

// Holders says who had what; *index.Index is one.
type Holders interface {
	// WhoHad sums up by identity who had what lies at a path, from since up to until; zero times are no limit.
	WhoHad(ctx context.Context, path string, since, until time.Time) ([]index.Holder, error)
}

// Proofs shows to outsiders what is in the trail; a *merkle.Tree is most of one.
type Proofs interface {
	// Key is the public key as text.
	Key() string
	// Checkpoint is the newest one, signed; nil before the first.
	Checkpoint() []byte
	// Prove shows that a record is in the trail; merkle.ErrUnsigned where it is too new.
	Prove(ctx context.Context, seq uint64) (*merkle.Proof, error)
}

// Estate is what is declared, and the one way to change it. Every method that writes is durable on return. Errors are
// *gate.Error, *object.Problem (also joined), object.ErrNotFound or object.ErrConflict where the caller should learn more.
type Estate interface {
	// Plan says what Apply would do.
	Plan(ctx context.Context, want []object.Record, prune bool) (object.Plan, error)
	// Apply makes want what stands, all or nothing. expect holds versions by "kind/name"; nil: any.
	Apply(ctx context.Context, by string, want []object.Record, prune bool, expect map[string]int64) (object.Plan, error)
	// Objects lists the objects of a kind by name; of every kind where it is empty.
	Objects(ctx context.Context, kind object.Kind) ([]object.Record, error)
	// Object finds one.
	Object(ctx context.Context, kind object.Kind, name string) (object.Record, error)
	// DeleteObject removes one to which nothing refers; version 0: whichever stands.
	DeleteObject(ctx context.Context, by string, kind object.Kind, name string, version int64) error
}

// AccessKeys keeps the keys of identities, by the identity's name. Changes count from the moment of return.
type AccessKeys interface {
	// AddKey makes a key that lives for ttl; zero: for ever.
	AddKey(ctx context.Context, by, name, note string, ttl time.Duration) (identity.NewKey, error)
	// Keys lists an identity's keys, oldest first.
	Keys(ctx context.Context, name string) ([]identity.Key, error)
	// SetKeyDisabled switches a key off or on.
	SetKeyDisabled(ctx context.Context, by, name, id string, disabled bool) error
	// DeleteKey forgets a key.
	DeleteKey(ctx context.Context, by, name, id string) error
}

// Identities makes identities and their keys. Errors are *gate.Error where the caller should learn more.
type Identities interface {
	AccessKeys
	// Create declares an identity and makes its first key.
	Create(ctx context.Context, by string, in object.Identity, note string) (identity.NewKey, error)
	// SetDisabled switches an identity off or on, at once.
	SetDisabled(ctx context.Context, by, name string, disabled bool) error
}

// Reconciler compares targets with leases; *broker.Broker is one. Errors are *gate.Error.
type Reconciler interface {
	Reconcile(ctx context.Context, target string, act broker.ReconcileAction) (broker.Report, error)
}

// AuthMethods keeps the table of auth methods; *auth.Backend is one.
type AuthMethods interface {
	// ServeMounts answers sys/auth and what lies below it; path is what stands behind "sys/auth/".
	ServeMounts(ctx context.Context, r *gate.Request, path string) (*gate.Response, error)
	// Unlock forgets the wrong proofs of a name at a mount.
	Unlock(accessor, name string)
}

// Config is what a Backend needs. All but the last group must be set.
type Config struct {
	Leases     Leases
	Many       Many
	Stuck      Stuck
	Trail      Trail
	Estate     Estate
	Mounts     func() *gate.Mounts // the table that stands now
	Policies   gate.Policies
	Identities Identities
	Auth       AuthMethods
	Tokens     *identity.Tokens
	Logger     *slog.Logger

	// Vaults is nil where there are none behind.
	Vaults Vaults
	// Reconciler is nil where targets can't be compared.
	Reconciler Reconciler
	// Book is nil where questions about policies are not answered.
	Book Book
	// Holders is nil where the trail has no index.
	Holders Holders
	// Proofs is nil where nothing is signed for.
	Proofs Proofs
	// Wrapping is nil where nothing is wrapped.
	Wrapping Wrapping
	// Recovery is nil where nothing is ever held.
	Recovery Recovery
	// Version is what clients see as Vault's; default 1.13.0.
	Version string
	// Status adds to the answer of sys/bailiff/status.
	Status func(ctx context.Context) map[string]any
}

// Backend serves the mounts sys/, auth/token/ and identity/. It keeps no state of its own and is safe for concurrent use.
type Backend struct {
	cfg     Config
	routes  []route
	started time.Time
}

// New makes a Backend.
func New(cfg Config) (*Backend, error) {
	if cfg.Leases == nil || cfg.Many == nil || cfg.Stuck == nil ||
		cfg.Trail == nil || cfg.Estate == nil || cfg.Mounts == nil || cfg.Policies == nil || cfg.Identities == nil || cfg.Auth == nil || cfg.Tokens == nil || cfg.Logger == nil {
		return nil, errors.New("sys: a part is missing from the configuration")
	}
	if cfg.Version == "" {
		cfg.Version = "1.13.0"
	}
	if cfg.Status == nil {
		cfg.Status = func(context.Context) map[string]any { return nil }
	}
	b := &Backend{cfg: cfg, started: time.Now()}
	b.routes = slices.Concat(b.table(), b.tokenRoutes(), b.identityRoutes(), b.policyRoutes(), b.bookRoutes(), b.wrapping(), refused())
	return b, nil
}

// Serve answers one request. See gate.Backend.
func (b *Backend) Serve(ctx context.Context, r *gate.Request) (*gate.Response, error) {
	if r.Op == policy.Help {
		return b.help(r)
	}
	serve, args, err := b.find(r.Op, r.Path)
	if err != nil {
		return nil, err
	}
	c := &call{Request: r, args: args}
	resp, err := serve(ctx, c)
	if err != nil {
		return nil, say(err)
	}
	if len(c.ignored) > 0 && resp.Status == gate.OK {
		resp.Warnings = append(resp.Warnings, "Endpoint ignored these unrecognized parameters: ["+strings.Join(c.ignored, " ")+"]")
	}
	return resp, nil
}

// Open tells which paths any known caller may use, as in Vault: they show a caller only what is open to it. See gate.Judge.
func (b *Backend) Open(r *gate.Request) bool {
	const mounts = "sys/internal/ui/mounts"
	return r.Op == policy.Read && (r.Path == mounts || strings.HasPrefix(r.Path, mounts+"/"))
}

// NeedsSudo tells which paths need the sudo capability too, as in Vault. See gate.Guarded.
func (b *Backend) NeedsSudo(r *gate.Request) bool {
	switch r.Path {
	case "sys/audit", "sys/leases", "sys/remount":
		return true
	case "sys/leases/lookup":
		return r.Op == policy.List
	}
	if strings.HasPrefix(r.Path, "sys/mounts/") && !strings.HasPrefix(r.Path, "sys/mounts/auth/") && !strings.HasSuffix(r.Path, "/tune") {
		return r.Op != policy.Read && r.Op != policy.List // secrets engines are made and destroyed on the Vaults behind
	}
	for _, prefix := range [...]string{
		"sys/auth/", "sys/audit/", "sys/revoke-prefix/", "sys/revoke-force/",
		"sys/leases/revoke-prefix/", "sys/leases/revoke-force/", "sys/leases/lookup/", "auth/token/accessors", "auth/token/revoke-orphan/",
	} {
		if strings.HasPrefix(r.Path, prefix) {
			return true
		}
	}
	return strings.HasPrefix(r.Path, "sys/bailiff/leases/") && strings.HasSuffix(r.Path, "/force")
}

// Changes tells what changes something and is therefore recorded before it is done: every write but the questions that
// come with a body. See gate.Changer.
func (b *Backend) Changes(r *gate.Request) bool {
	switch r.Op {
	case policy.Read, policy.List, policy.Help:
		return false
	}
	if strings.HasPrefix(r.Path, "sys/tools/") || asksBook(r.Path) {
		return false
	}
	switch r.Path {
	case wrapPath, wrapLookupPath, "sys/capabilities", "sys/capabilities-self", "sys/capabilities-accessor", "sys/leases/lookup", "sys/bailiff/plan", "sys/bailiff/revocations/preview",
		"auth/token/lookup", "auth/token/lookup-self", "auth/token/lookup-accessor", "identity/lookup/entity", "identity/lookup/group":
		return false
	}
	return true
}

// Exists tells a create of an identity from a change. See gate.Exister.
func (b *Backend) Exists(ctx context.Context, r *gate.Request) (exists, known bool, err error) {
	name, ok := strings.CutPrefix(r.Path, "sys/bailiff/identities/")
	if !ok || strings.Contains(name, "/") {
		return false, false, nil
	}
	_, err = b.cfg.Estate.Object(ctx, object.KindIdentity, name)
	if errors.Is(err, object.ErrNotFound) {
		return false, true, nil
	}
	return err == nil, err == nil, err
}

// say turns what the parts below answer into what the gate knows.
func say(err error) error {
	var said *gate.Error
	var problem *object.Problem
	var told *identity.Said
	switch {
	case errors.As(err, &said):
		return err
	case errors.As(err, &problem):
		return &gate.Error{Kind: gate.Invalid, Msg: err.Error()}
	case errors.Is(err, object.ErrNotFound):
		return &gate.Error{Kind: gate.NotFound, Msg: "there is no such object", Err: err}
	case errors.Is(err, object.ErrConflict):
		return &gate.Error{Kind: gate.Conflict, Msg: err.Error(), Hint: "look at the plan again"}
	case errors.As(err, &told) && told.Denied:
		return &gate.Error{Kind: gate.Forbidden, Msg: told.Msg}
	case told != nil:
		return &gate.Error{Kind: gate.Invalid, Msg: told.Msg}
	case errors.Is(err, document.ErrConflict):
		return &gate.Error{Kind: gate.Conflict, Msg: "somebody else has changed this meanwhile", Err: err}
	case errors.Is(err, identity.ErrNoKey):
		return &gate.Error{Kind: gate.NotFound, Msg: err.Error()}
	}
	return err
}

var (
	_ gate.Backend = (*Backend)(nil)
	_ gate.Judge   = (*Backend)(nil)
	_ gate.Guarded = (*Backend)(nil)
	_ gate.Changer = (*Backend)(nil)
	_ gate.Exister = (*Backend)(nil)
)
