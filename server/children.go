package server

import (
	"context"
	"errors"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/object"
)

// MountMaxTTL is the most that a lease of a mount lives.
func (e *estate) MountMaxTTL(mount string) time.Duration {
	for _, m := range e.mounts().All() {
		if m.Path == mount {
			return m.MaxTTL
		}
	}
	return 0
}

// revokeFor revokes what was issued to keys that don't count any more, apart from leases that outlive them. The promise is
// durable on return.
func (e *estate) revokeFor(ctx context.Context, keys []identity.Key) error {
	var errs []error
	for _, k := range keys {
		errs = append(errs, e.revokeKey(ctx, k.ID))
	}
	return errors.Join(errs...)
}

// revokeKey ends what was issued to an access key, and the tokens that go back to it.
func (e *estate) revokeKey(ctx context.Context, id string) error {
	return errors.Join(e.tokens.RevokeKey(ctx, id), e.leases.RevokeToken(ctx, id))
}

// revokeDropped revokes the leases of roles and mounts that p removed, and of identities that it switched off. It comes
// after the change, which stops new ones. A crash before it leaves leases of a role that is gone: each knows how it is
// ended, and ends when it expires.
func (e *estate) revokeDropped(ctx context.Context, by string, p prepared) error {
	var errs []error
	identities := false
	for _, s := range p.plan.Steps {
		switch {
		case s.Kind == object.KindIdentity && s.Action == object.Updated:
			identities = true
		case s.Action == object.Deleted:
			if sel := childrenOf(p.now, s); !sel.Empty() {
				errs = append(errs, e.revokeAll(ctx, sel, by, "its "+string(s.Kind)+" "+s.Name+" was removed"))
			}
		}
	}
	if identities {
		errs = append(errs, e.revokeFor(ctx, e.manager.Shut()))
	}
	return errors.Join(errs...)
}

// childrenOf picks the leases of a role or a mount that a step removes.
func childrenOf(now []object.Record, s object.Step) broker.Selector {
	if s.Kind == object.KindMount {
		return broker.Selector{Mount: s.Name + "/"}
	}
	rec, ok := find(now, object.KindProducer, s.Name)
	if s.Kind != object.KindProducer || !ok {
		return broker.Selector{}
	}
	v, err := object.Decode(rec)
	if err != nil {
		return broker.Selector{}
	}
	role, ok := v.(*object.Producer)
	if !ok {
		return broker.Selector{}
	}
	return broker.Selector{Mount: role.Mount + "/", Role: role.Name}
}

// revokeAll is RevokeMany where there is something to revoke.
func (e *estate) revokeAll(ctx context.Context, sel broker.Selector, by, reason string) error {
	open, err := e.leases.List(ctx, broker.Filter{Mount: sel.Mount, Role: sel.Role, Limit: 1})
	if err != nil || len(open) == 0 {
		return err
	}
	_, err = e.leases.RevokeMany(ctx, sel, by, reason, "", false)
	return err
}
