package broker

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// lanes hold the work on each target apart: a bounded queue and a bounded number of workers a target, so that one that is
// slow or dead hurts only itself. A lease is in a lane at most once. Workers are started when there is work and end when
// there is none.
type lanes struct {
	queue, workers int
	look           func() // called when a lane that was passed over has room again

	mu       sync.Mutex
	ctx      context.Context                                   // of the workers; nil while closed
	do       func(ctx context.Context, id string) (asked bool) // asked: the target was
	wg       *sync.WaitGroup
	byTarget map[string]*lane
	inWork   map[string]bool // lease ids that wait or are worked on
}

// lane is the work on one target. lanes.mu guards it.
type lane struct {
	urgent, normal []string // lease ids, oldest first
	running        int
	passedOver     bool          // the due loop had more for it than it would take
	took           time.Duration // one piece of work, as of late
	slot           time.Time     // when the last lease that was put off is due
}

// firstGuess is how long one piece of work on a target takes, until that is known.
const firstGuess = 10 * time.Millisecond

// offer's answers.
type taken int

const (
	queued taken = iota
	already
	full
	closed
)

func newLanes(queue, workers int, look func()) *lanes {
	return &lanes{queue: queue, workers: workers, look: look, byTarget: make(map[string]*lane), inWork: make(map[string]bool)}
}

// open lets workers start; do is what they do with a lease's id.
func (l *lanes) open(ctx context.Context, do func(context.Context, string) (asked bool)) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx != nil {
		return false
	}
	l.ctx, l.do, l.wg = ctx, do, new(sync.WaitGroup)
	return true
}

// close forgets what waits (the store still has it) and waits for the workers.
func (l *lanes) close() {
	l.mu.Lock()
	l.ctx = nil
	for _, x := range l.byTarget {
		for _, id := range append(x.urgent, x.normal...) {
			delete(l.inWork, id)
		}
		x.urgent, x.normal = nil, nil
	}
	wg := l.wg
	l.mu.Unlock()
	wg.Wait()
}

// offer puts a lease into its target's lane. Urgent ones, which somebody asked for, are worked on first and have a queue of
// their own of the same length.
func (l *lanes) offer(target, id string, urgent bool) taken {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx == nil {
		return closed
	}
	x := l.byTarget[target]
	if x == nil {
		x = &lane{took: firstGuess}
		l.byTarget[target] = x
	}
	q := &x.normal
	if urgent {
		q = &x.urgent
	}
	switch {
	case l.inWork[id]:
		x.passedOver = x.passedOver || urgent // what is in work may have read the lease before it changed
		return already
	case len(*q) >= l.queue:
		x.passedOver = true
		return full
	}
	*q = append(*q, id)
	l.inWork[id] = true
	if x.running < l.workers {
		x.running++
		ctx, wg := l.ctx, l.wg
		wg.Add(1)
		go func() {
			defer wg.Done()
			l.worker(ctx, x)
		}()
	}
	return queued
}

// worker does what its lane holds until there is nothing left.
func (l *lanes) worker(ctx context.Context, x *lane) {
	for {
		id, ok := l.next(x)
		if !ok {
			return
		}
		l.one(ctx, x, id)
	}
}

// one does one lease and takes it out of the lane, also when the goroutine ends in the middle of it.
func (l *lanes) one(ctx context.Context, x *lane, id string) {
	asked, whole := false, false
	began := time.Now()
	defer func() {
		l.mu.Lock()
		delete(l.inWork, id)
		switch {
		case !whole:
			x.running--
		case asked:
			x.took += (time.Since(began) - x.took) / 4
		}
		look := x.passedOver && len(x.normal) <= l.queue/2
		x.passedOver = x.passedOver && !look
		l.mu.Unlock()
		if look {
			l.look()
		}
	}()
	asked = l.do(ctx, id)
	whole = true
}

// next takes the oldest lease of a lane; where there is none it counts the worker out.
func (l *lanes) next(x *lane) (id string, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, q := range []*[]string{&x.urgent, &x.normal} {
		if len(*q) > 0 {
			id, *q = (*q)[0], (*q)[1:]
			return id, true
		}
	}
	x.running--
	return "", false
}

// putOff says when a lease that a lane has no room for should be looked at again: one after another, at the pace at which
// the target has worked of late, so that they neither fill the due loop's window again at once nor leave the lane idle;
// at the earliest after least and at the latest after most.
func (l *lanes) putOff(target string, now time.Time, least, most time.Duration) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	x := l.byTarget[target]
	if first := now.Add(least); x.slot.Before(first) {
		x.slot = first
	}
	x.slot = x.slot.Add(max(x.took/time.Duration(l.workers), time.Millisecond))
	if last := now.Add(most); x.slot.After(last) {
		x.slot = last
		return last.Add(-rand.N(most/2 + 1))
	}
	return x.slot
}

// size counts the leases that wait or are worked on.
func (l *lanes) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.inWork)
}

// load counts what waits and what is worked on for each target.
func (l *lanes) load() map[string][2]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := make(map[string][2]int, len(l.byTarget))
	for target, x := range l.byTarget {
		m[target] = [2]int{len(x.urgent) + len(x.normal), x.running}
	}
	return m
}
