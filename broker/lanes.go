package broker

import (
	"context"
	"sync"
	"time"
)

// lanes hold the work on each target apart: a bounded queue, a limit that adapts and a circuit breaker for each, so that one
// that is slow or dead hurts only itself. Of the workers that all targets share each gets its turn; a target's first worker
// is its own. A lease is in a lane at most once. Workers are started when there is work and end with it.
type lanes struct {
	cfg laneConfig
	duties

	mu       sync.Mutex
	ctx      context.Context // of the workers; nil while closed
	wg       *sync.WaitGroup
	byTarget map[string]*lane
	all      []*lane         // for turns
	inWork   map[string]bool // lease ids that wait or are worked on
	queued   int             // of those, in queues
	shared   int             // workers beyond the first of each target
	turns    turns
}

// laneConfig is the part of Config that lanes need.
type laneConfig struct {
	queue       int // leases that wait in each class of a lane
	issues      int // issues that wait for a place
	start, most int // of limits
	budget      int // workers that all targets share
	breakAfter  int
	probeLeast  time.Duration
	probeMost   time.Duration
	need        time.Duration // how long a claim must still hold when its lease is begun
}

// duties is what lanes call, with no lock held.
type duties struct {
	do      func(ctx context.Context, u unit) (result, func())              // ends the leases of a unit; the func writes that; or nil
	refuse  func(ctx context.Context, target string, ids []item, why error) // the target does not answer: they wait for later
	probe   func(ctx context.Context, target string)                        // it is time to find out whether it does
	rejoice func(ctx context.Context, target string)                        // it answers again
	look    func()                                                          // a lane that was passed over has room again
}

// result is what a unit came to.
type result struct {
	verdict verdict
	why     string // the words of a failure
	ended   int    // leases that the target was asked to end
}

// taken is offer's answer.
type taken int

const (
	queued  taken = iota
	already       // it waits or is worked on
	full          // the lane has no room
	shut          // the target does not answer
	closed        // Run does not run
)

func newLanes(cfg laneConfig, d duties) *lanes {
	return &lanes{
		cfg: cfg, duties: d, byTarget: make(map[string]*lane), inWork: make(map[string]bool),
		turns: turns{quantum: firstGuess},
	}
}

// open lets workers start.
func (l *lanes) open(ctx context.Context) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx != nil {
		return false
	}
	l.ctx, l.wg = ctx, new(sync.WaitGroup)
	return true
}

// close forgets what waits (the store still has it), waits for the workers and returns what it forgot.
func (l *lanes) close() (forgotten []item) {
	l.mu.Lock()
	l.ctx = nil
	for _, x := range l.all {
		forgotten = append(forgotten, l.drain(x)...)
	}
	wg := l.wg
	l.mu.Unlock()
	wg.Wait()
	return forgotten
}

// drain empties a lane's queues. The caller holds l.mu.
func (l *lanes) drain(x *lane) []item {
	all := x.drain()
	for _, i := range all {
		delete(l.inWork, i.id)
	}
	l.queued -= len(all)
	return all
}

// lane finds a target's lane or makes it. The caller holds l.mu.
func (l *lanes) lane(target string) *lane {
	x := l.byTarget[target]
	if x == nil {
		x = &lane{
			target: target, took: firstGuess, limit: newLimit(l.cfg.start, l.cfg.most),
			breaker: newBreaker(l.cfg.breakAfter, l.cfg.probeLeast, l.cfg.probeMost),
		}
		l.byTarget[target] = x
		l.all = append(l.all, x)
	}
	return x
}

// offer puts a lease into its target's lane. A worker takes up to batch leases of its class at a time.
func (l *lanes) offer(target string, c class, i item, batch int) taken {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx == nil {
		return closed
	}
	x := l.lane(target)
	switch {
	case l.inWork[i.id]:
		x.passedOver = x.passedOver || c == asked // what is in work may have read the lease before it changed
		return already
	case c != asked && x.breaker.state == BreakerOpen && x.breaker.may(time.Now(), false) == refused:
		return shut
	case len(x.queues[c]) >= l.cfg.queue:
		x.passedOver = true
		return full
	}
	x.queues[c], x.batch[c] = append(x.queues[c], i), batch
	l.inWork[i.id] = true
	l.queued++
	l.dispatch(x)
	return queued
}

// dispatch starts whatever may start after something has changed on x. The caller holds l.mu.
func (l *lanes) dispatch(x *lane) {
	l.admit(x)
	if l.ctx == nil || l.ctx.Err() != nil {
		return
	}
	t := time.Now()
	for {
		c, own, ok := x.next(t)
		if !ok || !own {
			break
		}
		l.start(x, c, t)
	}
	for l.queued > 0 && l.shared < l.cfg.budget {
		i := l.turns.pick(len(l.all), func(i int) (time.Duration, bool) {
			c, _, ok := l.all[i].next(t)
			if !ok {
				return 0, false
			}
			return l.all[i].cost(c), true
		}, func(i int) *time.Duration { return &l.all[i].purse })
		if i < 0 {
			return
		}
		c, _, _ := l.all[i].next(t)
		l.start(l.all[i], c, t)
	}
}

// start begins the next unit of a class. The caller holds l.mu.
func (l *lanes) start(x *lane, c class, t time.Time) {
	u, stale := x.take(c, t, l.cfg.need)
	for _, i := range stale {
		delete(l.inWork, i.id)
		x.passedOver = true
	}
	l.queued -= len(u.items) + len(stale)
	if len(u.items) == 0 {
		return
	}
	if u.probe {
		x.breaker.probe()
	}
	if x.running > 0 {
		l.shared++
	}
	x.running++
	if c == asked {
		x.asked++
	}
	ctx, wg := l.ctx, l.wg
	wg.Add(1)
	go func() {
		defer wg.Done()
		l.work(ctx, x, u)
	}()
}

// work does a unit, gives its place back, has the result written and takes it out of the lane; also when the goroutine ends in
// the middle of it.
func (l *lanes) work(ctx context.Context, x *lane, u unit) {
	settle := l.doUnit(ctx, x, u)
	if settle == nil {
		return
	}
	defer l.settled(x, u)
	settle()
}

// doUnit does what needs a place on the target.
func (l *lanes) doUnit(ctx context.Context, x *lane, u unit) (settle func()) {
	began := time.Now()
	var r result // where do does not return: unasked
	defer func() { l.finish(ctx, x, u, began, r, settle != nil) }()
	r, settle = l.do(ctx, u)
	return settle
}

// finish gives the place of a unit back. What is settling stays in the lane.
func (l *lanes) finish(ctx context.Context, x *lane, u unit, began time.Time, r result, settling bool) {
	t := time.Now()
	l.mu.Lock()
	if settling {
		x.settling += len(u.items)
	} else {
		l.forget(u.items)
	}
	if r.ended > 0 && (r.verdict == worked || r.verdict == answered) {
		x.took += (t.Sub(began)/time.Duration(r.ended) - x.took) / 4
	}
	change := x.finished(t, began, r, u.probe)
	x.running--
	if x.running > 0 {
		l.shared--
	}
	if u.class == asked {
		x.asked--
	}
	l.turned(ctx, x, change)
	look := l.roomAgain(x)
	l.dispatch(x)
	l.mu.Unlock()
	if look {
		l.look()
	}
}

// settled takes a unit out of the lane.
func (l *lanes) settled(x *lane, u unit) {
	l.mu.Lock()
	x.settling -= len(u.items)
	l.forget(u.items)
	look := l.roomAgain(x)
	l.dispatch(x)
	l.mu.Unlock()
	if look {
		l.look()
	}
}

// forget takes leases out of work. The caller holds l.mu.
func (l *lanes) forget(items []item) {
	for _, i := range items {
		delete(l.inWork, i.id)
	}
}

// roomAgain says that a lane that was passed over has room again. The caller holds l.mu.
func (l *lanes) roomAgain(x *lane) bool {
	if !x.passedOver || len(x.queues[expired]) > l.cfg.queue/2 || len(x.queues[marked]) > l.cfg.queue/2 {
		return false
	}
	x.passedOver = false
	return true
}

// turned does what a change of x's breaker asks for. The caller holds l.mu; ctx is Run's, or any where it doesn't run.
func (l *lanes) turned(ctx context.Context, x *lane, change turn) {
	if change == opened {
		x.refuseEntrants()
	}
	if l.ctx == nil {
		return
	}
	switch change {
	case opened:
		why, waiting := x.breaker.refusal(), l.drain(x)
		l.spawn(func() { l.refuse(ctx, x.target, waiting, why) })
		l.probeLater(ctx, x)
	case undecided:
		if x.waiting() == 0 {
			l.probeLater(ctx, x)
		}
	case closedNow:
		l.spawn(func() { l.rejoice(ctx, x.target) })
	}
}

// spawn starts f, which Run waits for. The caller holds l.mu.
func (l *lanes) spawn(f func()) {
	wg := l.wg
	wg.Add(1)
	go func() {
		defer wg.Done()
		f()
	}()
}

// probeLater asks for a probe when the breaker lets one through. The caller holds l.mu.
func (l *lanes) probeLater(ctx context.Context, x *lane) {
	wait := max(time.Until(x.breaker.until), l.cfg.probeLeast/2)
	l.spawn(func() {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if l.isOpen(x) {
			l.probe(ctx, x.target)
		}
	})
}

// isOpen says that a probe is wanted.
func (l *lanes) isOpen(x *lane) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return x.breaker.state == BreakerOpen
}

// putOff says when a lease that its lane has no room for should be looked at again.
func (l *lanes) putOff(target string, now time.Time, least, most time.Duration) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lane(target).putOff(now, least, most)
}

// refusal is why a target is not asked; nil where it is.
func (l *lanes) refusal(target string) *RevokeError {
	l.mu.Lock()
	defer l.mu.Unlock()
	if x := l.byTarget[target]; x != nil && x.breaker.state != BreakerClosed {
		return x.breaker.refusal()
	}
	return nil
}

// size counts the leases that wait or are worked on.
func (l *lanes) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.inWork)
}
