package broker_test

import (
	"context"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
)

// held is a test of a broker that starts again with a hold over two leases "old", which expire meanwhile.
func held(t *testing.T, f func(w *world, old [2]*broker.Lease)) {
	t.Helper()
	test(t, func(w *world) {
		ctx := context.Background()
		var old [2]*broker.Lease
		_, old[0] = w.issue("good")
		_, old[1] = w.issue("bad")
		w.stop()
		h, err := w.b.NewHold(ctx, "restored")
		if err != nil || h.UpTo != max(old[0].Seq, old[1].Seq) || h.Why != "restored" {
			w.t.Fatalf("got %+v, %v", h, err)
		}
		w.startHeld(h)
		f(w, old)
	})
}

func (w *world) startHeld(h broker.Hold) {
	w.t.Helper()
	b, err := broker.New(w.cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	b.Hold(h)
	w.run(b)
}

func TestAHeldLeaseOutlivesItsEndUntilResumed(t *testing.T) {
	held(t, func(w *world, old [2]*broker.Lease) {
		ctx := context.Background()
		_, fresh := w.issue("good")
		w.revoked(ttl+time.Second, fresh.ID) // what was issued since ends as always
		for _, l := range old {
			if got := w.lease(l.ID); got.State != broker.Active {
				w.t.Errorf("%s is %s, want it held", l.ID, got.State)
			}
		}
		p, list, err := w.b.HeldLeases(ctx, 1)
		if err != nil || p.Leases != 2 || len(p.Targets) != 2 || p.Targets[0].Target != "bad" || len(list) != 1 || list[0].ID != old[0].ID {
			w.t.Errorf("plan: got %+v, %d leases, %v", p, len(list), err)
		}
		if h, is := w.b.Held(); !is || h.Why != "restored" {
			w.t.Errorf("Held: got %+v, %v", h, is)
		}
		if err := w.b.Resume(ctx); err != nil {
			w.t.Fatal(err)
		}
		if _, is := w.b.Held(); is {
			w.t.Error("it is still held")
		}
		for _, l := range old {
			w.revoked(time.Second, l.ID)
		}
	})
}

func TestWhatAPersonRevokesIsNotHeld(t *testing.T) {
	held(t, func(w *world, old [2]*broker.Lease) {
		ctx := context.Background()
		if err := w.b.Revoke(ctx, old[0].ID, true); err != nil {
			w.t.Errorf("revoking one: %v", err)
		}
		if _, err := w.b.RevokeMany(ctx, broker.Selector{Target: "bad"}, "ann", "", "", true); err != nil {
			w.t.Errorf("revoking many: %v", err)
		}
		for _, l := range old {
			w.revoked(time.Second, l.ID)
		}
		if p, _, err := w.b.HeldLeases(ctx, 10); err != nil || p.Leases != 0 {
			w.t.Errorf("plan: got %+v, %v", p, err)
		}
	})
}

func TestARevocationOfManyFromBeforeIsHeld(t *testing.T) {
	test(t, func(w *world) {
		ctx := context.Background()
		_, l := w.issue("good")
		w.stop()
		r, err := w.b.RevokeMany(ctx, broker.Selector{Target: "good"}, "ann", "", "", false)
		if err != nil {
			w.t.Fatal(err)
		}
		var h broker.Hold
		w.within(time.Second, "a hold is later than what was before it", func() bool {
			h, err = w.b.NewHold(ctx, "restored")
			return err == nil && h.Since.After(r.CreatedAt)
		})
		w.startHeld(h)
		_, fresh := w.issue("bad")
		w.revoked(ttl+3*time.Second, fresh.ID)
		if got := w.lease(l.ID); got.State != broker.Active {
			w.t.Errorf("it is %s, want it held", got.State)
		}
		if err := w.b.Resume(ctx); err != nil {
			w.t.Fatal(err)
		}
		w.revoked(3*time.Second, l.ID)
	})
}

func TestHeldLeasesHideNothingBehindThem(t *testing.T) {
	test(t, func(w *world) {
		ctx := context.Background()
		w.stop()
		past := time.Now().UTC().Truncate(time.Millisecond).Add(-time.Minute)
		for i := range 3 * w.cfg.Batch {
			l := &broker.Lease{
				ID: "database/creds/bad/x" + string(rune('a'+i/26)) + string(rune('a'+i%26)), Mount: "database/", Role: "bad", Target: "bad",
				Principal: "p", State: broker.Active, IssuedAt: past, ExpiresAt: past, MaxExpiresAt: past, IntentDeadline: past, NextAt: past,
			}
			if err := w.store.Insert(ctx, l); err != nil {
				w.t.Fatal(err)
			}
		}
		h, err := w.b.NewHold(ctx, "restored")
		if err != nil {
			w.t.Fatal(err)
		}
		w.startHeld(h)
		_, fresh := w.issue("good")
		w.revoked(ttl+2*time.Second, fresh.ID)
		if p, _, err := w.b.HeldLeases(ctx, 0); err != nil || p.Leases != 3*w.cfg.Batch {
			w.t.Errorf("plan: got %d, %v, want all of them", p.Leases, err)
		}
		if err := w.b.Resume(ctx); err != nil {
			w.t.Fatal(err)
		}
		w.within(10*time.Second, "all are revoked", func() bool {
			open, err := w.store.List(ctx, broker.Filter{Limit: 1})
			return err == nil && len(open) == 0
		})
	})
}
