package broker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
)

// work is what a lane's worker does with a lease: one try to end it, whose result goes to those who wait for it.
func (b *Broker) work(ctx context.Context, id string) (asked bool) {
	asked, err := b.end(ctx, id)
	if !errors.Is(err, errNotDue) {
		b.waiters.tell(id, err)
	}
	if e, ok := errors.AsType[*gate.Error](err); ok && e.Kind == gate.Unavailable {
		b.pause(ctx) // the store takes nothing now: the lease stays due, but trying at full speed would not help
	}
	return asked
}

// pause waits as long as the due loop does between two looks.
func (b *Broker) pause(ctx context.Context) {
	timer := time.NewTimer(b.cfg.Poll)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// errNotDue says that there is nothing to do for a lease now.
var errNotDue = errors.New("the lease is not due")

// end tries once to end a lease that is due. Every write is conditional on the state it starts from, so that it can be
// done twice, by two processes or after a crash, and no late answer undoes it. asked says that the target was asked.
func (b *Broker) end(ctx context.Context, id string) (asked bool, err error) {
	unlock, err := b.locks.lock(ctx, id)
	if err != nil {
		return false, errNotDue
	}
	defer unlock()
	l, err := b.toEnd(ctx, id)
	if l == nil || err != nil {
		return false, err
	}
	b.cfg.Fault("revoke-before") // a crash here leaves a revoking lease that is due
	err = b.revokeOnTarget(ctx, l)
	b.cfg.Fault("revoke-done") // a crash here leaves the same: it is revoked once more, which finds nothing
	if err != nil && ctx.Err() != nil {
		return false, errNotDue // Run is ending: the lease stays due
	}
	wctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	if err != nil {
		return true, b.settleFailure(wctx, l, err)
	}
	return true, b.settleSuccess(wctx, l)
}

// toEnd reads a lease and makes it Revoking where it isn't yet, so that it can't be renewed any more. It returns nil where
// there is nothing to end.
func (b *Broker) toEnd(ctx context.Context, id string) (*Lease, error) {
	for range 3 { // a write that came between is read again
		l, err := b.cfg.Store.Lease(ctx, id)
		switch {
		case errors.Is(err, ErrNoLease):
			return nil, nil
		case err != nil:
			b.log.Error("a due lease cannot be read", "lease_id", id, "error", err)
			return nil, notStored(err)
		case l.State == Revoked:
			return nil, nil
		case l.NextAt.IsZero() || l.NextAt.After(now()):
			return nil, errNotDue
		case l.State != Pending && l.State != Active:
			return l, nil
		}
		l.State = Revoking
		err = b.cfg.Store.Move(ctx, l, Pending, Active)
		if err == nil {
			return l, nil
		}
		if !errors.Is(err, ErrStale) {
			b.log.Error("a due lease cannot be made revoking", "lease_id", id, "error", err)
			return nil, notStored(err)
		}
	}
	return nil, errNotDue
}

// revokeOnTarget asks the producer to end l's credential.
func (b *Broker) revokeOnTarget(ctx context.Context, l *Lease) (err error) {
	p, _, err := b.cfg.Catalog.Producer(l.Target)
	if err != nil {
		return &RevokeError{Cause: Unreachable, Msg: "the target is not configured", Err: err}
	}
	ref := Ref{LeaseID: l.ID, Principal: l.Principal, Data: l.Data}
	if role, ok := b.role(l); ok {
		ref.Role = &role
	}
	ctx, cancel := context.WithTimeout(ctx, b.cfg.RevokeTimeout)
	defer cancel()
	defer b.recovered(&err, l.ID)
	if err := p.Revoke(ctx, ref); err != nil && causeOf(err) != Gone {
		return err
	}
	return nil
}

// settleSuccess writes that the target ended the credential. A lease that never became active gets a second look when its
// Create can no longer be running on the target: what was not there a moment ago may have come since.
func (b *Broker) settleSuccess(ctx context.Context, l *Lease) error {
	t := now()
	if certain := l.IntentDeadline.Add(b.cfg.ClockMargin); l.IssuedAt.IsZero() && t.Before(certain) {
		l.State, l.NextAt = Revoking, certain
		if err := b.move(ctx, l); err != nil {
			return notStored(err)
		}
		return gate.Errorf(gate.TargetSlow, "the creation may still be running on the target; it is ended once more at %s",
			certain.Format(time.RFC3339))
	}
	b.recordEnd(ctx, l)
	l.State, l.NextAt, l.Cause, l.Error = Revoked, time.Time{}, "", ""
	if err := b.move(ctx, l); err != nil {
		return notStored(err)
	}
	b.cfg.Fault("revoked-durable") // a crash here leaves nothing to do
	b.counts.add(l.Target, func(c *Counts) { c.Revoked++ })
	b.many.result(l, true, 0)
	return nil
}

// settleFailure writes when to try again, and why it did not work.
func (b *Broker) settleFailure(ctx context.Context, l *Lease, cause error) error {
	wasStuck := l.State == Stuck
	l.Attempt++
	l.Cause, l.Error = causeOf(cause), words(cause)
	wait := b.retryAfter(l.Attempt)
	l.State = Revoking
	if l.Attempt >= b.cfg.StuckAfter {
		l.State = Stuck
		wait = b.cfg.StuckRetry/2 + rand.N(b.cfg.StuckRetry/2+1)
	}
	l.NextAt = now().Add(wait).Truncate(time.Millisecond)
	b.counts.add(l.Target, func(c *Counts) { c.RevokeFailed++ })
	b.log.Warn("a lease is not revoked yet", "lease_id", l.ID, "target", l.Target, "attempt", l.Attempt, "cause", l.Cause,
		"error", l.Error, "next", l.NextAt)
	if l.Attempt == 1 || l.State == Stuck && !wasStuck {
		b.recordFailure(ctx, l)
	}
	if err := b.move(ctx, l); err != nil {
		return notStored(err)
	}
	b.many.result(l, false, 0)
	return targetError(fmt.Sprintf("the lease is not revoked yet (%s); it is tried again", l.Cause), cause)
}

// move writes a lease that is being revoked. Where another process has ended it meanwhile, that is as good.
func (b *Broker) move(ctx context.Context, l *Lease) error {
	err := b.cfg.Store.Move(ctx, l, Revoking, Stuck)
	if errors.Is(err, ErrStale) && b.isRevoked(ctx, l.ID) {
		return nil
	}
	if err != nil {
		b.log.Error("the result of a revocation cannot be written; it stays due", "lease_id", l.ID, "error", err)
		return err
	}
	b.alarm.at(l.NextAt)
	return nil
}
