package broker_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/secret"
)

// lot is a target that can hold credentials that don't work yet.
type lot struct {
	*target
	waiting map[string]bool // principal; target.mu guards it
	parks   int
	hands   int
	hand    func(ctx context.Context) error // before it is handed out; nil: nothing
}

func (x *lot) Park(ctx context.Context, s broker.Spec) error {
	x.set(func() { x.parks++ })
	if _, err := x.make(s); err != nil {
		return err
	}
	x.set(func() { x.waiting[s.Principal] = true })
	return ctx.Err()
}

func (x *lot) Hand(ctx context.Context, s broker.Spec) (*broker.Credential, error) {
	x.mu.Lock()
	before := x.hand
	x.mu.Unlock()
	if before != nil {
		if err := before(ctx); err != nil {
			return nil, err
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.waiting[s.Principal] {
		return nil, &broker.RevokeError{Cause: broker.Unknown, Msg: "it does not wait"}
	}
	x.hands++
	delete(x.waiting, s.Principal)
	x.alive[s.Principal] = s.ExpiresAt
	return &broker.Credential{Fields: map[string]secret.Value{
		"username": secret.New(s.Principal), "password": secret.New("handed-" + s.Principal),
	}}, nil
}

// lotCatalog has a lot behind the role good.
type lotCatalog struct {
	*catalog
	lot *lot
}

func (c *lotCatalog) Producer(name string) (broker.Producer, string, error) {
	if name == "good" {
		return c.lot, "model", nil
	}
	return c.catalog.Producer(name)
}

// pooling gives the role good a pool.
func (w *world) pooling(size int, age time.Duration, change func(*broker.Role)) *lot {
	w.stop()
	x := &lot{target: w.good, waiting: make(map[string]bool)}
	w.cfg.Catalog = &lotCatalog{w.catalog, x}
	w.catalog.set(func() {
		role := broker.Role{
			Mount: "database/", Name: "good", Target: "good", DefaultTTL: time.Minute, MaxTTL: time.Hour, PoolSize: size, PoolMaxAge: age,
		}
		if change != nil {
			change(&role)
		}
		w.catalog.roles["database/good"] = role
	})
	w.start()
	return x
}

// waits waits until n credentials do.
func (w *world) waits(n int) {
	w.t.Helper()
	w.within(10*time.Second, "as many wait as are asked for", func() bool { return w.b.Stats().Pools["database/good"] == n })
	list, err := w.store.List(context.Background(), broker.Filter{States: []broker.State{broker.Pooled}})
	if err != nil || len(list) != n {
		w.t.Fatalf("%d leases are pooled (%v), want %d", len(list), err, n)
	}
}

func TestPoolHandsOutWhatWaits(t *testing.T) {
	test(t, func(w *world) {
		x := w.pooling(2, time.Minute, nil)
		first := w.serve(request("good"))
		w.waits(1)
		creates := w.good.creates
		second := w.serve(request("good"))
		if w.good.creates != creates || x.hands != 1 || second.Data["password"] != "handed-"+second.Principal {
			w.t.Fatalf("got %v: it was made, and not handed out", second.Data)
		}
		l := w.lease(second.Lease.ID)
		if l.State != broker.Active || l.Identity != "app" || l.AccessID != "p-1" || l.RequestID != "request-1" || l.Principal != second.Principal {
			w.t.Errorf("got lease %+v", l)
		}
		if l.ExpiresAt.Sub(l.IssuedAt) != time.Minute || l.MaxExpiresAt.Sub(l.IssuedAt).Round(time.Second) != time.Hour || second.Lease.Duration != time.Minute {
			w.t.Errorf("it lives until %v, at most %v, and the answer says %v", l.ExpiresAt, l.MaxExpiresAt, second.Lease.Duration)
		}
		if !w.good.end(l.Principal).After(l.ExpiresAt) {
			w.t.Error("the lease promises more than the target keeps")
		}
		w.waits(2)
		for range 3 {
			w.serve(request("good"))
		}
		w.waits(2) // and no more
		if _, _, err := w.b.Renew(context.Background(), second.Lease.ID, 10*time.Minute); err != nil {
			w.t.Errorf("renewing: %v", err)
		}
		for _, resp := range []*gate.Response{first, second} {
			if err := w.b.Revoke(context.Background(), resp.Lease.ID, true); err != nil {
				w.t.Error(err)
			}
			w.revoked(time.Second, resp.Lease.ID)
		}
	})
}

// TestNothingIsHandedOutTwice: forty come at once.
func TestNothingIsHandedOutTwice(t *testing.T) {
	test(t, func(w *world) {
		x := w.pooling(8, time.Minute, nil)
		for range 8 {
			w.serve(request("good"))
		}
		w.waits(8)
		var wg sync.WaitGroup
		var mu sync.Mutex
		got := make(map[string]int)
		for range 40 {
			wg.Go(func() {
				resp, err := w.b.Serve(context.Background(), request("good"))
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					w.t.Error(err)
					return
				}
				got[resp.Principal]++
			})
		}
		wg.Wait()
		if len(got) != 40 || x.hands < 8 {
			w.t.Errorf("%d got one of %d credentials, %d of them from the pool", 40, len(got), x.hands)
		}
	})
}

func TestPoolEndsWhatNobodyWants(t *testing.T) {
	for sentence, end := range map[string]func(w *world){
		"its age is over and nobody asks":      func(*world) { <-time.After(3 * time.Minute) },
		"the process was killed, and starts":   func(w *world) { w.stop(); w.start(); <-time.After(time.Minute + time.Second) },
		"the role has changed":                 func(w *world) { w.alter(func(r *broker.Role) { r.Config = "less" }) },
		"the role is gone":                     func(w *world) { w.catalog.set(func() { delete(w.catalog.roles, "database/good") }) },
		"the role has no pool any more":        func(w *world) { w.alter(func(r *broker.Role) { r.PoolSize = 0 }) },
		"every lease of the target is revoked": func(w *world) { w.revokeAll() },
	} {
		t.Run(sentence, func(t *testing.T) {
			inMemory(t, func(w *world) {
				x := w.pooling(2, time.Minute, nil)
				w.serve(request("good"))
				w.serve(request("good"))
				w.waits(2)
				x.mu.Lock()
				var old []string
				for name := range x.waiting {
					old = append(old, name)
				}
				x.mu.Unlock()
				end(w)
				w.within(10*time.Second, "what waited is ended", func() bool { return !w.good.has(old[0]) && !w.good.has(old[1]) })
			})
		})
	}
}

func (w *world) alter(f func(*broker.Role)) {
	w.catalog.set(func() {
		role := w.catalog.roles["database/good"]
		f(&role)
		w.catalog.roles["database/good"] = role
	})
}

func (w *world) revokeAll() {
	w.t.Helper()
	if _, err := w.b.RevokeMany(context.Background(), broker.Selector{Target: "good"}, "root", "", "", false); err != nil {
		w.t.Fatal(err)
	}
}

// TestChangedRoleIsNotHandedOut: not even in the moment after the change.
func TestChangedRoleIsNotHandedOut(t *testing.T) {
	inMemory(t, func(w *world) {
		x := w.pooling(2, time.Minute, nil)
		w.serve(request("good"))
		w.waits(1)
		w.alter(func(r *broker.Role) { r.Config = "less" })
		w.serve(request("good"))
		if x.hands != 0 {
			w.t.Error("a credential of the old role was handed out")
		}
	})
}

// TestHandingOutThatFails: the client gets an error, and the credential is ended.
func TestHandingOutThatFails(t *testing.T) {
	for sentence, x := range map[string]struct {
		hand func(ctx context.Context) error
		kind gate.Kind
	}{
		"the target is dead":   {func(context.Context) error { return unreachable() }, gate.TargetDown},
		"the target is silent": {hang, gate.TargetSlow},
		"the producer panics":  {func(context.Context) error { panic(canary) }, gate.TargetDown},
	} {
		t.Run(sentence, func(t *testing.T) {
			inMemory(t, func(w *world) {
				lot := w.pooling(1, time.Hour, nil)
				w.serve(request("good"))
				w.waits(1)
				list, _ := w.store.List(context.Background(), broker.Filter{States: []broker.State{broker.Pooled}})
				lot.set(func() { lot.hand = x.hand })
				_, err := w.b.Serve(context.Background(), request("good"))
				w.wantKind(err, x.kind)
				w.revoked(time.Minute, list[0].ID)
			})
		})
	}
}

// TestPoolKeepsTheQuota: what waits counts too, so that there are never more credentials than the role may have.
func TestPoolKeepsTheQuota(t *testing.T) {
	test(t, func(w *world) {
		w.pooling(3, time.Minute, func(r *broker.Role) { r.MaxLeases = 4 })
		w.serve(request("good"))
		w.serve(request("good"))
		w.waits(2)
		w.serve(request("good"))
		w.serve(request("good"))
		w.tooMany(request("good"), "role database/good")
		if n := w.good.size(); n != 4 {
			w.t.Errorf("there are %d credentials, want 4", n)
		}
	})
}
