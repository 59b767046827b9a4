package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/document"
)

const documentColumns = "d.space, d.key, d.version, d.body, d.keys, d.expires_at, d.seq"

const (
	nextDocumentSeq = "UPDATE document_state SET seq = seq + 1 RETURNING seq"
	documentVersion = "SELECT version FROM documents WHERE space = ? AND key = ?"
	addDocument     = "INSERT INTO documents (space, key, version, body, keys, expires_at, seq) VALUES (?, ?, 1, ?, ?, ?, ?)"
	setDocument     = "UPDATE documents SET version = version + 1, body = ?, keys = ?, expires_at = ?, seq = ? WHERE space = ? AND key = ?"
	dropDocument    = "DELETE FROM documents WHERE space = ? AND key = ?"
	dropKeys        = "DELETE FROM document_keys WHERE space = ? AND key = ?"
	addKey          = "INSERT INTO document_keys (space, name, value, key) VALUES (?, ?, ?, ?)"
	dig             = "INSERT INTO document_graves (space, key, seq, removed_at) VALUES (?, ?, ?, ?)"
	rise            = "DELETE FROM document_graves WHERE space = ? AND key = ?"

	// A few at a time, and more than one write adds: the rest comes with the next writes.
	oldGraves   = "SELECT coalesce(max(seq), 0) FROM (SELECT seq FROM document_graves INDEXED BY document_graves_age WHERE removed_at < ?1 ORDER BY removed_at LIMIT ?2)"
	clearGraves = `DELETE FROM document_graves WHERE (space, key) IN
(SELECT space, key FROM document_graves INDEXED BY document_graves_age WHERE removed_at < ?1 ORDER BY removed_at LIMIT ?2)`
	setHorizon = "UPDATE document_state SET horizon = max(horizon, ?)"

	changedDocuments = "SELECT " + documentColumns + `, 0 FROM documents d INDEXED BY documents_seq WHERE d.seq > ?1 AND (?3 IS NULL OR d.space IN (SELECT value FROM json_each(?3)))
UNION ALL
SELECT d.space, d.key, 0, NULL, '{}', NULL, d.seq, 1 FROM document_graves d INDEXED BY document_graves_seq WHERE d.seq > ?1 AND (?3 IS NULL OR d.space IN (SELECT value FROM json_each(?3)))
ORDER BY 7 LIMIT ?2`
)

// WriteDocuments does all changes, in their order, or none. See document.Store.
func (db *DB) WriteDocuments(ctx context.Context, changes ...*document.Change) error {
	rows := make([]documentRow, len(changes))
	for i, c := range changes {
		var err error
		if rows[i], err = db.documentRow(c); err != nil {
			return fmt.Errorf("keeping documents: %w", err)
		}
	}
	if len(changes) == 0 {
		return ctx.Err()
	}
	seqs := make([]int64, len(changes))
	err := db.write(ctx, func(x *tx) error {
		for i, c := range changes {
			var err error
			if seqs[i], err = writeDocument(x, c, rows[i]); err != nil {
				return err
			}
		}
		return tidyGraves(x, len(changes))
	})
	if err != nil {
		return fmt.Errorf("keeping documents in %q: %w", changes[0].Space, err)
	}
	for i, c := range changes {
		c.Seq = seqs[i]
		c.Version++
		if c.Remove {
			c.Version = 0
		}
	}
	return nil
}

// documentRow is what a document's columns hold that is worked out before the writer's turn.
type documentRow struct {
	body []byte
	keys string
}

func (db *DB) documentRow(c *document.Change) (r documentRow, err error) {
	if err := c.Check(); err != nil {
		return r, err
	}
	if c.Remove {
		return r, nil
	}
	if r.body, err = db.seal(c.Body, c.Place()); err != nil {
		return r, err
	}
	keys, err := json.Marshal(c.Keys)
	if c.Keys == nil {
		keys = []byte("{}")
	}
	r.keys = string(keys)
	return r, err
}

// writeDocument makes one change, where the version is the expected one.
func writeDocument(x *tx, c *document.Change, r documentRow) (seq int64, err error) {
	key := []byte(c.Key)
	have, err := x.number(documentVersion, c.Space, key)
	if err != nil {
		return 0, err
	}
	switch {
	case have != c.Version:
		return 0, document.ErrConflict
	case c.Remove && have == 0: // it must not be there, and then there is nothing to do
		return 0, nil
	}
	if seq, err = x.number(nextDocumentSeq); err != nil {
		return 0, err
	}
	do := func(query string, args ...any) {
		if err == nil {
			_, err = x.exec(query, args...)
		}
	}
	if have > 0 {
		do(dropKeys, c.Space, key)
	}
	switch {
	case c.Remove:
		do(dropDocument, c.Space, key)
		do(dig, c.Space, key, seq, time.Now().UnixNano())
		return seq, err
	case have == 0:
		do(rise, c.Space, key)
		do(addDocument, c.Space, key, r.body, r.keys, stamp(c.ExpiresAt), seq)
	default:
		do(setDocument, r.body, r.keys, stamp(c.ExpiresAt), seq, c.Space, key)
	}
	for name, value := range c.Keys {
		do(addKey, c.Space, blob([]byte(name)), blob([]byte(value)), key)
	}
	return seq, err
}

// tidyGraves clears graves that are old enough: more than n, so that they never become more.
func tidyGraves(x *tx, n int) error {
	before, limit := time.Now().Add(-document.Kept).UnixNano(), n+16
	last, err := x.number(oldGraves, before, limit)
	if err != nil || last == 0 {
		return err
	}
	if _, err := x.exec(clearGraves, before, limit); err != nil {
		return err
	}
	_, err = x.exec(setHorizon, last)
	return err
}

// number runs a query of one number; 0 where there is no row.
func (x *tx) number(query string, args ...any) (n int64, err error) {
	s, err := x.stmt(query)
	if err != nil {
		return 0, err
	}
	err = s.QueryRowContext(context.Background(), args...).Scan(&n)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return n, err
}

// Document finds one; ErrNotFound where there is none.
func (db *DB) Document(ctx context.Context, space, key string) (document.Document, error) {
	found, err := db.documents(ctx, "SELECT "+documentColumns+", 0 FROM documents d WHERE d.space = ? AND d.key = ?", space, []byte(key))
	if err == nil && len(found) == 0 {
		err = document.ErrNotFound
	}
	if err != nil {
		return document.Document{}, fmt.Errorf("a document in %q: %w", space, err)
	}
	return found[0], nil
}

// Documents lists what q picks, by key.
func (db *DB) Documents(ctx context.Context, q document.Query) ([]document.Document, error) {
	text, args := documentsQuery(q)
	found, err := db.documents(ctx, text, args...)
	if err != nil {
		return nil, fmt.Errorf("listing documents in %q: %w", q.Space, err)
	}
	return found, nil
}

// documentsQuery makes one of few texts.
func documentsQuery(q document.Query) (text string, args []any) {
	from, by := "documents d", "d"
	switch {
	case q.By != "":
		from, by = "document_keys k CROSS JOIN documents d ON d.space = k.space AND d.key = k.key", "k"
	case !q.ExpiredAt.IsZero():
		from = "documents d INDEXED BY documents_expiry"
	}
	text, args = "SELECT "+documentColumns+", 0 FROM "+from+" WHERE "+by+".space = ?", []any{q.Space}
	and := func(clause string, values ...any) { text, args = text+" AND "+clause, append(args, values...) }
	if q.By != "" {
		and("k.name = ? AND k.value = ?", blob([]byte(q.By)), blob([]byte(q.Value)))
	}
	if q.Prefix != "" {
		and(by+".key >= ? AND "+by+".key < ?", []byte(q.Prefix), document.After(q.Prefix))
	}
	if q.After != "" {
		and(by+".key > ?", []byte(q.After))
	}
	if !q.ExpiredAt.IsZero() {
		and("d.expires_at IS NOT NULL AND d.expires_at <= ?", nanos(q.ExpiredAt))
	}
	text += " ORDER BY " + by + ".key"
	if q.Limit > 0 {
		text, args = text+" LIMIT ?", append(args, q.Limit)
	}
	return text, args
}

// DocumentChanges lists what was changed after seq. See document.Store.
func (db *DB) DocumentChanges(ctx context.Context, seq int64, limit int, spaces ...string) (changed []document.Document, horizon int64, err error) {
	var of any
	if len(spaces) > 0 {
		text, err := json.Marshal(spaces)
		if err != nil {
			return nil, 0, err
		}
		of = string(text)
	}
	// The changes first: where a grave was cleared before they were read, the horizon tells.
	if changed, err = db.documents(ctx, changedDocuments, seq, limit, of); err == nil {
		err = db.query(ctx, func(scan func(...any) error) error { return scan(&horizon) }, "SELECT horizon FROM document_state")
	}
	if err != nil {
		return nil, 0, fmt.Errorf("asking for changed documents: %w", err)
	}
	return changed, horizon, nil
}

// DocumentSeq is the Seq of the last change so far.
func (db *DB) DocumentSeq(ctx context.Context) (seq int64, err error) {
	err = db.query(ctx, func(scan func(...any) error) error { return scan(&seq) }, "SELECT seq FROM document_state")
	if err != nil {
		return 0, fmt.Errorf("asking for the last change of documents: %w", err)
	}
	return seq, nil
}

func (db *DB) documents(ctx context.Context, query string, args ...any) ([]document.Document, error) {
	var found []document.Document
	err := db.query(ctx, func(scan func(...any) error) error {
		var d document.Document
		var key, sealed []byte
		var keys string
		err := scan(&d.Space, &key, &d.Version, &sealed, &keys, (*stamp)(&d.ExpiresAt), &d.Seq, &d.Deleted)
		if err != nil {
			return err
		}
		d.Key, d.Body = string(key), sealed
		if keys != "{}" {
			if err := json.Unmarshal([]byte(keys), &d.Keys); err != nil {
				return err
			}
		}
		found = append(found, d)
		return nil
	}, query, args...)
	for i := range found { // when the rows are closed: to open many takes its time
		d := &found[i]
		if err == nil {
			d.Body, err = db.unseal(d.Body, d.Place())
		}
	}
	return found, err
}

var _ document.Store = (*DB)(nil)
