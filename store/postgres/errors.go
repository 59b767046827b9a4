package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/bailiff-secrets/bailiff/store/rows"
)

// The errors of the store as such. The contracts' own (broker.ErrStale, object.ErrConflict and so on) come beside them.
var (
	// ErrClosed is returned by every call after Close.
	ErrClosed = errors.New("the store is closed")
	// ErrNewer is returned by Open for a database that a newer Bailiff has brought up to date.
	ErrNewer = errors.New("a newer version of Bailiff uses this store: use that version or a later one")
	// ErrNoSealer is returned where something sealed is touched before UseSealer.
	ErrNoSealer = rows.ErrNoSealer
	// ErrUnreachable is returned where there is no connection. Nothing of a write was done, and it may be tried again.
	ErrUnreachable = errors.New("the store's database can't be reached")
	// ErrUnknown is returned for a write whose answer was lost: it may have been done or not.
	ErrUnknown = errors.New("the connection to the store was lost before it answered: the write may have been done or not")
	// ErrSkew is returned by Open and Insert where this machine's clock and the database's are too far apart.
	ErrSkew = errors.New("this machine's clock and the store's database's are more than 5s apart: set them right")
	// ErrExists is returned for a lease or a revocation whose ID is not new.
	ErrExists = errors.New("there is one with this id already")
)

// The SQLSTATEs that are told apart.
const (
	uniqueViolation = "23505"
	serialization   = "40001"
	deadlock        = "40P01"
)

// stateOf is err's SQLSTATE, or nothing.
func stateOf(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}

// undone reports whether err says that the transaction was not done and may be done when it is tried again.
func undone(err error) bool {
	return slices.Contains([]string{serialization, deadlock}, stateOf(err)) || pgconn.SafeToRetry(err)
}

// lost reports whether err leaves it open what has become of a transaction: whatever isn't the server's own no.
func lost(err error) bool {
	if err == nil || pgconn.SafeToRetry(err) {
		return false
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return false
	}
	state := stateOf(err)
	switch {
	case state == "", state == "40003": // statement completion unknown
		return true
	case len(state) == 5 && state[:2] == "08": // connection exception
		return true
	}
	return state == "57P01" || state == "57P02" // the server went down; it may have done it before
}

// said gives a write's error in our words.
func (db *DB) said(err error) error {
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok || err != nil && pgconn.SafeToRetry(err) {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	if lost(err) {
		db.pool.Reset() // the others are no better
		return fmt.Errorf("%w (%w)", ErrUnknown, err)
	}
	return err
}

// ended gives the context's error in place of whatever the driver made of it.
func ended(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}
