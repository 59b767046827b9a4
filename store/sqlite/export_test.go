package sqlite

import (
	"context"
	"fmt"

	"github.com/bailiff-secrets/bailiff/broker"
)

// LimitPages lets the file grow to n pages, as a full disk would.
func LimitPages(ctx context.Context, db *DB, n int) error {
	return db.write(ctx, func(x *tx) error {
		_, err := x.exec(fmt.Sprintf("PRAGMA max_page_count = %d", n))
		return err
	})
}

// Execute runs any statement as one operation of the writer.
func Execute(ctx context.Context, db *DB, statement string, args ...any) error {
	return db.write(ctx, func(x *tx) error {
		_, err := x.exec(statement, args...)
		return err
	})
}

// WriterValue is what a query says on the connection that writes.
func WriterValue(ctx context.Context, db *DB, query string) (value string, err error) {
	err = db.write(ctx, func(x *tx) error {
		return x.conn.QueryRowContext(context.Background(), query).Scan(&value)
	})
	return value, err
}

// ReaderExec runs a statement on a connection that only reads.
func ReaderExec(ctx context.Context, db *DB, statement string) error {
	_, err := db.reads.ExecContext(ctx, statement)
	return err
}

// ReadRows reads a few rows and calls each for every one.
func ReadRows(ctx context.Context, db *DB, each func()) error {
	return db.query(ctx, func(scan func(...any) error) error { each(); return nil }, "VALUES (1), (2), (3), (4), (5)")
}

// Plan is what SQLite says of how it finds the rows of a query.
func Plan(ctx context.Context, db *DB, query string, args ...any) (plan string, err error) {
	err = db.query(ctx, func(scan func(...any) error) error {
		var id, parent, unused int
		var step string
		err := scan(&id, &parent, &unused, &step)
		plan += step + "\n"
		return err
	}, "EXPLAIN QUERY PLAN "+query, args...)
	return plan, err
}

// Queued is how many operations wait for the writer.
func Queued(db *DB) int { return len(db.writer.ops) }

// ListQuery is the query that List makes.
func ListQuery(f broker.Filter) (string, []any) { return listQuery(f, false) }

// DueQuery is the query that Due makes, with its arguments now and limit.
const DueQuery = dueLeases

// ExpiringQuery is the query that Expiring makes, with its arguments after, afterSeq, until and limit.
const ExpiringQuery = expiringLeases

// MaxGroup is the limit of one group.
const MaxGroup = maxGroup
