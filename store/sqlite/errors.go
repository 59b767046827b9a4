package sqlite

import (
	"context"
	"errors"
	"fmt"

	lib "modernc.org/sqlite/lib"

	"github.com/bailiff-secrets/bailiff/store/rows"
)

// The errors of the store as such. The contracts' own (broker.ErrStale, object.ErrConflict and so on) come beside them.
var (
	// ErrClosed is returned by every call after Close.
	ErrClosed = errors.New("the store is closed")
	// ErrInUse is returned by Open where another process has the file.
	ErrInUse = errors.New("another process has the store open: only one Bailiff may use it at a time")
	// ErrNewer is returned by Open for a file that a newer Bailiff has written.
	ErrNewer = errors.New("a newer version of Bailiff has written this store: use that version or a later one")
	// ErrForeign is returned by Open for a file of something else.
	ErrForeign = errors.New("this file is not a Bailiff store")
	// ErrNoSealer is returned where something sealed is touched before UseSealer.
	ErrNoSealer = rows.ErrNoSealer
	// ErrFull is returned when the disk is full. Nothing of the write was done, and it may be tried again.
	ErrFull = errors.New("there is no space left for the store")
	// ErrBroken is returned by every write after an I/O error or damage, until a new start.
	ErrBroken = errors.New("the store takes no more writes because of an earlier error of the disk or the file: see to the disk, then restart")
	// ErrExists is returned for a lease whose ID is not new.
	ErrExists = errors.New("there is a lease with this id already")
)

// code is SQLite's primary result code of err, or 0.
func code(err error) int {
	var c interface{ Code() int }
	if errors.As(err, &c) {
		return c.Code() & 0xff
	}
	return 0
}

// wrap adds our words to SQLite's, where we have some.
func wrap(err error) error {
	switch code(err) {
	case lib.SQLITE_FULL:
		return fmt.Errorf("%w: %w", ErrFull, err)
	case lib.SQLITE_NOTADB:
		return fmt.Errorf("%w: %w", ErrForeign, err)
	}
	return err
}

// fatal reports whether err leaves it open what the disk holds.
func fatal(err error) bool {
	switch code(err) {
	case lib.SQLITE_IOERR, lib.SQLITE_CORRUPT, lib.SQLITE_NOTADB:
		return true
	}
	return false
}

// note is called with every error of SQLite: one that is fatal stops all later writes.
func (db *DB) note(err error) error {
	if !fatal(err) {
		return wrap(err)
	}
	broken := fmt.Errorf("%w (it was: %w)", ErrBroken, err)
	if db.broken.CompareAndSwap(nil, &broken) {
		db.log.Error("the store is broken: it takes no more writes", "error", err)
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
