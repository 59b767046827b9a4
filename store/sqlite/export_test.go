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

// Queued is how many operations wait for the writer.
func Queued(db *DB) int { return len(db.writer.ops) }

// ListQuery is the query that List makes.
func ListQuery(f broker.Filter) (string, []any) { return listQuery(f) }

// DueQuery is the query that Due makes.
const DueQuery = dueLeases

// The limits of one group.
const (
	MaxGroup     = maxGroup
	MaxGroupTime = maxGroupTime
)
