package index

import (
	"context"
	"database/sql"
	"errors"
	"maps"
)

// maxWords is how many words a dictionary keeps in memory.
const maxWords = 50_000

// word is a text and, for a path on a KV v2 mount, the secret's own name that finds it too.
type word struct{ text, alias string }

// dictionary gives words numbers. One goroutine uses it.
type dictionary struct {
	table string
	known map[word]int64 // as committed
	fresh map[word]int64 // by the commit that is under way
}

func newDictionary(table string) *dictionary {
	return &dictionary{table: table, known: make(map[word]int64), fresh: make(map[word]int64)}
}

// id is the number of a word, which gets one where it has none.
func (d *dictionary) id(ctx context.Context, tx *sql.Tx, w word) (int64, error) {
	if id, ok := d.known[w]; ok {
		return id, nil
	}
	if id, ok := d.fresh[w]; ok {
		return id, nil
	}
	var id int64
	err := tx.QueryRowContext(ctx, "SELECT id FROM "+d.table+" WHERE w = ? AND alias = ?", w.text, w.alias).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		var res sql.Result
		if res, err = tx.ExecContext(ctx, "INSERT INTO "+d.table+" (w, alias) VALUES (?, ?)", w.text, w.alias); err == nil { //nolint:gosec // a table of ours
			id, err = res.LastInsertId()
		}
	}
	if err != nil {
		return 0, err
	}
	d.fresh[w] = id
	return id, nil
}

// keep is called when what was added is committed, drop when it is not.
func (d *dictionary) keep() {
	if len(d.known) > maxWords {
		clear(d.known)
	}
	maps.Copy(d.known, d.fresh)
	clear(d.fresh)
}

func (d *dictionary) drop() { clear(d.fresh) }

// texts are strings that were made before, so that what many records have in common is not made again for each.
type texts map[string]string

// maxText is how long a text may be to be kept.
const maxText = 256

// of is b as a string.
func (t texts) of(b []byte) string {
	if s, ok := t[string(b)]; ok {
		return s
	}
	s := string(b)
	if len(s) <= maxText {
		if len(t) > maxWords {
			clear(t)
		}
		t[s] = s
	}
	return s
}
