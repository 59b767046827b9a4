package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/internal/testenv"
	"github.com/bailiff-secrets/bailiff/store/postgres"
)

func insert(t testing.TB, s broker.Store, id string, state broker.State) *broker.Lease {
	t.Helper()
	l := lease(id)
	l.State = state
	if err := s.Insert(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	return l
}

func TestNodesSeeEachOther(t *testing.T) {
	a := openKept(t)
	b := a.another(t)
	l := insert(t, a, "x", broker.Active)
	got, err := b.Lease(t.Context(), "x")
	if err != nil || string(got.Data) != string(l.Data) || got.Seq != l.Seq {
		t.Errorf("got %+v, %v, want the lease of the other node", got, err)
	}
	got.State = broker.Revoking
	if err := b.Move(t.Context(), got, broker.Active); err != nil {
		t.Fatal(err)
	}
	l.ExpiresAt = time.Now()
	if err := a.Move(t.Context(), l, broker.Active, broker.Revoking); !errors.Is(err, broker.ErrStale) {
		t.Errorf("a move from what was read before: got %v, want ErrStale", err)
	}
	before, err := a.Changed(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Apply(t.Context(), []object.Change{{Record: object.Record{Kind: object.KindRole, Name: "r"}}}); err != nil {
		t.Fatal(err)
	}
	if err := b.Apply(t.Context(), []object.Change{{Record: object.Record{Kind: object.KindRole, Name: "r"}}}); !errors.Is(err, object.ErrConflict) {
		t.Fatal(err)
	}
	if after, err := a.Changed(t.Context()); err != nil || after != before+1 {
		t.Errorf("the count of changes went from %d to %d, %v, want one more", before, after, err)
	}
}

func TestNodesClaimApart(t *testing.T) {
	a := openKept(t)
	nodes := []*kept{a, a.another(t), a.another(t)}
	const n = 300
	var wg sync.WaitGroup
	for w := range 10 {
		wg.Go(func() {
			for i := w; i < n; i += 10 {
				insert(t, nodes[i%3], fmt.Sprint("x", i), broker.Revoking)
			}
		})
	}
	wg.Wait()
	var mu sync.Mutex
	times, ended := map[string]int{}, 0
	for i, node := range nodes {
		for range 2 {
			wg.Go(func() {
				for range 100 * n {
					got, err := node.Claim(t.Context(), fmt.Sprint("n", i), time.Now(), time.Now().Add(time.Hour), 9)
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					done := ended == n
					for _, l := range got {
						times[l.ID]++
					}
					mu.Unlock()
					if done {
						return
					}
					for _, l := range got {
						l.State = broker.Revoked
						if err := node.Move(t.Context(), l, broker.Revoking); err != nil {
							t.Error(err)
						}
						mu.Lock()
						ended++
						mu.Unlock()
					}
				}
			})
		}
	}
	wg.Wait()
	for id, n := range times {
		if n != 1 {
			t.Errorf("%s was claimed %d times, want 1", id, n)
		}
	}
	wantTallied(t, a.url)
}

// TestNodesWriteTogether has nodes move the same leases in any order: none is lost, and nobody is told of a deadlock.
func TestNodesWriteTogether(t *testing.T) {
	a := openKept(t)
	nodes := []*kept{a, a.another(t)}
	const n, rounds = 20, 15
	for i := range n {
		insert(t, a, fmt.Sprint("x", i), broker.Active)
	}
	var wg sync.WaitGroup
	moved := make([]int64, n)
	var mu sync.Mutex
	for w := range 16 {
		wg.Go(func() {
			for r := range rounds {
				i := (w*7 + r*(w%3+1)) % n
				l, err := nodes[w%2].Lease(t.Context(), fmt.Sprint("x", i))
				if err == nil {
					l.Attempt++
					err = nodes[w%2].Move(t.Context(), l, broker.Active)
				}
				switch {
				case err == nil:
					mu.Lock()
					moved[i]++
					mu.Unlock()
				case !errors.Is(err, broker.ErrStale):
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for i, want := range moved {
		l, err := a.Lease(t.Context(), fmt.Sprint("x", i))
		if err != nil || l.Version != want+1 || int64(l.Attempt) != want {
			t.Errorf("x%d: got version %d and attempt %d, %v, want %d moves", i, l.Version, l.Attempt, err, want)
		}
	}
}

func TestNodesOpenAnEmptyDatabaseTogether(t *testing.T) {
	url := emptyDatabase(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			db, err := postgres.Open(t.Context(), postgres.Config{URL: secret.New(url)})
			if err != nil {
				t.Error(err)
				return
			}
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// TestRevocationOfManyIsForAllThatWereInserted puts revocations while leases are inserted on two nodes whose clocks differ:
// each lease is there with a Seq up to UpTo when a revocation returns, or gets a higher one.
func TestRevocationOfManyIsForAllThatWereInserted(t *testing.T) {
	a := openKept(t)
	b := a.another(t)
	postgres.SetOffset(b.DB, -3*time.Second)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i, node := range []*kept{a, a, b, b} {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
					if err := node.Insert(t.Context(), lease(fmt.Sprintf("w%d-%d", i, n))); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	seen := map[string]bool{}
	last := int64(0)
	for i := range 10 {
		r := &broker.Revocation{ID: fmt.Sprint("rv-", i), Selector: broker.Selector{Mount: "database/"}}
		if err := a.PutRevocation(t.Context(), r); err != nil {
			t.Error(err)
			break
		}
		all, err := a.List(t.Context(), broker.Filter{AfterSeq: last, Limit: 1_000_000})
		if err != nil {
			t.Error(err)
			break
		}
		for _, l := range all {
			if l.Seq <= r.UpTo {
				seen[l.ID] = true
			}
		}
		last = r.UpTo
	}
	close(stop)
	wg.Wait()
	all, err := a.List(t.Context(), broker.Filter{Limit: 1_000_000})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range all {
		if l.Seq <= last && !seen[l.ID] {
			t.Errorf("%s came with seq %d after a revocation that is for all up to %d", l.ID, l.Seq, last)
		}
	}
	if len(seen) == 0 {
		t.Error("no lease came before a revocation, so that nothing was tested")
	}
}

func TestClocksThatAreApart(t *testing.T) {
	a := openKept(t)
	if d, err := a.Skew(t.Context()); err != nil || d.Abs() > time.Second {
		t.Errorf("got a skew of %s, %v, want none on one machine", d, err)
	}
	l := insert(t, a, "x", broker.Active)
	for _, d := range []time.Duration{-time.Minute, time.Minute} {
		postgres.SetOffset(a.DB, d)
		if got, err := a.Skew(t.Context()); err != nil || (got+d).Abs() > time.Second {
			t.Errorf("got a skew of %s, %v, want about %s", got, err, -d)
		}
		if err := a.Insert(t.Context(), lease("y")); !errors.Is(err, postgres.ErrSkew) {
			t.Errorf("Insert with a clock that is %s off: got %v, want ErrSkew", d, err)
		}
		if err := a.Move(t.Context(), l, broker.Active); err != nil { // what ends credentials must go on
			t.Errorf("Move with a clock that is %s off: %v", d, err)
		}
	}
	postgres.SetOffset(a.DB, 2*time.Second)
	if err := a.Insert(t.Context(), lease("y")); err != nil {
		t.Errorf("Insert with a clock that is 2s off: %v", err)
	}
}

func TestLostAnswerIsUnknown(t *testing.T) {
	a := openKept(t)
	p, url := through(t, a.url)
	b, err := openAt(t.Context(), url, a.key)
	if err != nil {
		t.Fatal(err)
	}
	b.keep = true
	t.Cleanup(func() { _ = b.Close() })
	l := insert(t, b, "x", broker.Pending)
	if err := b.Move(t.Context(), l, broker.Pending); err != nil { // the connection knows the statement from now on
		t.Fatal(err)
	}

	p.set(true, false)
	l.State = broker.Active
	if err := b.Move(t.Context(), l, broker.Pending); !errors.Is(err, postgres.ErrUnknown) {
		t.Fatalf("got %v, want ErrUnknown", err)
	}
	if l.Version != 2 {
		t.Errorf("the version is %d after a move that nobody knows of, want 2", l.Version)
	}
	p.set(false, false)
	got, err := b.Lease(t.Context(), "x") // by itself on a new connection
	if err != nil {
		t.Fatal(err)
	}
	if got.State != broker.Active || got.Version != 3 {
		t.Errorf("the lease is %s in version %d, want it moved once: the answer alone was lost", got.State, got.Version)
	}
	got.State = broker.Revoking
	if err := b.Move(t.Context(), got, broker.Active); err != nil {
		t.Errorf("from what stands: %v", err)
	}

	p.set(true, false)
	if err := b.Insert(t.Context(), lease("y")); !errors.Is(err, postgres.ErrUnknown) {
		t.Errorf("Insert: got %v, want ErrUnknown", err)
	}
	if err := b.Apply(t.Context(), []object.Change{{Record: object.Record{Kind: object.KindRole, Name: "r"}}}); err == nil {
		t.Error("Apply: got no error")
	}
	p.set(false, true)
	p.cut()
	for name, call := range map[string]func() error{
		"Insert": func() error { return b.Insert(t.Context(), lease("z")) },
		"Lease":  func() error { _, err := b.Lease(t.Context(), "x"); return err },
		"Apply": func() error {
			return b.Apply(t.Context(), []object.Change{{Record: object.Record{Kind: object.KindRole, Name: "r"}}})
		},
	} {
		if err := call(); !errors.Is(err, postgres.ErrUnreachable) {
			t.Errorf("%s without a connection: got %v, want ErrUnreachable", name, err)
		}
	}
	p.set(false, false)
	insert(t, b, "after", broker.Active)
	if _, err := b.Lease(t.Context(), "z"); !errors.Is(err, broker.ErrNoLease) {
		t.Errorf("what could not be sent: got %v, want ErrNoLease", err)
	}
}

func TestDatabaseThatRestarts(t *testing.T) {
	server := testenv.NewPostgres(t)
	k, err := openAt(t.Context(), server.URL(server.AdminUser, server.AdminPassword, "postgres"), rootKey(t))
	if err != nil {
		t.Fatal(err)
	}
	k.keep = true
	t.Cleanup(func() { _ = k.Close() })
	insert(t, k, "before", broker.Active)
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := k.Insert(t.Context(), lease("during")); err == nil {
		t.Error("a lease was inserted into a database that is down")
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	insert(t, k, "after", broker.Active)
	if _, err := k.Lease(t.Context(), "before"); err != nil {
		t.Errorf("what was there before: %v", err)
	}
}

func TestOneBadOperationIsAlone(t *testing.T) {
	k := openKept(t)
	l := insert(t, k, "moved", broker.Active)
	l.Error = "a target's \x00 words \xff"
	if err := k.Move(t.Context(), l, broker.Active); err != nil {
		t.Errorf("words that no text column can hold: %v", err)
	}
	if got, err := k.Lease(t.Context(), "moved"); err != nil || got.Error != "a target's \uFFFD words \uFFFD" {
		t.Errorf("got %q, %v", got.Error, err)
	}
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			id, bad := fmt.Sprint("x", i), i%50 == 7
			if bad {
				id += "\x00"
			}
			if err := k.Insert(t.Context(), lease(id)); (err != nil) != bad {
				t.Errorf("%q: got %v", id, err)
			}
		})
	}
	wg.Wait()
	if found, err := k.List(t.Context(), broker.Filter{Prefix: "x"}); err != nil || len(found) != 196 {
		t.Errorf("got %d leases, %v, want 196", len(found), err)
	}
}

func TestClose(t *testing.T) {
	k := openKept(t)
	insert(t, k, "x", broker.Active)
	for range 2 {
		if err := k.DB.Close(); err != nil {
			t.Fatal(err)
		}
	}
	ctx := t.Context()
	for name, call := range map[string]func() error{
		"Insert":  func() error { return k.Insert(ctx, lease("y")) },
		"Move":    func() error { return k.Move(ctx, lease("x"), broker.Active) },
		"Lease":   func() error { _, err := k.Lease(ctx, "x"); return err },
		"Claim":   func() error { _, err := k.Claim(ctx, "a", time.Now(), time.Now(), 1); return err },
		"Apply":   func() error { return k.Apply(ctx, []object.Change{{Record: object.Record{Kind: object.KindRole}}}) },
		"Changed": func() error { _, err := k.Changed(ctx); return err },
		"Skew":    func() error { _, err := k.Skew(ctx); return err },
		"Meta":    func() error { _, _, err := k.Meta(ctx, "k"); return err },
	} {
		if err := call(); !errors.Is(err, postgres.ErrClosed) {
			t.Errorf("%s: got %v, want ErrClosed", name, err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	server := testenv.Postgres(t)
	for title, tt := range map[string]struct {
		url  string
		want string
	}{
		"no URL":               {"", "form"},
		"a URL of another":     {"mysql://a@b/c", "form"},
		"no user":              {"postgres://127.0.0.1/x", "no user"},
		"no database":          {"postgres://a:hush@127.0.0.1", "no database"},
		"what could be a hook": {"postgres://a:hush@127.0.0.1/x?options=-c%20fsync%3Doff", "unknown parameter"},
		"a broken URL":         {"postgres://a:hush@127.0.0.1:x/y", "not a URL"},
		"nobody there":         {"postgres://a:hush@127.0.0.1:1/x?sslmode=disable", "can't be reached"},
		"a wrong password":     {server.URL(server.AdminUser, "hush", "postgres"), "can't be reached"},
	} {
		db, err := postgres.Open(t.Context(), postgres.Config{URL: secret.New(tt.url)})
		if err == nil {
			_ = db.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: got %v, want an error that says %q and no password", title, err, tt.want)
		}
	}
	newer := emptyDatabase(t)
	db, err := postgres.Open(t.Context(), postgres.Config{URL: secret.New(newer)})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	execute(t, newer, "INSERT INTO bailiff.goose_db_version (version_id, is_applied) VALUES (99999, true)")
	if _, err := postgres.Open(t.Context(), postgres.Config{URL: secret.New(newer)}); !errors.Is(err, postgres.ErrNewer) {
		t.Errorf("got %v, want ErrNewer", err)
	}
}

func TestEnvironmentIsNotAsked(t *testing.T) {
	k := openKept(t)
	t.Setenv("PGPASSWORD", "wrong")
	t.Setenv("PGUSER", "nobody")
	t.Setenv("PGHOST", "192.0.2.1")
	t.Setenv("PGOPTIONS", "-c statement_timeout=1")
	k.another(t)
}

func TestPlansUseIndexes(t *testing.T) {
	k := openKept(t)
	if err := postgres.Execute(t.Context(), k.DB, `INSERT INTO leases (seq, id, mount, role, producer, target, identity, access_id, request_id,
principal, token, outlives, share_key, open, state, next_at, attempt, cause, error, holders, version)
SELECT n, 'm/creds/r' || n % 50 || '/' || n, 'm/', 'r' || n % 50, 'p', 't' || n % 9, 'i' || n % 500, '', '', '', 't' || n, true, '', true,
'active', n, 0, CASE n % 100 WHEN 0 THEN 'unreachable' ELSE '' END, '', 1, 1 FROM generate_series(1, 20000) AS n`); err != nil {
		t.Fatal(err)
	}
	if err := postgres.Execute(t.Context(), k.DB, "ANALYZE leases"); err != nil {
		t.Fatal(err)
	}
	whole := func(what, plan string, err error) {
		t.Helper()
		if err != nil || strings.Contains(plan, "Seq Scan on leases") || strings.Contains(plan, "Hash Join") || strings.Contains(plan, "Merge Join") {
			t.Errorf("%s: %v, the plan reads the whole table:\n%s", what, err, plan)
		}
	}
	for query, args := range postgres.Queries() {
		plan, err := postgres.Plan(t.Context(), k.DB, query, args...)
		whole(query, plan, err)
	}
	for _, f := range []broker.Filter{
		{}, {Prefix: "m/creds/r1/"}, {Identity: "i7"}, {Target: "t1"}, {Mount: "m/", Role: "r1"}, {Token: "t7"}, {Cause: broker.Unreachable},
		{States: []broker.State{broker.Active, broker.Revoked}},
	} {
		query, args := postgres.ListQuery(f)
		plan, err := postgres.Plan(t.Context(), k.DB, query, args...)
		whole(fmt.Sprintf("%+v", f), plan, err)
	}
	add, move, err := postgres.WritePlans(t.Context(), k.DB, lease("x"))
	whole("insert", add, err)
	whole("move", move, err)
	if !strings.Contains(move, "leases_id") {
		t.Errorf("a move finds its lease by another index than that of the id:\n%s", move)
	}
}

func TestEndedContextClaimsNothing(t *testing.T) {
	k := openKept(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := k.Insert(ctx, lease("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if _, err := k.Claim(ctx, "a", time.Now(), time.Now(), 1); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}
