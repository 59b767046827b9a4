package broker_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
)

func TestForce(t *testing.T) {
	test(t, func(w *world) {
		ctx := context.Background()
		_, l := w.issue("bad")
		w.bad.set(func() { w.bad.revoke = func(context.Context, broker.Ref) error { return unreachable() } })
		w.wantKind(w.b.Revoke(ctx, l.ID, true), gate.TargetDown)
		w.wantKind(w.b.Force(ctx, l.ID, "bob", "  "), gate.Invalid)
		w.wantKind(w.b.Force(ctx, l.ID, "", "gone"), gate.Invalid)
		w.wantKind(w.b.Force(ctx, "database/creds/bad/nosuch", "bob", "gone"), gate.NotFound)
		if err := w.b.Force(ctx, l.ID, "bob", "the host is scrap"); err != nil {
			w.t.Fatal(err)
		}
		got := w.lease(l.ID)
		if got.State != broker.Revoked || !got.NextAt.IsZero() || got.Cause != broker.Unreachable ||
			got.Error != "given up by bob: the host is scrap" {
			w.t.Errorf("got %+v, want it revoked, with who and why", got)
		}
		if !w.bad.has(l.Principal) {
			w.t.Error("the target was reached")
		}
		e := w.trail.of(l.ID)[len(w.trail.of(l.ID))-1]
		if e.Identity != "bob" || e.Principal != l.Principal || e.Target != "bad" ||
			!strings.Contains(e.Detail, l.Principal+" may still be alive on bad, issued to app; reason: the host is scrap") ||
			e.Error != "unreachable: connection refused" {
			w.t.Errorf("got event %+v", e)
		}
		n := len(w.trail.of(l.ID))
		if err := w.b.Force(ctx, l.ID, "bob", "again"); err != nil || len(w.trail.of(l.ID)) != n {
			w.t.Errorf("giving up again: %v, %d more events", err, len(w.trail.of(l.ID))-n)
		}
		<-time.After(5 * w.cfg.Poll)
		if got := w.lease(l.ID); got.State != broker.Revoked || len(w.trail.of(l.ID)) != n {
			w.t.Errorf("a later try made it %+v", got)
		}
	})
}

// TestForceWhileItIsTried: the try that is under way undoes nothing.
func TestForceWhileItIsTried(t *testing.T) {
	test(t, func(w *world) {
		_, l := w.issue("bad")
		inside := make(chan struct{}, 10)
		w.bad.set(func() {
			w.bad.revoke = func(ctx context.Context, _ broker.Ref) error { inside <- struct{}{}; return hang(ctx) }
		})
		result := make(chan error, 1)
		go func() { result <- w.b.Revoke(context.Background(), l.ID, true) }()
		<-inside
		if err := w.b.Force(context.Background(), l.ID, "bob", "scrap"); err != nil {
			w.t.Fatal(err)
		}
		if err := <-result; err != nil {
			w.t.Errorf("who waited got %v", err)
		}
		<-time.After(2 * w.cfg.RevokeTimeout)
		if got := w.lease(l.ID).State; got != broker.Revoked {
			w.t.Errorf("it is %s", got)
		}
	})
}

func TestForceNeedsTheTrail(t *testing.T) {
	test(t, func(w *world) {
		_, l := w.issue("good")
		w.trail.mu.Lock()
		w.trail.err = errors.New("disk full")
		w.trail.mu.Unlock()
		w.wantKind(w.b.Force(context.Background(), l.ID, "bob", "scrap"), gate.Unavailable)
		if got := w.lease(l.ID).State; got == broker.Revoked {
			w.t.Error("it was given up without a record")
		}
	})
}

func TestForcePrefix(t *testing.T) {
	test(t, func(w *world) {
		ctx := context.Background()
		w.put(30, "bad", nil)
		other := w.put(1, "good", nil)[0]
		n, err := w.b.ForcePrefix(ctx, "database/creds/bad/", "bob", "scrap")
		if n != 30 || err != nil {
			w.t.Errorf("got %d, %v, want 30", n, err)
		}
		open, err := w.store.List(ctx, broker.Filter{})
		if err != nil || len(open) != 1 || open[0].ID != other {
			w.t.Errorf("open are %v, %v, want the other", open, err)
		}
		_, err = w.b.ForcePrefix(ctx, "", "bob", "scrap")
		w.wantKind(err, gate.Invalid)
	})
}
