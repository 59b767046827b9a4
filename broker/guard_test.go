package broker_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
)

// tooMany issues and wants a guard's no, with its words.
func (w *world) tooMany(r *gate.Request, want string) time.Duration {
	w.t.Helper()
	_, err := w.b.Serve(context.Background(), r)
	e, ok := errors.AsType[*gate.Error](err)
	if !ok || e.Kind != gate.TooMany || e.After <= 0 || !strings.Contains(e.Msg, want) {
		w.t.Fatalf("got %v, want %q and when to try again", err, want)
	}
	return e.After
}

// guards are the three places where the same limit can be set.
var guards = map[string]func(w *world, r *gate.Request, maxLeases int, rate string){
	"role database/good": func(w *world, _ *gate.Request, n int, rate string) {
		w.catalog.set(func() {
			role := w.catalog.roles["database/good"]
			role.MaxLeases, role.IssueRate, role.DefaultTTL, role.MaxTTL = n, rate, time.Minute, time.Hour
			w.catalog.roles["database/good"] = role
		})
	},
	"identity app":    func(_ *world, r *gate.Request, n int, rate string) { r.Caller.MaxLeases, r.Caller.IssueRate = n, rate },
	"mount database/": func(_ *world, r *gate.Request, n int, rate string) { r.Mount.MaxLeases, r.Mount.IssueRate = n, rate },
}

func TestQuotaStopsARunawayClient(t *testing.T) {
	for name, limit := range guards {
		t.Run(name, func(t *testing.T) {
			test(t, func(w *world) {
				r := request("good")
				guards["role database/good"](w, r, 0, "")
				limit(w, r, 3, "")
				var ids []string
				for range 3 {
					resp, err := w.b.Serve(context.Background(), r)
					if err != nil {
						w.t.Fatal(err)
					}
					ids = append(ids, resp.Lease.ID)
				}
				for range 10 {
					w.tooMany(r, name+" has as many live leases as it may: 3")
				}
				if n := w.good.size(); n != 3 {
					w.t.Errorf("%d credentials are alive, want 3", n)
				}
				scope, _, _ := strings.Cut(name, " ")
				if got := w.b.Stats().Stopped[broker.Stop{Guard: "quota", Scope: scope, Role: "database/good"}]; got != 10 {
					w.t.Errorf("%d were counted, want 10", got)
				}
				if err := w.b.Revoke(context.Background(), ids[0], true); err != nil {
					w.t.Fatal(err)
				}
				if _, err := w.b.Serve(context.Background(), r); err != nil {
					w.t.Errorf("after one was revoked: %v", err)
				}
				w.tooMany(r, name)
			})
		})
	}
}

// TestQuotaHoldsAtOnce: however many come together, no more than the quota get through.
func TestQuotaHoldsAtOnce(t *testing.T) {
	test(t, func(w *world) {
		r := request("good")
		guards["role database/good"](w, r, 7, "")
		var wg sync.WaitGroup
		var mu sync.Mutex
		issued := 0
		for range 40 {
			wg.Go(func() {
				_, err := w.b.Serve(context.Background(), request("good"))
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					issued++
				}
			})
		}
		wg.Wait()
		if issued != 7 || w.good.size() != 7 {
			w.t.Errorf("%d were issued and %d are alive, want 7", issued, w.good.size())
		}
	})
}

// TestQuotaCountsWhatIsNotEnded: a credential that can't be ended is alive, and counts.
func TestQuotaCountsWhatIsNotEnded(t *testing.T) {
	test(t, func(w *world) {
		r := request("good")
		guards["role database/good"](w, r, 1, "")
		w.good.set(func() { w.good.revoke = func(context.Context, broker.Ref) error { return unreachable() } })
		_, l := w.issue("good")
		if err := w.b.Revoke(context.Background(), l.ID, false); err != nil {
			w.t.Fatal(err)
		}
		w.tooMany(r, "role database/good")
	})
}

func TestRateStopsARunawayClient(t *testing.T) {
	for name, limit := range guards {
		t.Run(name, func(t *testing.T) {
			inMemory(t, func(w *world) {
				r := request("good")
				guards["role database/good"](w, r, 0, "")
				limit(w, r, 0, "5/s")
				issued := 0
				for range 30 { // ten a second, for three seconds
					if _, err := w.b.Serve(context.Background(), r); err == nil {
						issued++
					} else {
						w.tooMany(r, name+" issues no more than 5/s")
					}
					<-time.After(100 * time.Millisecond)
				}
				if issued < 19 || issued > 20 {
					w.t.Errorf("%d were issued in three seconds at 5/s, want 5 and 5 each second", issued)
				}
				for range 5 {
					_, _ = w.b.Serve(context.Background(), r)
				}
				after := w.tooMany(r, name)
				<-time.After(after)
				if _, err := w.b.Serve(context.Background(), r); err != nil {
					w.t.Errorf("after %v: %v", after, err)
				}
			})
		})
	}
}

// TestStoppedByOneGuardTakesNothingFromOthers: what an identity's limit stops does not use up the role's.
func TestStoppedByOneGuardTakesNothingFromOthers(t *testing.T) {
	for sentence, set := range map[string]func(w *world) *gate.Request{
		"rate": func(w *world) *gate.Request {
			guards["role database/good"](w, nil, 0, "2/h")
			r := request("good")
			r.Caller.IssueRate = "1/h"
			return r
		},
		"quota": func(w *world) *gate.Request {
			guards["role database/good"](w, nil, 2, "")
			r := request("good")
			r.Caller.MaxLeases = 1
			return r
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			inMemory(t, func(w *world) {
				r := set(w)
				w.serve(r)
				w.tooMany(r, "identity app")
				w.tooMany(r, "identity app")
				other := request("good")
				other.Caller.Name = "other"
				w.serve(other)
				w.tooMany(other, "role database/good")
			})
		})
	}
}
