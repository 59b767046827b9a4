package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/bailiff-secrets/bailiff/broker"
)

// claimLeases passes over what others are claiming or moving at this moment, so that nobody waits.
const claimLeases = `WITH due AS MATERIALIZED (
    SELECT seq AS due_seq FROM leases
    WHERE open AND next_at IS NOT NULL AND next_at <= $1 AND (claimed_until IS NULL OR claimed_until <= $1)
    ORDER BY next_at, seq LIMIT $2 FOR UPDATE SKIP LOCKED
)
UPDATE leases SET claimed_by = $3, claimed_until = $4 FROM due WHERE seq = due_seq RETURNING ` + leaseColumns

// Claim gives up to limit leases that are due at now to a broker, until the given time, oldest first, and leaves out what
// is claimed. It may give fewer while others claim too.
func (db *DB) Claim(ctx context.Context, by string, now, until time.Time, limit int) ([]*broker.Lease, error) {
	var found []*broker.Lease
	err := db.claim(ctx, by, now, until, limit, &found)
	if err != nil {
		return nil, fmt.Errorf("claiming due leases for %s: %w", by, err)
	}
	slices.SortFunc(found, func(a, b *broker.Lease) int { return cmp.Or(a.NextAt.Compare(b.NextAt), cmp.Compare(a.Seq, b.Seq)) })
	return found, nil
}

func (db *DB) claim(ctx context.Context, by string, now, until time.Time, limit int, found *[]*broker.Lease) error {
	if limit <= 0 {
		return ctx.Err()
	}
	if err := db.begin(ctx); err != nil {
		return err
	}
	defer db.begun.Done()
	// A claim whose answer is lost holds what it took until it runs out; asked again, it takes others.
	for attempt := 0; ; attempt++ {
		err := db.withConn(ctx, func(ctx context.Context, conn *pgxpool.Conn) error {
			*found = nil
			rows, err := conn.Query(ctx, claimLeases, nanos(now), limit, by, at(until))
			if err != nil {
				return err
			}
			*found, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (*broker.Lease, error) { return db.lease(row.Scan) })
			return err
		})
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case !undone(err) || attempt >= attempts:
			return db.said(err)
		}
		pause(ctx, attempt)
	}
}
