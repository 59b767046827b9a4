package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
)

const expiringLeases = "SELECT " + leaseColumns + ` FROM leases INDEXED BY leases_due
WHERE open = 1 AND next_at IS NOT NULL AND next_at >= ?1 AND (next_at > ?1 OR seq > ?2) AND next_at <= ?3 AND state = 'active'
ORDER BY next_at, seq LIMIT ?4`

// Expiring lists up to limit active leases whose NextAt is past after, or is after and their Seq is past afterSeq, and at or
// before until: by NextAt, then Seq, by index.
func (db *DB) Expiring(ctx context.Context, after time.Time, afterSeq int64, until time.Time, limit int) ([]*broker.Lease, error) {
	found, err := db.leases(ctx, expiringLeases, nanos(after), afterSeq, nanos(until), max(limit, 0))
	if err != nil {
		return nil, fmt.Errorf("finding leases that expire: %w", err)
	}
	return found, nil
}
