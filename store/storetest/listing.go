package storetest

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/bailiff-secrets/bailiff/broker"
)

func listTests() map[string]func(*testing.T, Store) {
	return map[string]func(*testing.T, Store){
		"each filter selects what it says":         listFilters,
		"a prefix is taken letter by letter":       listPrefixes,
		"pages follow each other without a gap":    listPages,
		"a thousand are given when no limit is":    listDefaultLimit,
		"a lease that moves changes its selection": listAfterMove,
	}
}

// listed is a small estate: the name says what each lease is.
func listed(t testing.TB, s Store) {
	for _, l := range []struct {
		id, mount, role, target, identity string
		state                             broker.State
		cause                             broker.Cause
	}{
		{"1", "db/", "app", "pg", "ci", broker.Pending, ""},
		{"2", "db/", "app", "pg", "ann", broker.Active, ""},
		{"3", "db/", "ops", "pg", "ci", broker.Revoking, broker.Unreachable},
		{"4", "db2/", "app", "pg2", "ci", broker.Stuck, broker.OwnsObjects},
		{"5", "db/", "app", "pg", "ci", broker.Revoked, broker.Gone},
		{"6", "db2/", "app", "pg2", "ann", broker.Revoked, ""},
		{"7", "db2/", "app", "pg2", "ann", broker.Stuck, broker.Unreachable},
	} {
		insert(t, s, newLease(l.mount+"creds/"+l.role+"/"+l.id, func(x *broker.Lease) {
			x.Mount, x.Role, x.Target, x.Identity, x.State, x.Cause = l.mount, l.role, l.target, l.identity, l.state, l.cause
			x.Producer, x.Token, x.ShareKey = "made by "+l.target, "token of "+l.identity, l.mount+l.identity
			x.Claims = map[string]string{"sub": l.identity, "project": "p 1", "empty": ""}
		}))
	}
}

func listFilters(t *testing.T, s Store) {
	listed(t, s)
	revoked := []broker.State{broker.Revoked}
	for _, tt := range []struct {
		title string
		f     broker.Filter
		want  string // the last letters of the ids
	}{
		{"nothing: all that are open", broker.Filter{}, "12347"},
		{"identity", broker.Filter{Identity: "ci"}, "134"},
		{"identity, by its whole name", broker.Filter{Identity: "c"}, ""},
		{"identity, by the case of its letters", broker.Filter{Identity: "CI"}, ""},
		{"target", broker.Filter{Target: "pg"}, "123"},
		{"mount", broker.Filter{Mount: "db/"}, "123"},
		{"mount and role", broker.Filter{Mount: "db/", Role: "app"}, "12"},
		{"role", broker.Filter{Role: "app"}, "1247"},
		{"producer", broker.Filter{Producer: "made by pg2"}, "47"},
		{"producer, by its whole name", broker.Filter{Producer: "made by"}, ""},
		{"token", broker.Filter{Token: "token of ci"}, "134"},
		{"token, by its whole name", broker.Filter{Token: "token of c"}, ""},
		{"token and state", broker.Filter{Token: "token of ci", States: []broker.State{broker.Stuck}}, "4"},
		{"all of a token", broker.Filter{Token: "token of ci", States: allStates()}, "1345"},
		{"revoked of a token", broker.Filter{Token: "token of ann", States: revoked}, "6"},
		{"claim", broker.Filter{Claims: map[string]string{"sub": "ci"}}, "134"},
		{"claim, by its whole value", broker.Filter{Claims: map[string]string{"sub": "c"}}, ""},
		{"claim, by the case of its letters", broker.Filter{Claims: map[string]string{"Sub": "ci"}}, ""},
		{"claim that all have", broker.Filter{Claims: map[string]string{"project": "p 1"}}, "12347"},
		{"claim without a value", broker.Filter{Claims: map[string]string{"empty": ""}}, "12347"},
		{"claim that nobody has", broker.Filter{Claims: map[string]string{"nosuch": ""}}, ""},
		{"two claims", broker.Filter{Claims: map[string]string{"sub": "ann", "project": "p 1"}}, "27"},
		{"two claims that exclude each other", broker.Filter{Claims: map[string]string{"sub": "ann", "project": "p 2"}}, ""},
		{"claim and target", broker.Filter{Claims: map[string]string{"sub": "ci"}, Target: "pg2"}, "4"},
		{"claim and token", broker.Filter{Claims: map[string]string{"sub": "ci"}, Token: "token of ann"}, ""},
		{"all of a claim", broker.Filter{Claims: map[string]string{"sub": "ci"}, States: allStates()}, "1345"},
		{"revoked of a claim", broker.Filter{Claims: map[string]string{"sub": "ann"}, States: revoked}, "6"},
		{"limit with claim", broker.Filter{Claims: map[string]string{"sub": "ci"}, Limit: 2}, "13"},
		{"share key", broker.Filter{ShareKey: "db/ci"}, "13"},
		{"all of a share key", broker.Filter{ShareKey: "db/ci", States: allStates()}, "135"},
		{"share key and token", broker.Filter{ShareKey: "db/ci", Token: "token of ann"}, ""},
		{"prefix", broker.Filter{Prefix: "db/creds/app/"}, "12"},
		{"prefix without its end", broker.Filter{Prefix: "db"}, "12347"},
		{"prefix that is a whole id", broker.Filter{Prefix: "db/creds/app/2"}, "2"},
		{"prefix that is longer than an id", broker.Filter{Prefix: "db/creds/app/22"}, ""},
		{"one state", broker.Filter{States: []broker.State{broker.Stuck}}, "47"},
		{"two states", broker.Filter{States: []broker.State{broker.Stuck, broker.Pending}}, "147"},
		{"revoked", broker.Filter{States: revoked}, "56"},
		{"revoked and an open state", broker.Filter{States: []broker.State{broker.Active, broker.Revoked}}, "256"},
		{"every state", broker.Filter{States: allStates()}, "1234567"},
		{"a state that does not exist", broker.Filter{States: []broker.State{"unheard-of"}}, ""},
		{"revoked of an identity", broker.Filter{Identity: "ann", States: revoked}, "6"},
		{"all of an identity", broker.Filter{Identity: "ann", States: allStates()}, "267"},
		{"revoked of a target", broker.Filter{Target: "pg", States: revoked}, "5"},
		{"all of a target", broker.Filter{Target: "pg", States: allStates()}, "1235"},
		{"revoked of a prefix", broker.Filter{Prefix: "db2/", States: revoked}, "6"},
		{"all of a prefix", broker.Filter{Prefix: "db/", States: allStates()}, "1235"},
		{"all of a mount and role", broker.Filter{Mount: "db2/", Role: "app", States: allStates()}, "467"},
		{"cause", broker.Filter{Cause: broker.Unreachable}, "37"},
		{"cause of one that is over", broker.Filter{Cause: broker.Gone}, ""},
		{"cause of one that is over, asked for", broker.Filter{Cause: broker.Gone, States: revoked}, "5"},
		{"cause and state", broker.Filter{Cause: broker.Unreachable, States: []broker.State{broker.Stuck}}, "7"},
		{"cause and identity", broker.Filter{Cause: broker.Unreachable, Identity: "ann"}, "7"},
		{"all fields", broker.Filter{Prefix: "db/", Identity: "ci", Target: "pg", Mount: "db/", Role: "ops", Cause: broker.Unreachable,
			States: []broker.State{broker.Revoking}, AfterSeq: 1, Limit: 5}, "3"},
		{"fields that exclude each other", broker.Filter{Mount: "db/", Target: "pg2"}, ""},
		{"limit", broker.Filter{Limit: 2}, "12"},
		{"limit with identity", broker.Filter{Identity: "ci", Limit: 2}, "13"},
	} {
		got, err := s.List(t.Context(), tt.f)
		if err != nil {
			t.Errorf("%s: %v", tt.title, err)
			continue
		}
		letters := ""
		for _, l := range got {
			letters += l.ID[len(l.ID)-1:]
			wantLease(t, s, l)
		}
		if letters != tt.want {
			t.Errorf("%s: got %q, want %q", tt.title, letters, tt.want)
		}
	}
}

func listPrefixes(t *testing.T, s Store) {
	names := []string{"a%b", "a_b", "a*b", "a?b", "a[b", "a\\b", "a'b", "aXb", "AXb", "ab", "a", "é", "éa", "e\u0301", "ê", "日本", "日木", "\x7f", "z\U0010ffff", "🔑x"}
	for _, n := range names {
		insert(t, s, newLease(n))
	}
	for _, prefix := range append(slices.Clone(names), "a%", "a_", "a*", "%", "_", "日", "A", "é", "e", "z", "\U0010ffff", "\xff", "\xc3") {
		var want []string
		for _, n := range names {
			if len(n) >= len(prefix) && n[:len(prefix)] == prefix {
				want = append(want, n)
			}
		}
		for _, states := range [][]broker.State{nil, allStates()} {
			got, err := s.List(t.Context(), broker.Filter{Prefix: prefix, States: states})
			if err != nil {
				t.Errorf("prefix %q: %v", prefix, err)
				continue
			}
			wantEqual(t, fmt.Sprintf("prefix %q", prefix), ids(got), want)
		}
	}
}

func listPages(t *testing.T, s Store) {
	var want []string
	for i := range 23 {
		id := fmt.Sprint("p", (i*7)%23)
		insert(t, s, newLease(id, func(l *broker.Lease) {
			if i%4 == 3 {
				l.State = broker.Revoked
			}
		}))
		want = append(want, id)
	}
	for _, page := range []int{1, 2, 7, 22, 23, 100} {
		got, err := everything(t.Context(), s, page)
		if err != nil {
			t.Fatal(err)
		}
		wantEqual(t, fmt.Sprintf("pages of %d", page), ids(got), want)
	}
	open := broker.Filter{Prefix: "p", Limit: 4}
	var seen []string
	for {
		got, err := s.List(t.Context(), open)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) == 0 {
			break
		}
		seen = append(seen, ids(got)...)
		open.AfterSeq = got[len(got)-1].Seq
	}
	var wantOpen []string
	for i, id := range want {
		if i%4 != 3 {
			wantOpen = append(wantOpen, id)
		}
	}
	wantEqual(t, "pages of the open ones with a prefix", seen, wantOpen)
}

func listDefaultLimit(t *testing.T, s Store) {
	const n = 1010
	var wg sync.WaitGroup
	for w := range 20 {
		wg.Go(func() {
			for i := w; i < n; i += 20 {
				if err := s.Insert(t.Context(), newLease(fmt.Sprint("many", i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	got, err := s.List(t.Context(), broker.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1000 {
		t.Errorf("got %d leases, want 1000", len(got))
	}
	rest, err := s.List(t.Context(), broker.Filter{AfterSeq: got[len(got)-1].Seq})
	if err != nil || len(rest) != n-1000 {
		t.Errorf("got %d leases behind them, %v, want %d", len(rest), err, n-1000)
	}
}

func listAfterMove(t *testing.T, s Store) {
	l := insert(t, s, newLease("x"))
	for _, state := range allStates() {
		from := l.State
		l.State, l.Cause = state, broker.Cause("cause-"+string(state))
		if err := s.Move(t.Context(), l, from); err != nil {
			t.Fatal(err)
		}
		for _, other := range allStates() {
			want := 0
			if other == state {
				want = 1
			}
			for title, f := range map[string]broker.Filter{
				"prefix": {Prefix: "x"}, "identity": {Identity: "ci"}, "target": {Target: "pg"}, "mount": {Mount: "database/"},
				"nothing": {}, "cause": {Cause: l.Cause},
			} {
				f.States = []broker.State{other}
				if got, err := s.List(t.Context(), f); err != nil || len(got) != want {
					t.Errorf("a lease that is %s, by %s and state %s: got %d, %v, want %d", state, title, other, len(got), err, want)
				}
			}
		}
	}
}
