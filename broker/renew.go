package broker

import (
	"context"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
)

// Renew moves the end of an active lease to increment from now (the role's default TTL where it is zero), but never past
// its MaxExpiresAt; a warning says where it was cut. Errors are *gate.Error; one of a lease that isn't there wraps
// ErrNoLease.
//
// The two dates, ours and the target's own, must never leave a credential that outlives what the store knows, nor a lease
// that promises more than the target keeps. So a later date is written to the target first: a crash between the two leaves
// the old date in the store, at which the credential is revoked, and its owner was told nothing else. An earlier date is
// written to the store first: a crash between leaves the target's own end late, where it is only the backstop.
func (b *Broker) Renew(ctx context.Context, id string, increment time.Duration) (*Lease, []string, error) {
	if increment < 0 {
		return nil, nil, gate.Errorf(gate.Invalid, "the increment is negative")
	}
	if _, err := b.renewable(ctx, id); err != nil { // first without the lock: a revocation at work holds it for long
		return nil, nil, err
	}
	unlock, err := b.locks.lock(ctx, id)
	if err != nil {
		return nil, nil, &gate.Error{Kind: gate.Unavailable, Msg: "the lease is in work", Err: err}
	}
	defer unlock()
	l, err := b.renewable(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	role, ok := b.role(l)
	if !ok {
		return nil, nil, gate.Errorf(gate.Invalid, "lease is not renewable: its role is gone")
	}
	p, _, err := b.cfg.Catalog.Producer(l.Target)
	if err != nil {
		return nil, nil, &gate.Error{Kind: gate.Unavailable, Msg: "the lease's target is not configured", Err: err}
	}
	until, warnings := b.until(role, l, increment)
	if err := b.moveEnd(ctx, p, role, l, until); err != nil {
		return nil, nil, err
	}
	b.counts.add(l.Target, func(c *Counts) { c.Renewed++ })
	b.alarm.at(l.NextAt)
	return l, warnings, nil
}

// renewable finds a lease that may be renewed now.
func (b *Broker) renewable(ctx context.Context, id string) (*Lease, error) {
	l, err := b.Lookup(ctx, id)
	switch {
	case err != nil:
		return nil, err
	case l.State == Revoked, l.State == Pending:
		return nil, noLease()
	case l.State != Active:
		return nil, gate.Errorf(gate.Invalid, "lease is not renewable: it is being revoked")
	case !l.ExpiresAt.After(now()):
		return nil, gate.Errorf(gate.Invalid, "lease is not renewable: it has expired")
	}
	return l, nil
}

// role finds the role that made l, where it still makes credentials on the same target.
func (b *Broker) role(l *Lease) (Role, bool) {
	role, ok := b.cfg.Catalog.Role(l.Mount, l.Role)
	return role, ok && role.Target == l.Target
}

// moveEnd writes the new end to the store and to the target, in the order that Renew explains.
func (b *Broker) moveEnd(ctx context.Context, p Producer, role Role, l *Lease, until time.Time) error {
	later := until.After(l.ExpiresAt)
	if later {
		if err := b.renewOnTarget(ctx, p, role, l, until); err != nil {
			return targetError("the lease was not renewed", err)
		}
	}
	moved := *l
	moved.ExpiresAt, moved.NextAt = until, until
	wctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	if err := b.cfg.Store.Move(wctx, &moved, Active); err != nil {
		return notStored(err)
	}
	*l = moved
	if !later {
		if err := b.renewOnTarget(ctx, p, role, l, until); err != nil {
			b.log.Warn("the target's own end of a shortened lease stays where it was", "lease_id", l.ID, "target", l.Target, "error", words(err))
		}
	}
	return nil
}

// renewOnTarget moves the target's own end, where it keeps one.
func (b *Broker) renewOnTarget(ctx context.Context, p Producer, role Role, l *Lease, until time.Time) (err error) {
	n, ok := p.(Renewer)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, b.cfg.RenewTimeout)
	defer cancel()
	defer b.stats.took("renew", l.Producer, time.Now(), &err)
	return b.onTarget(ctx, l.Target, func() (err error) {
		defer b.recovered(&err, l.ID)
		return n.Renew(ctx, Ref{LeaseID: l.ID, Principal: l.Principal, Role: &role, Data: l.Data}, until.Add(b.cfg.ClockMargin))
	})
}
