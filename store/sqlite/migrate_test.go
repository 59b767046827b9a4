package sqlite_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pressly/goose/v3"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/internal/seal"
	"github.com/bailiff-secrets/bailiff/store/sqlite"
)

// openOld makes a file as the first version left it, runs fill on it, and opens it with this one.
func openOld(t *testing.T, fill func(db *sql.DB, keys seal.Sealer)) *sqlite.DB {
	t.Helper()
	dir := t.TempDir()
	root, err := seal.CreateRootKey(filepath.Join(dir, "root.key"))
	if err != nil {
		t.Fatal(err)
	}
	_, keys, err := seal.NewKeyset(root)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "bailiff.db")
	old, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := old.Exec("PRAGMA application_id = 1113680236; PRAGMA journal_mode = WAL"); err != nil {
		t.Fatal(err)
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, old, os.DirFS("migrations"), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.UpTo(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	fill(old, keys)
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := sqlite.Open(t.Context(), sqlite.Config{Path: path, Sealer: keys})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func TestFileOfTheFirstVersionKeepsItsLeases(t *testing.T) {
	now := time.Unix(1_900_000_000, 0).UTC()
	var want []*broker.Lease
	for i, state := range []broker.State{broker.Pending, broker.Active, broker.Revoking, broker.Stuck, broker.Revoked} {
		l := &broker.Lease{
			Seq: int64(100 + i), ID: "database/creds/app/" + string(state), Mount: "database/", Role: "app", Producer: "postgres", Target: "pg",
			Identity: "ci", AccessID: "p-1", RequestID: "r-1", Principal: "bl-1", State: state, Version: 1,
			ExpiresAt: now.Add(time.Hour), MaxExpiresAt: now.Add(2 * time.Hour), NextAt: now.Add(time.Minute), Data: []byte("data"), Attempt: i,
		}
		if state == broker.Stuck {
			l.Cause, l.Error = broker.Unreachable, "no route"
			l.ExpiresAt = now
		}
		want = append(want, l)
	}
	db := openOld(t, func(old *sql.DB, keys seal.Sealer) {
		for _, l := range want {
			data, err := keys.Seal(l.Data, "leases|"+l.ID+"|data")
			if err != nil {
				t.Fatal(err)
			}
			_, err = old.Exec(`INSERT INTO leases (seq, id, mount, role, producer, target, identity, access_id, request_id, principal, max_expires_at,
intent_deadline, data, open, state, issued_at, expires_at, next_at, attempt, cause, error)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, ?, ?, ?, NULL, ?, ?, ?, ?, ?)`,
				l.Seq, l.ID, l.Mount, l.Role, l.Producer, l.Target, l.Identity, l.AccessID, l.RequestID, l.Principal, l.MaxExpiresAt.UnixNano(),
				data, l.State != broker.Revoked, string(l.State), l.ExpiresAt.UnixNano(), l.NextAt.UnixNano(), l.Attempt, string(l.Cause), l.Error)
			if err != nil {
				t.Fatal(err)
			}
		}
	})
	for _, l := range want {
		got, err := db.Lease(t.Context(), l.ID)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(got, l); d != "" {
			t.Errorf("%s differs (-got +want):\n%s", l.ID, d)
		}
	}
	tally, err := db.Tally(t.Context())
	if err != nil || len(tally) != 4 {
		t.Errorf("got the tally %v, %v, want 4 lines", tally, err)
	}
	if at, err := db.Overdue(t.Context(), now.Add(time.Second)); err != nil || !at.Equal(now) {
		t.Errorf("got overdue since %s, %v, want the stuck one's end at %s", at, err, now)
	}
	stuck := want[3]
	stuck.State = broker.Revoked
	if err := db.Move(t.Context(), stuck, broker.Stuck); err != nil {
		t.Fatal(err)
	}
	if n, err := db.Open(t.Context(), broker.Selector{Mount: "database/"}, 0); err != nil || n != 3 {
		t.Errorf("got %d open, %v, want 3", n, err)
	}
	l := lease("new")
	if err := db.Insert(t.Context(), l); err != nil || l.Seq <= 104 {
		t.Errorf("a new lease: %v, seq %d", err, l.Seq)
	}
}

func TestBigFileOfTheFirstVersionIsBroughtUp(t *testing.T) {
	const n = 50_000
	db := openOld(t, func(old *sql.DB, _ seal.Sealer) {
		_, err := old.ExecContext(context.Background(), fmt.Sprintf(`WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM i WHERE n < %d)
INSERT INTO leases (seq, id, mount, role, producer, target, identity, access_id, request_id, principal, open, state, next_at, attempt, cause, error)
SELECT n, 'm/creds/r/' || n, 'm/', 'r' || (n %% 7), 'p', 't', 'i', '', '', '', n %% 2, CASE WHEN n %% 2 THEN 'active' ELSE 'revoked' END, n, 0, '', '' FROM i`, n))
		if err != nil {
			t.Fatal(err)
		}
	})
	for _, f := range []broker.Filter{{Prefix: "m/creds/"}, {Mount: "m/"}, {Prefix: "m/creds/r/1", Mount: "m/"}} {
		f.Limit = 700
		last, seen := int64(0), 0
		for {
			page, err := db.List(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			for _, l := range page {
				if l.Seq <= last || l.State != broker.Active {
					t.Fatalf("%+v: seq %d, %s, follows %d", f, l.Seq, l.State, last)
				}
				last = l.Seq
			}
			seen += len(page)
			f.AfterSeq = last
		}
		want := n / 2
		if f.Prefix == "m/creds/r/1" {
			want = 5556 // 1, 11 … 19, 101 … 199 and so on, the odd ones
		}
		if seen != want {
			t.Errorf("%+v: got %d leases, want %d", f, seen, want)
		}
	}
	for _, sel := range []broker.Selector{{Mount: "m/"}, {Prefix: "m/creds/r/"}, {Identity: "i"}} {
		const want = n / 2
		if got, err := db.Open(t.Context(), sel, 0); err != nil || got != want {
			t.Errorf("%+v: got %d open, %v, want %d", sel, got, err, want)
		}
	}
}
