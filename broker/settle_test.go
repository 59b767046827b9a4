package broker_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
)

// slowEnds is a store that doesn't write the end of a lease before goOn is closed.
type slowEnds struct {
	broker.Store
	goOn chan struct{}
}

func (s slowEnds) Move(ctx context.Context, l *broker.Lease, from ...broker.State) error {
	if l.State == broker.Revoked {
		<-s.goOn
	}
	return s.Store.Move(ctx, l, from...)
}

// TestStoreKeepsNoPlaceOnTheTarget: while the store writes, the target goes on to be asked, for as many as may wait.
func TestStoreKeepsNoPlaceOnTheTarget(t *testing.T) {
	for _, x := range []struct {
		leases, asked int
	}{{60, 60}, {600, 256}} {
		test(t, func(w *world) {
			w.stop()
			goOn := make(chan struct{})
			w.cfg.Store, w.cfg.Batch, w.cfg.Queue, w.cfg.RevokeTimeout = slowEnds{w.store, goOn}, 1000, 1000, time.Minute
			ids := w.put(x.leases, "good", func(_ int, l *broker.Lease) {
				l.State, l.NextAt = broker.Revoking, time.Now().UTC().Truncate(time.Millisecond)
			})
			asked := func() int {
				w.good.mu.Lock()
				defer w.good.mu.Unlock()
				return w.good.revokes
			}
			w.start()
			w.within(20*time.Second, "as many were asked for as may wait", func() bool { return asked() >= x.asked })
			<-time.After(3 * w.cfg.Poll)
			if n := asked(); n >= x.asked+w.cfg.Workers {
				w.t.Errorf("%d were asked for while the store took nothing, want about %d", n, x.asked)
			}
			close(goOn)
			for _, id := range ids {
				w.revoked(20*time.Second, id)
			}
			if n := asked(); n != x.leases {
				w.t.Errorf("the target was asked %d times for %d leases", n, x.leases)
			}
		})
	}
}

// TestRevocationsDoNotWakeTheDueLoop: what somebody asks for goes straight to its lane, and its end makes nothing due.
func TestRevocationsDoNotWakeTheDueLoop(t *testing.T) {
	test(t, func(w *world) {
		w.stop()
		var looks atomic.Int64
		w.cfg.Poll = time.Hour
		w.cfg.Store = &gatedStore{Store: w.store, due: func(found []*broker.Lease) []*broker.Lease { looks.Add(1); return found }}
		ids := w.put(50, "good", nil)
		w.start()
		for _, id := range ids {
			if err := w.b.Revoke(context.Background(), id, true); err != nil {
				w.t.Fatal(err)
			}
		}
		if n := looks.Load(); n > 5 {
			w.t.Errorf("the loop looked %d times during %d revocations", n, len(ids))
		}
	})
}
