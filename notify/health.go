package notify

import (
	"sync"
	"time"
)

// Health is how a webhook is on this node, since the process has started.
type Health struct {
	Name      string
	Failing   bool      // the last try failed
	Failures  int       // in a row
	Error     string    // of the last try, where it failed
	Succeeded time.Time // the last time; zero: not yet
	Delivered uint64    // events that were answered with a 2xx
	Tries     uint64    // that failed
	Lost      uint64    // events that were given up; a trail that lacks some counts as one
	Behind    uint64    // records of the trail that are not looked at yet
	Lag       time.Duration
}

// health guards what Health is made of.
type health struct {
	mu      sync.Mutex
	h       Health
	seq     uint64    // the last record that is done with
	waiting time.Time // when the event happened that is to be sent next; zero: there is none
}

// copied is what goes on to count when a webhook's declaration has changed.
func (x *health) copied() health {
	x.mu.Lock()
	defer x.mu.Unlock()
	return health{h: x.h, seq: x.seq, waiting: x.waiting}
}

func (x *health) now(name string, head uint64) Health {
	x.mu.Lock()
	defer x.mu.Unlock()
	h := x.h
	h.Name = name
	if head > x.seq {
		h.Behind = head - x.seq
	}
	if !x.waiting.IsZero() {
		h.Lag = max(0, time.Since(x.waiting))
	}
	return h
}

func (x *health) change(f func(h *Health)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	f(&x.h)
}

// wait says which event is to be sent next.
func (x *health) wait(at time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.waiting = at
}

// past says that everything up to seq is done with.
func (x *health) past(seq uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.seq, x.waiting = seq, time.Time{}
}
