package broker

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
)

// Stats is what a broker can say of itself without a look at the store.
type Stats struct {
	Targets     map[string]TargetStats
	Work        map[Work]Series
	Revocations int // of many, open
	Stopped     map[Stop]uint64
	Pools       map[string]int // credentials that wait here, by the path of their role
}

// TargetStats is how the work on one target stands.
type TargetStats struct {
	Counts
	Breaker BreakerState
	Limit   int // of what is at work at a time, as it is now

	Issuing, Revoking, Sweeping int // at work
	IssuesWaiting               int
	Queues                      map[string]int // revocations that wait, by class: asked, marked, expired
}

// Work names a kind of work: "issue", "renew", "revoke" or "revoke-batch", of a type of producer.
type Work struct{ Op, Producer string }

// Series is how work of one kind ended and how long it took.
type Series struct {
	Outcomes map[string]uint64 // "ok", or the cause of a failure
	Latency  Histogram
}

// Histogram counts durations up to each of Bounds; the last entry of Counts is for what took longer than any.
type Histogram struct {
	Bounds []time.Duration
	Counts []uint64
	Sum    time.Duration
	N      uint64
}

var bounds = [...]time.Duration{
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond,
	50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second,
	2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 30 * time.Second,
}

// series guards the Series of every kind of work.
type series struct {
	mu sync.Mutex
	by map[Work]*Series
}

// took counts work that began then and has ended with *err. It is deferred.
func (s *series) took(op, producer string, began time.Time, err *error) {
	took := time.Since(began)
	s.mu.Lock()
	defer s.mu.Unlock()
	key := Work{op, producer}
	x := s.by[key]
	if x == nil {
		x = &Series{Outcomes: make(map[string]uint64), Latency: Histogram{Counts: make([]uint64, len(bounds)+1)}}
		s.by[key] = x
	}
	x.Outcomes[outcome(*err)]++
	i, _ := slices.BinarySearch(bounds[:], took)
	x.Latency.Counts[i]++
	x.Latency.N++
	x.Latency.Sum += took
}

// outcome is a word from a short list for err.
func outcome(err error) string {
	if err == nil {
		return "ok"
	}
	if e, ok := errors.AsType[*gate.Error](err); ok && e.Kind != gate.TargetDown && e.Kind != gate.TargetSlow {
		return "refused"
	}
	if c := causeOf(err); c != Gone {
		return string(c)
	}
	return "ok"
}

// snapshot copies every Series.
func (s *series) snapshot() map[Work]Series {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[Work]Series, len(s.by))
	for key, x := range s.by {
		c := Series{Outcomes: maps.Clone(x.Outcomes), Latency: x.Latency}
		c.Latency.Bounds, c.Latency.Counts = slices.Clone(bounds[:]), slices.Clone(x.Latency.Counts)
		out[key] = c
	}
	return out
}

// Stats is a snapshot, for metrics.
func (b *Broker) Stats() Stats {
	s := Stats{Targets: b.lanes.snapshot(), Work: b.stats.snapshot(), Revocations: b.many.size(), Stopped: b.guards.counts(), Pools: b.pools.sizes()}
	b.counts.mu.Lock()
	defer b.counts.mu.Unlock()
	for target, c := range b.counts.byTarget {
		x, known := s.Targets[target]
		if !known {
			x.Breaker = BreakerClosed
		}
		c := *c
		c.Waiting, c.Working = x.Waiting, x.Working
		x.Counts = c
		s.Targets[target] = x
	}
	return s
}

// snapshot says how each lane stands.
func (l *lanes) snapshot() map[string]TargetStats {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make(map[string]TargetStats, len(l.all))
	for _, x := range l.all {
		out[x.target] = TargetStats{
			Counts:  Counts{Waiting: x.waiting(), Working: x.running},
			Breaker: x.breaker.state, Limit: x.limit.now(),
			Issuing: x.issuing, Revoking: x.running, Sweeping: x.sweeping, IssuesWaiting: len(x.issues),
			Queues: map[string]int{"asked": len(x.queues[asked]), "marked": len(x.queues[marked]), "expired": len(x.queues[expired])},
		}
	}
	return out
}

// Census is what the store says of all leases.
type Census struct {
	Tally   []Tally
	Overdue time.Time // when the oldest revocation that is due or has failed should have happened; zero where there is none
	InDoubt int       // intents: leases whose credential is being made, or may have been
}

// Census counts leases. The error is a *gate.Error of kind Unsupported where the store doesn't count.
func (b *Broker) Census(ctx context.Context) (c Census, err error) {
	if b.counter == nil {
		return c, gate.Errorf(gate.Unsupported, "this store doesn't count leases")
	}
	if c.Tally, err = b.counter.Tally(ctx); err == nil {
		c.Overdue, err = b.counter.Overdue(ctx, now())
	}
	if err != nil {
		return c, &gate.Error{Kind: gate.Unavailable, Msg: "leases can't be counted now", Err: err}
	}
	for _, t := range c.Tally {
		if t.State == Pending {
			c.InDoubt += t.N
		}
	}
	return c, nil
}
