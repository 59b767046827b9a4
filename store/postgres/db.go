package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/seal"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/rotation"
	"github.com/bailiff-secrets/bailiff/store/rows"
)

// Config says which database to use and how.
type Config struct {
	// URL is postgres://user@host:port/database?sslmode=verify-full, with a password or without; see CheckURL. Nothing is
	// taken from the environment. sslmode is verify-full where the URL has none.
	URL secret.Value
	// Password is used where URL has none.
	Password secret.Value
	// MaxConnections at a time; default 16, at least 4.
	MaxConnections int
	// Sealer seals what is secret. It may be nil at first, because its keys are kept in the store: see UseSealer.
	Sealer seal.Sealer
	// Logger is told of what no caller is told of. Default: nothing is logged.
	Logger *slog.Logger
}

const (
	connectTimeout     = 5 * time.Second
	writeTimeout       = 15 * time.Second // for an answer, after which a write's outcome is unknown
	defaultConnections = 16
	leastConnections   = 4
)

// DB is an open store. It is safe for concurrent use.
type DB struct {
	pool   *pgxpool.Pool
	log    *slog.Logger
	writer *writer
	docs   *docWriter
	offset atomic.Int64 // nanoseconds that are added to this machine's clock, by tests alone

	keys rows.Keys

	mu     sync.Mutex // guards closed and adding to begun
	closed bool
	begun  sync.WaitGroup

	closing sync.Once
}

var (
	_ broker.Store       = (*DB)(nil)
	_ broker.Claimer     = (*DB)(nil)
	_ broker.Counter     = (*DB)(nil)
	_ broker.Revocations = (*DB)(nil)
	_ object.Store       = (*DB)(nil)
	_ identity.KeyStore  = (*DB)(nil)
	_ rotation.Store     = (*DB)(nil)
)

// Open connects to the database and brings its schema up to date. It fails with ErrUnreachable where there is no
// connection, with ErrNewer where a newer Bailiff uses it and with ErrSkew where the clocks differ. Close must be called in
// the end.
func Open(ctx context.Context, c Config) (*DB, error) {
	cfg, err := poolConfig(c)
	if err != nil {
		return nil, fmt.Errorf("opening the store: %w", err)
	}
	db := &DB{log: c.Logger}
	if db.log == nil {
		db.log = slog.New(slog.DiscardHandler)
	}
	if c.Sealer != nil {
		db.UseSealer(c.Sealer)
	}
	if err := prepare(ctx, cfg.ConnConfig, db.log); err != nil {
		return nil, fmt.Errorf("opening the store: %w", reached(err))
	}
	if db.pool, err = pgxpool.NewWithConfig(ctx, cfg); err != nil {
		return nil, fmt.Errorf("opening the store: %w", err)
	}
	if err := db.start(ctx); err != nil {
		db.pool.Close()
		return nil, fmt.Errorf("opening the store: %w", reached(err))
	}
	return db, nil
}

// reached gives an error of connecting in our words.
func reached(err error) error {
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return err
}

// start looks at the clock and begins to write.
func (db *DB) start(ctx context.Context) error {
	skew, err := db.skew(ctx)
	if err != nil {
		return err
	}
	if skew.Abs() > maxSkew {
		return fmt.Errorf("%w (by %s)", ErrSkew, skew.Round(time.Millisecond))
	}
	var last int64
	if err := db.pool.QueryRow(ctx, "SELECT coalesce(max(seq), 0) FROM leases").Scan(&last); err != nil {
		return err
	}
	var synced string
	if err := db.pool.QueryRow(ctx, "SELECT current_setting('fsync')").Scan(&synced); err != nil {
		return err
	}
	if synced != "on" {
		db.log.Warn("the store's database does not write through to its disk (fsync is off): a power cut can lose leases")
	}
	db.writer, db.docs = newWriter(db, last), newDocWriter(db)
	return nil
}

// UseSealer sets the sealer, or puts another in its place. Until there is one, everything that holds sealed bytes fails
// with ErrNoSealer; Meta, PutMetaOnce and SwapMeta never need it, so that the sealer's own keys can be kept there.
func (db *DB) UseSealer(s seal.Sealer) { db.keys.Use(s) }

// Close waits for what was begun and closes the connections. Calls that come later fail with ErrClosed. Close may be called
// again.
func (db *DB) Close() error {
	db.mu.Lock()
	db.closed = true
	db.mu.Unlock()
	db.closing.Do(func() {
		db.begun.Wait()
		db.writer.stop()
		db.docs.stop()
		db.pool.Close()
	})
	return nil
}

// begin registers a call, so that Close waits for it; each begin without error needs a db.begun.Done.
func (db *DB) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.closed {
		return ErrClosed
	}
	db.begun.Add(1)
	return nil
}

// now is this machine's time.
func (db *DB) now() time.Time { return time.Now().Add(time.Duration(db.offset.Load())) }

// CheckURL says what is wrong with the URL of a database. What it says does not repeat the URL, which may hold a password.
func CheckURL(text string) error {
	_, err := parseURL(text)
	return err
}

func parseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil: // its text would repeat the URL
		return nil, errors.New("the database's address is not a URL")
	case u.Scheme != "postgres" && u.Scheme != "postgresql" || u.Host == "":
		return nil, errors.New("the database's address must have the form postgres://user@host:port/database?sslmode=verify-full")
	case u.User.Username() == "":
		return nil, errors.New("the database's address names no user")
	case len(u.Path) < 2:
		return nil, errors.New("the database's address names no database")
	}
	q := u.Query()
	for name := range q {
		switch name {
		case "sslmode", "sslrootcert", "sslcert", "sslkey", "target_session_attrs":
		default:
			return nil, fmt.Errorf("the database's address has an unknown parameter %q", name)
		}
	}
	if q.Get("sslmode") == "" {
		q.Set("sslmode", "verify-full")
	}
	if q.Get("target_session_attrs") == "" {
		q.Set("target_session_attrs", "read-write")
	}
	u.RawQuery = q.Encode()
	return u, nil
}

// poolConfig turns c into settings.
func poolConfig(c Config) (*pgxpool.Config, error) {
	u, err := parseURL(c.URL.Reveal())
	if err != nil {
		return nil, err
	}
	password, there := u.User.Password()
	if !there {
		password = c.Password.Reveal()
	}
	u.User = url.User(u.User.Username())
	cfg, err := pgxpool.ParseConfig(u.String())
	if err != nil {
		return nil, errors.New("the database's address is not one of PostgreSQL's: look at its sslmode, its certificates and its port")
	}
	cfg.ConnConfig.Password = password
	cfg.ConnConfig.ConnectTimeout = connectTimeout
	// Every write touches a few rows of a table that may be large, and plans are kept: so none may be made that reads the
	// whole table because it was small on that day.
	cfg.ConnConfig.RuntimeParams = map[string]string{
		"application_name": "bailiff", "search_path": schema, "default_transaction_isolation": "read committed",
		"statement_timeout": "30s", "idle_in_transaction_session_timeout": "30s", "jit": "off",
		"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off",
	}
	cfg.AfterConnect = commitsAreDurable
	cfg.MaxConns = int32(max(c.MaxConnections, leastConnections)) //nolint:gosec // no machine has so many
	if c.MaxConnections <= 0 {
		cfg.MaxConns = defaultConnections
	}
	cfg.MaxConnLifetime = time.Hour
	cfg.MaxConnLifetimeJitter = 10 * time.Minute
	cfg.MaxConnIdleTime = 5 * time.Minute
	return cfg, nil
}

// commitsAreDurable makes the server answer a commit when it is on the disk, where it is set not to.
func commitsAreDurable(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'")
	return err
}

// pause waits before a transaction is tried again, a random time that grows.
func pause(ctx context.Context, attempt int) {
	timer := time.NewTimer(rand.N(time.Millisecond << min(attempt, 6)))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
