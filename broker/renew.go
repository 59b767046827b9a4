package broker

import (
	"context"
	"errors"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
)

// Renew moves the end of an active lease to increment from now (the role's default TTL where it is zero), but never past
// its MaxExpiresAt; a warning says where it was cut. Where somebody else, perhaps through another broker, has renewed the
// lease meanwhile and to a later end, that one stands and is returned. Errors are *gate.Error; one of a lease that isn't
// there wraps ErrNoLease.
//
// The two dates, ours and the target's own, must never leave a credential that outlives what the store knows, nor a lease
// that promises more than the target keeps. So a later date is written to the target first, which never moves its own back
// (Renewer): a crash between the two leaves the old date in the store, at which the credential is revoked, and its owner was
// told nothing else. An earlier date is written to the store alone: the target's own end is only the backstop.
func (b *Broker) Renew(ctx context.Context, id string, increment time.Duration) (*Lease, []string, error) {
	if increment < 0 {
		return nil, nil, gate.Errorf(gate.Invalid, "the increment is negative")
	}
	if _, err := b.renewable(ctx, id); err != nil { // first without the lock: a revocation at work holds it for long
		return nil, nil, err
	}
	unlock, err := b.locks.Lock(ctx, id)
	if err != nil {
		return nil, nil, &gate.Error{Kind: gate.Unavailable, Msg: "the lease is in work", Err: err}
	}
	defer unlock()
	l, err := b.renewable(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	for n, was := 1, l.ExpiresAt; ; n++ {
		warnings, err := b.moveEnd(ctx, l, was, increment)
		if err == nil {
			return l, warnings, nil
		}
		if !errors.Is(err, ErrStale) || n == triesOfRenew {
			return nil, nil, err
		}
		if l, err = b.renewable(ctx, id); err != nil { // a write that came between is read again
			return nil, nil, err
		}
	}
}

// triesOfRenew is how often a renewal is tried while other writes come between.
const triesOfRenew = 5

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

// moveEnd writes the new end of l, which was the given one when the renewal began, to the target and to the store, as Renew
// explains. An error wraps ErrStale where l has moved on; the end that the target may have by now is then only a backstop.
func (b *Broker) moveEnd(ctx context.Context, l *Lease, was time.Time, increment time.Duration) (warnings []string, err error) {
	if l.Producer == KindVault {
		return b.moveForeign(ctx, l, increment)
	}
	role, ok := b.role(l)
	if !ok {
		return nil, gate.Errorf(gate.Invalid, "lease is not renewable: its role is gone")
	}
	p, _, err := b.cfg.Catalog.Producer(l.Target)
	if err != nil {
		return nil, &gate.Error{Kind: gate.Unavailable, Msg: "the lease's target is not configured", Err: err}
	}
	until, warnings := b.until(role, l, increment)
	switch later := until.After(l.ExpiresAt); {
	case !later && l.ExpiresAt.After(was): // another renewal's end stands
		return nil, nil
	case later:
		if err := b.renewOnTarget(ctx, p, role, l, until); err != nil {
			return nil, targetError("the lease was not renewed", err)
		}
	}
	moved := *l
	moved.ExpiresAt, moved.NextAt = until, until
	wctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	if err := b.cfg.Store.Move(wctx, &moved, Active); err != nil {
		return nil, notStored(err)
	}
	*l = moved
	b.counts.add(l.Target, func(c *Counts) { c.Renewed++ })
	b.alarm.at(l.NextAt)
	return warnings, nil
}

// renewOnTarget moves the target's own end, where it keeps one and it isn't as late already.
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
