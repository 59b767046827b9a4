package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/internal/document"
	"github.com/bailiff-secrets/bailiff/internal/seal"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/internal/testenv"
	"github.com/bailiff-secrets/bailiff/rotation"
	"github.com/bailiff-secrets/bailiff/store/postgres"
	"github.com/bailiff-secrets/bailiff/store/storetest"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func TestContract(t *testing.T) { storetest.Run(t, open) }

func TestAccounts(t *testing.T) {
	storetest.RunAccounts(t, func(t testing.TB) rotation.Store { return openKept(t) })
}

func TestDocuments(t *testing.T) {
	storetest.RunDocuments(t, func(t testing.TB) document.Store { return openKept(t) })
}

func TestMachine(t *testing.T) { storetest.RunMachine(t, open) }

func BenchmarkStore(b *testing.B) { storetest.Benchmark(b, open) }

// crashURL is the variable of the environment that tells the process that will be killed which database to use.
const crashURL = "BAILIFF_POSTGRES_TEST_URL"

func TestCrash(t *testing.T) {
	if os.Getenv(crashURL) == "" {
		t.Setenv(crashURL, emptyDatabase(t))
	}
	storetest.RunCrash(t, storetest.Crash{
		Open: func(place string) (storetest.Store, error) {
			s, err := openAt(context.Background(), os.Getenv(crashURL), filepath.Join(place, "root.key"))
			if err != nil {
				return nil, err
			}
			s.keep = true
			return s, nil
		},
		Check: func(t *testing.T, _ string) { wantTallied(t, os.Getenv(crashURL)) },
	})
}

// kept is a store with the database that it lies in.
type kept struct {
	*postgres.DB
	url, key string
	once     sync.Once
	keep     bool // the database is another's too
}

// Close closes the store and lets others have the database.
func (k *kept) Close() (err error) {
	k.once.Do(func() {
		err = k.DB.Close()
		if !k.keep {
			err = errors.Join(err, release(k.url))
		}
	})
	return err
}

// open makes a store for one test.
func open(t testing.TB) storetest.Store { return openKept(t) }

func openKept(t testing.TB) *kept {
	t.Helper()
	s, err := openAt(t.Context(), newDatabase(t), rootKey(t))
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

// another opens the same store once more, as another node does.
func (k *kept) another(t testing.TB) *kept {
	t.Helper()
	s, err := openAt(t.Context(), k.url, k.key)
	if err != nil {
		t.Fatal(err)
	}
	s.keep = true
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// rootKey makes the path of a key file for one test.
func rootKey(t testing.TB) string { return filepath.Join(t.TempDir(), "root.key") }

// openAt opens a store as the server does: the root key from a file, the keyset from the store.
func openAt(ctx context.Context, url, key string) (*kept, error) {
	root, err := seal.CreateRootKey(key)
	if errors.Is(err, fs.ErrExist) {
		root, err = seal.LoadRootKey(key)
	}
	if err != nil {
		return nil, err
	}
	db, err := postgres.Open(ctx, postgres.Config{URL: secret.New(url)})
	if err != nil {
		return nil, err
	}
	if err := useKeyset(ctx, db, root); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &kept{DB: db, url: url, key: key}, nil
}

func useKeyset(ctx context.Context, db *postgres.DB, root *seal.Root) error {
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

// Reopen closes the store and opens it anew.
func (k *kept) Reopen(t testing.TB) storetest.Store {
	t.Helper()
	if err := k.DB.Close(); err != nil {
		t.Fatal(err)
	}
	again := k.another(t)
	again.keep = false
	k.once.Do(func() {}) // it is the other's now
	return again
}

// Raw is every row of every table, as text.
func (k *kept) Raw(t testing.TB) []byte {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), k.url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var raw bytes.Buffer
	for _, table := range []string{"meta", "objects", "access_keys", "leases", "lease_tally", "revocations", "accounts", "documents", "document_keys", "changes"} {
		if _, err := conn.PgConn().CopyTo(t.Context(), &raw, "COPY bailiff."+table+" TO STDOUT"); err != nil {
			t.Fatal(err)
		}
	}
	return raw.Bytes()
}

// databases counts the databases of this process.
var databases atomic.Int64

// free are databases with empty tables that no test uses now.
var free struct {
	mu   sync.Mutex // guards urls
	urls []string
}

// newDatabase gives a test a database of its own. It is dropped with the server.
func newDatabase(t testing.TB) string {
	t.Helper()
	free.mu.Lock()
	defer free.mu.Unlock()
	if n := len(free.urls); n > 0 {
		url := free.urls[n-1]
		free.urls = free.urls[:n-1]
		return url
	}
	return emptyDatabase(t)
}

// release empties a database for the next test.
func release(url string) error {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, `SET search_path TO bailiff; DELETE FROM leases; DELETE FROM lease_tally; DELETE FROM revocations;
DELETE FROM objects; DELETE FROM access_keys; DELETE FROM accounts; DELETE FROM documents; DELETE FROM document_keys;
DELETE FROM document_graves; UPDATE document_state SET seq = 0, horizon = 0; DELETE FROM meta; UPDATE changes SET n = 0`)
	if err := errors.Join(err, conn.Close(ctx)); err != nil {
		return err
	}
	free.mu.Lock()
	defer free.mu.Unlock()
	free.urls = append(free.urls, url)
	return nil
}

// emptyDatabase makes a database that no store was opened in.
func emptyDatabase(t testing.TB) string {
	t.Helper()
	server := testenv.Postgres(t)
	name := fmt.Sprintf("store_%d", databases.Add(1))
	execute(t, server.URL(server.AdminUser, server.AdminPassword, "postgres"), "CREATE DATABASE "+name)
	return server.URL(server.AdminUser, server.AdminPassword, name)
}

// execute runs a statement on a connection of its own.
func execute(t testing.TB, url, statement string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}

// wantTallied counts the leases one by one.
func wantTallied(t testing.TB, url string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var there bool
	if err := conn.QueryRow(t.Context(), "SELECT to_regclass('bailiff.accounts') IS NOT NULL").Scan(&there); err != nil {
		t.Fatal(err)
	}
	if !there { // it was killed before
		return
	}
	counted := "SELECT mount, role, target, producer, state, cause, count(*)::bigint AS n FROM bailiff.leases GROUP BY mount, role, target, producer, state, cause"
	tallied := `SELECT mount, role, target, producer, state, cause, sum(n)::bigint FROM bailiff.lease_tally
GROUP BY mount, role, target, producer, state, cause HAVING sum(n) <> 0`
	var wrong int
	err = conn.QueryRow(t.Context(), "SELECT count(*) FROM ("+counted+" EXCEPT "+tallied+" UNION ALL ("+tallied+" EXCEPT "+counted+")) AS d").Scan(&wrong)
	if err != nil || wrong != 0 {
		t.Errorf("%d lines of the tally are wrong: %v", wrong, err)
	}
}

// lease is a lease for a test.
func lease(id string) *broker.Lease {
	return &broker.Lease{ID: id, State: broker.Pending, Mount: "database/", Role: "app", Target: "pg", Data: []byte(strings.Repeat("d", 9)), NextAt: time.Now()}
}

// AgeDocuments makes every removal look as if it had been d earlier.
func (k *kept) AgeDocuments(t testing.TB, d time.Duration) {
	t.Helper()
	if err := postgres.Execute(t.Context(), k.DB, "UPDATE document_graves SET removed_at = removed_at - $1", int64(d)); err != nil {
		t.Fatal(err)
	}
}
