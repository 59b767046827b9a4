package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
)

func expiringTests() map[string]func(*testing.T, Store) {
	return map[string]func(*testing.T, Store){
		"active leases come by their end, once": expiringByEnd,
		"pages follow within one instant":       expiringPages,
	}
}

// ending is an active lease that ends so long after the epoch.
func ending(t *testing.T, s Store, id string, after time.Duration, state broker.State) {
	insert(t, s, newLease(id, inState(state), func(l *broker.Lease) {
		l.ExpiresAt = epoch().Add(after)
		l.NextAt = l.ExpiresAt
	}))
}

func expiringByEnd(t *testing.T, s Store) {
	ending(t, s, "d", 40*time.Second, broker.Active)
	ending(t, s, "b", 20*time.Second, broker.Active)
	ending(t, s, "a", 10*time.Second, broker.Active)
	ending(t, s, "c", 30*time.Second, broker.Active)
	for i, state := range []broker.State{broker.Pending, broker.Pooled, broker.Revoking, broker.Stuck} {
		ending(t, s, fmt.Sprint("no", i), 20*time.Second, state)
	}
	for _, tt := range []struct {
		after, until int // seconds
		want         []string
	}{
		{0, 40, []string{"a", "b", "c", "d"}},
		{0, 39, []string{"a", "b", "c"}},
		{15, 30, []string{"b", "c"}},
		{41, 100, nil},
		{0, 5, nil},
	} {
		got, err := s.Expiring(t.Context(), epoch().Add(time.Duration(tt.after)*time.Second), 0, epoch().Add(time.Duration(tt.until)*time.Second), 100)
		if err != nil || !slices.Equal(ids(got), tt.want) && len(got)+len(tt.want) > 0 {
			t.Errorf("after %d until %d: got %q, %v, want %q", tt.after, tt.until, ids(got), err, tt.want)
		}
	}
	b, err := s.Lease(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Expiring(t.Context(), b.NextAt, b.Seq, epoch().Add(time.Hour), 100)
	if err != nil || !slices.Equal(ids(got), []string{"c", "d"}) {
		t.Errorf("behind b: got %q, %v", ids(got), err)
	}
}

func expiringPages(t *testing.T, s Store) {
	var want []string
	for i := range 10 {
		id := fmt.Sprintf("x%02d", i)
		want = append(want, id)
		ending(t, s, id, time.Minute, broker.Active)
	}
	var got []string
	for after, seq := epoch(), int64(0); ; {
		page, err := s.Expiring(t.Context(), after, seq, epoch().Add(time.Hour), 3)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, ids(page)...)
		if len(page) < 3 {
			break
		}
		after, seq = page[2].NextAt, page[2].Seq
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
