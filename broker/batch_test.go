package broker_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
)

// batcher is a target that ends many at the cost of one.
type batcher struct {
	*target
	mu    sync.Mutex
	sizes []int
	batch func(ctx context.Context, refs []broker.Ref) []error // nil: each by itself
}

func (x *batcher) RevokeBatch(ctx context.Context, refs []broker.Ref) []error {
	x.mu.Lock()
	x.sizes = append(x.sizes, len(refs))
	f := x.batch
	x.mu.Unlock()
	if f != nil {
		return f(ctx, refs)
	}
	errs := make([]error, len(refs))
	for i, ref := range refs {
		errs[i] = x.Revoke(ctx, ref)
	}
	return errs
}

// teller tells what a revocation did: two sessions each.
type teller struct{ *target }

func (x teller) RevokeTold(ctx context.Context, ref broker.Ref) (broker.Ended, error) {
	return broker.Ended{Sessions: 2}, x.Revoke(ctx, ref)
}

// batchTeller does both.
type batchTeller struct{ *batcher }

func (x batchTeller) RevokeTold(ctx context.Context, ref broker.Ref) (broker.Ended, error) {
	return broker.Ended{Sessions: 2}, x.Revoke(ctx, ref)
}

func (x batchTeller) RevokeBatchTold(ctx context.Context, refs []broker.Ref) ([]broker.Ended, []error) {
	told := make([]broker.Ended, len(refs))
	for i := range told {
		told[i].Sessions = 3
	}
	return told, x.RevokeBatch(ctx, refs)
}

// otherProducers is a catalogue in which some targets have other producers.
type otherProducers struct {
	broker.Catalog
	by map[string]broker.Producer
}

func (c otherProducers) Producer(name string) (broker.Producer, string, error) {
	if p, ok := c.by[name]; ok {
		return p, "model", nil
	}
	return c.Catalog.Producer(name)
}

// restartWith replaces the producer of "good".
func (w *world) restartWith(p broker.Producer) {
	w.stop()
	w.cfg.Catalog = otherProducers{w.catalog, map[string]broker.Producer{"good": p}}
	w.start()
}

func TestBatchEndsEach(t *testing.T) {
	for _, x := range []struct {
		sentence string
		answer   func() error // for those with an odd number
		state    broker.State
		cause    broker.Cause
	}{
		{"all end", func() error { return nil }, broker.Revoked, ""},
		{"some are gone", func() error { return &broker.RevokeError{Cause: broker.Gone, Msg: "gone"} }, broker.Revoked, ""},
		{"some own objects", func() error { return &broker.RevokeError{Cause: broker.OwnsObjects, Msg: "a table"} },
			broker.Stuck, broker.OwnsObjects},
	} {
		t.Run(x.sentence, func(t *testing.T) {
			test(t, func(w *world) {
				w.cfg.StuckAfter, w.cfg.Queue = 1, 100
				p := &batcher{target: w.good}
				w.good.revoke = func(_ context.Context, ref broker.Ref) error {
					if ref.LeaseID[len(ref.LeaseID)-1]%2 == 1 {
						return x.answer()
					}
					return nil
				}
				w.stop() // before they are due: they are for the next one
				w.fill(100, "good", time.Now().Add(-time.Minute).UTC().Truncate(time.Millisecond))
				w.restartWith(p)
				w.within(10*time.Second, "each has had its turn", func() bool {
					open, err := w.store.List(context.Background(), broker.Filter{States: []broker.State{broker.Active, broker.Revoking}})
					return err == nil && len(open) == 0
				})
				all, err := w.store.List(context.Background(), broker.Filter{States: []broker.State{broker.Revoked, broker.Stuck}})
				if err != nil || len(all) != 100 {
					w.t.Fatalf("got %d leases, %v", len(all), err)
				}
				for _, l := range all {
					want, cause := broker.Revoked, broker.Cause("")
					if l.ID[len(l.ID)-1]%2 == 1 {
						want, cause = x.state, x.cause
					}
					if l.State != want || l.Cause != cause {
						w.t.Fatalf("%s is %s for %q, want %s for %q", l.ID, l.State, l.Cause, want, cause)
					}
					if len(w.trail.of(l.ID)) == 0 {
						w.t.Errorf("%s is not in the trail", l.ID)
					}
				}
				p.mu.Lock()
				defer p.mu.Unlock()
				if len(p.sizes) > 20 || slices.Max(p.sizes) > 64 || slices.Max(p.sizes) < 10 {
					w.t.Errorf("got batches of %v, want few of up to 64", p.sizes)
				}
			})
		})
	}
}

// TestBatchThatGoesWrong: a batch that panics, or that doesn't say what became of each, ends nobody and is tried again.
func TestBatchThatGoesWrong(t *testing.T) {
	for _, x := range []struct {
		sentence string
		batch    func(context.Context, []broker.Ref) []error
		cause    broker.Cause
	}{
		{"it panics", func(context.Context, []broker.Ref) []error { panic(canary) }, broker.Unknown},
		{"it says too little", func(context.Context, []broker.Ref) []error { return make([]error, 1) }, broker.Unknown},
		{"it hangs", func(ctx context.Context, refs []broker.Ref) []error {
			errs := make([]error, len(refs))
			for i := range errs {
				errs[i] = hang(ctx)
			}
			return errs
		}, broker.Unreachable},
	} {
		t.Run(x.sentence, func(t *testing.T) {
			test(t, func(w *world) {
				p := &batcher{target: w.good, batch: x.batch}
				w.stop() // before they are due: they are for the next one
				w.fill(8, "good", time.Now().Add(-time.Minute).UTC().Truncate(time.Millisecond))
				w.cfg.Workers = 1 // so that the others wait for the first, and are a batch
				w.good.revoke = func(ctx context.Context, _ broker.Ref) error {
					<-time.After(5 * time.Millisecond)
					return nil
				}
				w.restartWith(p)
				w.within(5*time.Second, "some have failed", func() bool {
					list, err := w.store.List(context.Background(), broker.Filter{Cause: x.cause})
					return err == nil && len(list) > 2
				})
				p.mu.Lock()
				p.batch = nil
				p.mu.Unlock()
				w.within(5*time.Second, "all are revoked", func() bool {
					list, err := w.store.List(context.Background(), broker.Filter{})
					return err == nil && len(list) == 0
				})
			})
		})
	}
}

// TestExplicitRevokeDoesNotWaitBehindABatch, even where the target's limit is one.
func TestExplicitRevokeDoesNotWaitBehindABatch(t *testing.T) {
	test(t, func(w *world) {
		w.stop()
		w.cfg.Workers, w.cfg.RevokeTimeout, w.cfg.StuckRetry = 1, 20*time.Second, time.Minute
		w.start()
		_, l := w.issue("good")
		inside := make(chan struct{}, 10)
		p := &batcher{target: w.good, batch: func(ctx context.Context, refs []broker.Ref) []error {
			inside <- struct{}{}
			<-ctx.Done()
			return make([]error, len(refs)+1)
		}}
		w.good.set(func() {
			w.good.revoke = func(ctx context.Context, ref broker.Ref) error {
				if ref.LeaseID == l.ID {
					return nil
				}
				<-time.After(5 * time.Millisecond)
				return nil
			}
		})
		w.stop()
		w.fill(8, "good", time.Now().Add(-time.Minute).UTC().Truncate(time.Millisecond))
		w.restartWith(p)
		<-inside
		began := time.Now()
		if err := w.b.Revoke(context.Background(), l.ID, true); err != nil {
			w.t.Error(err)
		}
		if took := time.Since(began); took > time.Second {
			w.t.Errorf("it took %v", took)
		}
	})
}

// TestSessionsAreCounted: what a producer tells is in the trail and in the revocation of many.
func TestSessionsAreCounted(t *testing.T) {
	for _, x := range []struct {
		sentence string
		p        func(x *target) broker.Producer
		least    int64
		most     int64
	}{
		{"one by one", func(x *target) broker.Producer { return teller{x} }, 20, 20},
		{"in batches", func(x *target) broker.Producer { return batchTeller{&batcher{target: x}} }, 21, 30},
		{"it tells of one only", func(x *target) broker.Producer {
			return struct {
				teller
				broker.BatchRevoker
			}{teller{x}, &batcher{target: x}}
		}, 20, 20},
		{"it does not tell", func(x *target) broker.Producer { return x }, 0, 0},
	} {
		t.Run(x.sentence, func(t *testing.T) {
			test(t, func(w *world) {
				w.cfg.Workers = 2
				w.restartWith(x.p(w.good))
				ids := w.put(10, "good", nil)
				r, err := w.many(broker.Selector{Identity: "alice"}, true)
				if err != nil {
					w.t.Fatal(err)
				}
				if r.Sessions < x.least || r.Sessions > x.most {
					w.t.Errorf("got %d sessions, want %d to %d", r.Sessions, x.least, x.most)
				}
				if stored, err := w.b.RevocationOf(context.Background(), r.ID); err != nil || stored.Sessions != r.Sessions {
					w.t.Errorf("stored is %+v, %v", stored, err)
				}
				if x.least > 0 && w.trail.of(ids[0])[0].Detail == "revoked before its time, by revocation "+r.ID {
					w.t.Errorf("sessions are not in the trail: %+v", w.trail.of(ids[0])[0])
				}
			})
		})
	}
}
