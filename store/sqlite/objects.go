package sqlite

import (
	"context"
	"fmt"
	"slices"

	"github.com/bailiff-secrets/bailiff/internal/object"
)

const objectColumns = "kind, name, version, body, secrets, source, updated_at, updated_by"

const (
	addObject = `INSERT INTO objects (kind, name, version, body, secrets, source, updated_at, updated_by)
VALUES (?, ?, 1, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`
	setObject = `UPDATE objects SET version = version + 1, body = ?, secrets = ?, source = ?, updated_at = ?, updated_by = ?
WHERE kind = ? AND name = ? AND version = ?`
	deleteObject = "DELETE FROM objects WHERE kind = ? AND name = ? AND version = ?"
)

// Apply makes all changes, in their order, or none: ErrConflict where one finds another version than it expects. Each sees
// what those before it did. An object that is made anew begins at version 1.
func (db *DB) Apply(ctx context.Context, changes []object.Change) error {
	sealed := make([][]byte, len(changes))
	for i, c := range changes {
		if !slices.Contains(object.Kinds, c.Record.Kind) {
			return fmt.Errorf("there is no kind of object named %q", c.Record.Kind)
		}
		var err error
		if sealed[i], err = db.keys.SealSecrets(c.Record); err != nil {
			return fmt.Errorf("keeping %s %q: %w", c.Record.Kind, c.Record.Name, err)
		}
	}
	if len(changes) == 0 {
		return nil
	}
	return db.write(ctx, func(x *tx) error {
		for i, c := range changes {
			if err := applyOne(x, c, sealed[i]); err != nil {
				return fmt.Errorf("keeping %s %q: %w", c.Record.Kind, c.Record.Name, err)
			}
		}
		return nil
	})
}

// applyOne makes one change, where the version is the expected one.
func applyOne(x *tx, c object.Change, sealed []byte) error {
	r := &c.Record
	kind := string(r.Kind)
	var n int64
	var err error
	switch {
	case c.Delete && c.Expect == 0: // it must not be there, and then there is nothing to do
		var found bool
		if found, err = x.exists("SELECT 1 FROM objects WHERE kind = ? AND name = ?", kind, r.Name); !found {
			return err
		}
	case c.Delete:
		n, err = x.exec(deleteObject, kind, r.Name, c.Expect)
	case c.Expect == 0:
		n, err = x.exec(addObject, kind, r.Name, blob(r.Body), sealed, r.Source, stamp(r.UpdatedAt), r.UpdatedBy)
	default:
		n, err = x.exec(setObject, blob(r.Body), sealed, r.Source, stamp(r.UpdatedAt), r.UpdatedBy, kind, r.Name, c.Expect)
	}
	if err == nil && n == 0 {
		return object.ErrConflict
	}
	return err
}

// Object finds one; ErrNotFound where there is none.
func (db *DB) Object(ctx context.Context, kind object.Kind, name string) (object.Record, error) {
	found, err := db.objects(ctx, "SELECT "+objectColumns+" FROM objects WHERE kind = ? AND name = ?", string(kind), name)
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
	err := db.query(ctx, func(scan func(...any) error) error {
		var r object.Record
		var body, sealed []byte
		err := scan(&r.Kind, &r.Name, &r.Version, &body, &sealed, &r.Source, (*stamp)(&r.UpdatedAt), &r.UpdatedBy)
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
