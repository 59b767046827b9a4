package index

import (
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/bailiff-secrets/bailiff/audit"
)

const nanosADay = 24 * 60 * 60 * 1_000_000_000

// sumKey is what one row of sums counts.
type sumKey struct {
	path, day, name int64
	via, op, status string
}

type sum struct{ n, first, last int64 }

type pair struct{ key, seq int64 }

// haul is what one commit takes in.
type haul struct {
	last         uint64
	hash         [sha256.Size]byte
	paths, names []pair
	marks        []pair
	days         map[int64][2]int64
	sums         map[sumKey]sum
}

// take takes in up to a batch of records: their rows and the index's new place, together.
func (x *Index) take(ctx context.Context) error {
	tx, err := x.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit there is nothing to roll back
	h := &haul{days: make(map[int64][2]int64), sums: make(map[sumKey]sum)}
	full := errors.New("full")
	n := 0
	err = x.cfg.Log.Scan(ctx, x.Seq(), func(e audit.Entry) error {
		if err := x.add(ctx, tx, h, e); err != nil {
			return err
		}
		if n++; n == batch {
			return full
		}
		return nil
	})
	if err != nil && !errors.Is(err, full) || n == 0 {
		x.forget()
		return err
	}
	if err = h.write(ctx, tx); err == nil {
		err = tx.Commit()
	}
	if err != nil {
		x.forget()
		return err
	}
	x.path.keep()
	x.name.keep()
	x.seq.Store(h.last)
	if x.cfg.Taken != nil {
		x.cfg.Taken(h.last)
	}
	return nil
}

// forget drops words that were not committed.
func (x *Index) forget() {
	x.path.drop()
	x.name.drop()
}

// add puts one record into the haul.
func (x *Index) add(ctx context.Context, tx *sql.Tx, h *haul, e audit.Entry) error {
	r := &x.rec
	if err := audit.DecodeWith(e.Bytes, r, x.texts.of); err != nil {
		return fmt.Errorf("record %d: %w", e.Seq, err)
	}
	seq, at := int64(e.Seq), e.Time.UnixNano()
	h.last, h.hash = e.Seq, sha256.Sum256(e.Bytes)
	day := at / nanosADay
	if d, ok := h.days[day]; ok {
		h.days[day] = [2]int64{d[0], seq}
	} else {
		h.days[day] = [2]int64{seq, seq}
	}
	h.addMarks(r, seq)
	name, err := x.name.id(ctx, tx, word{text: r.Identity})
	if err != nil {
		return err
	}
	if r.Identity != "" {
		h.names = append(h.names, pair{name, seq})
	}
	if r.Path == "" {
		return nil
	}
	path, err := x.path.id(ctx, tx, word{r.Path, x.alias(r)})
	if err != nil {
		return err
	}
	h.paths = append(h.paths, pair{path, seq})
	if r.Stage != audit.StageResponse {
		return nil // what counts is how a request ended
	}
	k := sumKey{path, day, name, r.Via, r.Op, string(r.Status)}
	s, ok := h.sums[k]
	if !ok {
		s = sum{0, at, at}
	}
	h.sums[k] = sum{s.n + 1, min(s.first, at), max(s.last, at)}
	return nil
}

// alias is the name of the secret that a record's path is one of; empty where it is none.
func (x *Index) alias(r *audit.Record) string {
	k := [2]string{r.Path, r.Mount}
	name, ok := x.aliases[k]
	if !ok {
		name, _ = audit.SecretName(r.Path, r.Mount)
		if len(x.aliases) > maxWords {
			clear(x.aliases)
		}
		x.aliases[k] = name
	}
	return name
}

// addMarks notes the numbers by which a record's lease, principal and request are found.
func (h *haul) addMarks(r *audit.Record, seq int64) {
	for _, m := range [...]struct{ kind, id string }{{"lease", r.LeaseID}, {"principal", r.Principal}, {"request", r.RequestID}} {
		if m.id != "" {
			h.marks = append(h.marks, pair{mark(m.kind, m.id), seq})
		}
	}
}

// mark stands for an id. Two ids may share one: whoever finds a record by it looks at the record, too.
func mark(kind, id string) int64 {
	var room [256]byte
	b := append(append(append(room[:0], kind...), 0), id...)
	sum := sha256.Sum256(b)
	return int64(binary.LittleEndian.Uint64(sum[:]))
}

// write puts a haul into the database, in the order of the tables' keys.
func (h *haul) write(ctx context.Context, tx *sql.Tx) error {
	for _, t := range []struct {
		table string
		rows  []pair
	}{{"by_path", h.paths}, {"by_name", h.names}, {"by_mark", h.marks}} {
		if err := insert(ctx, tx, t.table, t.rows); err != nil {
			return err
		}
	}
	for day, d := range h.days {
		if _, err := tx.ExecContext(ctx, `INSERT INTO days VALUES (?, ?, ?)
ON CONFLICT (day) DO UPDATE SET first = min(first, excluded.first), last = max(last, excluded.last)`, day, d[0], d[1]); err != nil {
			return err
		}
	}
	if err := h.writeSums(ctx, tx); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, "UPDATE place SET seq = ?, hash = ?", h.last, h.hash[:])
	return err
}

// rowsAtOnce is how many rows one statement puts in.
const rowsAtOnce = 100

// insert puts rows into a table of pairs, in the order of its key. Rows that are there already stay.
func insert(ctx context.Context, tx *sql.Tx, table string, rows []pair) error {
	slices.SortFunc(rows, func(a, b pair) int { return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.seq, b.seq)) })
	args := make([]any, 0, 2*rowsAtOnce)
	whole := len(rows) / rowsAtOnce * rowsAtOnce
	stmt, err := tx.PrepareContext(ctx, insertion(table, rowsAtOnce))
	if err != nil {
		return err
	}
	defer stmt.Close()
	for part := range slices.Chunk(rows[:whole], rowsAtOnce) {
		if _, err := stmt.ExecContext(ctx, flat(args, part)...); err != nil {
			return err
		}
	}
	if rest := rows[whole:]; len(rest) > 0 {
		_, err = tx.ExecContext(ctx, insertion(table, len(rest)), flat(args, rest)...)
	}
	return err
}

// insertion puts n rows into a table of pairs.
func insertion(table string, n int) string {
	return "INSERT OR IGNORE INTO " + table + " VALUES (?, ?)" + strings.Repeat(", (?, ?)", n-1) //nolint:gosec // a table of ours, and nothing else
}

// flat lays rows behind one another in args.
func flat(args []any, rows []pair) []any {
	args = args[:0]
	for _, p := range rows {
		args = append(args, p.key, p.seq)
	}
	return args
}

func (h *haul) writeSums(ctx context.Context, tx *sql.Tx) error {
	stmt, err := tx.PrepareContext(ctx, `INSERT INTO sums VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET n = n + excluded.n, first = min(first, excluded.first), last = max(last, excluded.last)`)
	if err != nil {
		return err
	}
	defer stmt.Close()
	for k, s := range h.sums {
		if _, err := stmt.ExecContext(ctx, k.path, k.day, k.name, k.via, k.op, k.status, s.n, s.first, s.last); err != nil {
			return err
		}
	}
	return nil
}
