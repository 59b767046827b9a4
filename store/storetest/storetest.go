// Package storetest is the contract of a store as tests. Every store runs all of them: Run for each rule that the comments
// of broker.Store, broker.Claimer, broker.Counter,
// broker.Revocations, object.Store and identity.KeyStore make, RunMachine for sequences that nobody thought of, RunCrash
// for what is left when the process is killed, and Benchmark for its speed.
package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/secret"
)

// Leases is all that is kept of leases.
type Leases interface {
	broker.Store
	broker.Claimer
	broker.Counter
	broker.Revocations
	broker.Expirer
}

// Store is all that Bailiff keeps.
type Store interface {
	Leases
	object.Store
	identity.KeyStore
}

// Open makes an empty store for one test. The test's end closes it.
type Open func(t testing.TB) Store

// What a store may offer beside, for the tests that need it.
type (
	// Reopener closes the store and opens it anew with what it kept.
	Reopener interface{ Reopen(t testing.TB) Store }
	// Raw is everything that is on the disk, as somebody sees it who has the disk alone.
	Raw interface{ Raw(t testing.TB) []byte }
	// Counter counts the operations that were made durable and the commits that they shared.
	Counter interface {
		Writes() (commits, operations int64)
	}
)

// Run runs the contract. Each test has a store of its own.
func Run(t *testing.T, open Open) {
	for name, tests := range map[string]map[string]func(*testing.T, Store){
		"leases": leaseTests(), "listing": listTests(), "pool": poolTests(), "claims": claimTests(), "counts": countTests(),
		"expiring":    expiringTests(),
		"revocations": revocationTests(), "objects": objectTests(), "keys": keyTests(),
		"together": concurrencyTests(), "kept": keptTests(),
	} {
		for title, test := range tests {
			t.Run(name+"/"+title, func(t *testing.T) { test(t, open(t)) })
		}
	}
}

// epoch is the time of the tests. Stores never look at it: what they are given is what counts.
func epoch() time.Time { return time.Date(2031, 5, 6, 7, 8, 9, 123456789, time.UTC) }

// newLease is a lease as the broker inserts it, with every field set.
func newLease(id string, with ...func(*broker.Lease)) *broker.Lease {
	l := &broker.Lease{
		ID: id, Mount: "database/", Role: "app", Producer: "postgres", Target: "pg", Identity: "ci", AccessID: "p-1", RequestID: "r-1",
		Principal: "bl-app-" + id, Token: "t-1", Claims: map[string]string{"job": "1", "group": "größe \"x\""}, Outlives: true, Holders: 1, ShareKey: "s-1", State: broker.Pending,
		ExpiresAt: epoch().Add(time.Hour), MaxExpiresAt: epoch().Add(24 * time.Hour), IntentDeadline: epoch().Add(time.Minute),
		NextAt: epoch().Add(time.Minute), Data: []byte("data of " + id),
	}
	for _, f := range with {
		f(l)
	}
	return l
}

// inState sets a lease's state.
func inState(s broker.State) func(*broker.Lease) { return func(l *broker.Lease) { l.State = s } }

// insert adds a lease to the store and gives it back as it should be there.
func insert(t testing.TB, s Store, l *broker.Lease) *broker.Lease {
	t.Helper()
	if err := s.Insert(t.Context(), l); err != nil {
		t.Fatalf("Insert %s: %v", l.ID, err)
	}
	return l
}

// wantLease compares what is stored with want, in every field.
func wantLease(t testing.TB, s Store, want *broker.Lease) {
	t.Helper()
	got, err := s.Lease(t.Context(), want.ID)
	if err != nil {
		t.Errorf("Lease %s: %v", want.ID, err)
		return
	}
	wantEqual(t, "lease "+want.ID, got, want)
}

// wantEqual compares two values of the contracts' types.
func wantEqual(t testing.TB, what string, got, want any) {
	t.Helper()
	if d := diff(got, want); d != "" {
		t.Errorf("%s differs (-got +want):\n%s", what, d)
	}
}

// diff compares values: times by instant, secrets by what they hold, empty as nil.
func diff(got, want any) string {
	return cmp.Diff(got, want, cmpopts.EquateEmpty(), cmp.Transformer("reveal", secret.Value.Reveal))
}

// ids are the IDs of leases, for short messages.
func ids(leases []*broker.Lease) []string {
	out := make([]string, len(leases))
	for i, l := range leases {
		out[i] = l.ID
	}
	return out
}

// allStates lists every state.
func allStates() []broker.State {
	return []broker.State{broker.Pending, broker.Active, broker.Revoking, broker.Stuck, broker.Pooled, broker.Revoked}
}

// everything pages through all leases, a few at a time.
func everything(ctx context.Context, s broker.Store, page int) ([]*broker.Lease, error) {
	var all []*broker.Lease
	f := broker.Filter{States: allStates(), Limit: page}
	for {
		found, err := s.List(ctx, f)
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			return all, nil
		}
		if last := found[len(found)-1].Seq; last <= f.AfterSeq {
			return nil, fmt.Errorf("paging goes back: seq %d after %d", last, f.AfterSeq)
		}
		f.AfterSeq = found[len(found)-1].Seq
		all = append(all, found...)
	}
}
