package sqlite

import (
	"context"

	"github.com/bailiff-secrets/bailiff/store/rows"
)

// Meta finds a small value by its key; false where there is none. Values are kept as they are: what is secret must be sealed
// by the caller, as the keyset is.
func (db *DB) Meta(ctx context.Context, key string) (value []byte, found bool, err error) {
	err = db.query(ctx, func(scan func(...any) error) error {
		found = true
		return scan(&value)
	}, "SELECT value FROM meta WHERE key = ?", key)
	if err != nil {
		return nil, false, err
	}
	return value, found, nil
}

// PutMetaOnce keeps a value under a key that has none yet. It reports false, and keeps what is there, where the key has
// one: of several callers exactly one is told true. It is durable on return.
func (db *DB) PutMetaOnce(ctx context.Context, key string, value []byte) (stored bool, err error) {
	return db.changes(ctx, "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT DO NOTHING", key, blob(value))
}

// SwapMeta puts a value in the place of old. It reports false, and changes nothing, where the key's value is another or
// there is none. It is durable on return.
func (db *DB) SwapMeta(ctx context.Context, key string, old, value []byte) (swapped bool, err error) {
	return db.changes(ctx, "UPDATE meta SET value = ? WHERE key = ? AND value = ?", blob(value), key, blob(old))
}

// changes writes with one statement and reports whether it changed a row.
func (db *DB) changes(ctx context.Context, query string, args ...any) (changed bool, err error) {
	err = db.write(ctx, func(x *tx) error {
		n, err := x.exec(query, args...)
		changed = n > 0
		return err
	})
	return changed && err == nil, err
}

// blob is b, but never NULL.
func blob(b []byte) []byte { return rows.Blob(b) }
