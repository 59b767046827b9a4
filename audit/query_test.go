package audit_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/audit"
)

func day(n int) time.Time { return time.Date(2026, 11, n, 12, 0, 0, 0, time.UTC) }

// trail is what the query tests look through: number 1 is trail()[0].
func trail() []*audit.Record {
	return []*audit.Record{
		{Time: day(1), Stage: "request", Status: "begun", RequestID: "r1", Via: "hvp", Identity: "ci", AccessID: "p-1", Op: "read", Path: "secret/data/app/db", Mount: "secret/", Target: "vault-a"},
		{Time: day(2), Stage: "response", Status: "ok", RequestID: "r1", Via: "hvp", Identity: "ci", AccessID: "p-1", Op: "read", Path: "secret/data/app/db", Mount: "secret/", Target: "vault-a"},
		{Time: day(3), Stage: "response", Status: "denied", RequestID: "r2", Via: "usc", Identity: "eve", AccessID: "p-2", Op: "list", Path: "secret/metadata/app", Mount: "secret/"},
		{Time: day(2), Stage: "response", Status: "ok", RequestID: "r3", Via: "api", Identity: "ann", Op: "read", Path: "database/creds/readonly", Mount: "database/", LeaseID: "database/creds/readonly/L1", Principal: "bf_1", Target: "pg"},
		{Time: day(5), Stage: "event", Status: "ok", Via: "system", Op: "revoke", LeaseID: "database/creds/readonly/L1", Principal: "bf_1", Target: "pg"},
		{Time: day(6), Stage: "response", Status: "error", RequestID: "r4", Via: "hvp", Identity: `odd "name" \ <é>`, Op: "update", Path: "secret/destroy/app/db", Mount: "secret"},
		{Time: day(7), Stage: "response", Status: "ok", RequestID: "r5", Via: "hvp", Identity: "ci", Op: "read", Path: "team/kv/data/app/db", Mount: "team/kv/"},
		{Time: day(8), Stage: "response", Status: "ok", RequestID: "r6", Via: "hvp", Identity: "cicero", Op: "read", Path: "secret/data/app/db2", Mount: "secret/", Detail: `"identity":"ci"`},
	}
}

func TestQuery(t *testing.T) {
	tests := []struct {
		name string
		q    audit.Query
		want []uint64
	}{
		{"nothing given: all, newest first", audit.Query{}, []uint64{8, 7, 6, 5, 4, 3, 2, 1}},
		{"oldest first", audit.Query{Forward: true}, []uint64{1, 2, 3, 4, 5, 6, 7, 8}},
		{"the newest two", audit.Query{Limit: 2}, []uint64{8, 7}},
		{"the next two", audit.Query{Limit: 2, Before: 7}, []uint64{6, 5}},
		{"the oldest two behind 3", audit.Query{Limit: 2, After: 3, Forward: true}, []uint64{4, 5}},
		{"between two numbers", audit.Query{After: 3, Before: 6}, []uint64{5, 4}},
		{"before the first", audit.Query{Before: 1}, nil},
		{"behind the last", audit.Query{After: 8}, nil},
		{"behind what can't be", audit.Query{After: 1<<64 - 1}, nil},
		{"an identity", audit.Query{Identity: "ci"}, []uint64{7, 2, 1}},
		{"an identity that needs escaping", audit.Query{Identity: `odd "name" \ <é>`}, []uint64{6}},
		{"an access id", audit.Query{AccessID: "p-2"}, []uint64{3}},
		{"an operation", audit.Query{Op: "revoke"}, []uint64{5}},
		{"a status", audit.Query{Status: "denied"}, []uint64{3}},
		{"a door", audit.Query{Via: "usc"}, []uint64{3}},
		{"a stage", audit.Query{Stage: "event"}, []uint64{5}},
		{"a lease", audit.Query{LeaseID: "database/creds/readonly/L1"}, []uint64{5, 4}},
		{"a principal", audit.Query{Principal: "bf_1"}, []uint64{5, 4}},
		{"a request", audit.Query{RequestID: "r1"}, []uint64{2, 1}},
		{"a target", audit.Query{Target: "pg"}, []uint64{5, 4}},
		{"a mount", audit.Query{Mount: "secret/"}, []uint64{8, 6, 3, 2, 1}},
		{"a mount without its slash", audit.Query{Mount: "secret"}, []uint64{8, 6, 3, 2, 1}},
		{"a path", audit.Query{Path: "database/creds/readonly"}, []uint64{4}},
		{"a path is not a prefix", audit.Query{Path: "secret/data/app"}, nil},
		{"a prefix", audit.Query{Path: "secret/data/app/d*"}, []uint64{8, 2, 1}},
		{"a prefix that ends inside the mount", audit.Query{Path: "sec*"}, []uint64{8, 6, 3, 2, 1}},
		{"all paths: not what has none", audit.Query{Path: "*"}, []uint64{8, 7, 6, 4, 3, 2, 1}},
		{"a secret by its own path", audit.Query{Path: "secret/app/db"}, []uint64{6, 2, 1}},
		{"a secret on a mount of two segments", audit.Query{Path: "team/kv/app/db"}, []uint64{7}},
		{"a prefix of secrets", audit.Query{Path: "secret/app/*"}, []uint64{8, 6, 2, 1}},
		{"the data path means data alone", audit.Query{Path: "secret/data/app/db"}, []uint64{2, 1}},
		{"since: that instant too", audit.Query{Since: day(5)}, []uint64{8, 7, 6, 5}},
		{"until: not that instant", audit.Query{Until: day(3)}, []uint64{4, 2, 1}},
		{"a day, also of a record whose time is older than its neighbours'", audit.Query{Since: day(2), Until: day(3)}, []uint64{4, 2}},
		{"everything at once", audit.Query{Path: "secret/*", Identity: "ci", AccessID: "p-1", Op: "read", Status: "ok", Via: "hvp", Stage: "response", RequestID: "r1", Target: "vault-a", Mount: "secret", Since: day(1), Until: day(9), Before: 9, Limit: 5}, []uint64{2}},
		{"two that don't meet", audit.Query{Identity: "ci", Status: "denied"}, nil},
	}
	for _, segmentBytes := range []int64{0, 1, 700} {
		dir := t.TempDir()
		l := open(t, audit.Config{Dir: dir, SegmentBytes: segmentBytes})
		write(t, l, trail()...)
		check := func(t *testing.T) {
			for _, test := range tests {
				var got []uint64
				for _, r := range find(t, l, test.q) {
					got = append(got, r.Seq)
				}
				if !slices.Equal(got, test.want) {
					t.Errorf("%s: got %v, want %v", test.name, got, test.want)
				}
			}
		}
		t.Run(fmt.Sprintf("segments of %d bytes", segmentBytes), check)
		closeLog(t, l)
		l = open(t, audit.Config{Dir: dir, SegmentBytes: segmentBytes})
		t.Run(fmt.Sprintf("segments of %d bytes, opened again", segmentBytes), check)
	}
}

// TestQueryTimesOfOldSegments asks for a span of time first thing, when the older segments were not read yet.
func TestQueryTimesOfOldSegments(t *testing.T) {
	dir := t.TempDir()
	l := open(t, audit.Config{Dir: dir, SegmentBytes: 700})
	write(t, l, trail()...)
	for _, test := range []struct {
		from, to int
		want     []uint64
	}{{1, 2, []uint64{1}}, {2, 3, []uint64{4, 2}}, {5, 7, []uint64{6, 5}}, {9, 12, nil}} {
		closeLog(t, l)
		l = open(t, audit.Config{Dir: dir, SegmentBytes: 700})
		var got []uint64
		for _, r := range find(t, l, audit.Query{Since: day(test.from), Until: day(test.to)}) {
			got = append(got, r.Seq)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("from day %d to day %d: got %v, want %v", test.from, test.to, got, test.want)
		}
	}
}

// TestQueryManyBlocks goes through segments of many blocks.
func TestQueryManyBlocks(t *testing.T) {
	const n = 3000
	l := open(t, audit.Config{Dir: t.TempDir(), SegmentBytes: 1 << 20})
	pad := strings.Repeat("x", 700)
	for from := 0; from < n; from += 100 {
		var batch []*audit.Record
		for i := from; i < from+100; i++ {
			batch = append(batch, &audit.Record{Time: day(1).Add(time.Duration(i) * time.Second), Path: fmt.Sprintf("p/%d", i), Detail: pad})
		}
		if err := l.Append(t.Context(), batch...); err != nil {
			t.Fatal(err)
		}
	}
	if got := paths(t, l, audit.Query{Path: "p/1234"}); len(got) != 1 {
		t.Errorf("one path: got %v", got)
	}
	got := find(t, l, audit.Query{Since: day(1).Add(500 * time.Second), Until: day(1).Add(2500 * time.Second)})
	if len(got) != 2000 || got[0].Seq != 2500 || got[1999].Seq != 501 {
		t.Errorf("a span of time: got %d records", len(got))
	}
	for i, r := range find(t, l, audit.Query{Forward: true}) {
		if r.Seq != uint64(i+1) {
			t.Fatalf("place %d: got record %d", i, r.Seq)
		}
	}
	if all := find(t, l, audit.Query{}); len(all) != n || all[n-1].Seq != 1 {
		t.Errorf("newest first: got %d records, want %d down to 1", len(all), n)
	}
}

func TestQueryEnds(t *testing.T) {
	l := open(t, audit.Config{Dir: t.TempDir()})
	writeN(t, l, 5)
	stop, calls := errors.New("enough"), 0
	if err := l.Query(t.Context(), audit.Query{}, func(*audit.Record) error { calls++; return stop }); !errors.Is(err, stop) || calls != 1 {
		t.Errorf("error of the function: got %v after %d calls, want it back after one", err, calls)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Query(ctx, audit.Query{}, func(*audit.Record) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
}

// TestQuerySeesDamage changes an old segment under an open log.
func TestQuerySeesDamage(t *testing.T) {
	dir := t.TempDir()
	l := open(t, audit.Config{Dir: dir, SegmentBytes: 1})
	writeN(t, l, 3)
	file := segments(t, dir)[1]
	b := read(t, file)
	b[len(b)-40] ^= 1
	put(t, file, b)
	err := l.Query(t.Context(), audit.Query{}, func(*audit.Record) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "00000000000000000002.audit is damaged") {
		t.Errorf("got %v, want an error that names the segment", err)
	}
}

// TestQueryBesideAppends reads while records are appended and segments change.
func TestQueryBesideAppends(t *testing.T) {
	const callers, each = 8, 60
	l := open(t, audit.Config{Dir: t.TempDir(), SegmentBytes: 8 << 10})
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range each {
				r := served(c*each + i)
				if err := l.Append(context.Background(), r); err != nil {
					t.Errorf("append: %v", err)
					return
				}
				got := find(t, l, audit.Query{Path: r.Path})
				if len(got) != 1 || got[0].Seq != r.Seq {
					t.Errorf("%s right after it was appended: got %d records", r.Path, len(got))
					return
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		head, next := l.Head().Seq, uint64(1)
		for _, r := range find(t, l, audit.Query{Forward: true}) {
			if r.Seq != next {
				t.Fatalf("got record %d, want %d", r.Seq, next)
			}
			next++
		}
		if next <= head {
			t.Fatalf("got %d records, want at least the %d that were durable before", next-1, head)
		}
	}
	if got := len(find(t, l, audit.Query{})); got != callers*each {
		t.Errorf("got %d records, want %d", got, callers*each)
	}
}
