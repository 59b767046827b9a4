package broker_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
)

// cluster is several brokers on one store, each claiming what it does.
type cluster struct {
	*world
	nodes []*broker.Broker
	stops []func()
	procs []*process
}

func newCluster(t *testing.T, n int) *cluster {
	c := &cluster{world: newWorld(t, newMemory())}
	c.cfg.Claims = c.store.(broker.Claimer)
	for i := range n {
		p := newProcess()
		c.cfg.Node = fmt.Sprintf("node-%d", i)
		c.cfg.Store, c.cfg.Catalog, c.cfg.Fault = p.store(c.store), mortalCatalog{c.catalog, p}, p.fault
		c.cfg.Claims = mortalClaims{c.store.(broker.Claimer), p}
		c.start()
		c.nodes, c.stops, c.procs = append(c.nodes, c.b), append(c.stops, c.stop), append(c.procs, p)
	}
	return c
}

type mortalClaims struct {
	broker.Claimer
	p *process
}

func (x mortalClaims) Claim(ctx context.Context, by string, now, until time.Time, limit int) ([]*broker.Lease, error) {
	if x.p.dead.Load() {
		return nil, errDead
	}
	return x.Claimer.Claim(ctx, by, now, until, limit)
}

func (c *cluster) end() {
	for _, stop := range c.stops {
		stop()
	}
}

// TestSeveralBrokersShareTheWork: each lease is revoked by one broker, once, and each broker does its part. There is more to
// do than one of them can, for long enough that each has looked often.
func TestSeveralBrokersShareTheWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.end()
		var mu sync.Mutex
		times := make(map[string]int)
		c.good.set(func() {
			c.good.revoke = func(_ context.Context, ref broker.Ref) error {
				mu.Lock()
				times[ref.LeaseID]++
				mu.Unlock()
				<-time.After(15 * time.Millisecond)
				return nil
			}
		})
		const leases = 1200
		c.put(leases, "good", func(i int, l *broker.Lease) {
			l.ExpiresAt = time.Now().Add(time.Duration(i) * 3 * time.Millisecond).UTC().Truncate(time.Millisecond)
			l.NextAt = l.ExpiresAt
		})
		c.within(20*time.Second, "all are revoked", func() bool {
			done := uint64(0)
			for _, b := range c.nodes {
				done += b.Counts()["good"].Revoked
			}
			return done >= leases
		})
		mu.Lock()
		defer mu.Unlock()
		if len(times) != leases {
			t.Errorf("%d of %d leases were revoked", len(times), leases)
		}
		for id, n := range times {
			if n != 1 {
				t.Errorf("%s was revoked %d times", id, n)
			}
		}
		for i, b := range c.nodes {
			if n := b.Counts()["good"].Revoked; n < leases/6 {
				t.Errorf("node %d did %d of %d", i, n, leases)
			}
		}
	})
}

// TestDeadBrokersWorkIsTakenOver: a broker dies with claimed leases in its hands, in its lanes and on the target.
func TestDeadBrokersWorkIsTakenOver(t *testing.T) {
	for _, point := range []string{"revoke-before", "revoke-done", "revoked-durable"} {
		t.Run(point, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 2)
				defer c.end()
				c.procs[0].point.Store(point)
				ids := c.put(100, "good", func(_ int, l *broker.Lease) {
					l.ExpiresAt = time.Now().UTC().Truncate(time.Millisecond)
					l.NextAt = l.ExpiresAt
				})
				<-c.procs[0].died
				for _, id := range ids {
					c.revoked(5*time.Second, id)
				}
			})
		})
	}
}

// TestEndOfRunGivesClaimsBack: what a broker had claimed and not begun is another's at once.
func TestEndOfRunGivesClaimsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		defer c.end()
		c.cfg.RevokeTimeout = time.Hour // so that claims last
		c.stop()
		c.start()
		c.good.set(func() { c.good.revoke = alwaysHang })
		c.put(12, "good", func(_ int, l *broker.Lease) {
			l.ExpiresAt = time.Now().UTC().Truncate(time.Millisecond)
			l.NextAt = l.ExpiresAt
		})
		c.within(5*time.Second, "some wait", func() bool { return c.b.Counts()["good"].Waiting > 0 })
		c.stop()
		c.good.set(func() { c.good.revoke = nil })
		waiting := 12 - c.cfg.Workers
		c.start()
		c.within(time.Second, "what waited is done", func() bool {
			list, err := c.store.List(context.Background(), broker.Filter{})
			return err == nil && len(list) <= 12-waiting
		})
		c.stop()
	})
}

// TestRevocationOfAnotherBroker counts here within a second, and is taken over when its broker is dead.
func TestRevocationOfAnotherBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2)
		defer c.end()
		ids := c.put(2500, "good", nil)
		c.procs[0].point.Store("many-expanded")
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = c.nodes[0].RevokeMany(context.Background(), broker.Selector{Identity: "alice"}, "bob", "left", "r", false)
		}()
		<-done
		<-c.procs[0].died
		<-time.After(1100 * time.Millisecond)
		last := ids[len(ids)-1]
		if got, err := c.nodes[1].Lookup(context.Background(), last); err != nil || got.State == broker.Active {
			t.Errorf("another broker shows %+v, %v a second later", got, err)
		}
		if got := c.lease(last).State; got != broker.Active {
			t.Fatalf("it is marked already: %s", got)
		}
		c.b = c.nodes[1]
		list, err := c.b.RecentRevocations(context.Background(), 5)
		if err != nil || len(list) != 1 {
			t.Fatalf("got %v, %v", list, err)
		}
		if r := c.ended(list[0].ID); r.Marked != 2500 || r.Open != 0 {
			t.Errorf("got %+v, want 2500 marked and none open", r)
		}
	})
}

// TestRevocationIsCountedOnceByTwoBrokers: the one that took it expands it, and both close its sessions.
func TestRevocationIsCountedOnceByTwoBrokers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newMemory())
		w.cfg.Catalog = otherProducers{w.catalog, map[string]broker.Producer{"good": teller{w.good}}}
		w.cfg.Claims = w.store.(broker.Claimer)
		w.good.revoke = func(context.Context, broker.Ref) error { <-time.After(5 * time.Millisecond); return nil }
		var brokers []*broker.Broker
		for range 2 {
			w.start()
			defer w.stop()
			brokers = append(brokers, w.b)
		}
		w.put(500, "good", nil)
		r, err := w.many(broker.Selector{Identity: "alice"}, true)
		if err != nil {
			r = w.ended(r.ID)
		}
		if r.Marked != 500 || r.Revoked != 500 {
			t.Errorf("got %+v, want 500 marked and revoked", r)
		}
		for i, b := range brokers {
			if b.Counts()["good"].Revoked == 0 {
				t.Errorf("broker %d did none", i)
			}
		}
		<-time.After(2 * time.Second)
		if got, err := w.b.RevocationOf(context.Background(), r.ID); err != nil || got.Sessions != 1000 || got.DoneAt.IsZero() {
			t.Errorf("got %+v, %v, want 1000 sessions", got, err)
		}
	})
}
