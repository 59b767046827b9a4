package sqlite_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/seal"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/store/sqlite"
)

func number(t *testing.T, s string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestDueIsFoundByItsIndex(t *testing.T) {
	k := openKept(t)
	plan, err := sqlite.Plan(t.Context(), k.DB, sqlite.DueQuery, 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	if want := "SEARCH leases USING INDEX leases_due (next_at<?)\n"; plan != want && plan != strings.Replace(want, "next_at<?", "next_at>? AND next_at<?", 1) {
		t.Errorf("got the plan %q, want %q", plan, want)
	}
}

func TestExpiringIsFoundByItsIndex(t *testing.T) {
	k := openKept(t)
	plan, err := sqlite.Plan(t.Context(), k.DB, sqlite.ExpiringQuery, 0, 0, 10, 10)
	if want := "SEARCH leases USING INDEX leases_due (next_at>? AND next_at<?)\n"; err != nil || plan != want {
		t.Errorf("got the plan %q, %v, want %q", plan, err, want)
	}
}

func TestListsAreFoundByTheirIndexes(t *testing.T) {
	k := openKept(t)
	revoked := []broker.State{broker.Revoked}
	all := []broker.State{broker.Active, broker.Revoked}
	for _, tt := range []struct {
		f      broker.Filter
		search string
		sorted bool // needs no sorting
	}{
		{broker.Filter{}, "leases_open (open=? AND rowid>?)", true},
		{broker.Filter{Role: "r"}, "leases_open (open=? AND rowid>?)", true},
		{broker.Filter{States: all}, "INTEGER PRIMARY KEY (rowid>?)", true},
		{broker.Filter{Prefix: "database/"}, "leases_open_id (id>? AND id<?)", false},
		{broker.Filter{Prefix: "database/", Target: "pg", Mount: "database/"}, "leases_open_id (id>? AND id<?)", false},
		{broker.Filter{Prefix: "database/", States: all}, "leases_id (id>? AND id<?)", false},
		{broker.Filter{Prefix: "database/", States: revoked}, "leases_id (id>? AND id<?)", false},
		{broker.Filter{Prefix: "\xff"}, "leases_open_id (id>?)", false},
		{broker.Filter{Identity: "ci"}, "leases_identity (identity=? AND open=? AND rowid>?)", true},
		{broker.Filter{Identity: "ci", States: revoked}, "leases_identity (identity=? AND open=? AND rowid>?)", true},
		{broker.Filter{Identity: "ci", States: all}, "leases_identity (identity=?)", false},
		{broker.Filter{Identity: "ci", Prefix: "database/", Target: "pg", Mount: "m"}, "leases_identity (identity=? AND open=? AND rowid>?)", true},
		{broker.Filter{Target: "pg"}, "leases_target (target=? AND open=? AND rowid>?)", true},
		{broker.Filter{Mount: "database/", Role: "app"}, "leases_role (mount=? AND role=? AND open=? AND rowid>?)", true},
		{broker.Filter{Mount: "database/"}, "leases_role (mount=?)", false},
		{broker.Filter{Cause: broker.Unreachable, Identity: "ci"}, "leases_cause (cause=? AND rowid>?)", true},
	} {
		query, args := sqlite.ListQuery(tt.f)
		plan, err := sqlite.Plan(t.Context(), k.DB, query, args...)
		if err != nil {
			t.Errorf("%+v: %v", tt.f, err)
			continue
		}
		if !strings.Contains(plan, tt.search+"\n") {
			t.Errorf("%+v: got the plan %q, want %q in it", tt.f, plan, tt.search)
		}
		if sorts := strings.Contains(plan, "TEMP B-TREE"); sorts == tt.sorted {
			t.Errorf("%+v: sorts is %v, want %v: %q", tt.f, sorts, !tt.sorted, plan)
		}
	}
}

func TestCounts(t *testing.T) {
	k := openKept(t)
	wantCounts := func(overdue time.Time, want map[broker.State]int) {
		t.Helper()
		for _, s := range []broker.State{broker.Pooled, broker.Pending, broker.Active, broker.Revoking, broker.Stuck, broker.Revoked} {
			want[s] += 0
		}
		got, at, err := k.Counts(t.Context())
		if err != nil || !maps.Equal(got, want) || !at.Equal(overdue) {
			t.Errorf("got %v, overdue since %s, %v, want %v, %s", got, at, err, want, overdue)
		}
	}
	wantCounts(time.Time{}, map[broker.State]int{})
	now := time.Now()
	add := func(id string, state broker.State, next time.Time) *broker.Lease {
		t.Helper()
		l := &broker.Lease{ID: id, State: state, NextAt: next}
		if err := k.Insert(t.Context(), l); err != nil {
			t.Fatal(err)
		}
		return l
	}
	add("a", broker.Active, now.Add(time.Hour))
	add("b", broker.Pending, time.Time{})
	wantCounts(time.Time{}, map[broker.State]int{broker.Active: 1, broker.Pending: 1})
	late := add("c", broker.Active, now.Add(-time.Minute))
	later := add("d", broker.Revoking, now.Add(-time.Second))
	if err := k.Insert(t.Context(), lease("d")); !errors.Is(err, sqlite.ErrExists) {
		t.Errorf("got %v, want ErrExists", err)
	}
	wantCounts(late.NextAt, map[broker.State]int{broker.Active: 2, broker.Pending: 1, broker.Revoking: 1})
	late.State = broker.Revoked
	if err := k.Move(t.Context(), late, broker.Active); err != nil {
		t.Fatal(err)
	}
	later.Attempt++ // stays revoking
	if err := k.Move(t.Context(), later, broker.Revoking); err != nil {
		t.Fatal(err)
	}
	wantCounts(later.NextAt, map[broker.State]int{broker.Active: 1, broker.Pending: 1, broker.Revoking: 1, broker.Revoked: 1})
}

func TestTimesThatCannotBeKept(t *testing.T) {
	k := openKept(t)
	for _, at := range []time.Time{time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(1600, 1, 1, 0, 0, 0, 0, time.UTC)} {
		l := lease("x")
		l.NextAt = at
		if err := k.Insert(t.Context(), l); err == nil || !strings.Contains(err.Error(), "out of range") {
			t.Errorf("%s: got %v, want an error that says out of range", at, err)
		}
	}
	l := lease("x")
	l.NextAt = time.Unix(0, 1)
	if err := k.Insert(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	if due, err := k.Due(t.Context(), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), 1); err != nil || len(due) != 1 {
		t.Errorf("due in the year 9999: got %d, %v, want 1", len(due), err)
	}
}

func TestNothingSealedIsTouchedWithoutSealer(t *testing.T) {
	db, _ := openFaulty(t)
	ctx := t.Context()
	withData := lease("with data")
	withData.Data = []byte("x")
	withSecret := object.Record{Kind: object.KindTarget, Name: "t", Secrets: map[string]secret.Value{"token": secret.New("x")}}
	if err := db.Insert(ctx, withData); !errors.Is(err, sqlite.ErrNoSealer) {
		t.Errorf("Insert: got %v, want ErrNoSealer", err)
	}
	if err := db.Apply(ctx, []object.Change{{Record: withSecret}}); !errors.Is(err, sqlite.ErrNoSealer) {
		t.Errorf("Apply: got %v, want ErrNoSealer", err)
	}
	insert(t, db, "without data")
	wantThere(t, db, "with data", false)

	root, err := seal.CreateRootKey(filepath.Join(t.TempDir(), "root.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := useKeyset(ctx, db, root); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Insert(ctx, withData), db.Apply(ctx, []object.Change{{Record: withSecret}})); err != nil {
		t.Error(err)
	}
}

// openLogged opens a store with a sealer and with a log to look into.
func openLogged(t *testing.T) (*sqlite.DB, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	dir := t.TempDir()
	db := openConfig(t, sqlite.Config{Path: filepath.Join(dir, "bailiff.db"), Logger: slog.New(slog.NewTextHandler(&log, nil))})
	root, err := seal.CreateRootKey(filepath.Join(dir, "root.key"))
	if err == nil {
		err = useKeyset(t.Context(), db, root)
	}
	if err != nil {
		t.Fatal(err)
	}
	return db, &log
}

func TestSealedValuesCannotBeSwapped(t *testing.T) {
	db, log := openLogged(t)
	ctx := t.Context()
	for _, id := range []string{"a", "b", "c"} {
		l := lease(id)
		l.Data, l.NextAt = []byte("data of "+id), time.Unix(1, 0)
		o := object.Record{Kind: object.KindTarget, Name: id, Secrets: map[string]secret.Value{"token": secret.New("token of " + id)}}
		if err := errors.Join(db.Insert(ctx, l), db.Apply(ctx, []object.Change{{Record: o}})); err != nil {
			t.Fatal(err)
		}
	}
	for _, swap := range []string{
		"UPDATE leases SET data = (SELECT data FROM leases WHERE id = 'b') WHERE id = 'a'",
		"UPDATE objects SET secrets = (SELECT secrets FROM objects WHERE name = 'b') WHERE name = 'a'",
	} {
		if err := sqlite.Execute(ctx, db, swap); err != nil {
			t.Fatal(err)
		}
	}
	due, err := db.Due(ctx, time.Unix(2, 0), 10)
	if err != nil || len(due) != 3 {
		t.Fatalf("got %d due leases, %v, want 3: one that is damaged must not hide the others", len(due), err)
	}
	for i, want := range []string{"", "data of b", "data of c"} {
		if got := string(due[i].Data); got != want {
			t.Errorf("the data of %s: got %q, want %q", due[i].ID, got, want)
		}
	}
	if !strings.Contains(log.String(), "lease_id=a") || strings.Contains(log.String(), "lease_id=b") {
		t.Errorf("the log does not name the damaged lease alone: %s", log)
	}
	if o, err := db.Object(ctx, object.KindTarget, "a"); !errors.Is(err, seal.ErrOpen) {
		t.Errorf("the object: got %v, %v, want ErrOpen", o, err)
	}
	if _, err := db.Objects(ctx); !errors.Is(err, seal.ErrOpen) {
		t.Errorf("all objects: got %v, want ErrOpen", err)
	}
}

func TestMeta(t *testing.T) {
	db, _ := openFaulty(t)
	ctx := t.Context()
	want := func(key, value string, there bool) {
		t.Helper()
		got, found, err := db.Meta(ctx, key)
		if err != nil || string(got) != value || found != there {
			t.Errorf("%s: got %q, %v, %v, want %q, %v", key, got, found, err, value, there)
		}
	}
	did := func(what string, want bool) func(bool, error) {
		return func(got bool, err error) {
			t.Helper()
			if err != nil || got != want {
				t.Errorf("%s: got %v, %v, want %v", what, got, err, want)
			}
		}
	}
	want("keyset", "", false)
	did("the first put", true)(db.PutMetaOnce(ctx, "keyset", []byte("one\x00\xff")))
	did("the second put", false)(db.PutMetaOnce(ctx, "keyset", []byte("two")))
	want("keyset", "one\x00\xff", true)
	did("a swap of another value", false)(db.SwapMeta(ctx, "keyset", []byte("one"), []byte("two")))
	did("a swap of nothing", false)(db.SwapMeta(ctx, "none", nil, []byte("two")))
	want("keyset", "one\x00\xff", true)
	did("a swap", true)(db.SwapMeta(ctx, "keyset", []byte("one\x00\xff"), []byte("two")))
	want("keyset", "two", true)
	did("a put of nothing", true)(db.PutMetaOnce(ctx, "bootstrapped", nil))
	want("bootstrapped", "", true)

	var won atomic.Int32
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			if stored, err := db.PutMetaOnce(ctx, "race", fmt.Append(nil, i)); err != nil {
				t.Error(err)
			} else if stored {
				won.Add(1)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d of 16 were told that they were first, want 1", won.Load())
	}
}

func TestStoreWorksInABubble(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		db, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(dir, "bailiff.db")})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		l := lease("x")
		l.NextAt = time.Now().Add(time.Hour)
		if err := db.Insert(t.Context(), l); err != nil {
			t.Fatal(err)
		}
		for _, want := range []int{0, 1} {
			if due, err := db.Due(t.Context(), time.Now(), 9); err != nil || len(due) != want {
				t.Errorf("got %d due, %v, want %d", len(due), err, want)
			}
			time.Sleep(time.Hour) // of the bubble's clock
		}
	})
}
