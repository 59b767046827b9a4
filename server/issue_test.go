package server

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/object"
)

// logIn uses a credential on the database.
func (f *family) logIn(resp *gate.Response) error {
	f.t.Helper()
	user, _ := resp.Data["username"].(string)
	password, _ := resp.Data["password"].(string)
	_, err := f.pg.SQL(f.t.Context(), user, password, "postgres", "SELECT 1")
	return err
}

// TestPoolOnADatabase: what waits can't log in and was made before; what is handed out can, and is ended.
func TestPoolOnADatabase(t *testing.T) {
	f := newFamily(t, "", 0)
	pooled := role("pooled")
	pooled.PoolSize = 2
	apply(t, f.server, pooled)
	first := f.issue("pooled")
	waitFor(t, "one waits", func() bool { return f.leases.Stats().Pools["database/pooled"] == 1 })
	waiting, err := f.leases.List(t.Context(), broker.Filter{States: []broker.State{broker.Pooled}})
	if err != nil || len(waiting) != 1 {
		t.Fatalf("got %v, %v, want one that waits", waiting, err)
	}
	second := f.issue("pooled")
	if second.Lease.ID != waiting[0].ID || second.Principal == first.Principal {
		t.Errorf("got lease %s, want the one that waited, %s", second.Lease.ID, waiting[0].ID)
	}
	if err := f.logIn(second); err != nil {
		t.Errorf("what was handed out does not work: %v", err)
	}
	if err := f.leases.Revoke(t.Context(), second.Lease.ID, true); err != nil {
		t.Fatal(err)
	}
	f.ended(second)
	if err := f.estate.DeleteObject(t.Context(), "test", object.KindProducer, "database/pooled", 0); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "nothing of a removed role is left on the database", func() bool {
		out, err := f.pg.SQL(t.Context(), f.pg.AdminUser, f.pg.AdminPassword, "postgres",
			"SELECT count(*) = 0 FROM pg_roles WHERE rolname LIKE 'bl-pooled-%'")
		return err == nil && out == "t"
	})
	f.ended(first)
}

// TestSharedOnADatabase: two get one credential, which works until the second lets go.
func TestSharedOnADatabase(t *testing.T) {
	f := newFamily(t, "", 0)
	shared := role("shared")
	shared.Share = "identity"
	apply(t, f.server, shared)
	first, second := f.issue("shared"), f.issue("shared")
	if first.Principal != second.Principal || first.Lease.ID != second.Lease.ID || first.Data["password"] != second.Data["password"] {
		t.Fatal("it was not shared")
	}
	for i, works := range []bool{true, false} {
		if err := f.leases.Release(context.WithoutCancel(t.Context()), first.Lease.ID, true); err != nil {
			t.Fatal(err)
		}
		if err := f.logIn(second); (err == nil) != works {
			t.Errorf("after %d let go: got %v", i+1, err)
		}
	}
	f.ended(first)
}

// TestQuotaOfAnIdentity is declared, and stops the sixth.
func TestQuotaOfAnIdentity(t *testing.T) {
	f := newFamily(t, "", 0)
	f.caller.MaxLeases = 5
	for range 5 {
		f.issue("app")
	}
	_, err := f.leases.Serve(t.Context(), f.request("app"))
	if err == nil || !strings.Contains(err.Error(), "identity ci has as many live leases as it may: 5") {
		t.Errorf("got %v", err)
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}
