package audit_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bailiff-secrets/bailiff/audit"
)

// numbers gives each of list without an error.
func numbers(list ...uint64) func(func(uint64, error) bool) {
	return func(yield func(uint64, error) bool) {
		for _, n := range list {
			if !yield(n, nil) {
				return
			}
		}
	}
}

func TestLookupFindsSingleRecords(t *testing.T) {
	l := open(t, audit.Config{Dir: t.TempDir(), SegmentBytes: 3000})
	for i := range 100 {
		r := served(i)
		r.Identity = []string{"alice", "bob"}[i%2]
		write(t, l, r)
	}
	ask := func(q audit.Query, list ...uint64) (got []uint64) {
		t.Helper()
		err := l.Lookup(context.Background(), q, numbers(list...), func(r *audit.Record) error {
			got = append(got, r.Seq)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	for _, c := range []struct{ ask, want []uint64 }{
		{nil, nil},
		{[]uint64{1, 2, 100}, []uint64{1, 2, 100}},
		{[]uint64{100, 50, 1, 51}, []uint64{100, 50, 1, 51}},
		{[]uint64{0, 101, 7, 1 << 63}, []uint64{7}},
	} {
		if diff := cmp.Diff(c.want, ask(audit.Query{}, c.ask...)); diff != "" {
			t.Errorf("%v (-want +got):\n%s", c.ask, diff)
		}
	}
	if got := ask(audit.Query{Identity: "bob", Limit: 2}, 9, 8, 7, 6, 5, 4); !slices.Equal(got, []uint64{8, 6}) {
		t.Errorf("two of bob's: got %v, want 8 and 6", got)
	}
	stop := errors.New("stop")
	bad := func(yield func(uint64, error) bool) { yield(0, stop) }
	if err := l.Lookup(context.Background(), audit.Query{}, bad, nil); !errors.Is(err, stop) {
		t.Errorf("got %v, want the error of the numbers", err)
	}
	if err := l.Lookup(context.Background(), audit.Query{}, numbers(1), func(*audit.Record) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v, want the error of the function", err)
	}
}
