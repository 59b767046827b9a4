package index

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/bailiff-secrets/bailiff/audit"
)

const (
	batch = 10_000      // records taken in by one commit
	pause = time.Second // between commits: what is behind is read from the log
)

// Config is what an Index needs. All but the last group must be set.
type Config struct {
	Path   string // of the database; its directory is made where it is missing
	Log    *audit.Log
	Logger *slog.Logger

	// Taken is called after each commit with the number of the record that was taken in last. It must not block.
	Taken func(seq uint64)
}

// Index answers questions about a log. It is safe for concurrent use.
type Index struct {
	cfg  Config
	db   *sql.DB
	seq  atomic.Uint64 // of the record that was taken in last
	path *dictionary   // Run's own
	name *dictionary   // Run's own

	rec   audit.Record // Run's own
	texts texts        // Run's own

	aliases map[[2]string]string // by path and mount; Run's own
}

// Open opens an index, or begins one. One that can't be used, or is of another log, is thrown away. Close must be called.
func Open(ctx context.Context, cfg Config) (*Index, error) {
	if cfg.Path == "" || cfg.Log == nil || cfg.Logger == nil {
		return nil, errors.New("index: a part is missing from the configuration")
	}
	if err := os.MkdirAll(filepath.Dir(cfg.Path), 0o700); err != nil {
		return nil, fmt.Errorf("index of the audit log: %w", err)
	}
	x := &Index{cfg: cfg}
	err := x.open(ctx)
	if err != nil && ctx.Err() == nil {
		cfg.Logger.Warn("the index of the audit log is built anew", "path", cfg.Path, "why", err)
		if err = throwAway(cfg.Path); err == nil {
			err = x.open(ctx)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("index of the audit log: %w", err)
	}
	return x, nil
}

func throwAway(path string) error {
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// open opens the database and finds its place in the log.
func (x *Index) open(ctx context.Context) error {
	db, err := connect(x.cfg.Path)
	if err != nil {
		return err
	}
	if err = prepare(ctx, db); err == nil {
		err = x.resume(ctx, db)
	}
	if err != nil {
		return errors.Join(err, db.Close())
	}
	x.db = db
	x.path, x.name, x.texts = newDictionary("paths"), newDictionary("names"), make(texts)
	x.aliases = make(map[[2]string]string)
	return nil
}

// resume takes up where the index ended, and makes sure that it is one of this log.
func (x *Index) resume(ctx context.Context, db *sql.DB) error {
	var seq uint64
	var hash []byte
	if err := db.QueryRowContext(ctx, "SELECT seq, hash FROM place").Scan(&seq, &hash); err != nil {
		return err
	}
	x.seq.Store(seq)
	if seq == 0 {
		return nil
	}
	stop := errors.New("seen")
	same := false
	err := x.cfg.Log.Scan(ctx, seq-1, func(e audit.Entry) error {
		sum := sha256.Sum256(e.Bytes)
		same = e.Seq == seq && bytes.Equal(sum[:], hash)
		return stop
	})
	if err != nil && !errors.Is(err, stop) {
		return err
	}
	if !same {
		return errors.New("it is of another log")
	}
	return nil
}

// Close closes the database. Run must have ended.
func (x *Index) Close() error { return x.db.Close() }

// Seq is the number of the record that was taken in last.
func (x *Index) Seq() uint64 { return x.seq.Load() }

// Run follows the log until ctx ends. What goes wrong is logged and tried again; questions are answered meanwhile.
func (x *Index) Run(ctx context.Context) error {
	trouble := ""
	for {
		err := x.CatchUp(ctx)
		if err == nil {
			err = x.cfg.Log.Await(ctx, x.Seq())
		}
		switch {
		case ctx.Err() != nil, errors.Is(err, audit.ErrClosed):
			return nil //nolint:nilerr // it was told to end
		case err == nil:
			trouble = ""
		case err.Error() != trouble:
			trouble = err.Error()
			x.cfg.Logger.Error("the index of the audit log does not grow", "path", x.cfg.Path, "error", err)
		}
		rest := time.NewTimer(pause)
		select {
		case <-rest.C:
		case <-ctx.Done():
			rest.Stop()
		}
	}
}

// CatchUp takes in everything that is in the log now. Run does it by itself: the two must not be called at the same time.
func (x *Index) CatchUp(ctx context.Context) error {
	for x.Seq() < x.cfg.Log.Head().Seq {
		if err := x.take(ctx); err != nil {
			return err
		}
	}
	return nil
}
