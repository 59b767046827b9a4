package postgres

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/bailiff-secrets/bailiff/internal/seal"
)

// The times that a column can hold: from 1677 to 2262.
var minStamp, maxStamp = time.Unix(0, math.MinInt64), time.Unix(0, math.MaxInt64)

// stamp reads a time from a column: nanoseconds since 1970, UTC; NULL is the zero time.
type stamp time.Time

// ScanInt64 is part of pgtype.Int64Scanner.
func (s *stamp) ScanInt64(v pgtype.Int8) error {
	*s = stamp{}
	if v.Valid {
		*s = stamp(time.Unix(0, v.Int64).UTC())
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
func checkTimes(times ...time.Time) error {
	for _, t := range times {
		if !t.IsZero() && (t.Before(minStamp) || t.After(maxStamp)) {
			return fmt.Errorf("the time %s can't be kept: it is out of range", t)
		}
	}
	return nil
}

// nanos is t in nanoseconds, or the nearest that a column can hold.
func nanos(t time.Time) int64 {
	switch {
	case t.Before(minStamp):
		return math.MinInt64
	case t.After(maxStamp):
		return math.MaxInt64
	}
	return t.UnixNano()
}

// plain makes words that came from elsewhere fit for a text column, which holds no zero byte and nothing but UTF-8.
func plain(words string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(words, "\uFFFD"), "\x00", "\uFFFD")
}

// blob is b, but never NULL.
func blob(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// seal seals plain for a place; nothing stays nothing.
func (db *DB) seal(plain []byte, where string) ([]byte, error) {
	if len(plain) == 0 {
		return nil, nil
	}
	s, err := db.currentSealer()
	if err != nil {
		return nil, err
	}
	return s.Seal(plain, where)
}

// unseal is the other way.
func (db *DB) unseal(sealed []byte, where string) ([]byte, error) {
	if len(sealed) == 0 {
		return nil, nil
	}
	s, err := db.currentSealer()
	if err != nil {
		return nil, err
	}
	return s.Open(sealed, where)
}

func (db *DB) currentSealer() (seal.Sealer, error) {
	if p := db.sealer.Load(); p != nil {
		return *p, nil
	}
	return nil, ErrNoSealer
}
