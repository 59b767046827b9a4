package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"modernc.org/sqlite"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/seal"
	"github.com/bailiff-secrets/bailiff/store/rows"
)

// Config says which file to open and how.
type Config struct {
	// Path of the database file. It is made, with mode 0600, where there is none; its directory must exist. Beside it stand
	// <path>-wal and <path>-shm, which belong to it, and <path>.lock, which keeps a second process away.
	Path string
	// Sealer seals what is secret. It may be nil at first, because its keys are kept in the store: see UseSealer.
	Sealer seal.Sealer
	// Logger is told of what no caller is told of. Default: nothing is logged.
	Logger *slog.Logger
	// Fault is for tests: it is called at the points below and an error it returns is taken for one of the database. A code
	// of SQLite in it (Code() int) counts as such. It is called by the writer alone.
	Fault func(point string) error
}

// The points at which Config.Fault is called.
const (
	PointBegin     = "begin"     // before a transaction
	PointWrite     = "write"     // before each operation
	PointCommit    = "commit"    // before the transaction is made durable
	PointCommitted = "committed" // when it is durable and before the callers are told; an error here is a lost answer
)

// DB is an open store. It is safe for concurrent use.
type DB struct {
	path   string
	log    *slog.Logger
	lock   io.Closer
	reads  *sql.DB
	writes *sql.DB
	writer *writer

	keys   rows.Keys
	broken atomic.Pointer[error]
	stmts  sync.Map // query text → *sql.Stmt of reads
	claims claims

	mu     sync.Mutex // guards closed and adding to begun
	closed bool
	begun  sync.WaitGroup

	closing  sync.Once
	closeErr error
}

var (
	_ broker.Store       = (*DB)(nil)
	_ broker.Claimer     = (*DB)(nil)
	_ broker.Counter     = (*DB)(nil)
	_ broker.Revocations = (*DB)(nil)
	_ object.Store       = (*DB)(nil)
	_ identity.KeyStore  = (*DB)(nil)
)

// Open opens the store, makes it where there is none, and brings its schema up to date. It fails with ErrInUse where
// another process has it open and with ErrNewer where a newer Bailiff has written it. Close must be called in the end.
func Open(ctx context.Context, c Config) (*DB, error) {
	if c.Path == "" {
		return nil, errors.New("the store needs a path")
	}
	path, err := realPath(c.Path)
	if err != nil {
		return nil, fmt.Errorf("opening the store: %w", err)
	}
	lock, err := lockFile(path + ".lock")
	if err != nil {
		return nil, fmt.Errorf("opening the store %s: %w", path, err)
	}
	db := &DB{path: path, log: c.Logger, lock: lock, claims: claims{until: map[string]time.Time{}}}
	if db.log == nil {
		db.log = slog.New(slog.DiscardHandler)
	}
	if c.Sealer != nil {
		db.UseSealer(c.Sealer)
	}
	if err := db.open(ctx, c.Fault); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the store %s: %w", path, err), db.closeFiles())
	}
	return db, nil
}

// UseSealer sets the sealer, or puts another in its place. Until there is one, everything that holds sealed bytes fails
// with ErrNoSealer; Meta, PutMetaOnce and SwapMeta never need it, so that the sealer's own keys can be kept there.
func (db *DB) UseSealer(s seal.Sealer) { db.keys.Use(s) }

// Err is the error that made the DB refuse further writes, or nil.
func (db *DB) Err() error {
	if p := db.broken.Load(); p != nil {
		return *p
	}
	return nil
}

// Close waits for what was begun, writes what the log holds into the file and closes it. Calls that come later fail with
// ErrClosed. Close may be called again; it then returns what it returned at first.
func (db *DB) Close() error {
	db.mu.Lock()
	db.closed = true
	db.mu.Unlock()
	db.closing.Do(func() {
		db.begun.Wait()
		db.writer.stop()
		db.closeErr = db.closeFiles()
	})
	return db.closeErr
}

// begin registers a call, so that Close waits for it; each begin without error needs a db.begun.Done.
func (db *DB) begin() error {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.closed {
		return ErrClosed
	}
	db.begun.Add(1)
	return nil
}

// open makes the file and the connections, and starts the writer.
func (db *DB) open(ctx context.Context, fault func(string) error) error {
	if err := createFile(db.path); err != nil {
		return err
	}
	if err := inspect(ctx, db.path); err != nil {
		return wrap(err)
	}
	if err := tighten(db.path, db.log); err != nil {
		return err
	}
	var err error
	if db.writes, err = pool(db.path, 1, writePragmas); err != nil {
		return err
	}
	if err := prepare(ctx, db.writes, db.log); err != nil {
		return wrap(err)
	}
	if err := syncDir(filepath.Dir(db.path)); err != nil {
		return err
	}
	if db.reads, err = pool(db.path, max(4, 2*runtime.GOMAXPROCS(0)), readPragmas); err != nil {
		return err
	}
	conn, err := db.writes.Conn(ctx)
	if err != nil {
		return wrap(err)
	}
	last, err := lastSeq(ctx, conn)
	if err != nil {
		return errors.Join(wrap(err), conn.Close())
	}
	db.writer = newWriter(db, conn, last, fault)
	go db.writer.run()
	return nil
}

// closeFiles closes what open opened, as far as it came.
func (db *DB) closeFiles() error {
	var errs []error
	db.stmts.Range(func(_, s any) bool {
		errs = append(errs, s.(*sql.Stmt).Close())
		return true
	})
	if db.reads != nil {
		errs = append(errs, db.reads.Close())
	}
	if db.writes != nil { // the last connection: SQLite moves the log into the file
		errs = append(errs, db.writes.Close())
	}
	return errors.Join(append(errs, db.lock.Close())...)
}

// writePragmas are for the one connection that writes. Every commit is on the disk (FULL) before it is answered.
func writePragmas() url.Values {
	return url.Values{"_txlock": {"immediate"}, "_pragma": {
		"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)", "trusted_schema(0)",
		"cache_size(-32768)", "temp_store(MEMORY)", "wal_autocheckpoint(4000)", "journal_size_limit(67108864)",
	}}
}

// readPragmas are for the connections that read.
func readPragmas() url.Values {
	return url.Values{"mode": {"ro"}, "_pragma": {
		"busy_timeout(5000)", "query_only(1)", "foreign_keys(1)", "trusted_schema(0)", "cache_size(-8192)",
	}}
}

// pool makes n connections to the file, when they are needed.
func pool(path string, n int, pragmas func() url.Values) (*sql.DB, error) {
	dsn := "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + pragmas().Encode()
	c, err := sqlite.NewConnector(dsn)
	if err != nil {
		return nil, err
	}
	p := sql.OpenDB(c)
	p.SetMaxOpenConns(n)
	p.SetMaxIdleConns(n)
	return p, nil
}

// createFile makes the database file with mode 0600, where there is none. A file that exists is not opened here: closing it
// would drop the locks that SQLite may have on it in this process.
func createFile(path string) error {
	st, err := os.Stat(path)
	if err == nil {
		if !st.Mode().IsRegular() {
			return errors.New("it is not a regular file")
		}
		return nil
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// tighten takes the store's files from others than their owner.
func tighten(path string, log *slog.Logger) error {
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm()&0o077 == 0 {
		return err
	}
	log.Warn("others could read the store: its mode is set to 0600", "path", path)
	for _, name := range []string{path + "-wal", path + "-shm"} {
		if err := os.Chmod(name, 0o600); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return os.Chmod(path, 0o600)
}

// realPath follows links, so that one file has one lock by whatever name it is opened.
func realPath(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if p, err := filepath.EvalSymlinks(path); !errors.Is(err, os.ErrNotExist) {
		return p, err
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	return filepath.Join(dir, filepath.Base(path)), err
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
