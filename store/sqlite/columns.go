package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"time"

	"github.com/bailiff-secrets/bailiff/store/rows"
)

// stamp is a time as a column: integer nanoseconds since 1970, UTC; NULL is the zero time.
type stamp time.Time

// Value is for writing.
func (s stamp) Value() (driver.Value, error) {
	t := time.Time(s)
	if t.IsZero() {
		return nil, nil
	}
	if err := rows.CheckTimes(t); err != nil {
		return nil, err
	}
	return rows.Nanos(t), nil
}

// Scan is for reading.
func (s *stamp) Scan(v any) error {
	switch v := v.(type) {
	case nil:
		*s = stamp{}
	case int64:
		*s = stamp(rows.Time(v))
	default:
		return fmt.Errorf("a time is stored as %T", v)
	}
	return nil
}

// nanos is t in nanoseconds, or the nearest that a column can hold.
func nanos(t time.Time) int64 { return rows.Nanos(t) }

// seal seals plain for a place; nothing stays nothing.
func (db *DB) seal(plain []byte, where string) ([]byte, error) { return db.keys.Seal(plain, where) }

// unseal is the other way.
func (db *DB) unseal(sealed []byte, where string) ([]byte, error) { return db.keys.Open(sealed, where) }

// query runs a query on a connection that only reads and calls each for every row. The statement is prepared once for each
// text, so the texts must be few.
func (db *DB) query(ctx context.Context, each func(scan func(...any) error) error, text string, args ...any) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := db.begin(); err != nil {
		return err
	}
	defer db.begun.Done()
	s, err := db.statement(ctx, text)
	if err != nil {
		return ended(ctx, db.note(err))
	}
	rows, err := s.QueryContext(ctx, args...)
	if err != nil {
		return ended(ctx, db.note(err))
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows.Scan); err != nil {
			return ended(ctx, err)
		}
	}
	return ended(ctx, db.note(rows.Err()))
}

// statement is the prepared statement of a text.
func (db *DB) statement(ctx context.Context, text string) (*sql.Stmt, error) {
	if s, ok := db.stmts.Load(text); ok {
		return s.(*sql.Stmt), nil
	}
	s, err := db.reads.PrepareContext(ctx, text)
	if err != nil {
		return nil, err
	}
	if first, ok := db.stmts.LoadOrStore(text, s); ok { // another was quicker
		return first.(*sql.Stmt), s.Close()
	}
	return s, nil
}
