package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// read runs a query and calls each for every row. Where the connection was lost, it is asked once more.
func (db *DB) read(ctx context.Context, each func(scan func(...any) error) error, text string, args ...any) error {
	if err := db.begin(ctx); err != nil {
		return err
	}
	defer db.begun.Done()
	return db.readNow(ctx, func(ctx context.Context, conn *pgxpool.Conn) error {
		rows, err := conn.Query(ctx, text, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			if err := each(rows.Scan); err != nil {
				return &ours{err}
			}
		}
		return rows.Err()
	})
}

// ours is an error that is not the database's.
type ours struct{ err error }

func (e *ours) Error() string { return e.err.Error() }

// readNow runs f, and once more where the connection was lost before f had seen anything or f can bear it.
func (db *DB) readNow(ctx context.Context, f func(ctx context.Context, conn *pgxpool.Conn) error) error {
	var err error
	for range 2 {
		err = db.withConn(ctx, f)
		if e, ok := errors.AsType[*ours](err); ok {
			return e.err
		}
		if err == nil || ctx.Err() != nil || !lost(err) && !pgconn.SafeToRetry(err) {
			break
		}
		db.pool.Reset()
	}
	if err != nil && ctx.Err() == nil && (lost(err) || pgconn.SafeToRetry(err)) {
		err = fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return ended(ctx, reached(err))
}

// withConn runs f on a connection of its own.
func (db *DB) withConn(ctx context.Context, f func(ctx context.Context, conn *pgxpool.Conn) error) error {
	actx, cancel := context.WithTimeout(ctx, connectTimeout)
	conn, err := db.pool.Acquire(actx)
	cancel()
	if err != nil {
		return reached(err)
	}
	defer conn.Release()
	return f(ctx, conn)
}

// transact runs f in a transaction, again where the server could not do it, and commits. When ctx ends before it was begun
// nothing is done; once begun it is waited for, so that the answer is the truth.
func (db *DB) transact(ctx context.Context, f func(ctx context.Context, tx pgx.Tx) error) error {
	if err := db.begin(ctx); err != nil {
		return err
	}
	defer db.begun.Done()
	for attempt := 0; ; attempt++ {
		err := db.withConn(ctx, func(ctx context.Context, conn *pgxpool.Conn) error {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
			defer cancel()
			return once(ctx, conn, f)
		})
		if e, ok := errors.AsType[*ours](err); ok {
			return e.err
		}
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil && !lost(err):
			return ctx.Err()
		case !undone(err) || attempt >= attempts:
			return db.said(err)
		}
		pause(ctx, attempt)
	}
}

// once runs f in one transaction. An error of f's own is *ours; one of the connection before the commit is as good as a no.
func once(ctx context.Context, conn *pgxpool.Conn, f func(ctx context.Context, tx pgx.Tx) error) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return neverDone(err)
	}
	if err := f(ctx, tx); err != nil {
		_ = tx.Rollback(ctx) // else the connection is closed, and that ends it
		return neverDone(err)
	}
	return tx.Commit(ctx)
}

// neverDone is an error of a transaction whose commit was never sent: where its connection was lost, nothing is done.
func neverDone(err error) error {
	if _, ok := errors.AsType[*ours](err); ok || stateOf(err) != "" || pgconn.SafeToRetry(err) {
		return err
	}
	return &ours{fmt.Errorf("%w: %w", ErrUnreachable, err)}
}

// change runs one statement that writes, as a transaction, and reports whether it changed a row.
func (db *DB) change(ctx context.Context, text string, args ...any) (changed bool, err error) {
	if err := db.begin(ctx); err != nil {
		return false, err
	}
	defer db.begun.Done()
	for attempt := 0; ; attempt++ {
		err := db.withConn(ctx, func(ctx context.Context, conn *pgxpool.Conn) error {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
			defer cancel()
			tag, err := conn.Exec(ctx, text, args...)
			changed = err == nil && tag.RowsAffected() > 0
			return err
		})
		switch {
		case err == nil:
			return changed, nil
		case ctx.Err() != nil && !lost(err):
			return false, ctx.Err()
		case !undone(err) || attempt >= attempts:
			return false, db.said(err)
		}
		pause(ctx, attempt)
	}
}

// Changed counts the changes of objects and access keys, of all nodes. A number that differs from the last one says that
// there is something new to read.
func (db *DB) Changed(ctx context.Context) (n int64, err error) {
	err = db.read(ctx, func(scan func(...any) error) error { return scan(&n) }, "SELECT n FROM changes")
	if err != nil {
		return 0, fmt.Errorf("asking the store for changes: %w", err)
	}
	return n, nil
}
