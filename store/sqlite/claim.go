package sqlite

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
)

// claims is which leases are being worked on, and until when. It is not in the file: one process alone has it open, and
// when that ends, its claims are over.
type claims struct {
	mu    sync.Mutex // guards until, and is held from looking for due leases to claiming them
	until map[string]time.Time
	sweep int // how many there may be before those that have run out are taken away
}

// end ends a claim. It is called when the move that ends it is durable, so that what is due and not claimed is so in truth.
func (c *claims) end(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.until, id)
}

// Claim gives up to limit leases that are due at now to a broker, until the given time, oldest first, and leaves out what is
// claimed.
func (db *DB) Claim(ctx context.Context, by string, now, until time.Time, limit int) ([]*broker.Lease, error) {
	c := &db.claims
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.until) > c.sweep {
		maps.DeleteFunc(c.until, func(_ string, until time.Time) bool { return !until.After(now) })
		c.sweep = 2*len(c.until) + 1000
	}
	claimed := func(id string) bool { return c.until[id].After(now) }
	limit = max(limit, 0)
	found, err := db.leasesBut(ctx, claimed, dueLeases, nanos(now), limit+len(c.until))
	if err != nil {
		return nil, fmt.Errorf("claiming due leases for %s: %w", by, err)
	}
	found = found[:min(len(found), limit)]
	for _, l := range found {
		c.until[l.ID] = until
	}
	return found, nil
}
