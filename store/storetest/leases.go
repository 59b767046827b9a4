package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
)

func leaseTests() map[string]func(*testing.T, Store) {
	return map[string]func(*testing.T, Store){
		"a lease comes back as it was inserted":          leaseComesBack,
		"an id is taken for ever":                        leaseIDIsTaken,
		"seq grows with every insert":                    leaseSeqGrows,
		"a move writes the mutable fields and no others": moveWritesMutable,
		"a move starts from the states it names":         moveNamesStates,
		"a move starts from the version it read":         moveNamesVersion,
		"versions count from one":                        versionsCount,
		"a revoked lease never goes back":                revokedStays,
		"what is not there is ErrNoLease":                noLease,
		"an unknown state is refused":                    unknownState,
		"due is by time, oldest first":                   dueByTime,
		"due obeys its limit":                            dueLimit,
		"a moved lease is due at its new time":           dueAfterMove,
		"an ended context writes nothing":                endedContext,
	}
}

func leaseComesBack(t *testing.T, s Store) {
	for _, l := range []*broker.Lease{
		newLease("database/creds/app/full", func(l *broker.Lease) {
			l.State, l.IssuedAt, l.Attempt, l.Cause, l.Error = broker.Stuck, epoch(), 9, broker.OwnsObjects, "role owns table \"x\""
		}),
		{ID: "bare", State: broker.Pending},
		newLease("データベース/creds/rôle/🔑", func(l *broker.Lease) {
			l.Mount, l.Role, l.Identity, l.Target = "データベース/", "rôle", "josé 🔑", "größe"
		}),
		newLease("it's 100%_of\\\"x\"", func(l *broker.Lease) { l.Data = []byte{0, 1, 0xff, 0, '\''} }),
		newLease("times", func(l *broker.Lease) {
			l.ExpiresAt = epoch().In(time.FixedZone("east", 7*3600))
			l.MaxExpiresAt = time.Date(2200, 1, 1, 0, 0, 0, 1, time.UTC)
			l.NextAt = time.Unix(0, 0)
			l.IssuedAt = time.Unix(-1, 5)
		}),
	} {
		insert(t, s, l)
		wantLease(t, s, l)
		got, err := s.Lease(t.Context(), l.ID)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range []time.Time{got.ExpiresAt, got.NextAt, got.IssuedAt} {
			if at.Location() != time.UTC {
				t.Errorf("lease %s has a time in %s, want UTC", l.ID, at.Location())
			}
		}
	}
}

func leaseIDIsTaken(t *testing.T, s Store) {
	for _, state := range allStates() {
		l := insert(t, s, newLease("taken-"+string(state), inState(state)))
		again := newLease(l.ID, func(l *broker.Lease) { l.Identity = "another" })
		if err := s.Insert(t.Context(), again); err == nil {
			t.Errorf("the id of a lease that is %s was taken again", state)
		}
		if again.Seq != 0 || again.Version != 0 {
			t.Errorf("a failed insert set Seq to %d and Version to %d", again.Seq, again.Version)
		}
		wantLease(t, s, l)
	}
}

func leaseSeqGrows(t *testing.T, s Store) {
	last := int64(0)
	for i := range 20 {
		l := insert(t, s, newLease(fmt.Sprint("n", 20-i)))
		if l.Seq <= last {
			t.Errorf("seq %d follows %d", l.Seq, last)
		}
		last = l.Seq
	}
}

func moveWritesMutable(t *testing.T, s Store) {
	l := insert(t, s, newLease("x"))
	bystander := insert(t, s, newLease("y"))
	l.State, l.IssuedAt, l.ExpiresAt, l.NextAt = broker.Active, epoch().Add(1), epoch().Add(2), epoch().Add(3)
	l.Attempt, l.Cause, l.Error, l.Holders = 4, broker.Unreachable, "no route", 3
	changed := *l
	changed.Mount, changed.Role, changed.Producer, changed.Target, changed.Identity = "m/", "r", "p", "t", "i"
	changed.AccessID, changed.RequestID, changed.Principal, changed.Data = "a", "q", "n", []byte("other")
	changed.MaxExpiresAt, changed.IntentDeadline = epoch().Add(5), epoch().Add(6)
	changed.Token, changed.Outlives, changed.ShareKey, changed.Seq = "o", false, "k", 7
	if err := s.Move(t.Context(), &changed, broker.Pending); err != nil {
		t.Fatal(err)
	}
	l.Version++
	if changed.Version != l.Version {
		t.Errorf("got version %d after a move, want %d", changed.Version, l.Version)
	}
	wantLease(t, s, l)
	wantLease(t, s, bystander)

	l.State, l.IssuedAt, l.ExpiresAt, l.NextAt = broker.Revoked, time.Time{}, time.Time{}, time.Time{}
	l.Attempt, l.Cause, l.Error, l.Holders = 0, "", "", 0
	if err := s.Move(t.Context(), l, broker.Active, broker.Revoking); err != nil {
		t.Fatal(err)
	}
	wantLease(t, s, l)
}

func moveNamesStates(t *testing.T, s Store) {
	n := 0
	for _, stored := range allStates() {
		for _, from := range [][]broker.State{
			nil, {stored}, {broker.Pending}, {broker.Active}, {broker.Revoking, broker.Stuck},
			{broker.Pending, broker.Active, broker.Revoking, broker.Stuck}, {"unheard-of"}, {""},
		} {
			n++
			l := insert(t, s, newLease(fmt.Sprint("l", n), inState(stored)))
			before := *l
			l.State, l.Error = broker.Revoked, "moved"
			err := s.Move(t.Context(), l, from...)
			if slices.Contains(from, stored) {
				if err != nil {
					t.Errorf("from %q, stored %s: got %v, want no error", from, stored, err)
				}
				wantLease(t, s, l)
				continue
			}
			if !errors.Is(err, broker.ErrStale) {
				t.Errorf("from %q, stored %s: got %v, want ErrStale", from, stored, err)
			}
			if l.Version != before.Version {
				t.Errorf("a failed move set Version to %d", l.Version)
			}
			wantLease(t, s, &before)
		}
	}
}

func moveNamesVersion(t *testing.T, s Store) {
	l := insert(t, s, newLease("x", inState(broker.Active)))
	for range 2 {
		if err := s.Move(t.Context(), l, broker.Active); err != nil {
			t.Fatal(err)
		}
	}
	for _, version := range []int64{-1, 0, 1, 2, 4} {
		other := *l
		other.Version, other.State = version, broker.Revoking
		if err := s.Move(t.Context(), &other, allStates()...); !errors.Is(err, broker.ErrStale) || other.Version != version {
			t.Errorf("version %d of 3: got %v and version %d, want ErrStale", version, err, other.Version)
		}
	}
	wantLease(t, s, l)
}

func versionsCount(t *testing.T, s Store) {
	l := newLease("x")
	l.Version = 9
	insert(t, s, l)
	for want := range int64(5) {
		if l.Version != want+1 {
			t.Errorf("got version %d, want %d", l.Version, want+1)
		}
		wantLease(t, s, l)
		if err := s.Move(t.Context(), l, broker.Pending); err != nil {
			t.Fatal(err)
		}
	}
}

func revokedStays(t *testing.T, s Store) {
	for _, to := range allStates() {
		if to == broker.Revoked {
			continue
		}
		l := insert(t, s, newLease("l-"+string(to), inState(broker.Revoked)))
		back := *l
		back.State = to
		if err := s.Move(t.Context(), &back, allStates()...); !errors.Is(err, broker.ErrStale) {
			t.Errorf("from revoked to %s: got %v, want ErrStale", to, err)
		}
		wantLease(t, s, l)
	}
}

func noLease(t *testing.T, s Store) {
	insert(t, s, newLease("here"))
	for _, id := range []string{"her", "heree", "HERE", "", "h%", "her_"} {
		if _, err := s.Lease(t.Context(), id); !errors.Is(err, broker.ErrNoLease) {
			t.Errorf("Lease %q: got %v, want ErrNoLease", id, err)
		}
		if err := s.Move(t.Context(), newLease(id), allStates()...); !errors.Is(err, broker.ErrNoLease) {
			t.Errorf("Move %q: got %v, want ErrNoLease", id, err)
		}
	}
}

func unknownState(t *testing.T, s Store) {
	for _, state := range []broker.State{"", "Active", "unheard-of"} {
		if err := s.Insert(t.Context(), newLease("x", inState(state))); err == nil {
			t.Errorf("a lease was inserted that is %q", state)
		}
	}
	l := insert(t, s, newLease("y"))
	if err := s.Move(t.Context(), newLease("y", inState("unheard-of")), broker.Pending); err == nil {
		t.Error("a lease was moved to a state that does not exist")
	}
	wantLease(t, s, l)
}

func dueByTime(t *testing.T, s Store) {
	at := func(d time.Duration, state broker.State) func(*broker.Lease) {
		return func(l *broker.Lease) { l.NextAt, l.State = epoch().Add(d), state }
	}
	insert(t, s, newLease("a nanosecond late", at(1, broker.Active)))
	insert(t, s, newLease("now", at(0, broker.Pending)))
	insert(t, s, newLease("long ago", at(-time.Hour, broker.Stuck)))
	insert(t, s, newLease("just before", at(-1, broker.Revoking)))
	insert(t, s, newLease("over", at(-time.Hour, broker.Revoked)))
	insert(t, s, newLease("never", func(l *broker.Lease) { l.NextAt = time.Time{} }))
	insert(t, s, newLease("before 1970", func(l *broker.Lease) { l.NextAt = time.Unix(-5, 0) }))
	insert(t, s, newLease("now as well", at(0, broker.Active)))
	for _, tt := range []struct {
		now  time.Time
		want []string
	}{
		{epoch(), []string{"before 1970", "long ago", "just before", "now", "now as well"}},
		{epoch().Add(-1), []string{"before 1970", "long ago", "just before"}},
		{epoch().Add(time.Hour), []string{"before 1970", "long ago", "just before", "now", "now as well", "a nanosecond late"}},
		{time.Unix(-6, 0), nil},
		{time.Time{}, nil},
	} {
		got, err := s.Due(t.Context(), tt.now, 100)
		if err != nil {
			t.Fatal(err)
		}
		wantEqual(t, "due at "+tt.now.String(), ids(got), tt.want)
		for _, l := range got {
			wantLease(t, s, l)
		}
	}
}

func dueLimit(t *testing.T, s Store) {
	for i := range 5 {
		insert(t, s, newLease(fmt.Sprint(i), func(l *broker.Lease) { l.NextAt = epoch().Add(time.Duration(-i)) }))
	}
	for limit, want := range [][]string{{}, {"4"}, {"4", "3"}, {"4", "3", "2"}} {
		got, err := s.Due(t.Context(), epoch(), limit)
		if err != nil {
			t.Fatal(err)
		}
		wantEqual(t, fmt.Sprintf("due with limit %d", limit), ids(got), want)
	}
}

func dueAfterMove(t *testing.T, s Store) {
	l := insert(t, s, newLease("x", inState(broker.Active)))
	move := func(state broker.State, next time.Time) {
		t.Helper()
		l.State, l.NextAt = state, next
		if err := s.Move(t.Context(), l, allStates()...); err != nil {
			t.Fatal(err)
		}
	}
	wantDue := func(want ...string) {
		t.Helper()
		got, err := s.Due(t.Context(), epoch(), 10)
		if err != nil {
			t.Fatal(err)
		}
		wantEqual(t, "due", ids(got), want)
	}
	wantDue()
	move(broker.Revoking, epoch())
	wantDue("x")
	move(broker.Revoking, epoch().Add(time.Second))
	wantDue()
	move(broker.Stuck, epoch().Add(-time.Second))
	wantDue("x")
	move(broker.Stuck, time.Time{})
	wantDue()
	move(broker.Revoking, epoch())
	move(broker.Revoked, epoch())
	wantDue()
}

func endedContext(t *testing.T, s Store) {
	l := insert(t, s, newLease("here"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Insert(ctx, newLease("new")); !errors.Is(err, context.Canceled) {
		t.Errorf("Insert: got %v, want context.Canceled", err)
	}
	moved := *l
	moved.State = broker.Active
	if err := s.Move(ctx, &moved, broker.Pending); !errors.Is(err, context.Canceled) {
		t.Errorf("Move: got %v, want context.Canceled", err)
	}
	if _, err := s.Lease(ctx, "here"); !errors.Is(err, context.Canceled) {
		t.Errorf("Lease: got %v, want context.Canceled", err)
	}
	if _, err := s.Due(ctx, epoch(), 1); !errors.Is(err, context.Canceled) {
		t.Errorf("Due: got %v, want context.Canceled", err)
	}
	all, err := everything(t.Context(), s, 10)
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "the leases", all, []*broker.Lease{l})
}

// keptTests are about what is on the disk.
func keptTests() map[string]func(*testing.T, Store) {
	return map[string]func(*testing.T, Store){
		"everything is there after a new start": keptAfterReopen,
		"no secret is readable on the disk":     secretsAreSealed,
	}
}

func keptAfterReopen(t *testing.T, s Store) {
	r, ok := s.(Reopener)
	if !ok {
		t.Log("this store has no Reopen: nothing to see")
		return
	}
	m := newModel()
	fill(t, m, "")
	fill(t, s, "")
	last := insert(t, s, newLease("last")).Seq
	insert(t, m, newLease("last"))
	s = r.Reopen(t)
	wantSame(t, s, m)
	if next := insert(t, s, newLease("next")).Seq; next <= last {
		t.Errorf("seq %d follows %d after a new start", next, last)
	}
}

func secretsAreSealed(t *testing.T, s Store) {
	r, ok := s.(Raw)
	if !ok {
		t.Log("this store has nothing on a disk")
		return
	}
	const canary = "canary-7d41b0c2"
	fill(t, s, canary)
	raw := r.Raw(t)
	if !bytes.Contains(raw, []byte("database/creds/app/kept")) {
		t.Fatal("the lease's id is not in what Raw gives, so that the test can't see anything")
	}
	for _, form := range []string{canary, "Y2FuYXJ5LTdkNDFiMGMy", fmt.Sprintf("%x", canary)} {
		if bytes.Contains(raw, []byte(form)) {
			t.Errorf("a secret is readable on the disk as %q", form)
		}
	}
}
