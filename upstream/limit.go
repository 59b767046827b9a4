package upstream

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
)

// limiter bounds how many requests are at a target and how many wait for that.
type limiter struct {
	name    string
	slots   chan struct{}
	waiting atomic.Int64
	max     int64
}

func newLimiter(name string, inFlight, queue int) *limiter {
	return &limiter{name: name, slots: make(chan struct{}, inFlight), max: int64(max(queue, 0))}
}

// take waits for a place, at most for wait. Whoever got one must give it back with free.
func (l *limiter) take(ctx context.Context, wait time.Duration) error {
	select {
	case l.slots <- struct{}{}:
		return nil
	default:
	}
	defer l.waiting.Add(-1)
	if l.waiting.Add(1) > l.max {
		return &gate.Error{Kind: gate.TooMany, Msg: "target " + l.name + " has too many requests waiting", After: time.Second}
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case l.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return gate.Errorf(gate.TargetSlow, "target %s did not get to this request in time", l.name)
	}
}

func (l *limiter) free() { <-l.slots }

// breaker keeps requests from waiting, one after another, for a target that can't be connected to. After a few failed
// connections in a row it lets one request through now and then, and refuses the others at once.
type breaker struct {
	name string

	mu      sync.Mutex
	fails   int
	until   time.Time // no request passes before
	probing bool      // one request is finding out
}

const breakAfter = 3

// enter is nil where a request may go to the target; it must then call leave once.
func (b *breaker) enter() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fails < breakAfter {
		return nil
	}
	if b.probing || time.Now().Before(b.until) {
		return gate.Errorf(gate.TargetDown, "target %s can't be reached", b.name)
	}
	b.probing = true
	return nil
}

// outcome is what a request learned about its target.
type outcome int

const (
	unknown     outcome = iota // it ended for reasons of its own
	reached                    // a connection stood
	unreachable                // no connection could be made
)

func (b *breaker) leave(o outcome) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.probing = false
	switch o {
	case reached:
		b.fails = 0
	case unreachable:
		b.fails++
		b.until = time.Now().Add(backoff(b.fails-breakAfter, 500*time.Millisecond, 5*time.Second))
	}
}

// backoff is a pause after the nth failure: exponential from base up to most, of which a random half is taken off.
func backoff(n int, base, most time.Duration) time.Duration {
	d := most
	if n < 16 {
		d = min(most, base<<max(n, 0))
	}
	return d/2 + rand.N(d/2+1)
}
