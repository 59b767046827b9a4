package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bailiff-secrets/bailiff/auth"
	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/engine"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/document"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/notify"
	"github.com/bailiff-secrets/bailiff/policy"
	"github.com/bailiff-secrets/bailiff/rotation"
	"github.com/bailiff-secrets/bailiff/usc"
)

// estate turns declared objects into what serves requests, and is the one way to change them. Readers take the whole
// that stands now from live and never wait; one apply at a time makes the next.
type estate struct {
	store     object.Store
	documents document.Store // tokens, entities, what auth methods are set up with
	tokens    *identity.Tokens
	auth      *auth.Backend
	manager   *identity.Manager
	internal  []*gate.Mount // sys/, auth/token/
	leases    *broker.Broker
	rotations *rotation.Manager
	hooks     *notify.Manager
	engine    *engine.Engine // serves broker mounts
	targets   *targets
	logger    *slog.Logger

	live atomic.Pointer[live]
	mu   sync.Mutex // held by whoever makes the next live
}

// load builds what the store holds. It is called once, before anything is served.
func (e *estate) load(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.leases != nil {
		e.targets.adopter = e.leases
	}
	records, err := e.store.Objects(ctx)
	if err != nil {
		return fmt.Errorf("read objects: %w", err)
	}
	if err := e.swap(ctx, records); err != nil {
		return err
	}
	if err := e.revokeFor(ctx, e.manager.Shut()); err != nil { // what a crash left between a key's end and its leases'
		e.logger.Error("leases of keys that are shut out could not be revoked; they end when they expire", "error", err)
	}
	return nil
}

// swap makes records what counts. Nothing changes where it fails.
func (e *estate) swap(_ context.Context, records []object.Record) error {
	set, err := decodeAll(records)
	if err != nil {
		return err
	}
	next, err := e.build(set)
	if err != nil {
		return err
	}
	e.live.Store(next)
	e.manager.Use(identity.NewDirectory(set.identities, set.roles))
	e.targets.keepOnly(set.targets)
	e.rotations.Changed()
	e.hooks.Use(set.notifies)
	return nil
}

// Plan says what an apply of want would do.
func (e *estate) Plan(ctx context.Context, want []object.Record, prune bool) (object.Plan, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p, err := e.prepare(ctx, want, prune)
	return p.plan, err
}

// Apply makes want what stands. expect holds the versions that a plan showed, by "kind/name"; nil: any. All or nothing.
func (e *estate) Apply(ctx context.Context, by string, want []object.Record, prune bool, expect map[string]int64) (object.Plan, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.apply(ctx, by, object.SourceApply, want, prune, expect, tried)
}

// ApplyUntried is Apply without trying new and changed producers on their targets.
func (e *estate) ApplyUntried(ctx context.Context, by string, want []object.Record, prune bool, expect map[string]int64) (object.Plan, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.apply(ctx, by, object.SourceApply, want, prune, expect, untried)
}

// trying says whether an apply tries producers on their targets.
type trying bool

const (
	tried   trying = true
	untried trying = false
)

func (e *estate) apply(ctx context.Context, by, source string, want []object.Record, prune bool, expect map[string]int64, try trying) (object.Plan, error) {
	p, err := e.prepare(ctx, want, prune)
	if err != nil {
		return object.Plan{}, err
	}
	changes, err := p.changes(by, source, expect)
	if err != nil || len(changes) == 0 {
		return p.plan, err
	}
	if err := e.dropped(ctx, p); err != nil {
		return object.Plan{}, err
	}
	if try {
		if err := e.preflight(ctx, p); err != nil {
			return object.Plan{}, err
		}
	}
	if err := e.keepPolicies(ctx, p.now, p.plan.Steps); err != nil {
		return object.Plan{}, err
	}
	// This write makes the change durable. Killed before it nothing has changed; killed after it the next start builds from
	// what it wrote.
	if err := e.store.Apply(ctx, changes); err != nil {
		return object.Plan{}, storeError(err)
	}
	records, err := e.store.Objects(ctx)
	if err != nil {
		return object.Plan{}, fmt.Errorf("read objects back: %w", err)
	}
	if err := e.swap(ctx, records); err != nil {
		return object.Plan{}, fmt.Errorf("the change is stored but not in use: %w", err)
	}
	return p.plan, errors.Join(e.revokeDropped(ctx, by, p), e.forgetKeys(ctx, p))
}

// dropped refuses to remove a target that open leases still need.
func (e *estate) dropped(ctx context.Context, p prepared) error {
	for _, s := range p.plan.Steps {
		if s.Kind != object.KindTarget || s.Action != object.Deleted {
			continue
		}
		open, err := e.leases.List(ctx, broker.Filter{Target: s.Name, Limit: 1})
		if err != nil {
			return err
		}
		if len(open) > 0 {
			return &gate.Error{
				Kind: gate.Conflict, Msg: fmt.Sprintf("target %q has open leases, which could not be revoked without it", s.Name),
				Hint: "revoke them first: bailiff lease list --target " + s.Name,
			}
		}
	}
	return nil
}

// forgetKeys deletes the access keys of identities that are gone, and revokes what was issued to them. A crash before it
// leaves keys of nobody, which open nothing, and whose leases the next start revokes.
func (e *estate) forgetKeys(ctx context.Context, p prepared) error {
	var errs []error
	for _, id := range p.goneIDs {
		keys := e.manager.Keys(id)
		if err := errors.Join(e.revokeFor(ctx, keys), e.tokens.RevokeEntity(ctx, identity.EntityIDOf(id))); err != nil {
			errs = append(errs, err)
			continue
		}
		for _, k := range keys {
			errs = append(errs, e.manager.DeleteKey(ctx, id, k.ID))
		}
	}
	return errors.Join(errs...)
}

// Objects lists the objects of a kind by name; every kind where it is empty.
func (e *estate) Objects(_ context.Context, kind object.Kind) ([]object.Record, error) {
	all := e.live.Load().set.records
	if kind == "" {
		return all, nil
	}
	var out []object.Record
	for _, r := range all {
		if r.Kind == kind {
			out = append(out, r)
		}
	}
	return out, nil
}

// Object finds one; object.ErrNotFound where there is none.
func (e *estate) Object(_ context.Context, kind object.Kind, name string) (object.Record, error) {
	for _, r := range e.live.Load().set.records {
		if r.Kind == kind && r.Name == name {
			return r, nil
		}
	}
	return object.Record{}, object.ErrNotFound
}

// DeleteObject removes one, where nothing else refers to it. version 0: whatever stands.
func (e *estate) DeleteObject(ctx context.Context, by string, kind object.Kind, name string, version int64) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.live.Load().set.records
	i := slices.IndexFunc(now, func(r object.Record) bool { return r.Kind == kind && r.Name == name })
	if i < 0 {
		return object.ErrNotFound
	}
	if version != 0 && version != now[i].Version {
		return storeError(object.ErrConflict)
	}
	rest := slices.Delete(slices.Clone(now), i, i+1)
	if _, err := e.check(rest); err != nil {
		return err
	}
	p := prepared{now: now, plan: object.Plan{Steps: []object.Step{{Action: object.Deleted, Kind: kind, Name: name, Version: now[i].Version}}}}
	p.noteGone(now[i])
	if err := e.dropped(ctx, p); err != nil {
		return err
	}
	if err := e.keepPolicies(ctx, now, p.plan.Steps); err != nil {
		return err
	}
	change := object.Change{Record: object.Record{Kind: kind, Name: name, UpdatedBy: by}, Expect: now[i].Version, Delete: true}
	if err := e.store.Apply(ctx, []object.Change{change}); err != nil {
		return storeError(err)
	}
	if err := e.swap(ctx, rest); err != nil {
		return err
	}
	return errors.Join(e.revokeDropped(ctx, by, p), e.forgetKeys(ctx, p))
}

// upsert writes one object beside those that stand, as the API does. The caller holds e.mu.
func (e *estate) upsert(ctx context.Context, by string, v any) error {
	rec, err := object.Encode(v)
	if err != nil {
		return err
	}
	_, err = e.apply(ctx, by, object.SourceAPI, []object.Record{rec}, false, nil, tried)
	return err
}

// storeError says a store's no in the client's words.
func storeError(err error) error {
	if errors.Is(err, object.ErrConflict) {
		return &gate.Error{Kind: gate.Conflict, Msg: "the objects have changed meanwhile", Hint: "look at the plan again", Err: err}
	}
	return err
}

// ACL finds the compiled rules of policy names; see gate.Policies.
func (e *estate) ACL(who *identity.Caller) *policy.ACL {
	return e.live.Load().policies.acl(who)
}

// Role, Roles and Producer make the estate a broker.Catalog.
func (e *estate) Role(mount, name string) (broker.Role, bool) {
	r, ok := e.live.Load().roles[mount][name]
	return r, ok
}

// Roles lists the producers of a mount by name.
func (e *estate) Roles(mount string) []string {
	var out []string
	for name := range e.live.Load().roles[mount] {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// Producer finds what makes credentials on a target.
func (e *estate) Producer(target string) (broker.Producer, string, error) {
	t := e.targets.find(target)
	switch {
	case t != nil && t.vault != nil:
		return vaultLeases{t.vault}, broker.KindVault, nil
	case t == nil || t.producer == nil:
		return nil, "", fmt.Errorf("target %q is not configured", target)
	}
	return t.producer, t.spec.Type, nil
}

// checkTimeout bounds what an apply may ask of one target.
const checkTimeout = 10 * time.Second

func newEstate(store recordStore, manager *identity.Manager, logger *slog.Logger) *estate {
	return &estate{store: store, documents: store, manager: manager, targets: newTargets(logger), logger: logger}
}

func (e *estate) mounts() *gate.Mounts { return e.live.Load().mounts }

func (e *estate) connector(name string) (usc.Connector, bool) {
	c, ok := e.live.Load().connectors[name]
	return c, ok
}
