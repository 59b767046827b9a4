package broker_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
)

func TestExpiryEndsTheCredential(t *testing.T) {
	test(t, func(w *world) {
		_, l := w.issue("good")
		w.within(ttl+time.Second, "the credential ends", func() bool { return !w.good.has(l.Principal) })
		if early := time.Until(l.ExpiresAt); early > 0 {
			w.t.Errorf("ended %v before its time", early)
		}
		if late := time.Since(l.ExpiresAt); late > 500*time.Millisecond {
			w.t.Errorf("ended %v late", late)
		}
		w.revoked(time.Second, l.ID)
		events := w.trail.of(l.ID)
		if len(events) != 1 {
			w.t.Fatalf("got %d events, want 1", len(events))
		}
		e := events[0]
		if e.Stage != audit.StageEvent || e.Status != audit.OK || e.Via != "system" || e.Path != "database/creds/good" ||
			e.Target != "good" || e.Identity != "app" || e.Principal != l.Principal || e.Node != "node-1" || e.Detail != "expired and revoked" {
			w.t.Errorf("got event %+v", e)
		}
	})
}

func TestRevoke(t *testing.T) {
	test(t, func(w *world) {
		ctx := context.Background()
		_, l := w.issue("good")
		if err := w.b.Revoke(ctx, l.ID, false); err != nil {
			w.t.Fatal(err)
		}
		if s := w.lease(l.ID).State; s != broker.Revoking && s != broker.Revoked {
			w.t.Errorf("got state %q after an accepted revocation", s)
		}
		w.revoked(ttl/2, l.ID)
		if err := w.b.Revoke(ctx, l.ID, true); err != nil {
			w.t.Errorf("revoking again: %v", err)
		}
		if got := w.trail.of(l.ID)[0].Detail; got != "revoked before its time" {
			w.t.Errorf("got detail %q", got)
		}

		_, l = w.issue("good")
		if err := w.b.Revoke(ctx, l.ID, true); err != nil {
			w.t.Fatal(err)
		}
		if w.good.has(l.Principal) || w.lease(l.ID).State != broker.Revoked {
			w.t.Error("a synchronous revocation returned before it was done")
		}
		err := w.b.Revoke(ctx, "database/creds/good/nosuch", true)
		w.wantKind(err, gate.NotFound)
		if !errors.Is(err, broker.ErrNoLease) {
			w.t.Errorf("got %v, want ErrNoLease", err)
		}
	})
}

func TestRevocationThatDidNotHappenIsNeverCalledDone(t *testing.T) {
	for _, x := range []struct {
		sentence string
		revoke   func(ctx context.Context, _ broker.Ref) error
		kind     gate.Kind
		cause    broker.Cause
	}{
		{"the target is dead", func(context.Context, broker.Ref) error { return unreachable() }, gate.TargetDown, broker.Unreachable},
		{"the target is silent", func(ctx context.Context, _ broker.Ref) error { return hang(ctx) }, gate.TargetSlow, broker.Unreachable},
		{"the credential owns objects", func(context.Context, broker.Ref) error {
			return &broker.RevokeError{Cause: broker.OwnsObjects, Msg: "it owns a table"}
		}, gate.Conflict, broker.OwnsObjects},
		{"the producer gives an error without a class", func(context.Context, broker.Ref) error { return errors.New(canary) },
			gate.TargetDown, broker.Unknown},
		{"the producer panics", func(context.Context, broker.Ref) error { panic(canary) }, gate.TargetDown, broker.Unknown},
	} {
		t.Run(x.sentence, func(t *testing.T) {
			test(t, func(w *world) {
				_, l := w.issue("good")
				w.good.set(func() { w.good.revoke = x.revoke })
				w.wantKind(w.b.Revoke(context.Background(), l.ID, true), x.kind)
				got := w.lease(l.ID)
				if got.State != broker.Revoking || got.Cause != x.cause || got.Attempt < 1 || got.Error == "" {
					t.Errorf("got %+v, want it revoking for %q", got, x.cause)
				}
				if strings.Contains(got.Error+w.logs.String(), canary) {
					t.Error("a value is in the lease or in the log")
				}
				w.good.set(func() { w.good.revoke = nil })
				w.revoked(time.Second, l.ID)
				if got := w.lease(l.ID); got.Cause != "" || got.Error != "" {
					t.Errorf("a revoked lease still says %q, %q", got.Cause, got.Error)
				}
			})
		})
	}
}

func TestGoneCountsAsRevoked(t *testing.T) {
	test(t, func(w *world) {
		_, l := w.issue("good")
		w.good.set(func() {
			delete(w.good.alive, l.Principal)
			w.good.revoke = func(context.Context, broker.Ref) error {
				return &broker.RevokeError{Cause: broker.Gone, Msg: "not there"}
			}
		})
		if err := w.b.Revoke(context.Background(), l.ID, true); err != nil {
			w.t.Errorf("got %v", err)
		}
	})
}

func TestRetryUntilStuckAndOn(t *testing.T) {
	test(t, func(w *world) {
		ctx := context.Background()
		_, l := w.issue("good")
		w.good.set(func() { w.good.revoke = func(context.Context, broker.Ref) error { return unreachable() } })
		w.wantKind(w.b.Retry(ctx, l.ID), gate.Invalid)
		if err := w.b.Revoke(ctx, l.ID, false); err != nil {
			w.t.Fatal(err)
		}
		w.within(10*time.Second, "the lease is stuck", func() bool { return w.lease(l.ID).State == broker.Stuck })
		if got := w.lease(l.ID); got.Attempt != 8 || got.Cause != broker.Unreachable {
			w.t.Errorf("got %d attempts and cause %q, want 8 and unreachable", got.Attempt, got.Cause)
		}
		w.within(10*time.Second, "it is still tried", func() bool { return w.lease(l.ID).Attempt >= 10 })
		var failures, stuck int
		for _, e := range w.trail.of(l.ID) {
			if e.Status == audit.Failed {
				failures++
				if strings.HasPrefix(e.Detail, "stuck after 8 failures") {
					stuck++
				}
			}
		}
		if failures != 2 || stuck != 1 {
			w.t.Errorf("got %d events of failure, %d of them stuck, want the first failure and one stuck", failures, stuck)
		}
		w.good.set(func() { w.good.revoke = nil })
		if err := w.b.Revoke(ctx, l.ID, true); err != nil {
			w.t.Errorf("revoking a stuck lease of a target that is well again: %v", err)
		}
	})
}

func TestRetryIsAtOnce(t *testing.T) {
	test(t, func(w *world) {
		w.stop()
		w.cfg.StuckAfter, w.cfg.StuckRetry = 1, time.Hour
		w.start()
		ctx := context.Background()
		_, l := w.issue("good")
		w.good.set(func() { w.good.revoke = func(context.Context, broker.Ref) error { return unreachable() } })
		w.wantKind(w.b.Revoke(ctx, l.ID, true), gate.TargetDown)
		w.good.set(func() { w.good.revoke = nil })
		if err := w.b.Retry(ctx, l.ID); err != nil {
			w.t.Fatal(err)
		}
		w.revoked(time.Second, l.ID)
	})
}

func TestRevokePrefix(t *testing.T) {
	test(t, func(w *world) {
		w.stop()
		w.cfg.SyncTimeout = time.Minute
		w.start()
		w.lasting()
		ctx := context.Background()
		var ids []string
		for range 30 {
			_, l := w.issue("good")
			ids = append(ids, l.ID)
		}
		_, other := w.issue("bad")
		if n, err := w.b.RevokePrefix(ctx, "database/creds/good/", true); n != 30 || err != nil {
			w.t.Fatalf("got %d, %v, want 30", n, err)
		}
		for _, id := range ids {
			if w.lease(id).State != broker.Revoked {
				w.t.Errorf("%s is not revoked", id)
			}
		}
		if w.lease(other.ID).State != broker.Active {
			w.t.Error("a lease of another prefix was touched")
		}
		w.bad.set(func() { w.bad.revoke = func(context.Context, broker.Ref) error { return unreachable() } })
		n, err := w.b.RevokePrefix(ctx, "database/", true)
		if n != 1 || err == nil {
			w.t.Errorf("got %d, %v, want 1 and an error", n, err)
		}
		_, err = w.b.RevokePrefix(ctx, "", false)
		w.wantKind(err, gate.Invalid)
	})
}

func TestRevokingGoesOnWithoutTheTrail(t *testing.T) {
	test(t, func(w *world) {
		_, l := w.issue("good")
		w.trail.err = errors.New("the trail's disk is full")
		if err := w.b.Revoke(context.Background(), l.ID, true); err != nil {
			w.t.Error(err)
		}
		if !strings.Contains(w.logs.String(), "could not be recorded") {
			w.t.Error("nothing in the log")
		}
	})
}

func TestRoleThatIsGoneIsRevokedByWhatWasKept(t *testing.T) {
	test(t, func(w *world) {
		_, a := w.issue("good")
		_, b := w.issue("good")
		w.catalog.set(func() {
			r := w.catalog.roles["database/good"]
			r.Target = "bad" // makes credentials elsewhere now
			w.catalog.roles["database/good"] = r
		})
		if err := w.b.Revoke(context.Background(), a.ID, true); err != nil {
			w.t.Error(err)
		}
		w.catalog.set(func() { delete(w.catalog.roles, "database/good") })
		if err := w.b.Revoke(context.Background(), b.ID, true); err != nil {
			w.t.Error(err)
		}
		for _, ref := range w.good.refs {
			if ref.Role != nil || string(ref.Data) != "kept of good" {
				w.t.Errorf("got %+v, want no role and what was kept", ref)
			}
		}
		if len(w.good.refs) != 2 || len(w.bad.refs) != 0 {
			w.t.Errorf("got %d and %d revocations, want 2 and 0", len(w.good.refs), len(w.bad.refs))
		}
	})
}

func TestTwoBrokersOnOneStoreDoNoHarm(t *testing.T) {
	test(t, func(w *world) {
		first, stop := w.b, w.stop
		defer stop()
		w.start()
		for range 10 {
			_, l := w.issue("good")
			if err := first.Revoke(context.Background(), l.ID, true); err != nil {
				w.t.Error(err)
			}
			w.revoked(time.Second, l.ID)
		}
		var ids []string
		for range 20 {
			_, l := w.issue("good")
			ids = append(ids, l.ID)
		}
		for _, id := range ids {
			w.revoked(2*time.Second, id)
		}
	})
}

// TestNothingWaitsForTheNextLook: what is due before it rings the loop, and what somebody asks for goes past it.
func TestNothingWaitsForTheNextLook(t *testing.T) {
	test(t, func(w *world) {
		w.stop()
		w.cfg.Poll = time.Hour
		w.start()
		_, l := w.issue("good")
		w.revoked(ttl+300*time.Millisecond, l.ID)

		_, l = w.issue("good")
		<-time.After(20 * time.Millisecond) // the loop has looked, and sleeps
		if err := w.b.Revoke(context.Background(), l.ID, false); err != nil {
			w.t.Fatal(err)
		}
		w.revoked(ttl/2, l.ID)

		_, l = w.issue("good")
		<-time.After(20 * time.Millisecond)
		w.good.set(func() { w.good.revoke = func(context.Context, broker.Ref) error { return unreachable() } })
		w.wantKind(w.b.Revoke(context.Background(), l.ID, true), gate.TargetDown)
		w.good.set(func() { w.good.revoke = nil })
		w.revoked(ttl/2, l.ID) // at the next try
	})
}
