package audit_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/bailiff-secrets/bailiff/audit"
)

// modelLog is a log beside the slice of what it must hold.
type modelLog struct {
	cfg   audit.Config
	log   *audit.Log
	seam  *seam
	heads []audit.Head
	want  []audit.Record
}

func (m *modelLog) open(t *rapid.T) {
	l, err := audit.Open(m.cfg)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	m.log = l
	if l.Head() != m.heads[len(m.heads)-1] {
		t.Fatalf("head after opening: got %v, want %v", l.Head(), m.heads[len(m.heads)-1])
	}
}

func drawRecord(t *rapid.T) audit.Record {
	return audit.Record{
		Time:     day(1).Add(time.Duration(rapid.IntRange(0, 100).Draw(t, "minutes")) * time.Minute),
		Stage:    rapid.SampledFrom([]audit.Stage{"request", "response", "event"}).Draw(t, "stage"),
		Status:   audit.OK,
		Identity: rapid.SampledFrom([]string{"", "ci", "c", "ann"}).Draw(t, "identity"),
		Mount:    rapid.SampledFrom([]string{"", "secret/"}).Draw(t, "mount"),
		Path:     rapid.SampledFrom([]string{"", "secret/data/a", "secret/data/ab", "secret/a", "x"}).Draw(t, "path"),
		Detail:   rapid.StringN(0, 200, -1).Draw(t, "detail"),
	}
}

// Append keeps one to four records.
func (m *modelLog) Append(t *rapid.T) {
	var batch []*audit.Record
	for range rapid.IntRange(1, 4).Draw(t, "n") {
		r := drawRecord(t)
		batch = append(batch, &r)
	}
	if err := m.log.Append(t.Context(), batch...); err != nil {
		t.Fatalf("append: %v", err)
	}
	for _, r := range batch {
		m.want = append(m.want, *r)
	}
	m.heads = append(m.heads, m.log.Head())
}

// NoRoom appends in vain.
func (m *modelLog) NoRoom(t *rapid.T) {
	m.seam.fail(audit.FaultWrite, unix.ENOSPC)
	r := drawRecord(t)
	if err := m.log.Append(t.Context(), &r); err == nil {
		t.Fatal("append without room: got no error")
	}
	m.seam.fail(audit.FaultWrite)
}

// Reopen closes the log and opens it again.
func (m *modelLog) Reopen(t *rapid.T) {
	if err := m.log.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	m.open(t)
}

// Verify verifies the log, against some head that it had.
func (m *modelLog) Verify(t *rapid.T) {
	r, err := audit.VerifyAgainst(m.cfg.Dir, rapid.SampledFrom(m.heads).Draw(t, "head"))
	if err != nil || !r.OK() || r.Records != uint64(len(m.want)) || r.Head != m.log.Head() {
		t.Fatalf("verify: got %+v, %v, want %d records", r, err, len(m.want))
	}
}

// Query asks something and compares with the slice.
func (m *modelLog) Query(t *rapid.T) {
	end := uint64(len(m.want) + 1)
	q := audit.Query{
		Identity: rapid.SampledFrom([]string{"", "", "ci", "c"}).Draw(t, "identity"),
		Stage:    rapid.SampledFrom([]string{"", "", "event"}).Draw(t, "stage"),
		Path:     rapid.SampledFrom([]string{"", "secret/data/a", "secret/data/a*", "secret/a", "secret/a*", "x"}).Draw(t, "path"),
		Limit:    rapid.IntRange(0, 5).Draw(t, "limit"),
		Before:   rapid.Uint64Range(0, end).Draw(t, "before"),
		After:    rapid.Uint64Range(0, end).Draw(t, "after"),
		Forward:  rapid.Bool().Draw(t, "forward"),
	}
	if rapid.Bool().Draw(t, "timed") {
		q.Since = day(1).Add(time.Duration(rapid.IntRange(0, 100).Draw(t, "since")) * time.Minute)
		q.Until = q.Since.Add(time.Duration(rapid.IntRange(1, 50).Draw(t, "span")) * time.Minute)
	}
	var got []uint64
	err := m.log.Query(t.Context(), q, func(r *audit.Record) error {
		if w := m.want[r.Seq-1]; w.Detail != r.Detail || w.Path != r.Path || !w.Time.Equal(r.Time) {
			return fmt.Errorf("record %d: got %+v, want %+v", r.Seq, r, w)
		}
		got = append(got, r.Seq)
		return nil
	})
	if want := m.answer(q); err != nil || !slices.Equal(got, want) {
		t.Fatalf("query %+v: got %v, %v, want %v", q, got, err, want)
	}
}

// answer is what q must find.
func (m *modelLog) answer(q audit.Query) []uint64 {
	secret := map[string]string{"secret/data/a": "secret/a", "secret/data/ab": "secret/ab"}
	is := func(path string) bool {
		if p, ok := cutStar(q.Path); ok {
			return len(path) >= len(p) && path[:len(p)] == p
		}
		return path == q.Path
	}
	var want []uint64
	for _, r := range m.want {
		path := r.Path != "" && (is(r.Path) || r.Mount != "" && secret[r.Path] != "" && is(secret[r.Path]))
		if (q.Identity == "" || q.Identity == r.Identity) && (q.Stage == "" || q.Stage == string(r.Stage)) && (q.Path == "" || path) &&
			(q.Before == 0 || r.Seq < q.Before) && r.Seq > q.After &&
			(q.Since.IsZero() || !r.Time.Before(q.Since)) && (q.Until.IsZero() || r.Time.Before(q.Until)) {
			want = append(want, r.Seq)
		}
	}
	if !q.Forward {
		slices.Reverse(want)
	}
	if q.Limit > 0 && len(want) > q.Limit {
		want = want[:q.Limit]
	}
	return want
}

func cutStar(s string) (string, bool) {
	if s != "" && s[len(s)-1] == '*' {
		return s[:len(s)-1], true
	}
	return s, false
}

// TestModel runs random sequences against a slice.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := newSeam()
		m := &modelLog{seam: s, cfg: audit.Config{
			Dir: t.TempDir(), ReserveBytes: -1, Fault: s.fault,
			SegmentBytes: rapid.SampledFrom([]int64{1, 500, 2000, 0}).Draw(rt, "segment bytes"),
		}}
		l, err := audit.Open(m.cfg)
		if err != nil {
			rt.Fatal(err)
		}
		m.log, m.heads = l, []audit.Head{l.Head()}
		defer func() { m.log.Close() }()
		rt.Repeat(map[string]func(*rapid.T){
			"append": m.Append, "no room": m.NoRoom, "reopen": m.Reopen, "verify": m.Verify, "query": m.Query,
		})
	})
}
