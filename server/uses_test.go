package server

import (
	"sync"
	"sync/atomic"
	"testing"
)

func TestUsesAreCountedTogether(t *testing.T) {
	s := newServer(t)
	u := uses{s.db}
	var taken atomic.Int64
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 5 {
				ok, err := u.Take(t.Context(), "rule", 7)
				if err != nil {
					t.Error(err)
				}
				if ok {
					taken.Add(1)
				}
			}
		})
	}
	group.Wait()
	if got := taken.Load(); got != 7 {
		t.Errorf("40 callers took %d uses, want 7", got)
	}
	if ok, err := (uses{s.db}).Take(t.Context(), "other", 1); err != nil || !ok {
		t.Errorf("another rule: got %v, %v, want a use of its own", ok, err)
	}
}
