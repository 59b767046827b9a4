package postgres

import (
	"context"
	"fmt"

	"github.com/bailiff-secrets/bailiff/identity"
)

const (
	putKey = `WITH noted AS (UPDATE changes SET n = n + 1)
INSERT INTO access_keys AS k (id, access_id, hash, note, created_at, expires_at, disabled) VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (id) DO UPDATE SET access_id = excluded.access_id, hash = excluded.hash, note = excluded.note,
created_at = excluded.created_at, expires_at = excluded.expires_at, disabled = excluded.disabled`
	deleteKey = "WITH noted AS (UPDATE changes SET n = n + 1) DELETE FROM access_keys WHERE access_id = $1 AND id = $2"
)

// PutKey adds a key or replaces the one with the same ID.
func (db *DB) PutKey(ctx context.Context, k identity.Key) error {
	err := checkTimes(k.CreatedAt, k.ExpiresAt)
	if err == nil {
		_, err = db.change(ctx, putKey, k.ID, k.AccessID, k.Hash[:], plain(k.Note), at(k.CreatedAt), at(k.ExpiresAt), k.Disabled)
	}
	if err != nil {
		return fmt.Errorf("keeping the access key %s: %w", k.ID, err)
	}
	return nil
}

// DeleteKey removes a key; removing one that is not there is no error.
func (db *DB) DeleteKey(ctx context.Context, accessID, id string) error {
	if _, err := db.change(ctx, deleteKey, accessID, id); err != nil {
		return fmt.Errorf("removing the access key %s: %w", id, err)
	}
	return nil
}

// Keys lists every key, ordered by AccessID, then ID.
func (db *DB) Keys(ctx context.Context) ([]identity.Key, error) {
	var keys []identity.Key
	err := db.read(ctx, func(scan func(...any) error) error {
		var k identity.Key
		var hash []byte
		if err := scan(&k.ID, &k.AccessID, &hash, &k.Note, (*stamp)(&k.CreatedAt), (*stamp)(&k.ExpiresAt), &k.Disabled); err != nil {
			return err
		}
		if copy(k.Hash[:], hash) != len(k.Hash) {
			return fmt.Errorf("the hash of %s is %d bytes long", k.ID, len(hash))
		}
		keys = append(keys, k)
		return nil
	}, "SELECT id, access_id, hash, note, created_at, expires_at, disabled FROM access_keys ORDER BY access_id, id")
	if err != nil {
		return nil, fmt.Errorf("listing access keys: %w", err)
	}
	return keys, nil
}
