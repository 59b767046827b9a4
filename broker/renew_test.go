package broker_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
)

func TestRenewMovesTheEnd(t *testing.T) {
	test(t, func(w *world) {
		ctx := context.Background()
		_, l := w.issue("good")
		got, warnings, err := w.b.Renew(ctx, l.ID, time.Second)
		if err != nil || len(warnings) != 0 {
			w.t.Fatalf("got %v, %q", err, warnings)
		}
		if d := time.Until(got.ExpiresAt); d > time.Second || d < 500*time.Millisecond {
			w.t.Errorf("the lease lives %v more, want about 1 s", d)
		}
		if stored := w.lease(l.ID); !stored.ExpiresAt.Equal(got.ExpiresAt) || !stored.NextAt.Equal(got.ExpiresAt) {
			w.t.Errorf("the store has %v, %v, want %v", stored.ExpiresAt, stored.NextAt, got.ExpiresAt)
		}
		if w.good.end(l.Principal).Before(got.ExpiresAt) {
			w.t.Error("the lease promises more than the target keeps")
		}
		w.within(2*time.Second, "the first end passes", func() bool { return time.Now().After(l.ExpiresAt.Add(200 * time.Millisecond)) })
		if !w.good.has(l.Principal) {
			w.t.Error("the credential ended at its first end")
		}
		w.revoked(2*time.Second, l.ID)
		if late := time.Since(got.ExpiresAt); late < 0 {
			w.t.Errorf("revoked %v early", -late)
		}
	})
}

func TestRenewWithoutIncrementTakesTheRolesTTL(t *testing.T) {
	test(t, func(w *world) {
		_, l := w.issue("good")
		got, _, err := w.b.Renew(context.Background(), l.ID, 0)
		if err != nil {
			w.t.Fatal(err)
		}
		if d := time.Until(got.ExpiresAt); d > ttl {
			w.t.Errorf("the lease lives %v more, want at most %v", d, ttl)
		}
	})
}

func TestRenewNeverPassesTheMaximum(t *testing.T) {
	test(t, func(w *world) {
		_, l := w.issue("good")
		for _, increment := range []time.Duration{time.Hour, 1 << 62} {
			got, warnings, err := w.b.Renew(context.Background(), l.ID, increment)
			if err != nil {
				w.t.Fatal(err)
			}
			if !got.ExpiresAt.Equal(l.MaxExpiresAt) {
				w.t.Errorf("got %v, want the maximum %v", got.ExpiresAt, l.MaxExpiresAt)
			}
			if len(warnings) != 1 || !strings.Contains(warnings[0], "max_ttl") {
				w.t.Errorf("got warnings %q", warnings)
			}
		}
		w.revoked(maxTTL+time.Second, l.ID)
	})
}

func TestShorterLeaseEndsSooner(t *testing.T) {
	test(t, func(w *world) {
		_, l := w.issue("good")
		if _, _, err := w.b.Renew(context.Background(), l.ID, 50*time.Millisecond); err != nil {
			w.t.Fatal(err)
		}
		w.revoked(ttl-50*time.Millisecond, l.ID)
	})
}

func TestRenewIsRefused(t *testing.T) {
	test(t, func(w *world) {
		ctx := context.Background()
		_, _, err := w.b.Renew(ctx, "database/creds/good/nosuch", 0)
		w.wantKind(err, gate.NotFound)
		_, l := w.issue("good")
		_, _, err = w.b.Renew(ctx, l.ID, -time.Second)
		w.wantKind(err, gate.Invalid)

		w.good.set(func() { w.good.revoke = func(context.Context, broker.Ref) error { return unreachable() } })
		if err := w.b.Revoke(ctx, l.ID, false); err != nil {
			w.t.Fatal(err)
		}
		_, _, err = w.b.Renew(ctx, l.ID, 0)
		w.wantKind(err, gate.Invalid)

		_, l = w.issue("good")
		w.catalog.set(func() { delete(w.catalog.roles, "database/good") })
		_, _, err = w.b.Renew(ctx, l.ID, 0)
		w.wantKind(err, gate.Invalid)
	})
}

// TestRenewThatFailsLeavesTheOldEnd: whatever fails, the lease ends when its owner was last told.
func TestRenewThatFailsLeavesTheOldEnd(t *testing.T) {
	for _, x := range []struct {
		sentence string
		renew    func(context.Context, time.Time) error
		refuse   bool
		kind     gate.Kind
	}{
		{"the target is dead", func(context.Context, time.Time) error { return unreachable() }, false, gate.TargetDown},
		{"the target is silent", func(ctx context.Context, _ time.Time) error { return hang(ctx) }, false, gate.TargetSlow},
		{"the producer panics", func(context.Context, time.Time) error { panic(canary) }, false, gate.TargetDown},
		{"the store refuses after the target has moved", nil, true, gate.Unavailable},
	} {
		t.Run(x.sentence, func(t *testing.T) {
			test(t, func(w *world) {
				w.stop()
				var refusing atomic.Bool
				w.cfg.Store = &gatedStore{Store: w.store, refuse: func(string) bool { return refusing.Load() }}
				w.start()
				_, l := w.issue("good")
				w.good.set(func() { w.good.renew = x.renew })
				refusing.Store(x.refuse)
				_, _, err := w.b.Renew(context.Background(), l.ID, time.Second)
				refusing.Store(false)
				w.wantKind(err, x.kind)
				if got := w.lease(l.ID); !got.ExpiresAt.Equal(l.ExpiresAt) {
					w.t.Errorf("the store has %v, want the old end %v", got.ExpiresAt, l.ExpiresAt)
				}
				w.revoked(ttl+500*time.Millisecond, l.ID)
			})
		})
	}
}

// TestRevokeDuringRenew: a revocation does not wait for a renewal, and wins.
func TestRevokeDuringRenew(t *testing.T) {
	test(t, func(w *world) {
		ctx := context.Background()
		_, l := w.issue("good")
		inside, goOn := make(chan struct{}), make(chan struct{})
		w.good.set(func() {
			w.good.renew = func(context.Context, time.Time) error { close(inside); <-goOn; return nil }
		})
		renewed := make(chan error, 1)
		go func() {
			_, _, err := w.b.Renew(ctx, l.ID, time.Second)
			renewed <- err
		}()
		<-inside
		if err := w.b.Revoke(ctx, l.ID, false); err != nil {
			w.t.Error(err)
		}
		if s := w.lease(l.ID).State; s != broker.Revoking {
			w.t.Errorf("got %q, want revoking", s)
		}
		close(goOn)
		if err := <-renewed; err == nil {
			w.t.Error("the renewal of a revoked lease was called done")
		}
		w.revoked(time.Second, l.ID)
	})
}

// TestRenewJustBeforeTheDueLoop: the loop saw the lease due, and then it was renewed. It is not ended.
func TestRenewJustBeforeTheDueLoop(t *testing.T) {
	test(t, func(w *world) {
		w.stop()
		stale := make(chan *broker.Lease, 1)
		seen := make(chan struct{})
		w.cfg.Store = &gatedStore{Store: w.store, due: func(found []*broker.Lease) []*broker.Lease {
			select {
			case l := <-stale:
				close(seen)
				return append([]*broker.Lease{l}, found...)
			default:
				return found
			}
		}}
		w.start()
		_, l := w.issue("good")
		if _, _, err := w.b.Renew(context.Background(), l.ID, time.Second); err != nil {
			w.t.Fatal(err)
		}
		l.NextAt = time.Now().Add(-time.Millisecond)
		stale <- l
		<-seen
		<-time.After(2 * w.cfg.Poll)
		if s := w.lease(l.ID).State; s != broker.Active || !w.good.has(l.Principal) {
			w.t.Errorf("the lease is %s, want it active", s)
		}
	})
}
