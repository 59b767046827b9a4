package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/bailiff-secrets/bailiff/broker"
)

const revocationColumns = `id, selector, by, reason, request_id, created_at, up_to, cursor, marked, expanded, done_at, revoked, open, sessions`

const (
	addRevocation = `INSERT INTO revocations (` + revocationColumns + `)
VALUES ($1, $2, $3, $4, $5, $6, (SELECT coalesce(max(seq), 0) FROM leases), $7, $8, $9, $10, $11, $12, $13)
ON CONFLICT (id) DO NOTHING RETURNING up_to`
	setRevocation = `UPDATE revocations SET cursor = $2, marked = $3, expanded = $4, done_at = $5, revoked = $6, open = $7, sessions = $8
WHERE id = $1`

	openRevocations = "SELECT " + revocationColumns + " FROM revocations WHERE done_at IS NULL ORDER BY nr"
	doneRevocations = "SELECT " + revocationColumns + " FROM revocations WHERE done_at IS NOT NULL ORDER BY nr DESC LIMIT $1"
)

// PutRevocation adds one, and sets UpTo to the largest Seq there is. It fails with ErrExists where the ID is not new.
//
// It waits for the inserts of leases that are under way, on all nodes, and those that come meanwhile wait for it: whatever
// has a Seq up to UpTo is there when it returns, and nothing with such a Seq comes later.
func (db *DB) PutRevocation(ctx context.Context, r *broker.Revocation) error {
	selector, err := json.Marshal(r.Selector)
	if err == nil {
		err = checkTimes(r.CreatedAt, r.DoneAt)
	}
	if err != nil {
		return fmt.Errorf("keeping the revocation %s: %w", r.ID, err)
	}
	var upTo int64
	err = db.transact(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "LOCK TABLE revocations IN ACCESS EXCLUSIVE MODE"); err != nil {
			return err
		}
		err := tx.QueryRow(ctx, addRevocation, r.ID, string(selector), r.By, plain(r.Reason), r.RequestID, at(r.CreatedAt),
			r.Cursor, r.Marked, r.Expanded, at(r.DoneAt), r.Revoked, r.Open, r.Sessions).Scan(&upTo)
		if errors.Is(err, pgx.ErrNoRows) {
			return &ours{ErrExists}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("keeping the revocation %s: %w", r.ID, err)
	}
	r.UpTo = upTo
	return nil
}

// UpdateRevocation writes what has become of one; ErrNoRevocation where there is none.
func (db *DB) UpdateRevocation(ctx context.Context, r *broker.Revocation) error {
	changed, err := db.change(ctx, setRevocation, r.ID, r.Cursor, r.Marked, r.Expanded, at(r.DoneAt), r.Revoked, r.Open, r.Sessions)
	if err == nil && !changed {
		err = broker.ErrNoRevocation
	}
	if err != nil {
		return fmt.Errorf("keeping the revocation %s: %w", r.ID, err)
	}
	return nil
}

// Revocation finds one; ErrNoRevocation where there is none.
func (db *DB) Revocation(ctx context.Context, id string) (*broker.Revocation, error) {
	found, err := db.revocations(ctx, "SELECT "+revocationColumns+" FROM revocations WHERE id = $1", id)
	if err == nil && len(found) == 0 {
		err = broker.ErrNoRevocation
	}
	if err != nil {
		return nil, fmt.Errorf("the revocation %s: %w", id, err)
	}
	return found[0], nil
}

// OpenRevocations lists all that are not done, oldest first, and behind them the newest done ones, newest first, up to
// limit in all.
func (db *DB) OpenRevocations(ctx context.Context, limit int) ([]*broker.Revocation, error) {
	found, err := db.revocations(ctx, openRevocations)
	if err != nil {
		return nil, fmt.Errorf("listing revocations: %w", err)
	}
	if limit <= len(found) {
		return found, nil
	}
	done, err := db.revocations(ctx, doneRevocations, limit)
	if err != nil {
		return nil, fmt.Errorf("listing revocations: %w", err)
	}
	for _, r := range done {
		same := func(open *broker.Revocation) bool { return open.ID == r.ID } // it was done between the two
		if len(found) < limit && !slices.ContainsFunc(found, same) {
			found = append(found, r)
		}
	}
	return found, nil
}

// revocations runs a query of revocationColumns.
func (db *DB) revocations(ctx context.Context, query string, args ...any) ([]*broker.Revocation, error) {
	var found []*broker.Revocation
	err := db.read(ctx, func(scan func(...any) error) error {
		r := &broker.Revocation{}
		var selector string
		err := scan(&r.ID, &selector, &r.By, &r.Reason, &r.RequestID, (*stamp)(&r.CreatedAt), &r.UpTo,
			&r.Cursor, &r.Marked, &r.Expanded, (*stamp)(&r.DoneAt), &r.Revoked, &r.Open, &r.Sessions)
		if err == nil {
			err = json.Unmarshal([]byte(selector), &r.Selector)
		}
		found = append(found, r)
		return err
	}, query, args...)
	return found, err
}
