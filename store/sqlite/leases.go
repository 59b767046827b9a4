package sqlite

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
)

const leaseColumns = `seq, id, mount, role, producer, target, identity, access_id, request_id, principal, token, outlives, share_key,
max_expires_at, intent_deadline, data, state, issued_at, expires_at, next_at, attempt, cause, error, holders, version, claims`

const addLease = `INSERT INTO leases (seq, id, mount, role, producer, target, identity, access_id, request_id, principal, token, outlives,
share_key, max_expires_at, intent_deadline, data, open, state, issued_at, expires_at, next_at, end_at, attempt, cause, error, holders, version, claims)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?) ON CONFLICT (id) DO NOTHING`

// A statement names the columns of those indexes alone that a move of its kind may change, so that the others needn't be
// written. end_at stays what it was at the first move towards the end.
const (
	setLease = `state = ?, issued_at = ?, expires_at = ?, next_at = ?, attempt = ?, cause = ?, error = ?, holders = ?, version = version + 1,
end_at = CASE WHEN ? AND state IN ('revoking', 'stuck') THEN coalesce(end_at, ?) ELSE ? END`
	moveLease = "UPDATE leases SET " + setLease + " WHERE id = ? AND version = ? AND state IN (?, ?, ?, ?, ?, ?)"
	endLease  = "UPDATE leases SET open = 0, " + setLease + " WHERE id = ? AND version = ? AND state IN (?, ?, ?, ?, ?, ?)"
	handLease = "UPDATE leases SET open = ?, " + setLease + `, max_expires_at = ?, identity = ?, access_id = ?, request_id = ?, token = ?,
outlives = ?, share_key = ?, claims = ? WHERE id = ? AND version = ? AND state = 'pooled'`
)

// states are all that a lease can be in.
var states = [...]broker.State{broker.Pooled, broker.Pending, broker.Active, broker.Revoking, broker.Stuck, broker.Revoked}

// Insert adds a lease and sets its Seq and Version. It fails with ErrExists where the ID is not new.
func (db *DB) Insert(ctx context.Context, l *broker.Lease) error {
	if err := checkState(l.State); err != nil {
		return err
	}
	data, err := db.seal(l.Data, dataPlace(l.ID))
	if err != nil {
		return fmt.Errorf("keeping the lease %s: %w", l.ID, err)
	}
	claims, err := claimText(l.Claims)
	if err != nil {
		return fmt.Errorf("keeping the lease %s: %w", l.ID, err)
	}
	var seq int64
	err = db.write(ctx, func(x *tx) error {
		seq = x.nextSeq()
		n, err := x.exec(addLease, seq, l.ID, l.Mount, l.Role, l.Producer, l.Target, l.Identity, l.AccessID, l.RequestID, l.Principal,
			l.Token, l.Outlives, l.ShareKey, stamp(l.MaxExpiresAt), stamp(l.IntentDeadline), data, l.State != broker.Revoked,
			string(l.State), stamp(l.IssuedAt), stamp(l.ExpiresAt), stamp(l.NextAt), stamp(endAt(l)), l.Attempt, string(l.Cause), l.Error,
			l.Holders, claims)
		if err == nil && n == 0 {
			return ErrExists
		}
		if err == nil {
			err = x.addClaims(l)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("keeping the lease %s: %w", l.ID, err)
	}
	l.Seq, l.Version = seq, 1
	return nil
}

// Move writes l's mutable fields where the stored state is one of from and the stored version is l's, and increases
// l.Version; ErrStale otherwise, ErrNoLease where there is none. Nothing moves a revoked lease back, even where from names
// it. It ends a claim.
func (db *DB) Move(ctx context.Context, l *broker.Lease, from ...broker.State) error {
	if err := checkState(l.State); err != nil {
		return err
	}
	err := db.write(ctx, func(x *tx) error { return move(x, l, from) })
	if err != nil {
		return fmt.Errorf("moving the lease %s to %s: %w", l.ID, l.State, err)
	}
	l.Version++
	db.claims.end(l.ID)
	return nil
}

// move is Move within a transaction.
func move(x *tx, l *broker.Lease, from []broker.State) error {
	set := []any{string(l.State), stamp(l.IssuedAt), stamp(l.ExpiresAt), stamp(l.NextAt), l.Attempt, string(l.Cause), l.Error, l.Holders,
		l.State == broker.Revoking || l.State == broker.Stuck, stamp(endAt(l)), stamp(endAt(l))}
	if l.State != broker.Pooled && slices.Contains(from, broker.Pooled) {
		claims, err := claimText(l.Claims)
		if err != nil {
			return err
		}
		args := slices.Concat([]any{l.State != broker.Revoked}, set, []any{stamp(l.MaxExpiresAt), l.Identity, l.AccessID, l.RequestID,
			l.Token, l.Outlives, l.ShareKey, claims, l.ID, l.Version})
		if n, err := x.exec(handLease, args...); err != nil || n > 0 {
			return errors.Join(err, x.addClaims(l))
		}
	}
	query := moveLease
	if l.State == broker.Revoked {
		query = endLease
	}
	args := slices.Concat(set, []any{l.ID, l.Version})
	for _, s := range states {
		if !slices.Contains(from, s) || (s == broker.Revoked && l.State != broker.Revoked) {
			s = "" // no lease is in it
		}
		args = append(args, string(s))
	}
	n, err := x.exec(query, args...)
	if err != nil || n > 0 {
		return err
	}
	found, err := x.exists("SELECT 1 FROM leases WHERE id = ?", l.ID)
	if err == nil && !found {
		return broker.ErrNoLease
	}
	if err == nil {
		return broker.ErrStale
	}
	return err
}

// endAt is when a lease that is to be revoked should have been: when it is due for the first time, or when it expires where
// that is earlier. It is zero for others.
func endAt(l *broker.Lease) time.Time {
	switch {
	case l.State != broker.Revoking && l.State != broker.Stuck:
		return time.Time{}
	case l.NextAt.IsZero() || !l.ExpiresAt.IsZero() && l.ExpiresAt.Before(l.NextAt):
		return l.ExpiresAt
	}
	return l.NextAt
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

// leases runs a query of leaseColumns. A lease whose data can't be opened is given without it and logged: it must still end
// on time, which needs its data only where its role is gone, and it must not hide those behind it.
func (db *DB) leases(ctx context.Context, query string, args ...any) ([]*broker.Lease, error) {
	return db.leasesBut(ctx, nil, query, args...)
}

// leasesBut is leases without those whose ID leave names.
func (db *DB) leasesBut(ctx context.Context, leave func(id string) bool, query string, args ...any) ([]*broker.Lease, error) {
	var found []*broker.Lease
	err := db.query(ctx, func(scan func(...any) error) error {
		l := &broker.Lease{}
		var sealed, claims []byte
		err := scan(&l.Seq, &l.ID, &l.Mount, &l.Role, &l.Producer, &l.Target, &l.Identity, &l.AccessID, &l.RequestID, &l.Principal,
			&l.Token, &l.Outlives, &l.ShareKey, (*stamp)(&l.MaxExpiresAt), (*stamp)(&l.IntentDeadline), &sealed,
			&l.State, (*stamp)(&l.IssuedAt), (*stamp)(&l.ExpiresAt), (*stamp)(&l.NextAt), &l.Attempt, &l.Cause, &l.Error, &l.Holders, &l.Version, &claims)
		if err != nil || leave != nil && leave(l.ID) {
			return err
		}
		if l.Claims, err = claimsOf(claims); err != nil {
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
	if slices.Contains(states[:], s) {
		return nil
	}
	return fmt.Errorf("there is no state of a lease named %q", s)
}
