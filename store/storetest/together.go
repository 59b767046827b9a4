package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/internal/object"
)

func concurrencyTests() map[string]func(*testing.T, Store) {
	return map[string]func(*testing.T, Store){
		"of many inserts of one id one succeeds":           oneInsertWins,
		"of many moves from one state one succeeds":        oneMoveWins,
		"of many writes from one version one succeeds":     oneApplyWins,
		"writes that come together share commits":          commitsAreShared,
		"a write that fails takes no other with it":        failuresStayAlone,
		"every write is seen by reads that begin after it": readsSeeWrites,
		"pages miss nothing that was there before":         pagesDuringInserts,
		"a context that ends leaves the truth":             cancelledWrites,
	}
}

// together calls f n times at once and waits for all.
func together(n int, f func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() { <-start; f(i) })
	}
	close(start)
	wg.Wait()
}

func oneInsertWins(t *testing.T, s Store) {
	won := make([]*broker.Lease, 32)
	together(len(won), func(i int) {
		l := newLease("x", func(l *broker.Lease) { l.Identity = fmt.Sprint("i", i) })
		if s.Insert(t.Context(), l) == nil {
			won[i] = l
		}
	})
	n := 0
	for _, l := range won {
		if l != nil {
			n++
			wantLease(t, s, l)
		}
	}
	if n != 1 {
		t.Errorf("%d of %d inserts succeeded, want 1", n, len(won))
	}
}

func oneMoveWins(t *testing.T, s Store) {
	l := insert(t, s, newLease("x"))
	won := make([]*broker.Lease, 32)
	together(len(won), func(i int) {
		moved := *l
		moved.State, moved.Attempt = broker.Active, i+1
		switch err := s.Move(t.Context(), &moved, broker.Pending); {
		case err == nil:
			won[i] = &moved
		case !errors.Is(err, broker.ErrStale):
			t.Errorf("got %v, want ErrStale", err)
		}
	})
	n := 0
	for _, l := range won {
		if l != nil {
			n++
			wantLease(t, s, l)
		}
	}
	if n != 1 {
		t.Errorf("%d of %d moves succeeded, want 1", n, len(won))
	}
}

func oneApplyWins(t *testing.T, s Store) {
	apply(t, s, object.Change{Record: newObject(object.KindTarget, "a")}, object.Change{Record: newObject(object.KindTarget, "b")})
	var won atomic.Int32
	together(32, func(i int) {
		first, second := "a", "b"
		if i%2 == 0 {
			first, second = second, first
		}
		err := s.Apply(t.Context(), []object.Change{
			{Record: newObject(object.KindTarget, first), Expect: 1}, {Record: newObject(object.KindTarget, second), Expect: 1},
		})
		switch {
		case err == nil:
			won.Add(1)
		case !errors.Is(err, object.ErrConflict):
			t.Errorf("got %v, want ErrConflict", err)
		}
	})
	if won.Load() != 1 {
		t.Errorf("%d of 32 writes succeeded, want 1", won.Load())
	}
	wantObject(t, s, newObject(object.KindTarget, "a"), 2)
	wantObject(t, s, newObject(object.KindTarget, "b"), 2)
}

func commitsAreShared(t *testing.T, s Store) {
	c, ok := s.(Counter)
	if !ok {
		t.Log("this store does not count its commits")
		return
	}
	commits, operations := c.Writes()
	const writers, each = 64, 20
	together(writers, func(i int) {
		for n := range each {
			if err := s.Insert(t.Context(), newLease(fmt.Sprintf("w%d-%d", i, n))); err != nil {
				t.Error(err)
			}
		}
	})
	commitsAfter, operationsAfter := c.Writes()
	commits, operations = commitsAfter-commits, operationsAfter-operations
	if operations != writers*each {
		t.Errorf("%d operations were counted, want %d", operations, writers*each)
	}
	if commits <= 0 || commits > operations/2 {
		t.Errorf("%d operations took %d commits, want at most half as many", operations, commits)
	}
}

func failuresStayAlone(t *testing.T, s Store) {
	insert(t, s, newLease("taken"))
	together(64, func(i int) {
		switch i % 4 {
		case 0:
			if err := s.Insert(t.Context(), newLease("taken")); err == nil {
				t.Error("a taken id was taken again")
			}
		case 1:
			changes := []object.Change{{Record: newObject(object.KindTarget, fmt.Sprint("half", i))}, {Record: newObject(object.KindRole, "none"), Expect: 1}}
			if err := s.Apply(t.Context(), changes); !errors.Is(err, object.ErrConflict) {
				t.Errorf("got %v, want ErrConflict", err)
			}
		case 2:
			if err := s.Insert(t.Context(), newLease(fmt.Sprint("good", i))); err != nil {
				t.Error(err)
			}
		case 3:
			if err := s.Apply(t.Context(), []object.Change{{Record: newObject(object.KindTarget, fmt.Sprint("good", i))}}); err != nil {
				t.Error(err)
			}
		}
	})
	leases, err := s.List(t.Context(), broker.Filter{Prefix: "good"})
	if err != nil || len(leases) != 16 {
		t.Errorf("got %d leases, %v, want 16", len(leases), err)
	}
	all, err := s.Objects(t.Context())
	if err != nil || len(all) != 16 {
		t.Errorf("got %d objects, %v, want 16", len(all), err)
	}
}

func readsSeeWrites(t *testing.T, s Store) {
	together(8, func(i int) {
		for n := range 20 {
			l := newLease(fmt.Sprintf("w%d-%d", i, n))
			if err := s.Insert(t.Context(), l); err != nil {
				t.Error(err)
				return
			}
			wantLease(t, s, l)
			l.State = broker.Revoking
			l.NextAt = epoch().Add(-1)
			if err := s.Move(t.Context(), l, broker.Pending); err != nil {
				t.Error(err)
				return
			}
			wantLease(t, s, l)
		}
	})
}

// pagesDuringInserts reads pages while others insert: nothing that was there at the beginning may be missed, and nothing
// may come behind a page that was read with a higher Seq already.
func pagesDuringInserts(t *testing.T, s Store) {
	want := map[string]bool{}
	for i := range 50 {
		want[insert(t, s, newLease(fmt.Sprint("before", i))).ID] = true
	}
	together(5, func(i int) {
		if i > 0 {
			for n := range 50 {
				if err := s.Insert(t.Context(), newLease(fmt.Sprintf("w%d-%d", i, n))); err != nil {
					t.Error(err)
				}
			}
			return
		}
		got, err := everything(t.Context(), s, 3)
		if err != nil {
			t.Error(err)
		}
		seen := map[string]bool{}
		for _, l := range got {
			seen[l.ID] = true
		}
		for id := range want {
			if !seen[id] {
				t.Errorf("%s was missed", id)
			}
		}
	})
	all, err := everything(t.Context(), s, 7)
	if err != nil || len(all) != 250 {
		t.Errorf("got %d leases, %v, want 250", len(all), err)
	}
}

// cancelledWrites ends contexts while their writes are under way: an answer without an error means that it was written, and
// one that blames the context that it was not.
func cancelledWrites(t *testing.T, s Store) {
	const n = 128
	errs := make([]error, n)
	together(n, func(i int) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { cancel(); close(ended) }()
		errs[i] = s.Insert(ctx, newLease(fmt.Sprint("x", i)))
		<-ended
	})
	for i, err := range errs {
		_, found := s.Lease(t.Context(), fmt.Sprint("x", i))
		switch {
		case err == nil && found != nil:
			t.Errorf("an insert succeeded and the lease is not there: %v", found)
		case err != nil && !errors.Is(err, context.Canceled):
			t.Errorf("got %v, want context.Canceled", err)
		case err != nil && !errors.Is(found, broker.ErrNoLease):
			t.Errorf("an insert failed with %v and the lease is there (%v)", err, found)
		}
	}
}
