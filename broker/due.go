package broker

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// round looks once for due work, gives it to the lanes and says how long to wait before the next look.
//
// Where this broker is alone, what is in work stays due in the store until it is done, so that a crash leaves it due at
// once; the window is made larger by as many, so that they hide nothing. Where several share the store, each claims what it
// takes. What a full lane can't take would hide other targets' leases behind it when the window is full: it is then put
// off, durably. What is due of a target that does not answer is set aside in the same way, as a failure.
func (b *Broker) round(ctx context.Context) (wait time.Duration, err error) {
	t := now()
	b.alarm.sleeping(t.Add(b.cfg.Poll)) // what is written from here on may be missed by this look
	w, err := b.window(ctx, t)
	if err != nil {
		return b.cfg.Poll, err
	}
	b.learn(ctx, w.due)
	o := offers{at: t, sizes: make(map[string][classes]int), shut: make(map[string][]item)}
	for _, l := range w.due {
		if l.NextAt.After(t) {
			w.wait = min(w.wait, max(l.NextAt.Sub(t), leastPoll+time.Duration(len(w.due))*20*time.Microsecond))
			break
		}
		b.offer(l, w.until, &o)
	}
	for target, items := range o.shut {
		if why := b.lanes.refusal(target); why != nil {
			err = errors.Join(err, b.setAside(ctx, items, why))
		}
	}
	if w.full || !b.alone() {
		err = errors.Join(err, b.putOff(ctx, o.over))
	}
	if w.full && err == nil && o.moved > 0 {
		w.wait = 0
	}
	b.alarm.sleeping(t.Add(w.wait))
	return w.wait, err
}

// learn reads revocations of many where another broker has marked leases for one that is not known here yet.
func (b *Broker) learn(ctx context.Context, due []*Lease) {
	if b.alone() {
		return
	}
	for _, l := range due {
		if l.State != Revoking || l.Attempt > 0 {
			continue
		}
		if r, err := b.many.covering(ctx, l, false); r != nil || err != nil {
			continue
		}
		if err := b.many.refresh(ctx, false); err != nil && ctx.Err() == nil {
			b.log.Warn("open revocations cannot be read", "error", err)
		}
		return
	}
}

// window is what one look at the store brings.
type window struct {
	due   []*Lease  // by NextAt; where full isn't set, also the first that will be
	until time.Time // when the claim on them ends; zero where there is none
	full  bool      // there may be more
	wait  time.Duration
}

// leastPoll is the shortest time between two looks that nothing else asks for; it is longer where a look brings much, so that
// looking is not all that is done.
const leastPoll = 2 * time.Millisecond

// sharedPoll is the longest time between two looks at a store that others write to as well.
const sharedPoll = 250 * time.Millisecond

// window looks at what is due at t.
func (b *Broker) window(ctx context.Context, t time.Time) (w window, err error) {
	if b.alone() {
		limit := b.cfg.Batch + b.lanes.size()
		w.wait = b.cfg.Poll
		w.due, err = b.cfg.Store.Due(ctx, t.Add(b.cfg.Poll), limit)
		w.full = len(w.due) == limit && !w.due[limit-1].NextAt.After(t)
		return w, err
	}
	w.wait, w.until = min(b.cfg.Poll, sharedPoll), t.Add(b.claimFor())
	w.due, err = b.cfg.Claims.Claim(ctx, b.epoch, t, w.until, b.cfg.Batch)
	w.full = len(w.due) == b.cfg.Batch
	return w, err
}

// claimFor is how long work is one broker's: one try, and as long in a queue before it.
func (b *Broker) claimFor() time.Duration { return 2 * b.cfg.RevokeTimeout }

// offers is what became of the leases of a window.
type offers struct {
	sizes map[string][classes]int // of batches, by target
	over  []item                  // their lanes are full
	shut  map[string][]item       // their targets don't answer
	at    time.Time               // when they were read
	moved int                     // that the next look will not find where they are
}

// offer gives a due lease to its lane.
func (b *Broker) offer(l *Lease, until time.Time, o *offers) {
	if b.hold.keeps(l) {
		o.over = append(o.over, item{id: l.ID, until: until})
		o.moved++
		return
	}
	sizes, known := o.sizes[l.Target]
	if !known {
		sizes = b.batchSizes(l.Target)
		o.sizes[l.Target] = sizes
	}
	c := expired
	switch {
	case b.waiters.has(l.ID):
		c = asked
	case l.State == Revoking && l.Attempt == 0:
		c = marked
	}
	i := item{id: l.ID, until: until, lease: l, seen: o.at}
	if b.alone() && (l.State == Revoking || l.State == Stuck) { // it may have been ended since; no write would tell in time
		i.lease = nil
	}
	switch b.lanes.offer(l.Target, c, i, sizes[c]) {
	case queued:
		o.moved++
	case full:
		o.over = append(o.over, i)
		o.moved++
	case shut:
		o.shut[l.Target] = append(o.shut[l.Target], i)
		o.moved++
	case already, closed:
	}
}

// putOff moves leases that their lanes had no room for out of the way of others.
func (b *Broker) putOff(ctx context.Context, over []item) error {
	return eachAside(over, func(i item) error {
		err := b.update(ctx, i.id, func(l *Lease) bool {
			t := now()
			if l.State == Revoked || l.NextAt.IsZero() || l.NextAt.After(t) {
				return false
			}
			l.NextAt = b.lanes.putOff(l.Target, t, b.cfg.RetryMin, b.cfg.RetryMax).Truncate(time.Millisecond)
			return true
		})
		if errors.Is(err, errInWork) || errors.Is(err, ErrStale) || errors.Is(err, ErrNoLease) {
			return nil
		}
		return err
	})
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
	unlock, ok := b.locks.TryLock(id)
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
