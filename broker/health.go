package broker

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"
)

// aside are writes at a time that move leases out of the way of others; they share commits.
const aside = 256

// setAside writes for each lease that its target does not answer, without asking it: a failed try like any other. Who waits
// for one is told.
func (b *Broker) setAside(ctx context.Context, items []item, why error) error {
	return eachAside(items, func(i item) error { return b.setOneAside(ctx, i.id, why) })
}

func (b *Broker) setOneAside(ctx context.Context, id string, why error) error {
	var failed *Lease
	err := b.update(ctx, id, func(l *Lease) bool {
		if l.State == Revoked || l.NextAt.IsZero() || l.NextAt.After(now()) {
			return false
		}
		if b.failed(l, why) {
			b.recordFailure(ctx, l) // before the write, as every result is
		}
		failed = l
		return true
	})
	if errors.Is(err, errInWork) || errors.Is(err, ErrStale) || errors.Is(err, ErrNoLease) {
		return nil
	}
	if err != nil || failed == nil {
		return err
	}
	b.counts.add(failed.Target, func(c *Counts) { c.RevokeFailed++ })
	b.alarm.at(failed.NextAt)
	b.many.result(failed, false)
	b.waiters.tell(id, notYet(failed, why))
	return nil
}

// eachAside calls f for each, many at a time, and returns one of the errors.
func eachAside[T any](list []T, f func(T) error) error {
	var g errgroup.Group
	g.SetLimit(aside)
	for _, x := range list {
		g.Go(func() error { return f(x) })
	}
	return g.Wait()
}

// refuse is called when a target has stopped answering, with what waited for it.
func (b *Broker) refuse(ctx context.Context, target string, items []item, why error) {
	b.log.Warn("a target does not answer", "target", target, "error", words(why))
	if err := b.setAside(ctx, items, why); err != nil && ctx.Err() == nil {
		b.log.Warn("leases could not be set aside; they stay due", "target", target, "error", err)
		b.alarm.now()
	}
}

// probe finds out whether a target answers again, by a lease that could not be ended because it didn't. Where there is
// none, the next issue finds out.
func (b *Broker) probe(ctx context.Context, target string) {
	list, err := b.List(ctx, Filter{Target: target, States: []State{Revoking, Stuck}, Cause: Unreachable, Limit: 1})
	if err == nil && len(list) > 0 && !b.hold.keeps(list[0]) {
		err = b.mark(ctx, list[0])
	}
	if err != nil && ctx.Err() == nil {
		b.log.Warn("a target can't be probed", "target", target, "error", err)
	}
}

// rejoice is called when a target answers again: what could not be ended because it didn't is due now, at the pace at which
// the target works.
func (b *Broker) rejoice(ctx context.Context, target string) {
	b.log.Info("a target answers again", "target", target)
	f := Filter{Target: target, States: []State{Revoking, Stuck}, Cause: Unreachable, Limit: 1000}
	for ctx.Err() == nil && b.lanes.refusal(target) == nil {
		page, err := b.List(ctx, f)
		if err == nil {
			err = eachAside(page, func(l *Lease) error { return b.hasten(ctx, l) })
			b.alarm.now()
		}
		if err != nil && ctx.Err() == nil {
			b.log.Warn("leases of a target that answers again can't be hastened; each has its own time", "target", target, "error", err)
		}
		if err != nil || len(page) < f.Limit {
			return
		}
		f.AfterSeq = page[len(page)-1].Seq
	}
}

// hasten makes a lease that waits for its target due soon.
func (b *Broker) hasten(ctx context.Context, l *Lease) error {
	err := b.update(ctx, l.ID, func(l *Lease) bool {
		t := now()
		if l.Cause != Unreachable || l.State != Revoking && l.State != Stuck || !l.NextAt.After(t) {
			return false
		}
		soon := b.lanes.putOff(l.Target, t, 0, b.cfg.RetryMax)
		sooner := soon.Before(l.NextAt)
		l.NextAt = soon
		return sooner
	})
	if errors.Is(err, errInWork) || errors.Is(err, ErrStale) || errors.Is(err, ErrNoLease) {
		return nil
	}
	return err
}

// release ends the claims on leases that waited in lanes when Run ended, so that other brokers need not wait for their end.
func (b *Broker) release(items []item) {
	if b.alone() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	err := eachAside(items, func(i item) error {
		err := b.update(ctx, i.id, func(l *Lease) bool { return l.State != Revoked })
		if errors.Is(err, ErrStale) || errors.Is(err, ErrNoLease) {
			return nil
		}
		return err
	})
	if err != nil {
		b.log.Warn("claims could not be given back; they run out by themselves", "error", err)
	}
}
