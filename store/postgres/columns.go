package postgres

import (
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/bailiff-secrets/bailiff/store/rows"
)

// stamp reads a time from a column: nanoseconds since 1970, UTC; NULL is the zero time.
type stamp time.Time

// ScanInt64 is part of pgtype.Int64Scanner.
func (s *stamp) ScanInt64(v pgtype.Int8) error {
	*s = stamp{}
	if v.Valid {
		*s = stamp(rows.Time(v.Int64))
	}
	return nil
}

// at is t as it is written to a column.
func at(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	n := nanos(t)
	return &n
}

// checkTimes refuses times that a column can't hold.
func checkTimes(times ...time.Time) error { return rows.CheckTimes(times...) }

// nanos is t in nanoseconds, or the nearest that a column can hold.
func nanos(t time.Time) int64 { return rows.Nanos(t) }

// plain makes words that came from elsewhere fit for a text column, which holds no zero byte and nothing but UTF-8.
func plain(words string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(words, "\uFFFD"), "\x00", "\uFFFD")
}

// blob is b, but never NULL.
func blob(b []byte) []byte { return rows.Blob(b) }

// seal seals plain for a place; nothing stays nothing.
func (db *DB) seal(plain []byte, where string) ([]byte, error) { return db.keys.Seal(plain, where) }

// unseal is the other way.
func (db *DB) unseal(sealed []byte, where string) ([]byte, error) { return db.keys.Open(sealed, where) }
