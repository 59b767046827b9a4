package index

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"math"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/audit"
)

// maxPaths is how many paths a question with a * at its end is looked up by; with more the log is read.
const maxPaths = 500

// Head is the last durable record of the log.
func (x *Index) Head() audit.Head { return x.cfg.Log.Head() }

// Query answers as the log's own Query does, quicker where q names a path, an identity, a lease, a principal or a request.
func (x *Index) Query(ctx context.Context, q audit.Query, fn func(*audit.Record) error) error {
	seq := x.Seq() // before the index is asked: what it takes in meanwhile isn't missed, nor told twice
	by, err := x.plan(ctx, q)
	if err != nil {
		return err
	}
	if by == nil || seq == 0 {
		return x.cfg.Log.Query(ctx, q, fn)
	}
	found := 0
	count := func(r *audit.Record) error {
		found++
		return fn(r)
	}
	old := func() error { return x.lookup(ctx, by, q, seq, found, count) }
	recent := func() error {
		rest := q
		rest.After = max(q.After, seq)
		if q.Limit > 0 {
			if rest.Limit = q.Limit - found; rest.Limit <= 0 {
				return nil
			}
		}
		return x.cfg.Log.Query(ctx, rest, count)
	}
	first, second := recent, old
	if q.Forward {
		first, second = old, recent
	}
	if err := first(); err != nil {
		return err
	}
	return second()
}

// way is a list of numbers of records in the index: a query with bounds on seq left open.
type way struct {
	query string // selects seq; ends in a WHERE that more can be added to with AND
	args  []any
	order string // the column to order by and to bound
}

// plan finds the way to the records that q wants; nil where the index knows none that is short.
func (x *Index) plan(ctx context.Context, q audit.Query) (*way, error) {
	for _, m := range [...]struct{ kind, id string }{{"request", q.RequestID}, {"lease", q.LeaseID}, {"principal", q.Principal}} {
		if m.id != "" {
			return &way{"SELECT seq FROM by_mark WHERE mark = ?", []any{mark(m.kind, m.id)}, "seq"}, nil
		}
	}
	if q.Path != "" {
		paths, few, err := x.paths(ctx, q.Path)
		if err != nil || !few {
			return nil, err
		}
		w := &way{"SELECT p.seq FROM by_path p WHERE p.path IN (" + list(paths) + ")", nil, "p.seq"}
		if q.Identity != "" {
			w.query = "SELECT p.seq FROM by_path p JOIN by_name n ON n.seq = p.seq AND n.name = (SELECT id FROM names WHERE w = ?) WHERE p.path IN (" + list(paths) + ")"
			w.args = []any{q.Identity}
		}
		return w, nil
	}
	if q.Identity != "" {
		return &way{"SELECT seq FROM by_name WHERE name = (SELECT id FROM names WHERE w = ?)", []any{q.Identity}, "seq"}, nil
	}
	return nil, nil
}

func list(ids []int64) string {
	var b strings.Builder
	for i, id := range ids {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprint(&b, id)
	}
	return b.String()
}

// paths finds the numbers of the paths that a question names; few is false where they are too many.
func (x *Index) paths(ctx context.Context, path string) (ids []int64, few bool, err error) {
	low, prefix := strings.CutSuffix(path, "*")
	where, args := "%s = ?", []any{low, low}
	if prefix {
		where, args = "%[1]s >= ? AND %[1]s < ?", []any{low, low + "\U0010ffff", low, low + "\U0010ffff"}
	}
	rows, err := x.db.QueryContext(ctx, fmt.Sprintf("SELECT id FROM paths WHERE "+where, "w")+
		fmt.Sprintf(" UNION SELECT id FROM paths WHERE alias <> '' AND "+where, "alias")+fmt.Sprintf(" LIMIT %d", maxPaths+1), args...)
	if err != nil {
		return nil, false, fmt.Errorf("index of the audit log: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, false, fmt.Errorf("index of the audit log: %w", err)
		}
		ids = append(ids, id)
	}
	return ids, len(ids) <= maxPaths, rows.Err()
}

// lookup gives fn the records on a way, up to the one with number seq.
func (x *Index) lookup(ctx context.Context, by *way, q audit.Query, seq uint64, found int, fn func(*audit.Record) error) error {
	if q.Limit > 0 {
		if q.Limit -= found; q.Limit <= 0 {
			return nil
		}
	}
	low, high := q.After+1, seq
	if q.Before > 0 {
		high = min(high, q.Before-1)
	}
	if low > high {
		return nil
	}
	from, to, err := x.bounds(ctx, q.Since, q.Until)
	if err != nil {
		return err
	}
	low, high = max(low, from), min(high, to)
	direction := " DESC"
	if q.Forward {
		direction = ""
	}
	query := fmt.Sprintf("%s AND %s BETWEEN ? AND ? ORDER BY %s%s", by.query, by.order, by.order, direction)
	return x.cfg.Log.Lookup(ctx, q, x.numbers(ctx, query, append(by.args, int64(low), int64(high))), fn)
}

// bounds are the smallest and the largest number of a record on the days between two times. A clock may have stepped back: that
// is why they are asked for every day, and why Lookup looks at each record's own time.
func (x *Index) bounds(ctx context.Context, since, until time.Time) (low, high uint64, err error) {
	high = math.MaxInt64
	var n sql.NullInt64
	if !since.IsZero() {
		if err := x.db.QueryRowContext(ctx, "SELECT min(first) FROM days WHERE day >= ?", dayOf(since)).Scan(&n); err != nil {
			return 0, 0, fmt.Errorf("index of the audit log: %w", err)
		}
		low = math.MaxInt64
		if n.Valid {
			low = uint64(n.Int64)
		}
	}
	if !until.IsZero() {
		if err := x.db.QueryRowContext(ctx, "SELECT max(last) FROM days WHERE day <= ?", dayOf(until)).Scan(&n); err != nil {
			return 0, 0, fmt.Errorf("index of the audit log: %w", err)
		}
		high = 0
		if n.Valid {
			high = uint64(n.Int64)
		}
	}
	return low, high, nil
}

func dayOf(t time.Time) int64 { return t.UnixNano() / nanosADay }

// numbers are what a query selects.
func (x *Index) numbers(ctx context.Context, query string, args []any) iter.Seq2[uint64, error] {
	return func(yield func(uint64, error) bool) {
		rows, err := x.db.QueryContext(ctx, query, args...)
		if err != nil {
			yield(0, fmt.Errorf("index of the audit log: %w", err))
			return
		}
		defer rows.Close()
		for rows.Next() {
			var n int64
			if err := rows.Scan(&n); err != nil {
				yield(0, fmt.Errorf("index of the audit log: %w", err))
				return
			}
			if !yield(uint64(n), nil) {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(0, fmt.Errorf("index of the audit log: %w", err))
		}
	}
}
