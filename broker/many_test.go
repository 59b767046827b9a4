package broker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
)

// put writes active leases that end far ahead, with credentials on their targets. alter changes each before it is written.
func (w *world) put(n int, target string, alter func(i int, l *broker.Lease)) []string {
	w.t.Helper()
	end := time.Now().Add(time.Hour).UTC().Truncate(time.Millisecond)
	ids := make([]string, n)
	var wg sync.WaitGroup
	slots := make(chan struct{}, 64)
	for i := range n {
		l := &broker.Lease{
			ID: fmt.Sprintf("database/creds/%s/put%06d", target, i), Mount: "database/", Role: target, Target: target,
			Identity: "alice", Token: "tok-a", Principal: fmt.Sprintf("bl-%s-%06d", target, i), Producer: "model",
			State: broker.Active, IssuedAt: end.Add(-time.Hour), ExpiresAt: end, NextAt: end, MaxExpiresAt: end,
		}
		if alter != nil {
			alter(i, l)
		}
		x := w.good
		if target == "bad" {
			x = w.bad
		}
		x.set(func() { x.alive[l.Principal] = end })
		ids[i] = l.ID
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := w.store.Insert(context.Background(), l); err != nil {
				w.t.Error(err)
			}
		})
	}
	wg.Wait()
	return ids
}

func (w *world) many(sel broker.Selector, sync bool) (*broker.Revocation, error) {
	return w.b.RevokeMany(context.Background(), sel, "bob", "she left", "request-9", sync)
}

// ended waits until a revocation is done and returns it.
func (w *world) ended(id string) *broker.Revocation {
	w.t.Helper()
	var r *broker.Revocation
	w.within(time.Minute, "the revocation is done", func() bool {
		var err error
		r, err = w.b.RevocationOf(context.Background(), id)
		return err == nil && !r.DoneAt.IsZero()
	})
	return r
}

func TestRevokeManyPicks(t *testing.T) {
	for _, x := range []struct {
		sel  broker.Selector
		good bool // picks the first
		bad  bool // and the second
	}{
		{broker.Selector{Identity: "alice"}, true, false},
		{broker.Selector{Target: "bad"}, false, true},
		{broker.Selector{Role: "good"}, true, false},
		{broker.Selector{Mount: "database/"}, true, true},
		{broker.Selector{Mount: "other/"}, false, false},
		{broker.Selector{Producer: "model"}, true, true},
		{broker.Selector{Token: "tok-b"}, false, true},
		{broker.Selector{Token: "tok-b", Children: true}, false, false},
		{broker.Selector{Prefix: "database/creds/go"}, true, false},
		{broker.Selector{Prefix: "database/creds/", Identity: "carol"}, false, true},
		{broker.Selector{Identity: "alice", Target: "bad"}, false, false},
		{broker.Selector{Claims: map[string]string{"job_id": "123"}}, false, true},
		{broker.Selector{Claims: map[string]string{"job_id": "123", "env": "prod"}}, false, true},
		{broker.Selector{Claims: map[string]string{"job_id": "123", "env": "test"}}, false, false},
		{broker.Selector{Claims: map[string]string{"job_id": ""}}, false, false},
	} {
		t.Run(x.sel.String(), func(t *testing.T) {
			test(t, func(w *world) {
				a := w.put(1, "good", nil)[0]
				b := w.put(1, "bad", func(_ int, l *broker.Lease) {
					l.Identity, l.Token, l.Outlives = "carol", "tok-b", true
					l.Claims = map[string]string{"job_id": "123", "env": "prod"}
				})[0]
				r, err := w.many(x.sel, true)
				if err != nil {
					w.t.Fatal(err)
				}
				n := int64(0)
				for id, picked := range map[string]bool{a: x.good, b: x.bad} {
					want := broker.Active
					if picked {
						want, n = broker.Revoked, n+1
					}
					if got := w.lease(id).State; got != want {
						w.t.Errorf("%s is %s, want %s", id, got, want)
					}
				}
				if r.Marked != n || r.Revoked != n || r.Open != 0 || r.DoneAt.IsZero() {
					w.t.Errorf("got %+v, want %d revoked and none open", r, n)
				}
			})
		})
	}
}

// TestRevokeManyCountsAtOnce: from its return on, though nothing is marked yet, the leases can't be renewed and are shown as
// revoking; those that are issued later are not meant.
func TestRevokeManyCountsAtOnce(t *testing.T) {
	test(t, func(w *world) {
		_, l := w.issue("good")
		w.stop()
		r, err := w.many(broker.Selector{Identity: "app"}, false)
		if err != nil {
			w.t.Fatal(err)
		}
		_, later := w.issue("good")
		check := func(when string) {
			ctx := context.Background()
			if got, err := w.b.Lookup(ctx, l.ID); err != nil || got.State != broker.Revoking {
				w.t.Errorf("%s: looked up: got %+v, %v, want it revoking", when, got, err)
			}
			_, _, err := w.b.Renew(ctx, l.ID, time.Second)
			w.wantKind(err, gate.Invalid)
			if got, err := w.b.Lookup(ctx, later.ID); err != nil || got.State != broker.Active {
				w.t.Errorf("%s: a later lease: got %+v, %v, want it active", when, got, err)
			}
			if _, _, err := w.b.Renew(ctx, later.ID, 10*ttl); err != nil {
				w.t.Errorf("%s: a later lease: %v", when, err)
			}
		}
		check("before it is marked")
		if got := w.lease(l.ID).State; got != broker.Active {
			w.t.Fatalf("it is %s without Run", got)
		}
		b, err := broker.New(w.cfg)
		if err != nil {
			w.t.Fatal(err)
		}
		w.b = b
		check("after a restart, before Run")
		w.start()
		w.revoked(time.Second, l.ID)
		if got := w.ended(r.ID); got.Marked != 1 || got.Revoked != 1 {
			w.t.Errorf("got %+v, want one marked and revoked", got)
		}
		check2, err := w.b.Lookup(context.Background(), later.ID)
		if err != nil || check2.State != broker.Active {
			w.t.Errorf("in the end a later lease is %+v, %v", check2, err)
		}
	})
}

func TestRevokeManyIsRecorded(t *testing.T) {
	test(t, func(w *world) {
		ids := w.put(3, "good", nil)
		r, err := w.many(broker.Selector{Identity: "alice"}, true)
		if err != nil {
			w.t.Fatal(err)
		}
		var details []string
		for _, e := range w.trail.of("") {
			if e.Stage != audit.StageEvent || e.Identity != "bob" || e.RequestID != "request-9" {
				w.t.Errorf("got event %+v", e)
			}
			details = append(details, e.Detail)
		}
		all := strings.Join(details, "\n")
		for _, want := range []string{
			"revocation " + r.ID + " of every lease with identity alice: begun; reason: she left",
			"done after", "3 credentials are gone, 0 sessions were closed; reason: she left",
		} {
			if !strings.Contains(all, want) {
				w.t.Errorf("%q is not in the trail: %s", want, all)
			}
		}
		if got := w.trail.of(ids[0])[0].Detail; got != "revoked before its time, by revocation "+r.ID {
			w.t.Errorf("a lease's event says %q", got)
		}
		list, err := w.b.RecentRevocations(context.Background(), 10)
		if err != nil || len(list) != 1 || list[0].ID != r.ID || list[0].By != "bob" {
			w.t.Errorf("got %v, %v, want this one", list, err)
		}
		_, err = w.b.RevocationOf(context.Background(), "rv-none")
		w.wantKind(err, gate.NotFound)
		if !errors.Is(err, broker.ErrNoRevocation) {
			w.t.Errorf("got %v, want ErrNoRevocation", err)
		}
		_, err = w.many(broker.Selector{Children: true}, false)
		w.wantKind(err, gate.Invalid)
	})
}

// TestRevokeManyThatCannotEndAll: a synchronous one returns when each lease has failed once, says how many are alive, and
// goes on until they are gone.
func TestRevokeManyThatCannotEndAll(t *testing.T) {
	test(t, func(w *world) {
		w.put(3, "good", nil)
		w.put(2, "bad", nil)
		w.bad.set(func() { w.bad.revoke = func(context.Context, broker.Ref) error { return unreachable() } })
		r, err := w.many(broker.Selector{Mount: "database/"}, true)
		w.wantKind(err, gate.TargetDown)
		if r == nil || r.Open != 2 || r.Revoked != 3 || !r.DoneAt.IsZero() || !strings.Contains(err.Error(), "2 of 5 leases") {
			w.t.Fatalf("got %+v, %v, want 2 of 5 open", r, err)
		}
		w.bad.set(func() { w.bad.revoke = nil })
		if r := w.ended(r.ID); r.Open != 0 || r.Revoked != 5 {
			w.t.Errorf("got %+v, want 5 revoked", r)
		}
	})
}

// TestRevokeManySurvivesCrashes: whatever the point, another process ends what was picked and nothing else.
func TestRevokeManySurvivesCrashes(t *testing.T) {
	const n = 1300
	for _, point := range []string{"many-durable", "many-expanded", "in the middle of a page"} {
		t.Run(point, func(t *testing.T) {
			test(t, func(w *world) {
				p := w.reincarnate()
				ids := w.put(n, "good", nil)
				other := w.put(1, "bad", func(_ int, l *broker.Lease) { l.Identity = "carol" })[0]
				p.point.Store(point)
				if strings.HasPrefix(point, "in") {
					p.moves.Store(1150)
				}
				done := make(chan struct{})
				go func() {
					defer close(done)
					_, _ = w.many(broker.Selector{Identity: "alice"}, false)
				}()
				<-done
				<-p.died
				w.reincarnate()
				list, err := w.b.RecentRevocations(context.Background(), 10)
				if err != nil || len(list) != 1 {
					w.t.Fatalf("got revocations %v, %v, want one", list, err)
				}
				later := w.put(1, "bad", func(_ int, l *broker.Lease) { l.ID, l.Principal = l.ID+"x", l.Principal+"x" })[0]
				r := w.ended(list[0].ID)
				if r.Open != 0 || !r.Expanded || r.Marked < 1 || r.Marked > n {
					w.t.Errorf("got %+v, want all marked and none open", r)
				}
				for _, id := range ids {
					if got := w.lease(id); got.State != broker.Revoked {
						w.t.Fatalf("%s is %s", id, got.State)
					}
				}
				if n := w.good.size(); n != 0 {
					w.t.Errorf("%d credentials are alive", n)
				}
				for _, id := range []string{other, later} {
					if got := w.lease(id).State; got != broker.Active {
						w.t.Errorf("%s, which is not meant, is %s", id, got)
					}
				}
			})
		})
	}
}

func TestRevokeToken(t *testing.T) {
	test(t, func(w *world) {
		ctx := context.Background()
		child := w.put(1, "good", nil)[0]
		outlives := w.put(1, "bad", func(_ int, l *broker.Lease) { l.Outlives = true })[0]
		if err := w.b.RevokeToken(ctx, "tok-other"); err != nil {
			w.t.Fatal(err)
		}
		if list, err := w.b.RecentRevocations(ctx, 10); err != nil || len(list) != 0 {
			w.t.Errorf("a token without leases: got %v, %v, want no row", list, err)
		}
		if err := w.b.RevokeToken(ctx, "tok-a"); err != nil {
			w.t.Fatal(err)
		}
		w.revoked(time.Second, child)
		if got := w.lease(outlives).State; got != broker.Active {
			w.t.Errorf("a lease that outlives its token is %s", got)
		}
		w.wantKind(w.b.RevokeToken(ctx, ""), gate.Invalid)
	})
}

func TestPreview(t *testing.T) {
	test(t, func(w *world) {
		w.put(7, "good", nil)
		ids := w.put(2, "bad", nil)
		p, err := w.b.Preview(context.Background(), broker.Selector{Identity: "alice"})
		if err != nil || p.Leases != 9 || len(p.Targets) != 2 || p.Targets[0].Target != "bad" || p.Targets[0].Leases != 2 ||
			p.Targets[1].Leases != 7 || len(p.Targets[1].Principals) != 5 || !slices.Contains(p.Targets[0].Principals, "bl-bad-000001") {
			w.t.Errorf("got %+v, %v", p, err)
		}
		if got := w.lease(ids[0]).State; got != broker.Active {
			w.t.Errorf("a preview made a lease %s", got)
		}
		_, err = w.b.Preview(context.Background(), broker.Selector{})
		w.wantKind(err, gate.Invalid)
	})
}

// TestRevokeManyWithoutStore: no row, no promise.
func TestRevokeManyWithoutStore(t *testing.T) {
	test(t, func(w *world) {
		w.stop()
		w.put(1, "good", nil)
		w.cfg.Store = &gatedStore{Store: w.store, refuse: func(write string) bool { return write == "put" }}
		w.start()
		_, err := w.many(broker.Selector{Identity: "alice"}, false)
		w.wantKind(err, gate.Unavailable)
		if strings.Contains(err.Error(), "/var/lib") {
			w.t.Errorf("the store's words are in %v", err)
		}
	})
}
