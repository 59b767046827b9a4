package broker_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
)

// fill puts n active leases of a target into the store, all due at a time.
func (w *world) fill(n int, target string, due time.Time) {
	w.t.Helper()
	var wg sync.WaitGroup
	slots := make(chan struct{}, 64)
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			l := &broker.Lease{
				ID: fmt.Sprintf("database/creds/%s/filled%06d", target, i), Mount: "database/", Role: target, Target: target,
				Principal: fmt.Sprintf("bl-%s-%06d", target, i), Producer: "model", State: broker.Active, IssuedAt: due.Add(-time.Second),
				ExpiresAt: due, NextAt: due, MaxExpiresAt: due, IntentDeadline: due.Add(-time.Second),
			}
			if err := w.store.Insert(context.Background(), l); err != nil {
				w.t.Error(err)
			}
		})
	}
	wg.Wait()
}

// TestDeadTargetHurtsOnlyItself: two thousand due leases of a target that does not answer stand before one of another.
func TestDeadTargetHurtsOnlyItself(t *testing.T) {
	test(t, func(w *world) {
		w.stop()
		w.cfg.RetryMax = time.Minute
		w.bad.revoke = func(ctx context.Context, _ broker.Ref) error { return hang(ctx) }
		past := time.Now().Add(-time.Minute).UTC().Truncate(time.Millisecond)
		w.fill(2000, "bad", past)
		w.fill(1, "good", past.Add(time.Second))
		w.good.alive["bl-good-000000"] = past
		w.start()
		w.revoked(10*time.Second, "database/creds/good/filled000000") // the dead target's alone would take 150 s

		// And what is issued meanwhile ends in time.
		_, l := w.issue("good")
		w.revoked(ttl+30*time.Second, l.ID) // by a machine that does nothing else in a fraction of a second
		_, l = w.issue("good")
		if err := w.b.Revoke(context.Background(), l.ID, true); err != nil {
			w.t.Error(err)
		}
	})
}

// TestLaneIsBounded: no more revocations at a time on one target than it has workers, and no lease twice at a time.
func TestLaneIsBounded(t *testing.T) {
	test(t, func(w *world) {
		w.stop()
		var running, most atomic.Int64
		var mu sync.Mutex
		atWork := make(map[string]bool)
		w.good.revoke = func(ctx context.Context, ref broker.Ref) error {
			mu.Lock()
			if atWork[ref.LeaseID] {
				w.t.Errorf("%s is worked on twice at a time", ref.LeaseID)
			}
			atWork[ref.LeaseID] = true
			mu.Unlock()
			n := running.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			<-time.After(2 * time.Millisecond)
			running.Add(-1)
			mu.Lock()
			delete(atWork, ref.LeaseID)
			mu.Unlock()
			return nil
		}
		past := time.Now().Add(-time.Minute).UTC().Truncate(time.Millisecond)
		w.fill(300, "good", past)
		w.start()
		w.within(time.Minute, "all are revoked", func() bool {
			open, err := w.store.List(context.Background(), broker.Filter{})
			return err == nil && len(open) == 0
		})
		if most.Load() != int64(w.cfg.Workers) {
			w.t.Errorf("got %d at a time, want %d", most.Load(), w.cfg.Workers)
		}
		w.within(time.Second, "all are counted", func() bool {
			return w.b.Counts()["good"] == broker.Counts{Revoked: 300}
		})
	})
}

// TestTargetThatComesBack: what was put off while a target was dead is revoked soon after it answers again.
func TestTargetThatComesBack(t *testing.T) {
	test(t, func(w *world) {
		w.stop()
		w.bad.revoke = func(context.Context, broker.Ref) error { return unreachable() }
		w.fill(300, "bad", time.Now().Add(-time.Minute).UTC().Truncate(time.Millisecond))
		w.start()
		w.within(time.Minute, "some have failed", func() bool { return w.b.Counts()["bad"].RevokeFailed > 100 })
		w.bad.set(func() { w.bad.revoke = nil })
		w.within(time.Minute, "all are revoked", func() bool {
			open, err := w.store.List(context.Background(), broker.Filter{})
			return err == nil && len(open) == 0
		})
	})
}

// TestStoreThatTakesNothingIsNotHammered: while no write is taken, the loop looks at its usual pace.
func TestStoreThatTakesNothingIsNotHammered(t *testing.T) {
	test(t, func(w *world) {
		w.stop()
		var refusing atomic.Bool
		var writes atomic.Int64
		w.cfg.Store = &gatedStore{Store: w.store, refuse: func(string) bool { writes.Add(1); return refusing.Load() }}
		w.fill(30, "good", time.Now().Add(-time.Minute).UTC().Truncate(time.Millisecond))
		refusing.Store(true)
		w.start()
		<-time.After(10 * w.cfg.Poll)
		if got, most := writes.Load(), int64(15*w.cfg.Workers); got > most || got < 10 {
			w.t.Errorf("got %d writes while none was taken, want at most %d", got, most)
		}
		refusing.Store(false)
		w.within(time.Minute, "all are revoked", func() bool {
			open, err := w.store.List(context.Background(), broker.Filter{})
			return err == nil && len(open) == 0
		})
	})
}

// TestOneSlowLeaseTakesOneWorker, however often the loop sees it due.
func TestOneSlowLeaseTakesOneWorker(t *testing.T) {
	test(t, func(w *world) {
		w.stop()
		w.cfg.RevokeTimeout = time.Minute
		w.start()
		_, slow := w.issue("good")
		inside := make(chan struct{})
		w.good.set(func() {
			w.good.revoke = func(ctx context.Context, ref broker.Ref) error {
				if ref.LeaseID == slow.ID {
					close(inside)
					return hang(ctx)
				}
				return nil
			}
		})
		if err := w.b.Revoke(context.Background(), slow.ID, false); err != nil {
			w.t.Fatal(err)
		}
		<-inside
		<-time.After(time.Duration(w.cfg.Workers+2) * w.cfg.Poll)
		if got := w.b.Counts()["good"]; got.Working != 1 || got.Waiting != 0 {
			w.t.Errorf("got counts %+v, want one at work and none waiting", got)
		}
		_, l := w.issue("good")
		if err := w.b.Revoke(context.Background(), l.ID, true); err != nil {
			w.t.Error(err)
		}
	})
}
