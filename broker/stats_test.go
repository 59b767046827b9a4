package broker_test

import (
	"context"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
)

func TestStats(t *testing.T) {
	test(t, func(w *world) {
		ctx := context.Background()
		for range 3 {
			_, l := w.issue("good")
			if _, _, err := w.b.Renew(ctx, l.ID, time.Second); err != nil {
				w.t.Fatal(err)
			}
			if err := w.b.Revoke(ctx, l.ID, true); err != nil {
				w.t.Fatal(err)
			}
		}
		w.bad.set(func() { w.bad.create = func(context.Context, broker.Spec) error { return unreachable() } })
		_, err := w.b.Serve(ctx, request("bad"))
		w.wantKind(err, gate.TargetDown)
		s := w.b.Stats()
		for op, want := range map[string]map[string]uint64{
			"issue": {"ok": 3, "unreachable": 1}, "renew": {"ok": 3},
		} {
			x := s.Work[broker.Work{Op: op, Producer: "model"}]
			for outcome, n := range want {
				if x.Outcomes[outcome] != n {
					w.t.Errorf("%s ended %q %d times, want %d", op, outcome, x.Outcomes[outcome], n)
				}
			}
			sum := uint64(0)
			for _, n := range x.Latency.Counts {
				sum += n
			}
			if sum != x.Latency.N || len(x.Latency.Counts) != len(x.Latency.Bounds)+1 {
				w.t.Errorf("%s: the counts of %+v don't sum up", op, x.Latency)
			}
		}
		if n := s.Work[broker.Work{Op: "revoke", Producer: "model"}].Outcomes["ok"]; n < 3 {
			w.t.Errorf("revoke ended ok %d times, want 3", n)
		}
		x := s.Targets["good"]
		if x.Breaker != broker.BreakerClosed || x.Limit < 1 || x.Issued != 3 || x.Renewed != 3 || x.Revoked != 3 || x.Issuing != 0 {
			w.t.Errorf("got %+v", x)
		}
		if s.Targets["bad"].IssueFailed != 1 {
			w.t.Errorf("got %+v", s.Targets["bad"])
		}
	})
}

// TestLatencyIsCountedWhereItBelongs: a call of 30 ms is in the bucket up to 50 ms.
func TestLatencyIsCountedWhereItBelongs(t *testing.T) {
	inMemory(t, func(w *world) {
		w.good.set(func() {
			w.good.create = func(context.Context, broker.Spec) error { <-time.After(30 * time.Millisecond); return nil }
		})
		w.issue("good")
		h := w.b.Stats().Work[broker.Work{Op: "issue", Producer: "model"}].Latency
		for i, n := range h.Counts {
			want := uint64(0)
			if i < len(h.Bounds) && h.Bounds[i] == 50*time.Millisecond {
				want = 1
			}
			if n != want {
				w.t.Errorf("bucket %d holds %d, want %d", i, n, want)
			}
		}
		if h.Sum != 30*time.Millisecond {
			w.t.Errorf("the sum is %v", h.Sum)
		}
	})
}

func TestCensus(t *testing.T) {
	w := newWorld(t, openSQLite(t)).start()
	defer func() { w.stop() }()
	w.put(3, "good", nil)
	past := time.Now().Add(-time.Minute).UTC().Truncate(time.Millisecond)
	w.bad.set(func() { w.bad.revoke = func(context.Context, broker.Ref) error { return unreachable() } })
	w.fill(1, "bad", past)
	w.within(10*time.Second, "it is stuck", func() bool {
		l := w.lease("database/creds/bad/filled000000")
		return l.State == broker.Stuck
	})
	c, err := w.b.Census(t.Context())
	if err != nil || !c.Overdue.Equal(past) || c.InDoubt != 0 {
		t.Fatalf("got %+v, %v, want the oldest overdue since %v", c, err, past)
	}
	found := make(map[broker.Tally]bool)
	for _, x := range c.Tally {
		found[x] = true
	}
	for _, want := range []broker.Tally{
		{State: broker.Active, Target: "good", N: 3},
		{State: broker.Stuck, Target: "bad", Cause: broker.Unreachable, N: 1},
	} {
		if !found[want] {
			t.Errorf("%+v is not in %+v", want, c.Tally)
		}
	}
}
