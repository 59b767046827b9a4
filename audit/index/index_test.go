package index_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/audit/index"
)

// world is a log with its index.
type world struct {
	t    testing.TB
	dir  string
	log  *audit.Log
	x    *index.Index
	took chan uint64
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, dir: t.TempDir()}
	w.open()
	t.Cleanup(func() { w.close() })
	return w
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) db() string { return filepath.Join(w.dir, "index", "trail.db") }

// open opens the log and its index, which does not run.
func (w *world) open() {
	w.t.Helper()
	var err error
	w.log, err = audit.Open(audit.Config{Dir: w.dir, SegmentBytes: 64 << 10, ReserveBytes: -1})
	must(w.t, err)
	w.took = make(chan uint64, 1000)
	w.x, err = index.Open(context.Background(), index.Config{
		Path: w.db(), Log: w.log, Logger: slog.New(slog.DiscardHandler), Taken: func(seq uint64) { w.took <- seq },
	})
	must(w.t, err)
}

// run lets the index take in everything that is in the log.
func (w *world) run() {
	w.t.Helper()
	must(w.t, w.x.CatchUp(context.Background()))
	if w.x.Seq() != w.log.Head().Seq {
		w.t.Fatalf("the index is at record %d of %d", w.x.Seq(), w.log.Head().Seq)
	}
}

func (w *world) close() {
	w.t.Helper()
	must(w.t, w.x.Close())
	must(w.t, w.log.Close())
}

func (w *world) append(records ...*audit.Record) {
	w.t.Helper()
	must(w.t, w.log.Append(context.Background(), records...))
}

// both asks the log and its index, which must agree.
func (w *world) both(q audit.Query) []uint64 {
	w.t.Helper()
	var want, got []uint64
	must(w.t, w.log.Query(context.Background(), q, func(r *audit.Record) error {
		want = append(want, r.Seq)
		return nil
	}))
	must(w.t, w.x.Query(context.Background(), q, func(r *audit.Record) error {
		got = append(got, r.Seq)
		return nil
	}))
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Fatalf("%+v, the index at record %d of %d (-log +index):\n%s", q, w.x.Seq(), w.log.Head().Seq, diff)
	}
	return got
}

// start is noon of the first day.
func start() time.Time { return time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC) }

// record draws one.
func record(t *rapid.T) *audit.Record {
	of := func(label string, from ...string) string { return rapid.SampledFrom(from).Draw(t, label) }
	r := &audit.Record{
		Time:      start().Add(time.Duration(rapid.IntRange(-3, 10*24).Draw(t, "hour")) * time.Hour),
		Stage:     audit.Stage(of("stage", "request", "response", "response", "event")),
		Status:    audit.Status(of("status", "ok", "ok", "ok", "denied", "refused", "error")),
		Via:       of("via", "hvp", "usc", "api"),
		Identity:  of("identity", "", "alice", "bob", "carol"),
		Op:        of("op", "read", "update", "list", "delete", "create"),
		Mount:     of("mount", "", "secret/"),
		Path:      of("path", "", "secret/data/app/db", "secret/data/app/db2", "secret/metadata/app/db", "secret/app/db", "database/creds/ro", "other"),
		RequestID: of("request", "", "r1", "r2", "r3"),
		LeaseID:   of("lease", "", "", "l1", "l2"),
		Principal: of("principal", "", "", "bl-1"),
	}
	if r.Stage == audit.StageRequest {
		r.Status = audit.Begun
	}
	return r
}

func question(t *rapid.T) audit.Query {
	of := func(label string, from ...string) string { return rapid.SampledFrom(from).Draw(t, label) }
	moment := func(label string) time.Time {
		if rapid.Bool().Draw(t, label+" set") {
			return start().Add(time.Duration(rapid.IntRange(-24, 11*24*2).Draw(t, label)) * 30 * time.Minute)
		}
		return time.Time{}
	}
	return audit.Query{
		Path:     of("ask path", "", "secret/app/db", "secret/data/app/db", "secret/app/*", "secret/*", "database/creds/ro", "*", "nothing"),
		Identity: of("ask identity", "", "", "alice", "bob", "nobody"),
		LeaseID:  of("ask lease", "", "", "", "l1"), RequestID: of("ask request", "", "", "", "r2", "rx"), Principal: of("ask principal", "", "", "", "bl-1"),
		Status: of("ask status", "", "", "ok", "denied"), Op: of("ask op", "", "", "read"),
		Since: moment("since"), Until: moment("until"), Forward: rapid.Bool().Draw(t, "forward"),
		Limit: rapid.IntRange(0, 12).Draw(t, "limit"), Before: uint64(rapid.IntRange(0, 90).Draw(t, "before")), After: uint64(rapid.IntRange(0, 30).Draw(t, "after")),
	}
}

// sumUp is WhoHad done by hand, from the log.
func sumUp(w *world, path string, since, until time.Time) map[string][4]int64 {
	out := make(map[string][4]int64)
	must(w.t, w.log.Query(context.Background(), audit.Query{Path: path, Stage: "response", Since: since, Until: until}, func(r *audit.Record) error {
		k := 3
		switch {
		case r.Op == "list":
			return nil
		case r.Status == audit.Denied || r.Status == audit.Refused:
			k = 2
		case r.Status == audit.OK && r.Op == "read":
			k = 0
		case r.Status == audit.OK && r.Op == "delete":
			return nil
		case r.Status == audit.OK:
			k = 1
		}
		n := out[r.Identity]
		n[k]++
		out[r.Identity] = n
		return nil
	}))
	return out
}

// TestTheIndexAnswersAsTheLog for any records and questions, wherever the index has got to, also after it was opened again.
func TestTheIndexAnswersAsTheLog(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		for range rapid.IntRange(0, 3).Draw(rt, "runs") {
			for range rapid.IntRange(0, 30).Draw(rt, "records") {
				w.append(record(rt))
			}
			w.run()
			if rapid.Bool().Draw(rt, "open again") {
				w.close()
				w.open()
			}
		}
		for range rapid.IntRange(0, 10).Draw(rt, "records behind") {
			w.append(record(rt))
		}
		for range 6 {
			q := question(rt)
			w.both(q)
			if q.Path == "" {
				continue
			}
			got, err := w.x.WhoHad(context.Background(), q.Path, q.Since, q.Until)
			must(t, err)
			sums := make(map[string][4]int64)
			for _, h := range got {
				sums[h.Identity] = [4]int64{h.Reads, h.Writes, h.Refused, h.Failed}
			}
			if diff := cmp.Diff(sumUp(w, q.Path, q.Since, q.Until), sums); diff != "" {
				t.Fatalf("who had %s from %v to %v (-log +index):\n%s", q.Path, q.Since, q.Until, diff)
			}
		}
	})
}

// TestTheIndexFollows until it is told to end.
func TestTheIndexFollows(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.x.Run(ctx) }()
	for n := range uint64(3) {
		w.append(&audit.Record{Stage: audit.StageResponse, Status: audit.OK, Op: "read", Path: "secret/data/x"})
		select {
		case got := <-w.took:
			if got != n+1 {
				t.Errorf("got record %d, want %d", got, n+1)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("nothing was taken in for 20s")
		}
	}
	cancel()
	must(t, <-ended)
}

func TestWhoHadSaysWhenAndByWhichDoor(t *testing.T) {
	w := newWorld(t)
	add := func(hours int, who, via, op string, status audit.Status) {
		w.append(&audit.Record{Time: start().Add(time.Duration(hours) * time.Hour), Stage: audit.StageResponse, Status: status, Via: via, Identity: who, Op: op,
			Mount: "secret/", Path: "secret/data/db"})
	}
	add(0, "alice", "hvp", "read", audit.OK)
	add(30, "mallory", "hvp", "read", audit.Denied)
	add(50, "bob", "usc", "update", audit.OK)
	add(24*40, "alice", "usc", "read", audit.OK)
	w.run()
	add(24*40+1, "alice", "api", "read", audit.OK)
	got, err := w.x.WhoHad(context.Background(), "secret/db", time.Time{}, time.Time{})
	must(t, err)
	at := func(hours int) time.Time { return start().Add(time.Duration(hours) * time.Hour) }
	want := []index.Holder{
		{Identity: "alice", Reads: 3, First: at(0), Last: at(24*40 + 1), Doors: []string{"api", "hvp", "usc"}},
		{Identity: "bob", Writes: 1, First: at(50), Last: at(50), Doors: []string{"usc"}},
		{Identity: "mallory", Refused: 1, First: at(30), Last: at(30), Doors: []string{"hvp"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	got, err = w.x.WhoHad(context.Background(), "secret/db", at(24), at(24*39))
	must(t, err)
	if diff := cmp.Diff(want[1:], got); diff != "" {
		t.Errorf("while alice had not (-want +got):\n%s", diff)
	}
}

// TestAnIndexThatIsOfNoUseIsBuiltAnew: whatever lies there, the answers are right.
func TestAnIndexThatIsOfNoUseIsBuiltAnew(t *testing.T) {
	other := newWorld(t)
	for range 20 {
		other.append(&audit.Record{Stage: audit.StageEvent, Status: audit.OK, Identity: "bob", Path: "secret/data/x"})
	}
	other.run()
	other.close()
	foreign, err := os.ReadFile(other.db())
	must(t, err)
	other.open()
	for name, spoil := range map[string]func(path string) error{
		"gone":           os.Remove,
		"empty":          func(p string) error { return os.WriteFile(p, nil, 0o600) },
		"not a database": func(p string) error { return os.WriteFile(p, []byte("hello, this is no database at all"), 0o600) },
		"of another log": func(p string) error { return os.WriteFile(p, foreign, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			for i := range 30 {
				w.append(&audit.Record{Stage: audit.StageResponse, Status: audit.OK, Op: "read", Identity: "alice", Path: fmt.Sprintf("secret/data/%d", i%3)})
			}
			w.run()
			w.close()
			must(t, spoil(w.db()))
			w.open()
			if got := w.both(audit.Query{Path: "secret/data/1"}); len(got) != 10 {
				t.Errorf("before it is built: got %v", got)
			}
			w.run()
			if got := w.both(audit.Query{Identity: "alice", Path: "secret/data/1", Limit: 3}); !slices.Equal(got, []uint64{29, 26, 23}) {
				t.Errorf("got %v", got)
			}
			if got := w.both(audit.Query{Identity: "bob"}); got != nil {
				t.Errorf("of another log: got %v", got)
			}
		})
	}
}
