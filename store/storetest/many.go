package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiff-secrets/bailiff/broker"
)

func countTests() map[string]func(*testing.T, Store) {
	return map[string]func(*testing.T, Store){
		"open counts what a selector picks":                 openCounts,
		"open may stop at its limit and not before":         openLimit,
		"a tally has a line for each state, target, cause":  tallyLines,
		"a tally follows every move":                        tallyMoves,
		"overdue is the oldest that is due":                 overdueIsOldest,
		"a failed revocation stays overdue since the first": overdueSinceFirst,
	}
}

func openCounts(t *testing.T, s Store) {
	listed(t, s)
	insert(t, s, newLease("db/creds/app/8", func(l *broker.Lease) {
		l.Mount, l.Role, l.Target, l.Identity, l.Token, l.Producer = "db/", "app", "pg", "bob", "token of ann", "made by pg"
		l.Outlives, l.Claims = false, map[string]string{"sub": "ann"}
	}))
	for _, tt := range []struct {
		sel  broker.Selector
		want int
	}{
		{broker.Selector{}, 0},
		{broker.Selector{Children: true}, 0},
		{broker.Selector{Prefix: "db/creds/app/"}, 3},
		{broker.Selector{Prefix: "db"}, 6},
		{broker.Selector{Prefix: "DB"}, 0},
		{broker.Selector{Identity: "ci"}, 3},
		{broker.Selector{Mount: "db/"}, 4},
		{broker.Selector{Mount: "db"}, 0},
		{broker.Selector{Mount: "db/", Role: "app"}, 3},
		{broker.Selector{Role: "app"}, 5},
		{broker.Selector{Producer: "made by pg"}, 4},
		{broker.Selector{Target: "pg2"}, 2},
		{broker.Selector{Target: "pg2", Producer: "made by pg2"}, 2},
		{broker.Selector{Target: "pg2", Producer: "made by pg"}, 0},
		{broker.Selector{Token: "token of ann"}, 3},
		{broker.Selector{Token: "token of ann", Children: true}, 1},
		{broker.Selector{Mount: "db/", Children: true}, 1},
		{broker.Selector{Token: "token of ann", Identity: "ann"}, 2},
		{broker.Selector{Claims: map[string]string{"sub": "ann"}}, 3},
		{broker.Selector{Claims: map[string]string{"sub": "ann"}, Mount: "db2/"}, 1},
		{broker.Selector{Claims: map[string]string{"sub": "ann"}, Children: true}, 1},
		{broker.Selector{Claims: map[string]string{"sub": "bob"}}, 0},
		{broker.Selector{Prefix: "db/", Identity: "ci", Mount: "db/", Role: "ops", Producer: "made by pg", Target: "pg", Token: "token of ci"}, 1},
	} {
		got, err := s.Open(t.Context(), tt.sel, 0)
		if err != nil || got != tt.want {
			t.Errorf("%+v: got %d, %v, want %d", tt.sel, got, err, tt.want)
		}
	}
}

func openLimit(t *testing.T, s Store) {
	for i := range 9 {
		insert(t, s, newLease(fmt.Sprint("x", i), inState(broker.Active)))
	}
	for _, sel := range []broker.Selector{{Prefix: "x"}, {Identity: "ci"}, {Mount: "database/"}, {Token: "t-1"}, {Target: "pg"}} {
		for limit := range 12 {
			got, err := s.Open(t.Context(), sel, limit)
			least := 9
			if limit > 0 {
				least = min(limit, 9)
			}
			if err != nil || got < least || got > 9 {
				t.Errorf("%+v with limit %d: got %d, %v, want at least %d and at most 9", sel, limit, got, err, least)
			}
		}
	}
}

func wantTally(t testing.TB, s Store, want ...broker.Tally) {
	t.Helper()
	got, err := s.Tally(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sortTally(got)
	sortTally(want)
	wantEqual(t, "the tally", got, want)
}

func tallyLines(t *testing.T, s Store) {
	wantTally(t, s)
	listed(t, s)
	wantTally(t, s,
		broker.Tally{State: broker.Pending, Target: "pg", N: 1},
		broker.Tally{State: broker.Active, Target: "pg", N: 1},
		broker.Tally{State: broker.Revoking, Target: "pg", Cause: broker.Unreachable, N: 1},
		broker.Tally{State: broker.Stuck, Target: "pg2", Cause: broker.OwnsObjects, N: 1},
		broker.Tally{State: broker.Stuck, Target: "pg2", Cause: broker.Unreachable, N: 1},
	)
}

func tallyMoves(t *testing.T, s Store) {
	l := insert(t, s, newPooled("x"))
	insert(t, s, newLease("other", func(l *broker.Lease) { l.Target = "pg2" }))
	other := broker.Tally{State: broker.Pending, Target: "pg2", N: 1}
	wantTally(t, s, other, broker.Tally{State: broker.Pooled, Target: "pg", N: 1})
	for _, next := range []broker.Tally{
		{State: broker.Active, Target: "pg", N: 1},
		{State: broker.Active, Target: "pg", N: 1},
		{State: broker.Revoking, Target: "pg", N: 1},
		{State: broker.Revoking, Target: "pg", Cause: broker.Unreachable, N: 1},
		{State: broker.Stuck, Target: "pg", Cause: broker.OwnsObjects, N: 1},
	} {
		l.State, l.Cause = next.State, next.Cause
		if err := s.Move(t.Context(), l, allStates()...); err != nil {
			t.Fatal(err)
		}
		wantTally(t, s, other, next)
	}
	stale := *l
	stale.Version, stale.State = 1, broker.Revoked
	if err := s.Move(t.Context(), &stale, allStates()...); !errors.Is(err, broker.ErrStale) {
		t.Errorf("got %v, want ErrStale", err)
	}
	if err := s.Insert(t.Context(), newLease("x")); err == nil {
		t.Error("a taken id was taken again")
	}
	wantTally(t, s, other, broker.Tally{State: broker.Stuck, Target: "pg", Cause: broker.OwnsObjects, N: 1})
	l.State, l.Cause = broker.Revoked, ""
	if err := s.Move(t.Context(), l, broker.Stuck); err != nil {
		t.Fatal(err)
	}
	wantTally(t, s, other)
}

func wantOverdue(t testing.TB, s Store, now time.Duration, want time.Time) {
	t.Helper()
	got, err := s.Overdue(t.Context(), epoch().Add(now))
	if err != nil || !got.Equal(want) {
		t.Errorf("%s after the epoch: got %s, %v, want %s", now, got, err, want)
	}
}

func overdueIsOldest(t *testing.T, s Store) {
	wantOverdue(t, s, 0, time.Time{})
	insert(t, s, newLease("over", dueAt(-9), inState(broker.Revoked)))
	insert(t, s, newLease("never", func(l *broker.Lease) { l.NextAt, l.Attempt = time.Time{}, 3 }))
	insert(t, s, newLease("active", dueAt(5), inState(broker.Active)))
	insert(t, s, newLease("revoking", dueAt(3), inState(broker.Revoking)))
	wantOverdue(t, s, 2, time.Time{})
	wantOverdue(t, s, 3, epoch().Add(3))
	wantOverdue(t, s, 6, epoch().Add(3))
	insert(t, s, newLease("pending", dueAt(1)))
	wantOverdue(t, s, 6, epoch().Add(1))
}

func overdueSinceFirst(t *testing.T, s Store) {
	move := func(l *broker.Lease) {
		t.Helper()
		if err := s.Move(t.Context(), l, allStates()...); err != nil {
			t.Fatal(err)
		}
	}
	asked := insert(t, s, newLease("asked", dueAt(1000), inState(broker.Active)))
	asked.State, asked.NextAt = broker.Revoking, epoch().Add(10)
	move(asked)
	wantOverdue(t, s, 20, epoch().Add(10))
	asked.NextAt = epoch().Add(500) // put off, and nothing has failed
	move(asked)
	wantOverdue(t, s, 20, time.Time{})
	asked.Attempt, asked.Cause, asked.NextAt = 1, broker.Unreachable, epoch().Add(900)
	move(asked)
	wantOverdue(t, s, 20, epoch().Add(10))
	asked.State, asked.Attempt = broker.Stuck, 2
	move(asked)
	wantOverdue(t, s, 20, epoch().Add(10))

	expired := insert(t, s, newLease("expired", inState(broker.Active), func(l *broker.Lease) { l.ExpiresAt, l.NextAt = epoch().Add(5), epoch().Add(15) }))
	expired.State = broker.Revoking
	move(expired)
	wantOverdue(t, s, 20, epoch().Add(5))
	expired.State = broker.Revoked
	move(expired)
	wantOverdue(t, s, 20, epoch().Add(10))
	asked.State = broker.Revoked
	move(asked)
	wantOverdue(t, s, 20, time.Time{})
}

func revocationTests() map[string]func(*testing.T, Store) {
	return map[string]func(*testing.T, Store){
		"a revocation comes back as it was put":          revocationComesBack,
		"it is for the leases that are there":            revocationUpTo,
		"an update writes the progress and nothing else": revocationUpdated,
		"its id is taken for ever":                       revocationIDIsTaken,
		"what is not there is ErrNoRevocation":           noRevocation,
		"open ones come first, oldest first":             revocationsListed,
	}
}

func newRevocation(id string) *broker.Revocation {
	return &broker.Revocation{
		ID: id, Selector: broker.Selector{Prefix: "database/é%_'", Identity: "ci", Token: "t-1", Children: true}, By: "ann",
		Reason: "größe 🔑", RequestID: "r-1", CreatedAt: epoch(),
	}
}

func putRevocation(t testing.TB, s Store, id string) *broker.Revocation {
	t.Helper()
	r := newRevocation(id)
	if err := s.PutRevocation(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	return r
}

func wantRevocation(t testing.TB, s Store, want *broker.Revocation) {
	t.Helper()
	got, err := s.Revocation(t.Context(), want.ID)
	if err != nil {
		t.Errorf("Revocation %s: %v", want.ID, err)
		return
	}
	wantEqual(t, "revocation "+want.ID, got, want)
}

func revocationComesBack(t *testing.T, s Store) {
	r := newRevocation("rv-1")
	r.Cursor, r.Marked, r.Expanded, r.DoneAt, r.Revoked, r.Open, r.Sessions = 1, 2, true, epoch().Add(1), 3, 4, 5
	r.Selector = broker.Selector{Prefix: "p", Identity: "i", Mount: "m/", Role: "r", Producer: "x", Target: "t", Token: "k"}
	for _, r := range []*broker.Revocation{r, {ID: "rv-bare"}} {
		if err := s.PutRevocation(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		wantRevocation(t, s, r)
	}
}

func revocationUpTo(t *testing.T, s Store) {
	if r := putRevocation(t, s, "rv-0"); r.UpTo != 0 {
		t.Errorf("got up to %d in an empty store, want 0", r.UpTo)
	}
	last := int64(0)
	for i := range 5 {
		l := insert(t, s, newLease(fmt.Sprint("x", i)))
		if l.Seq <= last {
			t.Errorf("a lease that came after a revocation has the seq %d, want more than %d", l.Seq, last)
		}
		r := putRevocation(t, s, fmt.Sprint("rv-x", i))
		if r.UpTo != l.Seq {
			t.Errorf("got up to %d, want %d", r.UpTo, l.Seq)
		}
		wantRevocation(t, s, r)
		last = r.UpTo
	}
}

func revocationUpdated(t *testing.T, s Store) {
	r, bystander := putRevocation(t, s, "rv-1"), putRevocation(t, s, "rv-2")
	r.Cursor, r.Marked, r.Expanded, r.DoneAt, r.Revoked, r.Open, r.Sessions = 1, 2, true, epoch().Add(1), 3, 4, 5
	changed := *r
	changed.Selector, changed.By, changed.Reason, changed.RequestID = broker.Selector{Mount: "m/"}, "b", "c", "d"
	changed.CreatedAt, changed.UpTo = epoch().Add(9), 99
	if err := s.UpdateRevocation(t.Context(), &changed); err != nil {
		t.Fatal(err)
	}
	wantRevocation(t, s, r)
	wantRevocation(t, s, bystander)
	r.Expanded, r.DoneAt = false, time.Time{}
	if err := s.UpdateRevocation(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	wantRevocation(t, s, r)
}

func revocationIDIsTaken(t *testing.T, s Store) {
	r := putRevocation(t, s, "rv-1")
	again := newRevocation("rv-1")
	again.By = "another"
	if err := s.PutRevocation(t.Context(), again); err == nil {
		t.Error("the id of a revocation was taken again")
	}
	wantRevocation(t, s, r)
}

func noRevocation(t *testing.T, s Store) {
	putRevocation(t, s, "rv-1")
	for _, id := range []string{"", "rv", "RV-1", "rv-11"} {
		if _, err := s.Revocation(t.Context(), id); !errors.Is(err, broker.ErrNoRevocation) {
			t.Errorf("Revocation %q: got %v, want ErrNoRevocation", id, err)
		}
		if err := s.UpdateRevocation(t.Context(), newRevocation(id)); !errors.Is(err, broker.ErrNoRevocation) {
			t.Errorf("UpdateRevocation %q: got %v, want ErrNoRevocation", id, err)
		}
	}
}

func revocationsListed(t *testing.T, s Store) {
	for _, id := range []string{"e", "d", "c", "b", "a"} {
		r := putRevocation(t, s, id)
		if id == "c" || id == "a" || id == "e" {
			r.DoneAt = epoch()
			if err := s.UpdateRevocation(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
	}
	for limit, want := range map[int][]string{
		0: {"d", "b"}, 1: {"d", "b"}, 2: {"d", "b"}, 3: {"d", "b", "a"}, 4: {"d", "b", "a", "c"}, 9: {"d", "b", "a", "c", "e"},
	} {
		found, err := s.OpenRevocations(t.Context(), limit)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range found {
			got = append(got, r.ID)
			wantRevocation(t, s, r)
		}
		wantEqual(t, fmt.Sprintf("limit %d", limit), got, want)
	}
}

func (m *machine) claim(rt *rapid.T) {
	now, until, limit := drawTime(rt, "now"), drawTime(rt, "until"), rapid.IntRange(0, 4).Draw(rt, "limit")
	if now.Before(m.claimed) {
		now = m.claimed // a store may have forgotten what had run out by then, and need not know it again when the clock steps back
	}
	m.claimed = now
	got, err := m.real.Claim(m.ctx, "b", now, until, limit)
	want, wantErr := m.model.Claim(m.ctx, "b", now, until, limit)
	sameError(rt, err, wantErr)
	m.sameLeases(rt, got, want)
}

// keepsNoClaims reports whether the store forgets its claims when it is closed, which it may.
func (m *machine) keepsNoClaims() bool {
	_, ok := m.real.(interface{ KeepsNoClaims() })
	return ok
}

func (m *machine) count(rt *rapid.T) {
	sel := broker.Selector{
		Prefix: draw(rt, "prefix", "", "db", "db/creds/ap_"), Identity: draw(rt, "identity", "", "", "ci"), Mount: draw(rt, "mount", "", "", "db/"),
		Role: draw(rt, "role", "", "", "app"), Producer: draw(rt, "producer", "", "", "p"), Target: draw(rt, "target", "", "", "pg"),
		Token: draw(rt, "token", "", "", "t-1"), Children: rapid.Bool().Draw(rt, "children"),
	}
	n, err := m.real.Open(m.ctx, sel, 0)
	want, wantErr := m.model.Open(m.ctx, sel, 0)
	sameError(rt, err, wantErr)
	same(rt, n, want)
	now := drawTime(rt, "now")
	at, err := m.real.Overdue(m.ctx, now)
	wantAt, wantErr := m.model.Overdue(m.ctx, now)
	sameError(rt, err, wantErr)
	same(rt, at, wantAt)
}

func (m *machine) putRevocation(rt *rapid.T) {
	r := newRevocation(draw(rt, "id", "rv-1", "rv-2", "rv-é"))
	other := *r
	sameError(rt, m.real.PutRevocation(m.ctx, r), m.model.PutRevocation(m.ctx, &other))
	same(rt, r.UpTo, m.seqs[other.UpTo])
}

func (m *machine) updateRevocation(rt *rapid.T) {
	r := newRevocation(draw(rt, "id", "rv-1", "rv-2", "rv-é"))
	r.Marked, r.Open, r.DoneAt = rapid.Int64Range(0, 3).Draw(rt, "marked"), rapid.Int64Range(0, 3).Draw(rt, "open"), drawTime(rt, "done")
	sameError(rt, m.real.UpdateRevocation(m.ctx, r), m.model.UpdateRevocation(m.ctx, r))
}

func (m *machine) revocations(rt *rapid.T) {
	limit := rapid.IntRange(0, 4).Draw(rt, "limit")
	got, err := m.real.OpenRevocations(m.ctx, limit)
	want, wantErr := m.model.OpenRevocations(m.ctx, limit)
	sameError(rt, err, wantErr)
	for _, r := range want {
		r.UpTo = m.seqs[r.UpTo]
	}
	same(rt, got, want)
}
