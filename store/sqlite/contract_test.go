package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/bailiff-secrets/bailiff/internal/document"
	"github.com/bailiff-secrets/bailiff/internal/seal"
	"github.com/bailiff-secrets/bailiff/rotation"
	"github.com/bailiff-secrets/bailiff/store/sqlite"
	"github.com/bailiff-secrets/bailiff/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestContract(t *testing.T) { storetest.Run(t, open) }

func TestAccounts(t *testing.T) {
	storetest.RunAccounts(t, func(t testing.TB) rotation.Store { return openKept(t) })
}

func TestDocuments(t *testing.T) {
	storetest.RunDocuments(t, func(t testing.TB) document.Store { return openKept(t) })
}

func TestMachine(t *testing.T) { storetest.RunMachine(t, open) }

func TestCrash(t *testing.T) {
	storetest.RunCrash(t, storetest.Crash{
		Open:  func(place string) (storetest.Store, error) { return openIn(place) },
		Check: func(t *testing.T, place string) { wantWhole(t, place) },
	})
}

func BenchmarkStore(b *testing.B) { storetest.Benchmark(b, open) }

// kept is a store with the place where it is kept.
type kept struct {
	*sqlite.DB
	place string
}

// open makes a store for one test.
func open(t testing.TB) storetest.Store { return openKept(t) }

func openKept(t testing.TB) *kept {
	t.Helper()
	place := t.TempDir()
	s, err := openIn(place)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	return s
}

// openIn opens the store in a directory as the server does: the root key from a file, the keyset from the store.
func openIn(place string) (*kept, error) {
	ctx := context.Background()
	root, err := seal.CreateRootKey(filepath.Join(place, "root.key"))
	if errors.Is(err, fs.ErrExist) {
		root, err = seal.LoadRootKey(filepath.Join(place, "root.key"))
	}
	if err != nil {
		return nil, err
	}
	db, err := sqlite.Open(ctx, sqlite.Config{Path: filepath.Join(place, "bailiff.db")})
	if err != nil {
		return nil, err
	}
	if err := useKeyset(ctx, db, root); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &kept{DB: db, place: place}, nil
}

func useKeyset(ctx context.Context, db *sqlite.DB, root *seal.Root) error {
	sealed, keyset, err := seal.NewKeyset(root)
	if err != nil {
		return err
	}
	stored, err := db.PutMetaOnce(ctx, "keyset", sealed)
	if err != nil {
		return err
	}
	if !stored {
		if sealed, _, err = db.Meta(ctx, "keyset"); err != nil {
			return err
		}
		if keyset, err = seal.OpenKeyset(root, sealed); err != nil {
			return err
		}
	}
	db.UseSealer(keyset)
	return nil
}

func (k *kept) path() string { return filepath.Join(k.place, "bailiff.db") }

// KeepsNoClaims says that claims end with the process that has the file open.
func (k *kept) KeepsNoClaims() {}

// Reopen closes the store and opens it anew.
func (k *kept) Reopen(t testing.TB) storetest.Store {
	t.Helper()
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := openIn(k.place)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = again.Close() })
	return again
}

// Raw is the bytes of the file and of those beside it, as they are while it is open. Another process reads them, because
// closing the file in this one would drop SQLite's locks.
func (k *kept) Raw(t testing.TB) []byte {
	t.Helper()
	raw, err := exec.Command("cat", k.path(), k.path()+"-wal", k.path()+"-shm").Output()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// wantWhole looks at a copy of the files, so that the store itself still finds what the crash left.
func wantWhole(t testing.TB, place string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"bailiff.db", "bailiff.db-wal"} {
		b, err := os.ReadFile(filepath.Join(place, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	db, err := sql.Open("sqlite", filepath.Join(dir, "bailiff.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	wantText(t, db, "PRAGMA integrity_check", "ok")
	var tables int
	if err := db.QueryRow("SELECT count(*) FROM sqlite_schema WHERE name = 'revocations'").Scan(&tables); err != nil {
		t.Fatal(err)
	}
	if tables == 1 { // else it was killed before there were any
		wantTallied(t, db)
	}
}

// wantTallied counts the leases one by one.
func wantTallied(t testing.TB, db *sql.DB) {
	t.Helper()
	counted := "SELECT mount, role, target, producer, state, cause, count(*) FROM leases GROUP BY mount, role, target, producer, state, cause"
	tallied := "SELECT * FROM lease_tally WHERE n <> 0"
	wantText(t, db, "SELECT count(*) FROM ("+counted+" EXCEPT "+tallied+")", "0")
	wantText(t, db, "SELECT count(*) FROM ("+tallied+" EXCEPT "+counted+")", "0")
}

// wantText runs a query of one value.
func wantText(t testing.TB, db *sql.DB, query, want string) {
	t.Helper()
	var got string
	if err := db.QueryRow(query).Scan(&got); err != nil || got != want {
		t.Errorf("%s: got %q, %v, want %q", query, got, err, want)
	}
}

// AgeDocuments makes every removal look as if it had been d earlier.
func (k *kept) AgeDocuments(t testing.TB, d time.Duration) {
	t.Helper()
	if err := sqlite.Execute(t.Context(), k.DB, "UPDATE document_graves SET removed_at = removed_at - ?", int64(d)); err != nil {
		t.Fatal(err)
	}
}
