package broker_test

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
)

func (w *world) reconcile(act broker.ReconcileAction) broker.Report {
	w.t.Helper()
	r, err := w.b.Reconcile(context.Background(), "good", act)
	if err != nil {
		w.t.Fatalf("Reconcile: %v", err)
	}
	return r
}

// reconciling runs f with a broker on a target that can be listed.
func reconciling(t *testing.T, f func(w *world, o *openTarget)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newMemory())
		o := w.open()
		w.start()
		defer func() { w.stop() }()
		f(w, o)
	})
}

// orphaned issues a credential, revokes its lease, and puts the credential back.
func (w *world) orphaned(o *openTarget) *broker.Lease {
	w.t.Helper()
	_, l := w.issue("good")
	if err := w.b.Revoke(context.Background(), l.ID, true); err != nil {
		w.t.Fatal(err)
	}
	o.target.set(func() { o.alive[l.Principal] = time.Now() })
	return w.lease(l.ID)
}

func TestNamesHaveACheck(t *testing.T) {
	form := regexp.MustCompile(`^bl-good-[a-z2-7]{20}$`)
	reconciling(t, func(w *world, o *openTarget) {
		seen := map[string]bool{}
		for range 20 {
			_, l := w.issue("good")
			if !form.MatchString(l.Principal) || seen[l.Principal] || len(l.Principal) > 32 {
				t.Errorf("got name %q", l.Principal)
			}
			seen[l.Principal] = true
		}
	})
}

func TestNothingIsOdd(t *testing.T) {
	reconciling(t, func(w *world, o *openTarget) {
		w.issue("good")
		w.issue("good")
		r := w.reconcile(broker.ReconcileReport)
		if r.Principals != 2 || r.Leases != 2 || len(r.Orphans)+len(r.Missing)+len(r.Foreign)+r.Stuck != 0 {
			t.Errorf("got %+v", r)
		}
		if d := cmp.Diff([]broker.Report{r}, w.b.Reports(), cmp.AllowUnexported(broker.Orphan{})); d != "" {
			t.Errorf("the last report (-want +got):\n%s", d)
		}
	})
}

func TestOrphans(t *testing.T) {
	for act, gone := range map[broker.ReconcileAction]bool{
		broker.ReconcileReport: false, broker.ReconcileQuarantine: false, broker.ReconcileRemove: true,
	} {
		t.Run(string(act), func(t *testing.T) {
			reconciling(t, func(w *world, o *openTarget) {
				_, stays := w.issue("good")
				l := w.orphaned(o)
				r := w.reconcile(act)
				if len(r.Orphans) != 1 || r.Orphans[0].Principal != l.Principal || !r.Orphans[0].Known || r.Orphans[0].LeaseID != l.ID {
					t.Fatalf("got %+v, want the one orphan", r)
				}
				if done := act != broker.ReconcileReport; r.Orphans[0].Done != done {
					t.Errorf("got %+v, want done %v", r.Orphans[0], done)
				}
				if o.has(l.Principal) == gone || !o.has(stays.Principal) {
					t.Errorf("the orphan is there: %v; the other: %v", o.has(l.Principal), o.has(stays.Principal))
				}
				if o.shut[l.Principal] != (act == broker.ReconcileQuarantine) || o.shut[stays.Principal] {
					t.Errorf("shut out: %v", o.shut)
				}
				before := false
				for _, rec := range w.trail.of(l.ID) {
					before = before || rec.Op == "reconcile" && rec.Principal == l.Principal
				}
				if before != (act != broker.ReconcileReport) {
					t.Errorf("recorded: %v", before)
				}
			})
		})
	}
}

// TestForeignNamesAreNeverTouched: names that look like ours, of which one was ours but for a letter.
func TestForeignNamesAreNeverTouched(t *testing.T) {
	reconciling(t, func(w *world, o *openTarget) {
		l := w.orphaned(o)
		last := "a"
		if strings.HasSuffix(l.Principal, last) {
			last = "b"
		}
		forged := l.Principal[:len(l.Principal)-1] + last
		old := "bl-good-aaaaaaaaaaaaaaaa"
		for _, name := range []string{forged, old} {
			o.strange = append(o.strange, broker.Found{Name: name, LeaseID: l.ID, Enabled: true})
		}
		r := w.reconcile(broker.ReconcileRemove)
		if d := cmp.Diff([]string{old, forged}, r.Foreign); d != "" && !cmp.Equal([]string{forged, old}, r.Foreign) {
			t.Errorf("foreign (-want +got):\n%s", d)
		}
		for _, ref := range o.refs {
			if ref.Principal == forged || ref.Principal == old {
				t.Errorf("%s was revoked", ref.Principal)
			}
		}
		if len(r.Orphans) != 1 || !r.Orphans[0].Done {
			t.Errorf("got %+v, want the real one removed", r.Orphans)
		}
	})
}

// TestOldNamesOfOpenLeases: a lease from before names had a check is as good as any.
func TestOldNamesOfOpenLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newMemory())
		o := w.open()
		w.cfg.NameKey = nil
		w.start()
		_, l := w.issue("good")
		w.stop()
		w.cfg.NameKey = nameKey
		w.start()
		defer func() { w.stop() }()
		r := w.reconcile(broker.ReconcileRemove)
		if r.Principals != 1 || len(r.Orphans)+len(r.Foreign) != 0 || !o.has(l.Principal) {
			t.Errorf("got %+v", r)
		}
		if err := w.b.Revoke(context.Background(), l.ID, true); err != nil {
			t.Errorf("revoking it: %v", err)
		}
	})
}

func TestMissing(t *testing.T) {
	reconciling(t, func(w *world, o *openTarget) {
		_, l := w.issue("good")
		synctest.Wait()
		<-time.After(2 * time.Millisecond)
		o.target.set(func() { delete(o.alive, l.Principal) })
		r := w.reconcile(broker.ReconcileReport)
		want := []broker.Missing{{LeaseID: l.ID, Principal: l.Principal, Identity: "app"}}
		if d := cmp.Diff(want, r.Missing); d != "" {
			t.Errorf("missing (-want +got):\n%s", d)
		}
	})
}

// TestWhatEndsMeanwhileIsNoOrphan: a lease is revoked between the list of principals and the look at the leases.
func TestWhatEndsMeanwhileIsNoOrphan(t *testing.T) {
	reconciling(t, func(w *world, o *openTarget) {
		_, l := w.issue("good")
		found := broker.Found{Name: l.Principal, LeaseID: l.ID, Enabled: true}
		o.listed = func(lists int) {
			o.mu.Lock()
			o.strange = nil
			if lists == 1 {
				o.strange = []broker.Found{found}
			}
			o.mu.Unlock()
			if err := w.b.Revoke(context.Background(), l.ID, true); err != nil {
				t.Error(err)
			}
		}
		if r := w.reconcile(broker.ReconcileRemove); len(r.Orphans)+len(r.Missing) != 0 {
			t.Errorf("got %+v", r)
		}
	})
}

func TestStuckShowsInOneReconcile(t *testing.T) {
	reconciling(t, func(w *world, o *openTarget) {
		_, l := w.issue("good")
		o.target.set(func() {
			o.revoke = func(context.Context, broker.Ref) error {
				return &broker.RevokeError{Cause: broker.ForbiddenBy, Msg: "a privilege is missing"}
			}
		})
		if err := w.b.Revoke(context.Background(), l.ID, true); err == nil {
			t.Fatal("got no error")
		}
		if r := w.reconcile(broker.ReconcileReport); r.Stuck != 1 || len(r.Orphans) != 0 {
			t.Errorf("got %+v, want one stuck", r)
		}
		o.target.set(func() { o.revoke = nil })
	})
}

func TestReconcileRefuses(t *testing.T) {
	reconciling(t, func(w *world, o *openTarget) {
		w.orphaned(o)
		_, err := w.b.Reconcile(context.Background(), "none", broker.ReconcileReport)
		w.wantKind(err, gate.NotFound)
		_, err = w.b.Reconcile(context.Background(), "bad", broker.ReconcileReport) // can't be listed
		w.wantKind(err, gate.Unsupported)
		_, err = w.b.Reconcile(context.Background(), "good", "burn")
		w.wantKind(err, gate.Invalid)
		w.trail.mu.Lock()
		w.trail.err = errors.New("disk full")
		w.trail.mu.Unlock()
		before := o.size()
		r, err := w.b.Reconcile(context.Background(), "good", broker.ReconcileRemove)
		w.wantKind(err, gate.Unavailable)
		if o.size() != before || r.Orphans[0].Done {
			t.Error("something was removed without a record")
		}
		w.trail.mu.Lock()
		w.trail.err = nil
		w.trail.mu.Unlock()
	})
}

func TestScheduledSweeps(t *testing.T) {
	reconciling(t, func(w *world, o *openTarget) {
		w.stop()
		w.cfg.Schedules = func() map[string]string { return map[string]string{"good": "*/5 * * * *", "bad": "nonsense"} }
		w.start()
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- w.b.RunSweeps(ctx) }()
		l := w.orphaned(o)
		time.Sleep(16 * time.Minute)
		synctest.Wait()
		r := w.b.Reports()
		if len(r) != 1 || len(r[0].Orphans) != 1 || r[0].Action != broker.ReconcileReport || !o.has(l.Principal) {
			t.Errorf("got %+v", r)
		}
		if o.lists < 6 || o.lists > 8 { // two a sweep
			t.Errorf("got %d lists in 16 minutes, want those of three sweeps", o.lists)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestYoungOnesAreLeftToTheirLease: the creation may still be running on the target.
func TestYoungOnesAreLeftToTheirLease(t *testing.T) {
	reconciling(t, func(w *world, o *openTarget) {
		l := w.orphaned(o)
		young := &broker.Lease{
			ID: "database/creds/good/young", Mount: "database/", Role: "good", Producer: "model", Target: "good",
			Principal: l.Principal, State: broker.Revoked, IntentDeadline: time.Now().Add(time.Minute),
		}
		if err := w.store.Insert(context.Background(), young); err != nil {
			t.Fatal(err)
		}
		o.comments[l.Principal] = young.ID
		if r := w.reconcile(broker.ReconcileRemove); len(r.Orphans) != 0 || !o.has(l.Principal) {
			t.Errorf("got %+v, want no orphan yet", r)
		}
		time.Sleep(2 * time.Minute)
		if r := w.reconcile(broker.ReconcileRemove); len(r.Orphans) != 1 || o.has(l.Principal) {
			t.Errorf("got %+v, want it removed", r)
		}
	})
}
