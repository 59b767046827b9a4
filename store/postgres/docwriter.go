package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"

	"github.com/bailiff-secrets/bailiff/internal/document"
)

// maxDocumentGroup is how many bytes the bodies of one transaction may have, so that a few large ones don't fill the memory.
const maxDocumentGroup = 8 << 20

const (
	nextDocumentSeq  = "UPDATE document_state SET seq = seq + $1 RETURNING seq"
	documentVersions = "SELECT d.space, d.key, d.version FROM unnest($1::text[], $2::bytea[]) AS w (space, key) JOIN documents d ON d.space = w.space AND d.key = w.key"

	dropKeys     = "DELETE FROM document_keys k USING unnest($1::text[], $2::bytea[]) AS w (space, key) WHERE k.space = w.space AND k.key = w.key"
	rise         = "DELETE FROM document_graves g USING unnest($1::text[], $2::bytea[]) AS w (space, key) WHERE g.space = w.space AND g.key = w.key"
	putDocuments = `INSERT INTO documents AS d (space, key, version, body, keys, expires_at, seq)
SELECT * FROM unnest($1::text[], $2::bytea[], $3::bigint[], $4::bytea[], $5::text[], $6::bigint[], $7::bigint[])
ON CONFLICT (space, key) DO UPDATE SET version = excluded.version, body = excluded.body, keys = excluded.keys, expires_at = excluded.expires_at, seq = excluded.seq`
	dropDocuments = "DELETE FROM documents d USING unnest($1::text[], $2::bytea[]) AS w (space, key) WHERE d.space = w.space AND d.key = w.key"
	dig           = "INSERT INTO document_graves (space, key, seq, removed_at) SELECT space, key, seq, $4 FROM unnest($1::text[], $2::bytea[], $3::bigint[]) AS w (space, key, seq)"
	addKeys       = "INSERT INTO document_keys (space, name, value, key) SELECT * FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::bytea[])"

	// More than one write adds, so that they never become more.
	clearGraves = `WITH old AS (DELETE FROM document_graves WHERE (space, key) IN (SELECT space, key FROM document_graves WHERE removed_at < $1 ORDER BY removed_at LIMIT $2) RETURNING seq)
UPDATE document_state SET horizon = greatest(horizon, (SELECT max(seq) FROM old)) WHERE EXISTS (SELECT FROM old)`
)

// docOp is one call of WriteDocuments that waits to be written.
type docOp struct {
	changes []*document.Change
	rows    []documentRow
	size    int // of the bodies, in bytes

	ctx   context.Context
	taken atomic.Bool   // by the lane, or by a caller that no longer waits
	done  chan struct{} // closed when err is set
	err   error
}

// documentRow is one change as it is stored.
type documentRow struct {
	body    []byte
	keys    string
	version int64 // afterwards; 0: removed
	seq     int64
}

// docWriter writes documents. Only one node writes at a time, so it has one lane.
type docWriter struct {
	db    *DB
	ops   chan *docOp
	ended sync.WaitGroup
}

func newDocWriter(db *DB) *docWriter {
	w := &docWriter{db: db, ops: make(chan *docOp, maxGroup)}
	w.ended.Go(w.run)
	return w
}

// WriteDocuments does all changes, in their order, or none. See document.Store.
func (db *DB) WriteDocuments(ctx context.Context, changes ...*document.Change) error {
	o := &docOp{changes: changes, rows: make([]documentRow, len(changes)), ctx: ctx, done: make(chan struct{})}
	for i, c := range changes {
		var err error
		if o.rows[i], err = db.documentRow(c); err != nil {
			return fmt.Errorf("keeping documents: %w", err)
		}
		o.size += len(o.rows[i].body)
	}
	if len(changes) == 0 {
		return ctx.Err()
	}
	if err := db.begin(ctx); err != nil {
		return err
	}
	defer db.begun.Done()
	if err := db.docs.write(o); err != nil {
		return fmt.Errorf("keeping documents in %q: %w", changes[0].Space, err)
	}
	for i, c := range changes {
		c.Version, c.Seq = o.rows[i].version, o.rows[i].seq
	}
	return nil
}

func (db *DB) documentRow(c *document.Change) (r documentRow, err error) {
	if err := c.Check(); err != nil {
		return r, err
	}
	if c.Remove {
		return r, nil
	}
	if err := checkTimes(c.ExpiresAt); err != nil {
		return r, err
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

// write has o done in a group; see writer.write.
func (w *docWriter) write(o *docOp) error {
	select {
	case w.ops <- o:
	case <-o.ctx.Done():
		return o.ctx.Err()
	}
	select {
	case <-o.done:
	case <-o.ctx.Done():
		if o.taken.CompareAndSwap(false, true) {
			return o.ctx.Err()
		}
		<-o.done
	}
	return o.err
}

// stop ends the lane when everything that was sent is answered. Nobody may send any more.
func (w *docWriter) stop() {
	close(w.ops)
	w.ended.Wait()
}

func (w *docWriter) run() {
	for o := range w.ops {
		var group []*docOp
		size := 0
		for ; o != nil; o = w.next(len(group), size) {
			if o.taken.CompareAndSwap(false, true) {
				group, size = append(group, o), size+o.size
			}
		}
		w.do(group)
		for _, o := range group {
			close(o.done)
		}
	}
}

// next is one more for the group, or nil. It lets those run first that were just answered and may come again.
func (w *docWriter) next(n, size int) *docOp {
	if n >= maxGroup || size >= maxDocumentGroup {
		return nil
	}
	for range 2 {
		select {
		case o := <-w.ops: // nil where it is closed
			return o
		default:
			runtime.Gosched()
		}
	}
	return nil
}

// do writes a group and sets the error of each. Where the server refuses the whole, each is tried alone.
func (w *docWriter) do(group []*docOp) {
	err := w.send(group)
	if err == nil {
		return
	}
	if stateOf(err) != "" && !lost(err) && len(group) > 1 {
		for _, o := range group {
			w.do([]*docOp{o})
		}
		return
	}
	for _, o := range group {
		o.err = err
	}
}

// send writes a group in one transaction.
func (w *docWriter) send(group []*docOp) error {
	if len(group) == 0 {
		return nil
	}
	ctx := context.Background() // who was taken is waited for
	return w.db.transact(ctx, func(ctx context.Context, tx pgx.Tx) error {
		p, err := w.read(ctx, tx, group)
		if err != nil {
			return err
		}
		for _, o := range group {
			o.err = p.plan(o)
		}
		return w.put(ctx, tx, p)
	})
}

// docKey names a document.
type docKey struct{ space, key string }

// docPlan is what a group does to the documents that it touches.
type docPlan struct {
	versions map[docKey]int64 // as they would be now
	last     map[docKey]*docChange
	order    []docKey
	seq      int64 // the last that was given out
}

// docChange is what becomes of one document.
type docChange struct {
	*document.Change
	row *documentRow
}

// read takes the turn, and finds the versions that stand.
func (w *docWriter) read(ctx context.Context, tx pgx.Tx, group []*docOp) (*docPlan, error) {
	p := &docPlan{versions: map[docKey]int64{}, last: map[docKey]*docChange{}}
	var of docColumns
	n := 0
	for _, o := range group {
		n += len(o.changes)
		for _, c := range o.changes {
			k := docKey{c.Space, c.Key}
			if _, ok := p.versions[k]; !ok {
				p.versions[k] = 0
				of.add(k)
			}
		}
	}
	batch := &pgx.Batch{}
	batch.Queue(nextDocumentSeq, n).QueryRow(func(row pgx.Row) error { return row.Scan(&p.seq) })
	batch.Queue(documentVersions, of.spaces, of.keys).Query(func(rows pgx.Rows) error {
		var space string
		var key []byte
		var version int64
		_, err := pgx.ForEachRow(rows, []any{&space, &key, &version}, func() error {
			p.versions[docKey{space, string(key)}] = version
			return nil
		})
		return err
	})
	err := tx.SendBatch(ctx, batch).Close()
	p.seq -= int64(n)
	return p, err
}

// plan does all of one op's changes or none.
func (p *docPlan) plan(o *docOp) error {
	undo := map[docKey]int64{}
	for i, c := range o.changes {
		k := docKey{c.Space, c.Key}
		if p.versions[k] != c.Version {
			for k, v := range undo {
				p.versions[k] = v
			}
			return document.ErrConflict
		}
		if _, ok := undo[k]; !ok {
			undo[k] = p.versions[k]
		}
		o.rows[i].version = c.Version + 1
		if c.Remove {
			o.rows[i].version = 0
		}
		p.versions[k] = o.rows[i].version
	}
	for i, c := range o.changes {
		if c.Remove && c.Version == 0 {
			continue // it must not be there, and then there is nothing to do
		}
		k := docKey{c.Space, c.Key}
		if p.last[k] == nil {
			p.order = append(p.order, k)
		}
		p.seq++
		o.rows[i].seq = p.seq
		p.last[k] = &docChange{c, &o.rows[i]}
	}
	return nil
}

// docColumns are the columns of several documents.
type docColumns struct {
	spaces                  []string
	keys                    [][]byte
	versions, seqs          []int64
	bodies                  [][]byte
	keyTexts                []string
	ends                    []*int64
	ofSpaces                []string // and of what they are found by
	ofNames, ofValues, ofOf [][]byte
}

func (x *docColumns) add(k docKey) {
	x.spaces, x.keys = append(x.spaces, k.space), append(x.keys, []byte(k.key))
}

func (x *docColumns) addChange(k docKey, c *docChange) {
	x.add(k)
	x.versions, x.seqs = append(x.versions, c.row.version), append(x.seqs, c.row.seq)
	x.bodies, x.keyTexts, x.ends = append(x.bodies, c.row.body), append(x.keyTexts, c.row.keys), append(x.ends, at(c.ExpiresAt))
	if c.Remove {
		return
	}
	for name, value := range c.Keys {
		x.ofSpaces, x.ofNames = append(x.ofSpaces, k.space), append(x.ofNames, []byte(name))
		x.ofValues, x.ofOf = append(x.ofValues, blob([]byte(value))), append(x.ofOf, []byte(k.key))
	}
}

// put writes what was planned.
func (w *docWriter) put(ctx context.Context, tx pgx.Tx, p *docPlan) error {
	if len(p.order) == 0 {
		return nil
	}
	var all, set, removed docColumns
	for _, k := range p.order {
		c := p.last[k]
		all.add(k)
		if c.Remove {
			removed.addChange(k, c)
		} else {
			set.addChange(k, c)
		}
	}
	now := w.db.now()
	batch := &pgx.Batch{}
	batch.Queue(dropKeys, all.spaces, all.keys)
	batch.Queue(rise, all.spaces, all.keys)
	if len(set.keys) > 0 {
		batch.Queue(putDocuments, set.spaces, set.keys, set.versions, set.bodies, set.keyTexts, set.ends, set.seqs)
	}
	if len(set.ofOf) > 0 {
		batch.Queue(addKeys, set.ofSpaces, set.ofNames, set.ofValues, set.ofOf)
	}
	if len(removed.keys) > 0 {
		batch.Queue(dropDocuments, removed.spaces, removed.keys)
		batch.Queue(dig, removed.spaces, removed.keys, removed.seqs, now.UnixNano())
	}
	batch.Queue(clearGraves, now.Add(-document.Kept-maxSkew).UnixNano(), len(p.order)+16)
	return tx.SendBatch(ctx, batch).Close()
}
