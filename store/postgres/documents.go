package postgres

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/bailiff-secrets/bailiff/internal/document"
)

const documentColumns = "d.space, d.key, d.version, d.body, d.keys, d.expires_at, d.seq"

const changedDocuments = `(SELECT ` + documentColumns + `, false FROM documents d WHERE d.seq > $1 AND ($3::text[] IS NULL OR d.space = ANY($3)) ORDER BY d.seq LIMIT $2)
UNION ALL
(SELECT d.space, d.key, 0, NULL, '{}', NULL, d.seq, true FROM document_graves d WHERE d.seq > $1 AND ($3::text[] IS NULL OR d.space = ANY($3)) ORDER BY d.seq LIMIT $2)
ORDER BY 7 LIMIT $2`

// Document finds one; ErrNotFound where there is none.
func (db *DB) Document(ctx context.Context, space, key string) (document.Document, error) {
	found, err := db.documents(ctx, "SELECT "+documentColumns+", false FROM documents d WHERE d.space = $1 AND d.key = $2", plain(space), []byte(key))
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
	if q.By != "" {
		from, by = "document_keys k JOIN documents d ON d.space = k.space AND d.key = k.key", "k"
	}
	text, args = "SELECT "+documentColumns+", false FROM "+from+" WHERE "+by+".space = $1", []any{plain(q.Space)}
	and := func(clause string, value any) {
		args = append(args, value)
		text += fmt.Sprintf(" AND %s $%d", clause, len(args))
	}
	if q.By != "" {
		and("k.name =", []byte(q.By))
		and("k.value =", blob([]byte(q.Value)))
	}
	if q.Prefix != "" {
		and(by+".key >=", []byte(q.Prefix))
		and(by+".key <", document.After(q.Prefix))
	}
	if q.After != "" {
		and(by+".key >", []byte(q.After))
	}
	if !q.ExpiredAt.IsZero() {
		and("d.expires_at <=", nanos(q.ExpiredAt))
	}
	text += " ORDER BY " + by + ".key"
	if q.Limit > 0 {
		args = append(args, q.Limit)
		text += fmt.Sprintf(" LIMIT $%d", len(args))
	}
	return text, args
}

// DocumentChanges lists what was changed after seq. See document.Store.
func (db *DB) DocumentChanges(ctx context.Context, seq int64, limit int, spaces ...string) (changed []document.Document, horizon int64, err error) {
	// The changes first: where a grave was cleared before they were read, the horizon tells.
	if changed, err = db.documents(ctx, changedDocuments, seq, max(limit, 0), spaces); err == nil {
		err = db.read(ctx, func(scan func(...any) error) error { return scan(&horizon) }, "SELECT horizon FROM document_state")
	}
	if err != nil {
		return nil, 0, fmt.Errorf("asking for changed documents: %w", err)
	}
	return changed, horizon, nil
}

// DocumentSeq is the Seq of the last change so far.
func (db *DB) DocumentSeq(ctx context.Context) (seq int64, err error) {
	err = db.read(ctx, func(scan func(...any) error) error { return scan(&seq) }, "SELECT seq FROM document_state")
	if err != nil {
		return 0, fmt.Errorf("asking for the last change of documents: %w", err)
	}
	return seq, nil
}

func (db *DB) documents(ctx context.Context, query string, args ...any) ([]document.Document, error) {
	if err := db.begin(ctx); err != nil {
		return nil, err
	}
	defer db.begun.Done()
	var found []document.Document
	err := db.readNow(ctx, func(ctx context.Context, conn *pgxpool.Conn) error {
		rows, err := conn.Query(ctx, query, args...)
		if err != nil {
			return err
		}
		found, err = pgx.CollectRows(rows, documentOf)
		return err
	})
	for i := range found { // when the rows are closed: to open many takes its time
		d := &found[i]
		if err == nil {
			d.Body, err = db.unseal(d.Body, d.Place())
		}
	}
	return found, err
}

// documentOf reads one, whose Body is still sealed.
func documentOf(row pgx.CollectableRow) (d document.Document, err error) {
	var key []byte
	var keys string
	if err := row.Scan(&d.Space, &key, &d.Version, &d.Body, &keys, (*stamp)(&d.ExpiresAt), &d.Seq, &d.Deleted); err != nil {
		return d, err
	}
	d.Key = string(key)
	if keys != "{}" {
		err = json.Unmarshal([]byte(keys), &d.Keys)
	}
	return d, err
}

var _ document.Store = (*DB)(nil)
