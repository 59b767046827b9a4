package broker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
)

// work is what a lane's worker does with a unit: one try to end each of its leases. What is left is to write the result, which
// needs no place on the target; it is nil where that is done.
func (b *Broker) work(ctx context.Context, u unit) (result, func()) {
	if len(u.items) > 1 {
		return b.endTogether(ctx, u)
	}
	t, settle := b.end(ctx, u.items[0])
	if settle == nil {
		return b.finishUp(ctx, u.items[0].id, t), nil
	}
	return t.result(ctx), func() {
		t.err = settle()
		b.finishUp(ctx, u.items[0].id, t)
	}
}

// finishUp tells the result of a try to those who wait for it.
func (b *Broker) finishUp(ctx context.Context, id string, t tried) result {
	if !errors.Is(t.err, errNotDue) {
		b.waiters.tell(id, t.err)
	}
	if e, ok := errors.AsType[*gate.Error](t.err); ok && e.Kind == gate.Unavailable {
		b.pause(ctx) // the store takes nothing now: the lease stays due, but trying at full speed would not help
	}
	return t.result(ctx)
}

// tried is what one try to end a lease came to.
type tried struct {
	asked  bool  // the target was
	answer error // the target's, where it was asked
	err    error // for those who wait
}

// result is what t tells of the target.
func (t tried) result(ctx context.Context) result {
	if !t.asked {
		return result{}
	}
	r := result{verdict: judge(ctx, t.answer), ended: 1}
	if t.answer != nil {
		r.why = words(t.answer)
	}
	return r
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
// done twice, by two processes or after a crash, and no late answer undoes it. Where the target was asked, settle writes what
// it answered; until then nobody else works on the lease.
func (b *Broker) end(ctx context.Context, i item) (t tried, settle func() error) {
	unlock, err := b.locks.Lock(ctx, i.id)
	if err != nil {
		return tried{err: errNotDue}, nil
	}
	defer func() {
		if settle == nil {
			unlock()
		}
	}()
	l, err := b.toEnd(ctx, i)
	if l == nil || err != nil {
		return tried{err: err}, nil
	}
	b.cfg.Fault("revoke-before") // a crash here leaves a revoking lease that is due
	began := now()
	told, err := b.revokeOnTarget(ctx, l)
	b.cfg.Fault("revoke-done") // a crash here leaves the same: it is revoked once more, which finds nothing
	if b.cutOff(ctx, l, err) {
		return tried{err: errNotDue}, nil
	}
	return tried{asked: true, answer: err}, func() error {
		defer unlock()
		return b.settle(ctx, l, began, told, err)
	}
}

// cutOff says that the end of Run cut a try off. The lease stays due.
func (b *Broker) cutOff(ctx context.Context, l *Lease, answer error) bool {
	if answer == nil || ctx.Err() == nil {
		return false
	}
	if !b.alone() {
		wctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
		defer cancel()
		l.NextAt = now()
		_ = b.move(wctx, l) // or it is due when it is not held any more; move says why
	}
	return true
}

// settle writes what the target answered when it was asked at began.
func (b *Broker) settle(ctx context.Context, l *Lease, began time.Time, told Ended, answer error) error {
	wctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	if answer != nil {
		return b.settleFailure(wctx, l, answer)
	}
	return b.settleSuccess(wctx, l, began, told)
}

// toEnd makes a lease Revoking where it isn't yet, so that it can't be renewed any more. It returns nil where there is nothing
// to end. Where other brokers share the store the lease is held by its time: a write ends the claim on it.
func (b *Broker) toEnd(ctx context.Context, i item) (*Lease, error) {
	l := i.known(now())
	for range 3 { // a write that came between is read again
		if l == nil {
			read, err := b.cfg.Store.Lease(ctx, i.id)
			switch {
			case errors.Is(err, ErrNoLease):
				return nil, nil
			case err != nil:
				b.log.Error("a due lease cannot be read", "lease_id", i.id, "error", err)
				return nil, notStored(err)
			}
			l = read
		}
		switch {
		case l.State == Revoked:
			return nil, nil
		case l.NextAt.IsZero() || l.NextAt.After(now()):
			return nil, errNotDue
		}
		from := l.State
		if from == Revoking || from == Stuck {
			if b.alone() || !i.until.IsZero() {
				return l, nil
			}
		} else {
			l.State = Revoking
		}
		if !b.alone() {
			l.NextAt = now().Add(b.claimFor())
		}
		err := b.cfg.Store.Move(ctx, l, from)
		if err == nil {
			return l, nil
		}
		if !errors.Is(err, ErrStale) {
			b.log.Error("a due lease cannot be made revoking", "lease_id", i.id, "error", err)
			return nil, notStored(err)
		}
		l = nil
	}
	return nil, errNotDue
}

// revokeOnTarget asks the producer to end l's credential.
func (b *Broker) revokeOnTarget(ctx context.Context, l *Lease) (told Ended, err error) {
	p, kind, err := b.cfg.Catalog.Producer(l.Target)
	if err != nil {
		return told, notConfigured(err)
	}
	ctx, cancel := context.WithTimeout(ctx, b.cfg.RevokeTimeout)
	defer cancel()
	defer b.stats.took("revoke", kind, time.Now(), &err)
	defer b.recovered(&err, l.ID)
	if t, ok := p.(Teller); ok {
		told, err = t.RevokeTold(ctx, b.ref(l))
	} else {
		err = p.Revoke(ctx, b.ref(l))
	}
	if err != nil && causeOf(err) != Gone {
		return told, err
	}
	return told, nil
}

// notConfigured is the answer of a target that isn't declared.
func notConfigured(err error) error {
	return &RevokeError{Cause: Unreachable, Msg: "the target is not configured", Err: err}
}

// ref is what a producer needs to end l.
func (b *Broker) ref(l *Lease) Ref {
	ref := Ref{LeaseID: l.ID, Principal: l.Principal, Data: l.Data}
	if role, ok := b.role(l); ok {
		ref.Role = &role
	}
	return ref
}

// settleSuccess writes that the target ended the credential. A lease that never became active gets a second look when its
// Create can no longer be running on the target: what was not there a moment ago may have come since. What counts is when
// the target was asked: it may have looked then, and its answer may have taken until after that time.
func (b *Broker) settleSuccess(ctx context.Context, l *Lease, began time.Time, told Ended) error {
	if certain := l.IntentDeadline.Add(b.cfg.ClockMargin); l.IssuedAt.IsZero() && began.Before(certain) {
		l.State, l.NextAt = Revoking, certain
		if err := b.move(ctx, l); err != nil {
			return notStored(err)
		}
		return gate.Errorf(gate.TargetSlow, "the creation may still be running on the target; it is ended once more at %s",
			certain.Format(time.RFC3339))
	}
	b.recordEnd(ctx, l, told)
	b.many.told(l, told.Sessions) // before the write: after it the revocation of many may be over
	l.State, l.NextAt, l.Cause, l.Error = Revoked, time.Time{}, "", ""
	if err := b.move(ctx, l); err != nil {
		return notStored(err)
	}
	b.cfg.Fault("revoked-durable") // a crash here leaves nothing to do
	b.counts.add(l.Target, func(c *Counts) { c.Revoked++ })
	b.many.result(l, true)
	return nil
}

// settleFailure writes when to try again, and why it did not work.
func (b *Broker) settleFailure(ctx context.Context, l *Lease, cause error) error {
	stuck := b.failed(l, cause)
	b.counts.add(l.Target, func(c *Counts) { c.RevokeFailed++ })
	b.log.Warn("a lease is not revoked yet", "lease_id", l.ID, "target", l.Target, "attempt", l.Attempt, "cause", l.Cause,
		"error", l.Error, "next", l.NextAt)
	if l.Attempt == 1 || stuck {
		b.recordFailure(ctx, l)
	}
	if err := b.move(ctx, l); err != nil {
		return notStored(err)
	}
	b.many.result(l, false)
	return notYet(l, cause)
}

// notYet is the answer for a lease that could not be ended.
func notYet(l *Lease, cause error) error {
	return targetError(fmt.Sprintf("the lease is not revoked yet (%s); it is tried again", l.Cause), cause)
}

// failed changes l to say that a try failed, and when the next one is due. It returns true where that makes it stuck.
func (b *Broker) failed(l *Lease, cause error) (stuck bool) {
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
	return l.State == Stuck && !wasStuck
}

// move writes a lease that is being revoked. Where another process has ended it meanwhile, that is as good. That the
// credential is gone stays true whatever else was written meanwhile.
func (b *Broker) move(ctx context.Context, l *Lease) error {
	err := b.cfg.Store.Move(ctx, l, Revoking, Stuck)
	for range 3 {
		if !errors.Is(err, ErrStale) {
			break
		}
		stored, rerr := b.cfg.Store.Lease(ctx, l.ID)
		if rerr == nil && stored.State == Revoked {
			return nil
		}
		if rerr != nil || l.State != Revoked {
			break
		}
		l.Version = stored.Version
		err = b.cfg.Store.Move(ctx, l, Revoking, Stuck)
	}
	if err != nil {
		b.log.Error("the result of a revocation cannot be written; it stays due", "lease_id", l.ID, "error", err)
		return err
	}
	if !l.NextAt.IsZero() {
		b.alarm.at(l.NextAt)
	}
	return nil
}
