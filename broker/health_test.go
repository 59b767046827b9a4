package broker_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
)

// inMemory runs f with a broker of the defaults that a server has, in time that isn't real.
func inMemory(t *testing.T, f func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newMemory())
		c := w.cfg
		w.cfg = broker.Config{Store: c.Store, Catalog: c.Catalog, Recorder: c.Recorder, Node: c.Node, Logger: c.Logger}
		w.start()
		defer func() { w.stop() }()
		f(w)
	})
}

func (w *world) kill(x *target) { x.set(func() { x.revoke, x.create = alwaysHang, neverMade }) }
func (w *world) heal(x *target) { x.set(func() { x.revoke, x.create = nil, nil }) }

func alwaysHang(ctx context.Context, _ broker.Ref) error { return hang(ctx) }
func neverMade(ctx context.Context, _ broker.Spec) error { return hang(ctx) }

func (x *target) asked() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.revokes
}

// TestDeadHostBesideAHealthyOne: thirty leases of a host that is gone for ever; the other target's revocations and issues
// take no longer than without them.
func TestDeadHostBesideAHealthyOne(t *testing.T) {
	inMemory(t, func(w *world) {
		w.kill(w.bad)
		w.fill(30, "bad", time.Now().Add(-time.Minute).UTC().Truncate(time.Millisecond))
		w.good.set(func() {
			w.good.revoke = func(context.Context, broker.Ref) error { <-time.After(5 * time.Millisecond); return nil }
		})
		var revoke, issue []time.Duration
		for range 300 { // over an hour of trouble
			began := time.Now()
			_, l := w.issue("good")
			issue = append(issue, time.Since(began))
			began = time.Now()
			if err := w.b.Revoke(context.Background(), l.ID, true); err != nil {
				w.t.Fatal(err)
			}
			revoke = append(revoke, time.Since(began))
			<-time.After(12 * time.Second)
		}
		slices.Sort(revoke)
		slices.Sort(issue)
		if p99 := revoke[296]; p99 > 6*time.Millisecond {
			w.t.Errorf("the healthy target's revocations took %v (p99), want 5 ms", p99)
		}
		if p99 := issue[296]; p99 > time.Millisecond {
			w.t.Errorf("the healthy target's issues took %v (p99)", p99)
		}
		stats := w.b.Stats().Targets
		if s := stats["bad"]; s.Breaker == broker.BreakerClosed || s.Limit != 1 || s.Revoking > 1 {
			w.t.Errorf("the dead target: %+v, want its breaker open and its limit one", s)
		}
		if s := stats["good"]; s.Breaker != broker.BreakerClosed || s.RevokeFailed != 0 {
			w.t.Errorf("the healthy target: %+v", s)
		}
		if n := w.bad.asked(); n > 150 {
			w.t.Errorf("the dead target was asked %d times in an hour, want about once a minute", n)
		}
		stuck, err := w.b.List(context.Background(), broker.Filter{States: []broker.State{broker.Stuck}, Cause: broker.Unreachable})
		if err != nil || len(stuck) != 30 || !strings.Contains(stuck[9].Error, "not answer") {
			w.t.Errorf("got %d stuck leases, %v, want 30 that say why", len(stuck), err)
		}

		w.heal(w.bad)
		w.within(3*time.Minute, "all are revoked once it is back", func() bool {
			left, err := w.store.List(context.Background(), broker.Filter{Target: "bad"})
			return err == nil && len(left) == 0
		})
	})
}

// TestManyExpireTogetherWhileTheTargetIsDown: fifteen thousand leases. Looking one up, issuing and the snapshot for health
// take no time, other leases end in time, and there is no goroutine for each.
func TestManyExpireTogetherWhileTheTargetIsDown(t *testing.T) {
	const n = 15_000
	inMemory(t, func(w *world) {
		w.bad.revoke = func(context.Context, broker.Ref) error { return unreachable() }
		at := time.Now().Add(10 * time.Second).UTC().Truncate(time.Millisecond)
		w.fill(n, "bad", at)
		w.fill(1, "good", at)
		<-time.After(time.Until(at))
		most := 0
		for range 200 {
			began := time.Now()
			if _, err := w.b.Lookup(context.Background(), "database/creds/bad/filled000007"); err != nil {
				w.t.Fatal(err)
			}
			_ = w.b.Stats()
			_, _ = w.issue("good")
			if took := time.Since(began); took > 10*time.Millisecond {
				w.t.Fatalf("looking, counting and issuing took %v", took)
			}
			most = max(most, runtime.NumGoroutine())
			<-time.After(10 * time.Millisecond)
		}
		w.revoked(time.Second, "database/creds/good/filled000000")
		if most > 1000 {
			w.t.Errorf("there were %d goroutines", most)
		}
		w.bad.set(func() { w.bad.revoke = nil })
		w.within(10*time.Minute, "all are revoked once it is back", func() bool {
			<-time.After(time.Second)
			left, err := w.store.List(context.Background(), broker.Filter{Target: "bad", Limit: 1})
			return err == nil && len(left) == 0
		})
		if _, err := w.b.Preview(context.Background(), broker.Selector{Target: "bad"}); err != nil {
			w.t.Error(err)
		}
	})
}

// TestIssueForADeadTarget fails at once, in words, and leaves no lease; one at a time finds out whether it answers again.
func TestIssueForADeadTarget(t *testing.T) {
	inMemory(t, func(w *world) {
		w.bad.set(func() {
			w.bad.create = func(context.Context, broker.Spec) error { return unreachable() }
			w.bad.revoke = func(context.Context, broker.Ref) error { return unreachable() }
		})
		ctx := context.Background()
		for range 5 {
			_, err := w.b.Serve(ctx, request("bad"))
			w.wantKind(err, gate.TargetDown)
		}
		count := func() int {
			return len(w.store.(*memory).all(func(*broker.Lease) bool { return true }))
		}
		before, began := count(), time.Now()
		_, err := w.b.Serve(ctx, request("bad"))
		w.wantKind(err, gate.TargetDown)
		if err == nil || !strings.Contains(err.Error(), "has not answered since") || !strings.Contains(err.Error(), "connection refused") {
			w.t.Errorf("got %v, want words", err)
		}
		if took := time.Since(began); took > 0 {
			w.t.Errorf("it took %v", took)
		}
		if n := count(); n != before {
			w.t.Errorf("it left %d leases", n-before)
		}
		if _, l := w.issue("good"); l.State != broker.Active {
			w.t.Error("another target is affected")
		}
		w.heal(w.bad)
		w.within(2*time.Minute, "it is issued again", func() bool {
			<-time.After(100 * time.Millisecond)
			_, err := w.b.Serve(ctx, request("bad"))
			return err == nil
		})
	})
}

// TestRevokeAProbeByHand: who asks for a revocation does not wait for the time of the next probe.
func TestRevokeAProbeByHand(t *testing.T) {
	inMemory(t, func(w *world) {
		_, l := w.issue("bad")
		w.fill(10, "bad", time.Now().Add(-time.Minute).UTC().Truncate(time.Millisecond))
		w.bad.set(func() { w.bad.revoke = func(context.Context, broker.Ref) error { return unreachable() } })
		w.within(time.Minute, "the breaker is open", func() bool { return w.b.Stats().Targets["bad"].Breaker == broker.BreakerOpen })
		w.wantKind(w.b.Revoke(context.Background(), l.ID, true), gate.TargetDown)
		w.bad.set(func() { w.bad.revoke = nil })
		began := time.Now()
		if err := w.b.Revoke(context.Background(), l.ID, true); err != nil {
			w.t.Error(err)
		}
		if took := time.Since(began); took > 100*time.Millisecond {
			w.t.Errorf("it took %v", took)
		}
	})
}

// TestLimitFollowsTheTarget: it grows while all goes well, and is halved when the target has too much to do.
func TestLimitFollowsTheTarget(t *testing.T) {
	inMemory(t, func(w *world) {
		var running, most atomic.Int64
		tooMany := int64(100)
		w.good.set(func() {
			w.good.revoke = func(context.Context, broker.Ref) error {
				n := running.Add(1)
				defer running.Add(-1)
				most.Store(max(most.Load(), n))
				<-time.After(10 * time.Millisecond)
				if n > atomic.LoadInt64(&tooMany) {
					return gate.Errorf(gate.TooMany, "too many connections")
				}
				return nil
			}
		})
		w.fill(3000, "good", time.Now().Add(-time.Minute).UTC().Truncate(time.Millisecond))
		w.within(time.Minute, "the limit has grown to its most", func() bool { return w.b.Stats().Targets["good"].Limit == 32 })
		if got := most.Load(); got < 30 || got > 33 {
			w.t.Errorf("%d were at work at a time, want 32", got)
		}
		atomic.StoreInt64(&tooMany, 10)
		w.within(time.Minute, "the limit was halved twice", func() bool { return w.b.Stats().Targets["good"].Limit <= 8 })
		if s := w.b.Stats().Targets["good"]; s.Breaker != broker.BreakerClosed {
			w.t.Errorf("the breaker is %s, though it answers", s.Breaker)
		}
	})
}

// TestIssueGoesFirst: while a thousand leases are due on a target, an issue waits for at most one piece of work; and while
// many issue, the leases end all the same.
func TestIssueGoesFirst(t *testing.T) {
	inMemory(t, func(w *world) {
		w.good.set(func() {
			w.good.revoke = func(context.Context, broker.Ref) error { <-time.After(50 * time.Millisecond); return nil }
			w.good.create = func(context.Context, broker.Spec) error { <-time.After(50 * time.Millisecond); return nil }
		})
		w.fill(1000, "good", time.Now().Add(-time.Minute).UTC().Truncate(time.Millisecond))
		<-time.After(100 * time.Millisecond)
		for range 20 {
			began := time.Now()
			w.issue("good")
			if took := time.Since(began); took > 100*time.Millisecond {
				w.t.Fatalf("it took %v, want two pieces of work at most", took)
			}
		}
		stop := make(chan struct{})
		done := make(chan struct{}, 200)
		for range 200 {
			go func() {
				defer func() { done <- struct{}{} }()
				for {
					select {
					case <-stop:
						return
					default:
						_, _ = w.b.Serve(context.Background(), request("good"))
					}
				}
			}()
		}
		before := w.good.asked()
		<-time.After(5 * time.Second)
		if n := w.good.asked() - before; n < 300 {
			w.t.Errorf("%d leases ended in 5 s while many issue, want a quarter of the places at least", n)
		}
		close(stop)
		for range 200 {
			<-done
		}
	})
}

// TestWorkersAreShared: with few workers for all, slow targets do not keep a fast one from its turn.
func TestWorkersAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newMemory())
		w.cfg.Budget, w.cfg.Queue, w.cfg.Workers, w.cfg.RevokeTimeout, w.cfg.Batch = 4, 2000, 64, time.Minute, 5000
		slow := make(map[string]broker.Producer)
		past := time.Now().Add(-time.Minute).UTC().Truncate(time.Millisecond)
		for i := range 10 {
			name := fmt.Sprintf("slow-%d", i)
			x := newTarget()
			x.revoke = func(context.Context, broker.Ref) error { <-time.After(time.Second); return nil }
			slow[name] = x
			w.fill(100, name, past)
		}
		w.cfg.Catalog = otherProducers{w.catalog, slow}
		w.good.revoke = func(context.Context, broker.Ref) error { <-time.After(5 * time.Millisecond); return nil }
		w.fill(1000, "good", past)
		w.start()
		defer func() { w.stop() }()
		<-time.After(10 * time.Second)
		if n := w.good.asked(); n < 1000 {
			t.Errorf("the fast target got %d revocations in 10 s, want all 1000", n)
		}
		for name, p := range slow {
			if n := p.(*target).asked(); n < 9 {
				t.Errorf("%s got %d revocations in 10 s, want the ten of its own worker", name, n)
			}
		}
	})
}

// TestFirstWorkerIsItsOwn: where the only worker that all share is held for ever, every target has its own.
func TestFirstWorkerIsItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newMemory())
		w.cfg.Budget, w.cfg.RevokeTimeout, w.cfg.Workers = 1, time.Hour, 8
		w.kill(w.bad)
		past := time.Now().Add(-time.Minute).UTC().Truncate(time.Millisecond)
		w.fill(8, "bad", past)
		w.start()
		defer func() { w.stop() }()
		w.within(time.Second, "it holds its own and the shared one", func() bool { return w.b.Stats().Targets["bad"].Revoking == 2 })
		w.fill(4, "good", past)
		w.within(time.Second, "another target's are revoked", func() bool { return w.good.asked() == 4 })
	})
}

// TestProbesGoOnByThemselves: all leases of a target are stuck for the next half hour at least, and nobody asks for anything.
// When it answers again they end within minutes.
func TestProbesGoOnByThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newMemory())
		c := w.cfg
		w.cfg = broker.Config{Store: c.Store, Catalog: c.Catalog, Recorder: c.Recorder, Logger: c.Logger, StuckAfter: 1}
		w.bad.revoke = func(context.Context, broker.Ref) error { return unreachable() }
		w.fill(6, "bad", time.Now().Add(-time.Minute).UTC().Truncate(time.Millisecond))
		w.start()
		defer func() { w.stop() }()
		<-time.After(10 * time.Minute)
		w.bad.set(func() { w.bad.revoke = nil })
		<-time.After(2 * time.Minute)
		if left, err := w.store.List(context.Background(), broker.Filter{}); err != nil || len(left) != 0 {
			t.Errorf("%d leases are open two minutes later, %v", len(left), err)
		}
	})
}

// TestSweepComesLast: it waits while there is anything else to do, and not for ever when there isn't.
func TestSweepComesLast(t *testing.T) {
	inMemory(t, func(w *world) {
		w.good.set(func() {
			w.good.revoke = func(context.Context, broker.Ref) error { <-time.After(10 * time.Millisecond); return nil }
		})
		w.fill(100, "good", time.Now().Add(-time.Minute).UTC().Truncate(time.Millisecond))
		w.within(5*time.Second, "it has begun", func() bool { return w.good.asked() > 0 })
		left := -1
		err := w.b.Sweep(context.Background(), "good", func() error {
			left = w.b.Stats().Targets["good"].Waiting
			return nil
		})
		if err != nil || left != 0 {
			w.t.Errorf("the sweep began with %d waiting, %v", left, err)
		}
		w.kill(w.bad)
		w.fill(2000, "bad", time.Now().UTC().Truncate(time.Millisecond))
		w.within(5*time.Second, "some wait", func() bool { return w.b.Stats().Targets["bad"].Waiting > 0 })
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := w.b.Sweep(ctx, "bad", func() error { return nil }); err == nil {
			w.t.Error("a sweep of a target that does not answer began")
		}
	})
}

// TestTooManyWait: a bounded number of issues waits for one target, the next is told to come again.
func TestTooManyWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newMemory())
		w.cfg.Issues, w.cfg.Workers = 3, 1
		w.start()
		defer func() { w.stop() }()
		w.bad.create = neverMade
		results := make(chan error, 10)
		for range 5 {
			go func() {
				_, err := w.b.Serve(context.Background(), request("bad"))
				results <- err
			}()
			synctest.Wait()
		}
		err := <-results
		w.wantKind(err, gate.TooMany)
		if e, ok := err.(*gate.Error); !ok || e.After <= 0 {
			t.Errorf("got %v, want when to come again", err)
		}
		for range 4 {
			if err := <-results; err == nil {
				t.Error("it was issued")
			}
		}
	})
}
