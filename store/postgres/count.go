package postgres

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
)

const countTallied = `SELECT coalesce(sum(n), 0)::bigint FROM lease_tally WHERE state <> 'revoked'
AND ($1::text = '' OR mount = $1) AND ($2::text = '' OR role = $2) AND ($3::text = '' OR target = $3) AND ($4::text = '' OR producer = $4)`

// Open counts the leases that are not revoked and match sel; it may stop at limit (0: none). What is asked by mount, role,
// target and producer alone is counted already.
func (db *DB) Open(ctx context.Context, sel broker.Selector, limit int) (n int, err error) {
	if sel.Empty() {
		return 0, nil
	}
	query, args := openQuery(sel, limit)
	err = db.read(ctx, func(scan func(...any) error) error { return scan(&n) }, query, args...)
	if err != nil {
		return 0, fmt.Errorf("counting open leases: %w", err)
	}
	return n, nil
}

// openQuery writes the query of Open.
func openQuery(sel broker.Selector, limit int) (query string, args []any) {
	if sel.Prefix == "" && sel.Identity == "" && sel.Token == "" && len(sel.Claims) == 0 && !sel.Children {
		return countTallied, []any{plain(sel.Mount), plain(sel.Role), plain(sel.Target), plain(sel.Producer)}
	}
	from, args := listFrom(broker.Filter{
		Prefix: sel.Prefix, Identity: sel.Identity, Mount: sel.Mount, Role: sel.Role, Producer: sel.Producer, Target: sel.Target, Token: sel.Token,
		Claims: sel.Claims,
	})
	if sel.Children {
		from += " AND NOT outlives"
	}
	if limit > 0 {
		args = append(args, limit)
		from += " LIMIT $" + strconv.Itoa(len(args))
	}
	return "SELECT count(*) FROM (SELECT 1" + from + ") AS found", args
}

// Tally counts open leases by state, target and cause. It costs the same however many leases there are.
func (db *DB) Tally(ctx context.Context) ([]broker.Tally, error) {
	var lines []broker.Tally
	err := db.read(ctx, func(scan func(...any) error) error {
		var l broker.Tally
		err := scan((*string)(&l.State), &l.Target, (*string)(&l.Cause), &l.N)
		lines = append(lines, l)
		return err
	}, `SELECT state, target, cause, sum(n)::bigint FROM lease_tally WHERE state <> 'revoked'
GROUP BY state, target, cause HAVING sum(n) > 0 ORDER BY state, target, cause`)
	if err != nil {
		return nil, fmt.Errorf("counting leases: %w", err)
	}
	return lines, nil
}

const oldestOverdue = `SELECT min(first) FROM (
    (SELECT next_at AS first FROM leases WHERE open AND next_at IS NOT NULL AND next_at <= $1 ORDER BY next_at LIMIT 1)
    UNION ALL
    (SELECT end_at FROM leases WHERE open AND end_at IS NOT NULL AND end_at <= $1 AND (attempt > 0 OR next_at <= $1) ORDER BY end_at LIMIT 1)
) AS both_kinds`

// Overdue is when the oldest revocation that is due, or that failed, should have happened; zero where there is none. A
// failed one counts from the time at which it was first to happen, not from that of its next try.
func (db *DB) Overdue(ctx context.Context, now time.Time) (oldest time.Time, err error) {
	err = db.read(ctx, func(scan func(...any) error) error { return scan((*stamp)(&oldest)) }, oldestOverdue, nanos(now))
	if err != nil {
		return time.Time{}, fmt.Errorf("finding the oldest overdue revocation: %w", err)
	}
	return oldest, nil
}

// Counts is how many leases are in each state, and since when the one that is most overdue is: zero where none is.
func (db *DB) Counts(ctx context.Context) (counts map[broker.State]int, overdue time.Time, err error) {
	counts = map[broker.State]int{}
	for _, s := range states {
		counts[s] = 0
	}
	err = db.read(ctx, func(scan func(...any) error) error {
		var state string
		var n int
		err := scan(&state, &n)
		counts[broker.State(state)] = n
		return err
	}, "SELECT state, sum(n)::bigint FROM lease_tally GROUP BY state")
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("counting leases: %w", err)
	}
	overdue, err = db.Overdue(ctx, time.Now())
	return counts, overdue, err
}
