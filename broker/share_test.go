package broker_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
)

// sharing makes good a role whose lease is shared.
func (w *world) sharing() {
	w.catalog.set(func() {
		w.catalog.roles["database/good"] = broker.Role{
			Mount: "database/", Name: "good", Target: "good", DefaultTTL: time.Minute, MaxTTL: time.Hour, Share: broker.ShareByIdentity,
		}
	})
}

func (w *world) serve(r *gate.Request) *gate.Response {
	w.t.Helper()
	resp, err := w.b.Serve(context.Background(), r)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp
}

// TestReplicasShareOneCredential: twenty start together and get one; it is ended when the last one is done with it.
func TestReplicasShareOneCredential(t *testing.T) {
	test(t, func(w *world) {
		w.sharing()
		var wg sync.WaitGroup
		var mu sync.Mutex
		got := make(map[string]int)
		var id string
		for range 20 {
			wg.Go(func() {
				resp, err := w.b.Serve(context.Background(), request("good"))
				if err != nil {
					w.t.Error(err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				id = resp.Lease.ID
				got[resp.Lease.ID+" "+resp.Data["username"].(string)+" "+resp.Data["password"].(string)]++
			})
		}
		wg.Wait()
		if len(got) != 1 || w.good.size() != 1 || w.lease(id).Holders != 20 {
			w.t.Fatalf("got %v, %d alive, %d holders, want one for all", got, w.good.size(), w.lease(id).Holders)
		}
		for range 19 {
			if err := w.b.Release(context.Background(), id, true); err != nil {
				w.t.Fatal(err)
			}
		}
		if l := w.lease(id); l.State != broker.Active || l.Holders != 1 {
			w.t.Fatalf("got %s with %d holders, want it active with one", l.State, l.Holders)
		}
		if err := w.b.Release(context.Background(), id, true); err != nil {
			w.t.Fatal(err)
		}
		w.revoked(time.Second, id)
		if next := w.serve(request("good")); next.Lease.ID == id {
			w.t.Error("a lease that is ended was shared")
		}
	})
}

// TestWhatIsNotShared: others get a credential of their own.
func TestWhatIsNotShared(t *testing.T) {
	for sentence, change := range map[string]func(w *world, r *gate.Request){
		"another identity":                   func(_ *world, r *gate.Request) { r.Caller.Name = "other" },
		"another token of the same identity": func(_ *world, r *gate.Request) { r.Caller.Accessor = "k-2" },
		"a token that ends before the lease": func(_ *world, r *gate.Request) { r.Caller.Expires = time.Now().Add(30 * time.Second) },
		"the role has changed": func(w *world, _ *gate.Request) {
			w.catalog.set(func() {
				role := w.catalog.roles["database/good"]
				role.Config = "less"
				w.catalog.roles["database/good"] = role
			})
		},
		"less than half of its time is left": func(*world, *gate.Request) { <-time.After(31 * time.Second) },
		"it was revoked for all": func(w *world, _ *gate.Request) {
			if err := w.b.Revoke(context.Background(), w.only().ID, false); err != nil {
				w.t.Error(err)
			}
		},
		"a revocation of many is meant for it": func(w *world, _ *gate.Request) {
			if _, err := w.b.RevokeMany(context.Background(), broker.Selector{Identity: "app"}, "root", "", "", false); err != nil {
				w.t.Error(err)
			}
		},
		"the process was started anew": func(w *world, _ *gate.Request) { w.stop(); w.start() },
	} {
		t.Run(sentence, func(t *testing.T) {
			inMemory(t, func(w *world) {
				w.sharing()
				r := request("good")
				first := w.serve(r)
				change(w, r)
				if second := w.serve(r); second.Lease.ID == first.Lease.ID {
					w.t.Error("it was shared")
				}
			})
		})
	}
}

// TestSharedWhereLeasesOutliveTokens: then all of an identity share, whatever their token.
func TestSharedWhereLeasesOutliveTokens(t *testing.T) {
	inMemory(t, func(w *world) {
		w.sharing()
		r := child("good", time.Now().Add(time.Second))
		r.Mount.Outlive = true
		first := w.serve(r)
		<-time.After(20 * time.Second)
		r.Caller.Accessor, r.Caller.Expires = "k-2", time.Time{}
		second := w.serve(r)
		if second.Lease.ID != first.Lease.ID || second.Lease.Duration != 40*time.Second {
			w.t.Errorf("got %+v, want the first lease %s with 40 s left", second.Lease, first.Lease.ID)
		}
		wantWarning(w.t, second.Warnings, "shared with others, so it is 40s and not 1m0s")
	})
}

// TestOneHolderDoesNotShortenItForOthers: nor does an answer that was not released end it.
func TestOneHolderDoesNotShortenItForOthers(t *testing.T) {
	test(t, func(w *world) {
		w.sharing()
		first, second := w.serve(request("good")), w.serve(request("good"))
		before := w.lease(first.Lease.ID)
		l, warnings, err := w.b.Renew(context.Background(), first.Lease.ID, time.Second)
		if err != nil || !l.ExpiresAt.Equal(before.ExpiresAt) {
			w.t.Errorf("got %v, %v, want the end as it was", l, err)
		}
		wantWarning(w.t, warnings, "2 callers share the lease")
		second.Abandon()
		if l := w.lease(first.Lease.ID); l.State != broker.Active || l.Holders != 1 {
			w.t.Errorf("got %s with %d holders, want it active with one", l.State, l.Holders)
		}
		first.Abandon()
		w.revoked(time.Second, first.Lease.ID)
	})
}

// TestHoldersOutliveTheProcess: how many hold a lease is in the store, and its secret is not.
func TestHoldersOutliveTheProcess(t *testing.T) {
	test(t, func(w *world) {
		w.sharing()
		first := w.serve(request("good"))
		w.serve(request("good"))
		w.stop()
		w.start()
		if err := w.b.Release(context.Background(), first.Lease.ID, true); err != nil {
			w.t.Fatal(err)
		}
		if l := w.lease(first.Lease.ID); l.State != broker.Active {
			w.t.Errorf("got %s, want it active for the one who still holds it", l.State)
		}
		if strings.Contains(string(w.lease(first.Lease.ID).Data), "pw-") {
			w.t.Error("the password is in the store")
		}
	})
}
