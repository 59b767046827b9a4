package broker

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"golang.org/x/sync/errgroup"
)

// round looks once for due work, gives it to the lanes and says how long to wait before the next look.
//
// What is in work stays due in the store until it is done, so that a crash leaves it due at once; the window is made
// larger by as many, so that they hide nothing. What a full lane can't take would hide other targets' leases behind it
// when the window is full: it is then put off, durably.
func (b *Broker) round(ctx context.Context) (wait time.Duration, err error) {
	t := now()
	limit := b.cfg.Batch + b.lanes.size()
	b.alarm.sleeping(t.Add(b.cfg.Poll)) // what is written from here on may be missed by this look
	due, err := b.cfg.Store.Due(ctx, t.Add(b.cfg.Poll), limit)
	if err != nil {
		return b.cfg.Poll, err
	}
	wait = b.cfg.Poll
	began := 0
	var over []*Lease
	for _, l := range due {
		if l.NextAt.After(t) {
			wait = l.NextAt.Sub(t)
			break
		}
		switch b.lanes.offer(l.Target, l.ID, false) {
		case queued:
			began++
		case full:
			over = append(over, l)
		case already, closed:
		}
	}
	if len(due) == limit && wait == b.cfg.Poll {
		b.putOff(ctx, over)
		if began+len(over) > 0 {
			wait = 0
		}
	}
	b.alarm.sleeping(t.Add(wait))
	return wait, nil
}

// putOff moves leases that their lanes had no room for out of the way of others.
func (b *Broker) putOff(ctx context.Context, over []*Lease) {
	var g errgroup.Group
	g.SetLimit(64) // writes at a time share a commit
	for _, l := range over {
		g.Go(func() error {
			err := b.update(ctx, l.ID, func(l *Lease) bool {
				t := now()
				if l.State == Revoked || l.NextAt.IsZero() || l.NextAt.After(t) {
					return false
				}
				l.NextAt = b.lanes.putOff(l.Target, t, b.cfg.RetryMin, b.cfg.RetryMax).Truncate(time.Millisecond)
				return true
			})
			if err != nil && !errors.Is(err, errInWork) && ctx.Err() == nil {
				b.log.Warn("a due lease could not be put off", "lease_id", l.ID, "target", l.Target, "error", err)
			}
			return nil
		})
	}
	_ = g.Wait() // no function returns an error
}

// retryAfter is the wait after the n-th failure (1, 2, …): full jitter between RetryMin and a bound that doubles up to
// RetryMax.
func (b *Broker) retryAfter(n int) time.Duration {
	bound := b.cfg.RetryMin
	for i := 0; i < n && bound < b.cfg.RetryMax; i++ {
		bound *= 2
	}
	bound = min(bound, b.cfg.RetryMax)
	return b.cfg.RetryMin + rand.N(bound-b.cfg.RetryMin+1)
}

// errInWork says that somebody else holds the lease now.
var errInWork = errors.New("the lease is in work")

// update reads a lease, lets change alter it and writes it back, with nobody else doing the same meanwhile. change
// returns false to leave it. It does not wait for a lease that is in work: errInWork.
func (b *Broker) update(ctx context.Context, id string, change func(*Lease) bool) error {
	unlock, ok := b.locks.tryLock(id)
	if !ok {
		return errInWork
	}
	defer unlock()
	l, err := b.cfg.Store.Lease(ctx, id)
	if err != nil {
		return err
	}
	from := l.State
	if !change(l) {
		return nil
	}
	return b.cfg.Store.Move(ctx, l, from)
}
