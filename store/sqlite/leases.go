package sqlite

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
)

const leaseColumns = `seq, id, mount, role, producer, target, identity, access_id, request_id, principal, max_expires_at,
intent_deadline, data, state, issued_at, expires_at, next_at, attempt, cause, error`

const addLease = `INSERT INTO leases (seq, id, mount, role, producer, target, identity, access_id, request_id, principal, max_expires_at,
intent_deadline, data, open, state, issued_at, expires_at, next_at, attempt, cause, error)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`

// A lease that stays open leaves the column open alone, so that the indexes with it needn't be written.
const (
	moveLease = `UPDATE leases SET state = ?, issued_at = ?, expires_at = ?, next_at = ?, attempt = ?, cause = ?, error = ?
WHERE id = ? AND state IN (?, ?, ?, ?, ?)`
	endLease = `UPDATE leases SET open = 0, state = ?, issued_at = ?, expires_at = ?, next_at = ?, attempt = ?, cause = ?, error = ?
WHERE id = ? AND state IN (?, ?, ?, ?, ?)`
)

// openStates are the states of a lease that is not over; with Revoked, they are all.
var openStates = [...]broker.State{broker.Pending, broker.Active, broker.Revoking, broker.Stuck}

// Insert adds a lease and sets its Seq. It fails with ErrExists where the ID is not new.
func (db *DB) Insert(ctx context.Context, l *broker.Lease) error {
	if err := checkState(l.State); err != nil {
		return err
	}
	data, err := db.seal(l.Data, dataPlace(l.ID))
	if err != nil {
		return fmt.Errorf("keeping the lease %s: %w", l.ID, err)
	}
	var seq int64
	err = db.write(ctx, func(x *tx) error {
		seq = x.nextSeq()
		n, err := x.exec(addLease, seq, l.ID, l.Mount, l.Role, l.Producer, l.Target, l.Identity, l.AccessID, l.RequestID, l.Principal,
			stamp(l.MaxExpiresAt), stamp(l.IntentDeadline), data, l.State != broker.Revoked,
			string(l.State), stamp(l.IssuedAt), stamp(l.ExpiresAt), stamp(l.NextAt), l.Attempt, string(l.Cause), l.Error)
		if err == nil && n == 0 {
			return ErrExists
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("keeping the lease %s: %w", l.ID, err)
	}
	l.Seq = seq
	return nil
}

// Move writes l's mutable fields where the stored state is one of from; ErrStale otherwise, ErrNoLease where there is none.
// Nothing moves a revoked lease back, even where from names it.
func (db *DB) Move(ctx context.Context, l *broker.Lease, from ...broker.State) error {
	if err := checkState(l.State); err != nil {
		return err
	}
	query := moveLease
	if l.State == broker.Revoked {
		query = endLease
	}
	args := []any{string(l.State), stamp(l.IssuedAt), stamp(l.ExpiresAt), stamp(l.NextAt), l.Attempt, string(l.Cause), l.Error, l.ID}
	for _, s := range append(openStates[:], broker.Revoked) {
		if !slices.Contains(from, s) || (s == broker.Revoked && l.State != broker.Revoked) {
			s = "" // no lease is in it
		}
		args = append(args, string(s))
	}
	err := db.write(ctx, func(x *tx) error {
		n, err := x.exec(query, args...)
		if err != nil || n > 0 {
			return err
		}
		found, err := x.exists("SELECT 1 FROM leases WHERE id = ?", l.ID)
		if err != nil {
			return err
		}
		if !found {
			return broker.ErrNoLease
		}
		return broker.ErrStale
	})
	if err != nil {
		return fmt.Errorf("moving the lease %s to %s: %w", l.ID, l.State, err)
	}
	return nil
}

// Lease finds one by its ID, in any state; ErrNoLease where there is none.
func (db *DB) Lease(ctx context.Context, id string) (*broker.Lease, error) {
	found, err := db.leases(ctx, "SELECT "+leaseColumns+" FROM leases WHERE id = ?", id)
	if err == nil && len(found) == 0 {
		err = broker.ErrNoLease
	}
	if err != nil {
		return nil, fmt.Errorf("the lease %s: %w", id, err)
	}
	return found[0], nil
}

const dueLeases = "SELECT " + leaseColumns + ` FROM leases INDEXED BY leases_due
WHERE open = 1 AND next_at IS NOT NULL AND next_at <= ? ORDER BY next_at, seq LIMIT ?`

// Due lists up to limit leases that are not revoked and whose NextAt is at or before now, oldest first, by index.
func (db *DB) Due(ctx context.Context, now time.Time, limit int) ([]*broker.Lease, error) {
	found, err := db.leases(ctx, dueLeases, nanos(now), max(limit, 0))
	if err != nil {
		return nil, fmt.Errorf("finding due leases: %w", err)
	}
	return found, nil
}

// Counts is how many leases are in each state, and since when the one that is most overdue is due: zero where none is.
// It costs the same however many leases there are.
func (db *DB) Counts(ctx context.Context) (counts map[broker.State]int, overdue time.Time, err error) {
	counts = map[broker.State]int{}
	err = db.query(ctx, func(scan func(...any) error) error {
		var state broker.State
		var n int
		if err := scan(&state, &n); err != nil {
			return err
		}
		counts[state] = n
		return nil
	}, "SELECT state, n FROM lease_counts")
	if err == nil {
		err = db.query(ctx, func(scan func(...any) error) error { return scan((*stamp)(&overdue)) },
			"SELECT next_at FROM leases INDEXED BY leases_due WHERE open = 1 AND next_at IS NOT NULL ORDER BY next_at LIMIT 1")
	}
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("counting leases: %w", err)
	}
	if overdue.After(time.Now()) {
		overdue = time.Time{}
	}
	return counts, overdue, nil
}

// leases runs a query of leaseColumns. A lease whose data can't be opened is given without it and logged: it must still end
// on time, which needs its data only where its role is gone, and it must not hide those behind it.
func (db *DB) leases(ctx context.Context, query string, args ...any) ([]*broker.Lease, error) {
	var found []*broker.Lease
	err := db.query(ctx, func(scan func(...any) error) error {
		l := &broker.Lease{}
		var sealed []byte
		err := scan(&l.Seq, &l.ID, &l.Mount, &l.Role, &l.Producer, &l.Target, &l.Identity, &l.AccessID, &l.RequestID, &l.Principal,
			(*stamp)(&l.MaxExpiresAt), (*stamp)(&l.IntentDeadline), &sealed,
			&l.State, (*stamp)(&l.IssuedAt), (*stamp)(&l.ExpiresAt), (*stamp)(&l.NextAt), &l.Attempt, &l.Cause, &l.Error)
		if err != nil {
			return err
		}
		l.Data, err = db.unseal(sealed, dataPlace(l.ID))
		if errors.Is(err, ErrNoSealer) {
			return err
		}
		if err != nil {
			db.log.Error("the data of a lease can't be opened: it is ended by its role alone", "lease_id", l.ID, "error", err)
		}
		found = append(found, l)
		return nil
	}, query, args...)
	return found, err
}

// dataPlace is where a lease's data is sealed for.
func dataPlace(id string) string { return "leases|" + id + "|data" }

func checkState(s broker.State) error {
	if s == broker.Revoked || slices.Contains(openStates[:], s) {
		return nil
	}
	return fmt.Errorf("there is no state of a lease named %q", s)
}
