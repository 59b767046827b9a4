package broker

import (
	"math/rand/v2"
	"time"
)

// class is how urgent a revocation is. Issues go before all of them, and sweeps after.
type class int

const (
	asked   class = iota // somebody asked for this one, and may wait
	marked               // one of many that somebody asked for
	expired              // its time is over, or an earlier try failed
	classes
)

// item is a lease that waits in a lane.
type item struct {
	id    string
	until time.Time // when the claim on it ends; zero where there is none
	lease *Lease    // as it was read or written at seen; nil where it is to be read
	seen  time.Time
}

// freshFor is how long a lease needn't be read again. A write that came between is noticed by the version.
const freshFor = time.Second

// known is a copy of the lease, where it was seen of late.
func (i item) known(t time.Time) *Lease {
	if i.lease == nil || t.Sub(i.seen) > freshFor {
		return nil
	}
	l := *i.lease
	return &l
}

// unit is one piece of work: leases of one target that one worker ends.
type unit struct {
	target string
	class  class
	items  []item
	probe  bool
}

// lane is the work on one target. lanes.mu guards it.
type lane struct {
	target string
	queues [classes][]item // oldest first
	batch  [classes]int    // how many leases one worker takes at a time
	issues []*entrant      // who wait for a place, oldest first
	sweeps []*entrant

	issuing, sweeping int
	running, asked    int // workers that revoke, and those of them that do what was asked for
	settling          int // leases whose end is being written; they take no place

	limit   limit
	breaker breaker
	purse   time.Duration

	passedOver bool          // the due loop had more for it than it would take
	took       time.Duration // one lease, as of late
	slot       time.Time     // when the last lease that was put off is due
}

// mostSettling is how many leases' ends may wait for the store before no more are ended.
const mostSettling = 256

// firstGuess is how long one piece of work on a target takes, until that is known.
const firstGuess = 10 * time.Millisecond

// used counts what is at work on the target.
func (x *lane) used() int { return x.issuing + x.running + x.sweeping }

// waiting counts the leases in the queues.
func (x *lane) waiting() int {
	n := 0
	for _, q := range x.queues {
		n += len(q)
	}
	return n
}

// mayIssue says whether an issue may begin. Issues go first, but leave a quarter of the places to revocations that wait.
func (x *lane) mayIssue() bool {
	most := x.limit.now()
	switch {
	case x.issuing == 0:
		return true
	case x.used() >= most:
		return false
	}
	return x.waiting() == 0 || x.issuing < most-max(1, most/4)
}

// maySweep says whether a sweep may begin: when nothing else would.
func (x *lane) maySweep() bool {
	return x.used() < x.limit.now() && x.waiting() == 0 && len(x.issues) == 0
}

// next says which class of revocations may begin now. own says that it takes no place of those that all targets share: the
// first worker of a target, and one for what was asked for, which does not wait behind others.
func (x *lane) next(now time.Time) (c class, own, ok bool) {
	for c < classes && len(x.queues[c]) == 0 {
		c++
	}
	if c == classes || x.settling >= mostSettling {
		return c, false, false
	}
	switch x.breaker.may(now, c == asked) {
	case refused:
		return c, false, false
	case probing:
		return c, true, true
	}
	own = x.running == 0 || c == asked && x.asked == 0
	return c, own, own || x.used() < x.limit.now()
}

// cost is the worker time that the next piece of work is expected to take.
func (x *lane) cost(c class) time.Duration {
	return x.took * time.Duration(max(1, min(x.batch[c], len(x.queues[c]))))
}

// take is the next piece of work of a class. Leases whose claim ends before need is over are left out: others may have
// claimed them by then.
func (x *lane) take(c class, now time.Time, need time.Duration) (u unit, stale []item) {
	u = unit{target: x.target, class: c, probe: x.breaker.state != BreakerClosed}
	most := max(1, x.batch[c])
	if u.probe {
		most = 1
	}
	q := x.queues[c]
	for len(q) > 0 && len(u.items) < most {
		i := q[0]
		q = q[1:]
		if !i.until.IsZero() && i.until.Before(now.Add(need)) {
			stale = append(stale, i)
			continue
		}
		u.items = append(u.items, i)
	}
	x.queues[c] = q
	return u, stale
}

// drain empties the queues.
func (x *lane) drain() (all []item) {
	for c, q := range x.queues {
		all = append(all, q...)
		x.queues[c] = nil
	}
	return all
}

// finished takes in a result. It returns what became of the breaker.
func (x *lane) finished(now, began time.Time, r result, probe bool) turn {
	switch r.verdict {
	case worked:
		x.limit.worked(x.used())
	case strained, silent:
		x.limit.tooMuch(began, now)
	}
	return x.breaker.result(now, r.verdict, probe, r.why)
}

// putOff says when a lease that the lane has no room for should be looked at again: one after another, at the pace at which
// the target has worked of late, so that they neither fill the due loop's window again at once nor leave the lane idle;
// at the earliest after least and at the latest after most.
func (x *lane) putOff(now time.Time, least, most time.Duration) time.Time {
	if first := now.Add(least); x.slot.Before(first) {
		x.slot = first
	}
	x.slot = x.slot.Add(max(x.took/time.Duration(x.limit.now()), 20*time.Microsecond))
	if last := now.Add(most); x.slot.After(last) {
		x.slot = last
		return last.Add(-rand.N(most/2 + 1))
	}
	return x.slot
}
