package index

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/policy"
)

// Holder is somebody who had something, or tried to.
type Holder struct {
	Identity string    `json:"identity"` // empty: nobody who was known
	Reads    int64     `json:"reads"`    // answers that held it: reads, and credentials that were issued
	Writes   int64     `json:"writes"`   // it was written, and so known
	Refused  int64     `json:"refused"`  // denied or refused
	Failed   int64     `json:"failed"`   // allowed, and not served
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
	Doors    []string  `json:"doors"` // hvp, usc, …
}

// Had says whether the holder had it, and did not only try.
func (h *Holder) Had() bool { return h.Reads+h.Writes > 0 }

// holders are the sums by identity.
type holders map[string]*Holder

// add counts n requests of one kind.
func (s holders) add(identity, via, op, status string, n int64, first, last time.Time) {
	var count func(*Holder) *int64
	switch {
	case op == string(policy.List) || op == string(policy.Help) || op == "":
		return
	case status == string(audit.Denied) || status == string(audit.Refused):
		count = func(h *Holder) *int64 { return &h.Refused }
	case status != string(audit.OK):
		count = func(h *Holder) *int64 { return &h.Failed }
	case op == string(policy.Read):
		count = func(h *Holder) *int64 { return &h.Reads }
	case op == string(policy.Delete):
		return
	default:
		count = func(h *Holder) *int64 { return &h.Writes }
	}
	h := s[identity]
	if h == nil {
		h = &Holder{Identity: identity, First: first, Last: last}
		s[identity] = h
	}
	*count(h) += n
	if first.Before(h.First) {
		h.First = first
	}
	if last.After(h.Last) {
		h.Last = last
	}
	if !slices.Contains(h.Doors, via) {
		h.Doors = append(h.Doors, via)
		slices.Sort(h.Doors)
	}
}

func (s holders) record(r *audit.Record) error {
	if r.Stage == audit.StageResponse {
		s.add(r.Identity, r.Via, r.Op, string(r.Status), 1, r.Time, r.Time)
	}
	return nil
}

// sorted is who had it last first, then who only tried.
func (s holders) sorted() []Holder {
	out := make([]Holder, 0, len(s))
	for _, h := range s {
		out = append(out, *h)
	}
	slices.SortFunc(out, func(a, b Holder) int {
		if a.Had() != b.Had() {
			if a.Had() {
				return -1
			}
			return 1
		}
		if c := b.Last.Compare(a.Last); c != 0 {
			return c
		}
		return strings.Compare(a.Identity, b.Identity)
	})
	return out
}

// WhoHad sums up by identity who had what lies at a path, which may end in a * and may be a secret's own name on a KV v2 mount,
// from since up to until; zero times are no limit. Who had it last comes first, then whoever only tried. What was only listed
// or removed doesn't count.
func (x *Index) WhoHad(ctx context.Context, path string, since, until time.Time) ([]Holder, error) {
	s := make(holders)
	q := audit.Query{Path: path, Stage: string(audit.StageResponse), Since: since, Until: until}
	if !since.IsZero() && !until.IsZero() && !since.Before(until) {
		return s.sorted(), nil
	}
	paths, few, err := x.paths(ctx, path)
	if err != nil {
		return nil, err
	}
	if !few || x.Seq() == 0 {
		if err := x.cfg.Log.Query(ctx, q, s.record); err != nil {
			return nil, err
		}
		return s.sorted(), nil
	}
	// Whole days come from the sums, the days that are cut, and what is not taken in yet, from the records.
	seq, err := x.wholeDays(ctx, s, paths, since, until)
	if err != nil {
		return nil, err
	}
	for _, cut := range cutDays(since, until) {
		part := q
		part.Since, part.Until = cut[0], cut[1]
		err := x.Query(ctx, part, func(r *audit.Record) error {
			if r.Seq > seq {
				return nil
			}
			return s.record(r)
		})
		if err != nil {
			return nil, err
		}
	}
	q.After = seq
	if err := x.cfg.Log.Query(ctx, q, s.record); err != nil {
		return nil, err
	}
	return s.sorted(), nil
}

// wholeDays adds up the days that lie whole between two times, and says up to which record that is: both from one state of the index.
func (x *Index) wholeDays(ctx context.Context, s holders, paths []int64, since, until time.Time) (seq uint64, err error) {
	from, to := int64(-1<<62), int64(1<<62)
	if !since.IsZero() {
		from = dayOf(since) + 1
	}
	if !until.IsZero() {
		to = dayOf(until) - 1
	}
	//nolint:gosec // numbers are put in, and nothing else
	rows, err := x.db.QueryContext(ctx, `SELECT place.seq, names.w, s.via, s.op, s.status, s.n, s.first, s.last FROM place LEFT JOIN (
	SELECT name, via, op, status, sum(n) AS n, min(first) AS first, max(last) AS last FROM sums
	WHERE path IN (`+list(paths)+`) AND day BETWEEN ? AND ? GROUP BY name, via, op, status
) s LEFT JOIN names ON names.id = s.name`, from, to)
	if err != nil {
		return 0, fmt.Errorf("index of the audit log: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var name, via, op, status sql.NullString
		var n, first, last sql.NullInt64
		if err := rows.Scan(&seq, &name, &via, &op, &status, &n, &first, &last); err != nil {
			return 0, fmt.Errorf("index of the audit log: %w", err)
		}
		if n.Valid {
			s.add(name.String, via.String, op.String, status.String, n.Int64, time.Unix(0, first.Int64).UTC(), time.Unix(0, last.Int64).UTC())
		}
	}
	return seq, rows.Err()
}

// cutDays are the parts of days at the ends of a range of time. A range within one day is one part.
func cutDays(since, until time.Time) [][2]time.Time {
	start := func(day int64) time.Time { return time.Unix(0, day*nanosADay).UTC() }
	switch {
	case since.IsZero() && until.IsZero():
		return nil
	case since.IsZero():
		return [][2]time.Time{{start(dayOf(until)), until}}
	case until.IsZero():
		return [][2]time.Time{{since, start(dayOf(since) + 1)}}
	case dayOf(since) == dayOf(until):
		return [][2]time.Time{{since, until}}
	default:
		return [][2]time.Time{{since, start(dayOf(since) + 1)}, {start(dayOf(until)), until}}
	}
}
