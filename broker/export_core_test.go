package broker

import (
	"context"
	"time"
)

// Breaker lets tests of the package see a circuit breaker by itself.
type Breaker struct{ b breaker }

func NewBreaker(after int, least, most time.Duration) *Breaker {
	return &Breaker{newBreaker(after, least, most)}
}

// May begins a probe where one is let through.
func (x *Breaker) May(now time.Time, asked bool) string {
	switch x.b.may(now, asked) {
	case admitted:
		return "yes"
	case probing:
		x.b.probe()
		return "as the probe"
	default:
		return "no"
	}
}

// Result takes in "unasked", "silent", "strained", "answered" or "worked".
func (x *Breaker) Result(now time.Time, verdict string, probe bool) {
	x.b.result(now, verdicts[verdict], probe, "why")
}

func (x *Breaker) State() BreakerState { return x.b.state }
func (x *Breaker) Until() time.Time    { return x.b.until }
func (x *Breaker) Words() string       { return x.b.refusal().Msg }

var verdicts = map[string]verdict{"unasked": unasked, "silent": silent, "strained": strained, "answered": answered, "worked": worked}

// Judge names the verdict on an error.
func Judge(ctx context.Context, err error) string {
	for name, v := range verdicts {
		if v == judge(ctx, err) {
			return name
		}
	}
	return ""
}

// Limit lets tests of the package see a limit by itself.
type Limit struct{ l limit }

func NewLimit(start, most int) *Limit         { return &Limit{newLimit(start, most)} }
func (x *Limit) Now() int                     { return x.l.now() }
func (x *Limit) Worked(inUse int)             { x.l.worked(inUse) }
func (x *Limit) TooMuch(began, now time.Time) { x.l.tooMuch(began, now) }

// Turns lets tests of the package see deficit round-robin by itself: costs are of those who have work, 0 of others.
type Turns struct {
	t      turns
	purses []time.Duration
}

func NewTurns(quantum time.Duration, n int) *Turns {
	return &Turns{turns{quantum: quantum}, make([]time.Duration, n)}
}

func (x *Turns) Pick(costs []time.Duration) int {
	return x.t.pick(len(costs), func(i int) (time.Duration, bool) { return costs[i], costs[i] > 0 },
		func(i int) *time.Duration { return &x.purses[i] })
}

// Sweep is sweepTarget.
func (b *Broker) Sweep(ctx context.Context, target string, f func() error) error {
	return b.sweepTarget(ctx, target, f)
}
