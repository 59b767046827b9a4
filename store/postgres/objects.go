package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/bailiff-secrets/bailiff/internal/object"
)

const objectColumns = "kind, name, version, body, secrets, source, updated_at, updated_by"

const (
	addObject = `INSERT INTO objects (kind, name, version, body, secrets, source, updated_at, updated_by)
VALUES ($1, $2, 1, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING`
	setObject = `UPDATE objects SET version = version + 1, body = $3, secrets = $4, source = $5, updated_at = $6, updated_by = $7
WHERE kind = $1 AND name = $2 AND version = $8`
	deleteObject = "DELETE FROM objects WHERE kind = $1 AND name = $2 AND version = $3"

	noteChange = "UPDATE changes SET n = n + 1"
)

// Apply makes all changes, in their order, or none: ErrConflict where one finds another version than it expects. Each sees
// what those before it did. An object that is made anew begins at version 1. Those who apply take turns, on whatever node.
func (db *DB) Apply(ctx context.Context, changes []object.Change) error {
	sealed := make([][]byte, len(changes))
	for i, c := range changes {
		err := checkTimes(c.Record.UpdatedAt)
		if !slices.Contains(object.Kinds, c.Record.Kind) {
			return fmt.Errorf("there is no kind of object named %q", c.Record.Kind)
		}
		if err == nil {
			sealed[i], err = db.keys.SealSecrets(c.Record)
		}
		if err != nil {
			return fmt.Errorf("keeping %s %q: %w", c.Record.Kind, c.Record.Name, err)
		}
	}
	if len(changes) == 0 {
		return ctx.Err()
	}
	return db.transact(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, noteChange); err != nil {
			return err
		}
		for i, c := range changes {
			done, err := applyOne(ctx, tx, c, sealed[i])
			if err != nil {
				return err
			}
			if !done {
				return &ours{fmt.Errorf("keeping %s %q: %w", c.Record.Kind, c.Record.Name, object.ErrConflict)}
			}
		}
		return nil
	})
}

// applyOne makes one change, where the version is the expected one.
func applyOne(ctx context.Context, tx pgx.Tx, c object.Change, sealed []byte) (done bool, err error) {
	r := &c.Record
	kind := string(r.Kind)
	var tag pgconn.CommandTag
	switch {
	case c.Delete && c.Expect == 0: // it must not be there, and then there is nothing to do
		var found bool
		err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM objects WHERE kind = $1 AND name = $2)", kind, r.Name).Scan(&found)
		return !found, err
	case c.Delete:
		tag, err = tx.Exec(ctx, deleteObject, kind, r.Name, c.Expect)
	case c.Expect == 0:
		tag, err = tx.Exec(ctx, addObject, kind, r.Name, blob(r.Body), sealed, r.Source, at(r.UpdatedAt), r.UpdatedBy)
	default:
		tag, err = tx.Exec(ctx, setObject, kind, r.Name, blob(r.Body), sealed, r.Source, at(r.UpdatedAt), r.UpdatedBy, c.Expect)
	}
	return tag.RowsAffected() > 0, err
}

// Object finds one; ErrNotFound where there is none.
func (db *DB) Object(ctx context.Context, kind object.Kind, name string) (object.Record, error) {
	found, err := db.objects(ctx, "SELECT "+objectColumns+" FROM objects WHERE kind = $1 AND name = $2", string(kind), name)
	if err == nil && len(found) == 0 {
		err = object.ErrNotFound
	}
	if err != nil {
		return object.Record{}, fmt.Errorf("%s %q: %w", kind, name, err)
	}
	return found[0], nil
}

// Objects lists every object by kind (in the order of Kinds) and name.
func (db *DB) Objects(ctx context.Context) ([]object.Record, error) {
	found, err := db.objects(ctx, "SELECT "+objectColumns+" FROM objects ORDER BY name")
	if err != nil {
		return nil, fmt.Errorf("listing objects: %w", err)
	}
	slices.SortStableFunc(found, func(a, b object.Record) int {
		return slices.Index(object.Kinds, a.Kind) - slices.Index(object.Kinds, b.Kind)
	})
	return found, nil
}

func (db *DB) objects(ctx context.Context, query string, args ...any) ([]object.Record, error) {
	var found []object.Record
	err := db.read(ctx, func(scan func(...any) error) error {
		var r object.Record
		var body, sealed []byte
		err := scan((*string)(&r.Kind), &r.Name, &r.Version, &body, &sealed, &r.Source, (*stamp)(&r.UpdatedAt), &r.UpdatedBy)
		if err != nil {
			return err
		}
		r.Body = body
		if r.Secrets, err = db.keys.OpenSecrets(r, sealed); err != nil {
			return fmt.Errorf("the secrets of %s %q: %w", r.Kind, r.Name, err)
		}
		found = append(found, r)
		return nil
	}, query, args...)
	return found, err
}
