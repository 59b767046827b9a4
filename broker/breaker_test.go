package broker_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
)

func TestBreakerOpensAfterSilencesInARow(t *testing.T) {
	for _, x := range []struct {
		results string
		want    broker.BreakerState
	}{
		{"silent silent", broker.BreakerClosed},
		{"silent silent silent", broker.BreakerOpen},
		{"silent silent worked silent silent", broker.BreakerClosed},
		{"silent silent answered silent silent", broker.BreakerClosed},
		{"silent silent strained silent silent", broker.BreakerClosed},
		{"silent unasked silent unasked silent", broker.BreakerOpen},
		{"strained strained strained strained", broker.BreakerClosed},
		{"answered answered answered answered", broker.BreakerClosed},
		{"silent silent silent worked", broker.BreakerClosed}, // what began before shows that it answers
	} {
		b := broker.NewBreaker(3, time.Second, time.Minute)
		for _, r := range strings.Fields(x.results) {
			b.Result(time.Now(), r, false)
		}
		if got := b.State(); got != x.want {
			t.Errorf("after %s: got %s, want %s", x.results, got, x.want)
		}
	}
}

func TestBreakerLetsOneProbeThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		may := func(b *broker.Breaker, want string) {
			t.Helper()
			if got := b.May(time.Now(), false); got != want {
				t.Errorf("may it be asked? got %s, want %s", got, want)
			}
		}
		b := broker.NewBreaker(1, time.Second, 10*time.Second)
		may(b, "yes")
		b.Result(time.Now(), "silent", false)
		may(b, "no")
		if !strings.Contains(b.Words(), "since 2000-01-01T00:00:00Z (why)") {
			t.Errorf("got words %q", b.Words())
		}
		for i, seconds := range []int{1, 2, 4, 8, 10, 10} {
			wait, limit := time.Until(b.Until()), time.Duration(seconds)*time.Second
			if wait < limit/2 || wait > limit {
				t.Errorf("the wait before probe %d is %v, want %v to %v", i+1, wait, limit/2, limit)
			}
			<-time.After(wait)
			may(b, "as the probe")
			may(b, "no")
			b.Result(time.Now(), "silent", false) // one from before changes nothing
			may(b, "no")
			b.Result(time.Now(), "silent", true)
			may(b, "no")
		}
		if got := b.May(time.Now(), true); got != "as the probe" {
			t.Errorf("somebody asks: got %s", got)
		}
		b.Result(time.Now(), "unasked", true)
		may(b, "as the probe")
		b.Result(time.Now(), "answered", true)
		may(b, "yes")
		b.Result(time.Now(), "silent", false)
		if wait := time.Until(b.Until()); wait > time.Second {
			t.Errorf("the first wait after it was well is %v", wait)
		}
	})
}

func TestJudge(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	classed := func(c broker.Cause) error { return fmt.Errorf("x: %w", &broker.RevokeError{Cause: c, Msg: "m"}) }
	for _, x := range []struct {
		sentence string
		ctx      context.Context
		err      error
		want     string
	}{
		{"no error", t.Context(), nil, "worked"},
		{"gone", t.Context(), classed(broker.Gone), "worked"},
		{"owns objects", t.Context(), classed(broker.OwnsObjects), "answered"},
		{"forbidden", t.Context(), classed(broker.ForbiddenBy), "answered"},
		{"no class", t.Context(), errors.New("x"), "answered"},
		{"unreachable", t.Context(), classed(broker.Unreachable), "silent"},
		{"out of time", t.Context(), context.DeadlineExceeded, "silent"},
		{"the client is gone", cancelled, context.Canceled, "unasked"},
		{"too much", t.Context(), gate.Errorf(gate.TooMany, "slow down"), "strained"},
	} {
		if got := broker.Judge(x.ctx, x.err); got != x.want {
			t.Errorf("%s: got %s, want %s", x.sentence, got, x.want)
		}
	}
}

func TestLimit(t *testing.T) {
	l := broker.NewLimit(8, 32)
	work := func(n, inUse int) {
		for range n {
			l.Worked(inUse)
		}
	}
	want := func(what string, n int) {
		t.Helper()
		if got := l.Now(); got != n {
			t.Errorf("%s: got a limit of %d, want %d", what, got, n)
		}
	}
	want("at first", 8)
	work(100, 4)
	want("successes that don't use it", 8)
	work(9, 8)
	want("as many successes as it is, and one", 9)
	work(1000, 32)
	want("many successes", 32)
	t0 := time.Now()
	l.TooMuch(t0, t0.Add(time.Second))
	want("too much", 16)
	l.TooMuch(t0, t0.Add(2*time.Second))
	want("too much again of what began before", 16)
	l.TooMuch(t0.Add(2*time.Second), t0.Add(3*time.Second))
	want("too much again", 8)
	for i := range 10 {
		at := t0.Add(time.Duration(4+i) * time.Second)
		l.TooMuch(at, at)
	}
	want("too much for ever", 1)
}

func TestTurns(t *testing.T) {
	for _, x := range []struct {
		sentence string
		costs    []int // milliseconds
		want     []int // of 1000 picks
	}{
		{"equals take turns", []int{10, 10, 10, 10}, []int{250, 250, 250, 250}},
		{"whose work takes ten times as long begins a tenth as often", []int{10, 100}, []int{909, 90}},
		{"who has no work is passed over", []int{0, 10, 0, 10}, []int{0, 500, 0, 500}},
		{"alone is always its turn", []int{0, 30000}, []int{0, 1000}},
		{"short work shares one turn", []int{1, 10}, []int{909, 90}},
		{"work that takes for ever is not left out", []int{10, 1000000}, []int{984, 15}},
	} {
		turns := broker.NewTurns(10*time.Millisecond, len(x.costs))
		costs, got := make([]time.Duration, len(x.costs)), make([]int, len(x.costs))
		for i, c := range x.costs {
			costs[i] = time.Duration(c) * time.Millisecond
		}
		for range 1000 {
			got[turns.Pick(costs)]++
		}
		for i := range got {
			if got[i] < x.want[i]-1 || got[i] > x.want[i]+1 {
				t.Errorf("%s: got %v, want %v", x.sentence, got, x.want)
				break
			}
		}
	}
	if got := broker.NewTurns(time.Millisecond, 2).Pick(make([]time.Duration, 2)); got != -1 {
		t.Errorf("nobody has work: got %d, want -1", got)
	}
}
