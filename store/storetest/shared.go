package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
)

func poolTests() map[string]func(*testing.T, Store) {
	return map[string]func(*testing.T, Store){
		"a lease that leaves the pool gets its owner":      pooledIsHanded,
		"a lease that stays in the pool keeps what it has": pooledStays,
		"a lease enters the pool from pending":             pooledEnters,
		"a pooled lease is handed out once":                pooledOnce,
	}
}

// handed gives l an owner.
func handed(l *broker.Lease) {
	l.IssuedAt, l.ExpiresAt, l.NextAt, l.Holders = epoch().Add(1), epoch().Add(2), epoch().Add(2), 1
	l.MaxExpiresAt, l.Identity, l.AccessID, l.RequestID = epoch().Add(3), "ann", "p-9", "r-9"
	l.Token, l.Claims, l.Outlives, l.ShareKey = "t-9", map[string]string{"job": "9"}, true, "s-9"
}

func newPooled(id string) *broker.Lease {
	return newLease(id, func(l *broker.Lease) {
		l.State, l.Identity, l.AccessID, l.RequestID, l.Token, l.Outlives, l.ShareKey = broker.Pooled, "", "", "", "", false, ""
		l.Claims = nil
	})
}

func pooledIsHanded(t *testing.T, s Store) {
	for _, to := range []broker.State{broker.Active, broker.Revoking, broker.Revoked, broker.Pending} {
		l := insert(t, s, newPooled("to-"+string(to)))
		handed(l)
		l.State = to
		changed := *l
		changed.Mount, changed.Role, changed.Producer, changed.Target, changed.Principal = "m/", "r", "p", "t", "n"
		changed.IntentDeadline, changed.Data = epoch().Add(5), []byte("other")
		if err := s.Move(t.Context(), &changed, broker.Pooled, broker.Stuck); err != nil {
			t.Fatal(err)
		}
		l.Version++
		wantLease(t, s, l)
	}
	for _, f := range []broker.Filter{{Identity: "ann"}, {Token: "t-9"}, {ShareKey: "s-9"}, {Claims: map[string]string{"job": "9"}}} {
		if got, err := s.List(t.Context(), f); err != nil || len(got) != 3 {
			t.Errorf("%+v: got %d leases, %v, want 3", f, len(got), err)
		}
	}
}

func pooledStays(t *testing.T, s Store) {
	l := insert(t, s, newPooled("x"))
	changed := *l
	handed(&changed)
	if err := s.Move(t.Context(), &changed, broker.Pooled); err != nil {
		t.Fatal(err)
	}
	l.IssuedAt, l.ExpiresAt, l.NextAt, l.Holders, l.Version = changed.IssuedAt, changed.ExpiresAt, changed.NextAt, 1, 2
	wantLease(t, s, l)
}

func pooledEnters(t *testing.T, s Store) {
	l := insert(t, s, newLease("x"))
	l.State, l.NextAt = broker.Pooled, epoch().Add(time.Hour)
	changed := *l
	changed.Identity, changed.MaxExpiresAt, changed.Token, changed.Claims = "other", epoch().Add(9), "other", map[string]string{"job": "2"}
	if err := s.Move(t.Context(), &changed, broker.Pending); err != nil {
		t.Fatal(err)
	}
	l.Version++
	wantLease(t, s, l)
	got, err := s.List(t.Context(), broker.Filter{States: []broker.State{broker.Pooled}})
	if err != nil || len(got) != 1 {
		t.Errorf("got %d pooled leases, %v, want 1", len(got), err)
	}
}

func pooledOnce(t *testing.T, s Store) {
	l := insert(t, s, newPooled("x"))
	won := make([]*broker.Lease, 16)
	together(len(won), func(i int) {
		mine := *l
		handed(&mine)
		mine.State, mine.Identity = broker.Active, fmt.Sprint("i", i)
		switch err := s.Move(t.Context(), &mine, broker.Pooled); {
		case err == nil:
			won[i] = &mine
		case !errors.Is(err, broker.ErrStale):
			t.Errorf("got %v, want ErrStale", err)
		}
	})
	n := 0
	for _, l := range won {
		if l != nil {
			n++
			wantLease(t, s, l)
		}
	}
	if n != 1 {
		t.Errorf("the lease was handed out %d times, want 1", n)
	}
}

func claimTests() map[string]func(*testing.T, Store) {
	return map[string]func(*testing.T, Store){
		"a claim takes what is due, oldest first":          claimTakesDue,
		"what is claimed is left out until it runs out":    claimRunsOut,
		"a move ends a claim":                              claimEndsWithMove,
		"a claim hinders no move and shows in no lease":    claimHindersNothing,
		"claims that come together share nothing":          claimsTogether,
		"claims and moves that come together lose nothing": claimsAndMoves,
	}
}

func claim(t testing.TB, s Store, by string, now, until time.Duration, limit int) []*broker.Lease {
	t.Helper()
	got, err := s.Claim(t.Context(), by, epoch().Add(now), epoch().Add(until), limit)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func dueAt(d time.Duration) func(*broker.Lease) {
	return func(l *broker.Lease) { l.NextAt = epoch().Add(d) }
}

func claimTakesDue(t *testing.T, s Store) {
	insert(t, s, newLease("later", dueAt(1)))
	insert(t, s, newLease("now", dueAt(0)))
	insert(t, s, newLease("early", dueAt(-2), inState(broker.Stuck)))
	insert(t, s, newLease("pooled", dueAt(-1), inState(broker.Pooled)))
	insert(t, s, newLease("over", dueAt(-9), inState(broker.Revoked)))
	insert(t, s, newLease("never", func(l *broker.Lease) { l.NextAt = time.Time{} }))
	wantEqual(t, "a claim of none", ids(claim(t, s, "a", 0, 5, 0)), []string{})
	got := claim(t, s, "a", 0, 5, 2)
	wantEqual(t, "the first claim", ids(got), []string{"early", "pooled"})
	for _, l := range got {
		wantLease(t, s, l)
	}
	wantEqual(t, "the second claim", ids(claim(t, s, "a", 0, 5, 2)), []string{"now"})
	wantEqual(t, "the third claim", ids(claim(t, s, "a", 1, 5, 2)), []string{"later"})
	wantEqual(t, "the fourth claim", ids(claim(t, s, "a", 1, 5, 2)), []string{})
}

func claimRunsOut(t *testing.T, s Store) {
	for i := range 4 {
		insert(t, s, newLease(fmt.Sprint(i), dueAt(time.Duration(i-10))))
	}
	wantEqual(t, "first", ids(claim(t, s, "a", 0, 10, 1)), []string{"0"})
	wantEqual(t, "beside it", ids(claim(t, s, "b", 0, 20, 1)), []string{"1"})
	wantEqual(t, "just before it runs out", ids(claim(t, s, "b", 9, 30, 1)), []string{"2"})
	wantEqual(t, "when it runs out", ids(claim(t, s, "b", 10, 30, 9)), []string{"0", "3"})
	wantEqual(t, "when the next runs out", ids(claim(t, s, "a", 20, 40, 9)), []string{"1"})
	wantEqual(t, "when all have", ids(claim(t, s, "a", 50, 60, 9)), []string{"0", "1", "2", "3"})
}

func claimEndsWithMove(t *testing.T, s Store) {
	insert(t, s, newLease("x", dueAt(-1), inState(broker.Active)))
	insert(t, s, newLease("y", dueAt(0), inState(broker.Active)))
	got := claim(t, s, "a", 0, 100, 9)
	wantEqual(t, "the claim", ids(got), []string{"x", "y"})
	l := got[0]
	l.State = broker.Revoking
	if err := s.Move(t.Context(), l, broker.Active); err != nil {
		t.Fatal(err)
	}
	stale := *got[1]
	stale.Version++
	if err := s.Move(t.Context(), &stale, broker.Active); !errors.Is(err, broker.ErrStale) {
		t.Fatalf("got %v, want ErrStale", err)
	}
	wantEqual(t, "after a move", ids(claim(t, s, "b", 0, 100, 9)), []string{"x"})
	l.NextAt = epoch().Add(50)
	if err := s.Move(t.Context(), l, broker.Revoking); err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "after a move to a later time", ids(claim(t, s, "b", 49, 100, 9)), []string{})
	wantEqual(t, "at that time", ids(claim(t, s, "b", 50, 100, 9)), []string{"x"})
}

func claimHindersNothing(t *testing.T, s Store) {
	l := insert(t, s, newLease("x", dueAt(0), inState(broker.Active)))
	wantEqual(t, "the claim", ids(claim(t, s, "a", 0, 100, 9)), []string{"x"})
	wantLease(t, s, l)
	due, err := s.Due(t.Context(), epoch(), 9)
	if err != nil || len(due) != 1 {
		t.Errorf("got %d due, %v, want the claimed one", len(due), err)
	}
	l.State = broker.Revoking
	if err := s.Move(t.Context(), l, broker.Active); err != nil {
		t.Errorf("a move of what another has claimed: %v", err)
	}
}

func claimsTogether(t *testing.T, s Store) {
	const n = 60
	for i := range n {
		insert(t, s, newLease(fmt.Sprint("x", i), dueAt(time.Duration(-i))))
	}
	var mu sync.Mutex
	times := map[string]int{}
	together(8, func(i int) {
		for range 2 * n {
			got, err := s.Claim(t.Context(), fmt.Sprint("b", i), epoch(), epoch().Add(time.Hour), 7)
			if err != nil {
				t.Error(err)
				return
			}
			if len(got) == 0 {
				return
			}
			mu.Lock()
			for _, l := range got {
				times[l.ID]++
			}
			mu.Unlock()
		}
	})
	for id, n := range times {
		if n != 1 {
			t.Errorf("%s was claimed %d times, want 1", id, n)
		}
	}
	// Who comes while another claims may find less than there is; what all of them left is there for the next.
	if rest := claim(t, s, "last", 0, 1, n); len(times)+len(rest) != n {
		t.Errorf("%d were claimed and %d are left, want %d in all", len(times), len(rest), n)
	}
}

// claimsAndMoves lets brokers end leases as they do: claim, then move. Each lease is ended once.
func claimsAndMoves(t *testing.T, s Store) {
	const n = 60
	for i := range n {
		insert(t, s, newLease(fmt.Sprint("x", i), dueAt(time.Duration(-i)), inState(broker.Revoking)))
	}
	var mu sync.Mutex
	ended := map[string]int{}
	together(6, func(i int) {
		for rounds := 0; rounds < n; rounds++ {
			got, err := s.Claim(t.Context(), fmt.Sprint("b", i), epoch(), epoch().Add(time.Hour), 3)
			if err != nil {
				t.Error(err)
				return
			}
			for _, l := range got {
				l.State = broker.Revoked
				switch err := s.Move(t.Context(), l, broker.Revoking); {
				case err == nil:
					mu.Lock()
					ended[l.ID]++
					mu.Unlock()
				case !errors.Is(err, broker.ErrStale):
					t.Error(err)
				}
			}
		}
	})
	for id, n := range ended {
		if n != 1 {
			t.Errorf("%s was ended %d times", id, n)
		}
	}
	if left, err := s.Due(t.Context(), epoch(), n); err != nil || len(left) > 0 {
		t.Errorf("%d are left, %v", len(left), err)
	}
}
