package broker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
)

// verdict is what a piece of work tells of its target.
type verdict int

const (
	unasked  verdict = iota // nothing: it was not asked, or whoever asked gave up before the answer
	silent                  // it can't be reached, or did not answer in time
	strained                // it says that it has too much to do
	answered                // it refused, and so it is there
	worked                  // it did what it was asked
)

// judge is the verdict on a target that returned err. Where ctx was cancelled, whoever asked has given up.
func judge(ctx context.Context, err error) verdict {
	if err == nil {
		return worked
	}
	if e, ok := errors.AsType[*gate.Error](err); ok && e.Kind == gate.TooMany {
		return strained
	}
	switch cause := causeOf(err); {
	case cause == Gone:
		return worked
	case cause != Unreachable:
		return answered
	case errors.Is(ctx.Err(), context.Canceled):
		return unasked
	default:
		return silent
	}
}

// BreakerState is whether a target is asked at all.
type BreakerState string

// The states of a circuit breaker.
const (
	BreakerClosed  BreakerState = "closed"  // it is
	BreakerOpen    BreakerState = "open"    // it is not: it has not answered several times running
	BreakerProbing BreakerState = "probing" // one piece of work finds out whether it answers again
)

// breaker keeps work from a target that does not answer. It opens after some silences in a row; then one probe at a time
// is let through, each after a longer wait, until one is answered.
type breaker struct {
	after       int           // silences in a row that open it
	least, most time.Duration // of the wait before a probe

	state    BreakerState
	silences int       // in a row
	probes   int       // in a row that were not answered
	since    time.Time // when it opened
	until    time.Time // when the next probe may be made
	why      string    // the last failure
}

func newBreaker(after int, least, most time.Duration) breaker {
	return breaker{after: after, least: least, most: most, state: BreakerClosed}
}

// leave is what a breaker lets somebody do.
type leave int

const (
	refused leave = iota
	admitted
	probing // admitted as the probe
)

// may says what may be done now. Whoever is asked for by a person does not wait for the time of the next probe.
func (b *breaker) may(now time.Time, asked bool) leave {
	switch {
	case b.state == BreakerClosed:
		return admitted
	case b.state == BreakerOpen && (asked || !now.Before(b.until)):
		return probing
	}
	return refused
}

// probe is called by whoever was admitted as the probe; its result must follow.
func (b *breaker) probe() { b.state = BreakerProbing }

// turn is what a result did to a breaker.
type turn int

const (
	unchanged turn = iota
	opened         // now, or once more after a probe
	undecided      // the probe found nothing out: it is open, and the next may try
	closedNow      // the target answers again
)

// result takes in what a piece of work told of the target. why is said of a silence.
func (b *breaker) result(now time.Time, v verdict, probe bool, why string) turn {
	switch v {
	case unasked:
		if probe {
			b.state, b.until = BreakerOpen, now
			return undecided
		}
		return unchanged
	case silent:
		return b.silence(now, probe, why)
	default:
		b.silences, b.probes, b.why = 0, 0, ""
		if b.state == BreakerClosed {
			return unchanged
		}
		b.state = BreakerClosed
		return closedNow
	}
}

func (b *breaker) silence(now time.Time, probe bool, why string) turn {
	b.silences++
	switch {
	case probe:
		b.probes++
	case b.state != BreakerClosed: // it began before
		return unchanged
	case b.silences < b.after:
		return unchanged
	default:
		b.since = now
	}
	wait := b.least
	for i := 0; i < b.probes && wait < b.most; i++ {
		wait *= 2
	}
	wait = min(wait, b.most)
	b.state, b.until, b.why = BreakerOpen, now.Add(wait/2+rand.N(wait/2+1)), why
	return opened
}

// refusal says why the target is not asked.
func (b *breaker) refusal() *RevokeError {
	return &RevokeError{Cause: Unreachable, Msg: fmt.Sprintf("the target has not answered since %s (%s); it is asked again soon",
		b.since.UTC().Format(time.RFC3339), b.why)}
}
