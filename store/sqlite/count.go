package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
)

// Open counts the leases that are not revoked and match sel; it may stop at limit (0: none). What is asked by mount,
// role, target and producer alone is counted already.
func (db *DB) Open(ctx context.Context, sel broker.Selector, limit int) (n int, err error) {
	if sel.Empty() {
		return 0, nil
	}
	query, args := openQuery(sel, limit)
	err = db.query(ctx, func(scan func(...any) error) error { return scan(&n) }, query, args...)
	if err != nil {
		return 0, fmt.Errorf("counting open leases: %w", err)
	}
	return n, nil
}

const countTallied = `SELECT coalesce(sum(n), 0) FROM lease_tally WHERE state <> 'revoked'
AND (?1 = '' OR mount = ?1) AND (?2 = '' OR role = ?2) AND (?3 = '' OR target = ?3) AND (?4 = '' OR producer = ?4)`

// openQuery writes the query of Open.
func openQuery(sel broker.Selector, limit int) (query string, args []any) {
	if sel.Prefix == "" && sel.Identity == "" && sel.Token == "" && len(sel.Claims) == 0 && !sel.Children {
		return countTallied, []any{sel.Mount, sel.Role, sel.Target, sel.Producer}
	}
	f := broker.Filter{
		Prefix: sel.Prefix, Identity: sel.Identity, Mount: sel.Mount, Role: sel.Role, Producer: sel.Producer, Target: sel.Target, Token: sel.Token,
		Claims: sel.Claims,
	}
	from, args := listFrom(f, false)
	if sel.Children {
		from += " AND outlives = 0"
	}
	if limit <= 0 {
		limit = -1
	}
	return "SELECT count(*) FROM (SELECT 1" + from + " LIMIT ?)", append(args, limit)
}

// Tally counts open leases by state, target and cause. It costs the same however many leases there are.
func (db *DB) Tally(ctx context.Context) ([]broker.Tally, error) {
	var lines []broker.Tally
	err := db.query(ctx, func(scan func(...any) error) error {
		var l broker.Tally
		err := scan(&l.State, &l.Target, &l.Cause, &l.N)
		lines = append(lines, l)
		return err
	}, `SELECT state, target, cause, sum(n) AS all_n FROM lease_tally WHERE state <> 'revoked'
GROUP BY state, target, cause HAVING all_n > 0 ORDER BY state, target, cause`)
	if err != nil {
		return nil, fmt.Errorf("counting leases: %w", err)
	}
	return lines, nil
}

const (
	oldestDue = `SELECT next_at FROM leases INDEXED BY leases_due
WHERE open = 1 AND next_at IS NOT NULL AND next_at <= ? ORDER BY next_at LIMIT 1`
	oldestEnd = `SELECT end_at FROM leases INDEXED BY leases_end
WHERE open = 1 AND end_at IS NOT NULL AND end_at <= ?1 AND (attempt > 0 OR next_at <= ?1) ORDER BY end_at LIMIT 1`
)

// Overdue is when the oldest revocation that is due, or that failed, should have happened; zero where there is none. A
// failed one counts from the time at which it was first to happen, not from that of its next try.
func (db *DB) Overdue(ctx context.Context, now time.Time) (oldest time.Time, err error) {
	for _, query := range []string{oldestDue, oldestEnd} {
		err = db.query(ctx, func(scan func(...any) error) error {
			var at time.Time
			err := scan((*stamp)(&at))
			if oldest.IsZero() || at.Before(oldest) {
				oldest = at
			}
			return err
		}, query, nanos(now))
		if err != nil {
			return time.Time{}, fmt.Errorf("finding the oldest overdue revocation: %w", err)
		}
	}
	return oldest, nil
}

// Counts is how many leases are in each state, and since when the one that is most overdue is: zero where none is.
func (db *DB) Counts(ctx context.Context) (counts map[broker.State]int, overdue time.Time, err error) {
	counts = map[broker.State]int{}
	for _, s := range states {
		counts[s] = 0
	}
	err = db.query(ctx, func(scan func(...any) error) error {
		var state broker.State
		var n int
		err := scan(&state, &n)
		counts[state] = n
		return err
	}, "SELECT state, sum(n) FROM lease_tally GROUP BY state")
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("counting leases: %w", err)
	}
	overdue, err = db.Overdue(ctx, time.Now())
	return counts, overdue, err
}
