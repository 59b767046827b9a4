package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/bailiff-secrets/bailiff/broker"
)

// SetOffset makes this node's clock differ from the machine's.
func SetOffset(db *DB, d time.Duration) { db.offset.Store(int64(d)) }

// Execute runs any statement.
func Execute(ctx context.Context, db *DB, statement string, args ...any) error {
	_, err := db.change(ctx, statement, args...)
	return err
}

// Value is what a query of one value says.
func Value(ctx context.Context, db *DB, query string) (value string, err error) {
	err = db.read(ctx, func(scan func(...any) error) error { return scan(&value) }, query)
	return value, err
}

// Plan is how the server finds the rows of a query, on a connection as the store uses it.
func Plan(ctx context.Context, db *DB, query string, args ...any) (plan string, err error) {
	err = db.withConn(ctx, func(ctx context.Context, conn *pgxpool.Conn) error {
		rows, err := conn.Query(ctx, "EXPLAIN (COSTS OFF) "+query, args...)
		if err != nil {
			return err
		}
		var line string
		_, err = pgx.ForEachRow(rows, []any{&line}, func() error { plan += line + "\n"; return nil })
		return err
	})
	return plan, err
}

// Queries of the store, with their arguments.
func Queries() map[string][]any {
	return map[string][]any{dueLeases: {0, 10}, claimLeases: {0, 10, "b", int64(9)}, oldestOverdue: {0}, expiringLeases: {0, 0, 9, 10}}
}

// ListQuery is the query that List makes.
func ListQuery(f broker.Filter) (string, []any) { return listQuery(f) }

// WritePlans are the plans of the statements that write a group.
func WritePlans(ctx context.Context, db *DB, l *broker.Lease) (insert, move string, err error) {
	ops := []*op{{lease: l, seq: 1, isNew: true, from: []broker.State{broker.Active}}}
	insert, err = Plan(ctx, db, addLeases, append(insertArgs(ops), int64(0), int64(0))...)
	if err == nil {
		move, err = Plan(ctx, db, moveLeases, moveArgs(ops)...)
	}
	return insert, move, err
}
