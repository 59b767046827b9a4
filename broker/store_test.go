package broker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
)

// memory is a broker.Store for tests in which time is not real.
type memory struct {
	mu   sync.Mutex
	seq  int64
	byID map[string]broker.Lease
}

func newMemory() *memory { return &memory{byID: make(map[string]broker.Lease)} }

func (m *memory) Insert(_ context.Context, l *broker.Lease) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, there := m.byID[l.ID]; there {
		return fmt.Errorf("lease %s is there already", l.ID)
	}
	m.seq++
	l.Seq = m.seq
	m.byID[l.ID] = *l
	return nil
}

func (m *memory) Move(_ context.Context, l *broker.Lease, from ...broker.State) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	old, there := m.byID[l.ID]
	if !there {
		return broker.ErrNoLease
	}
	if !slices.Contains(from, old.State) {
		return broker.ErrStale
	}
	old.State, old.IssuedAt, old.ExpiresAt, old.NextAt = l.State, l.IssuedAt, l.ExpiresAt, l.NextAt
	old.Attempt, old.Cause, old.Error = l.Attempt, l.Cause, l.Error
	m.byID[l.ID] = old
	return nil
}

func (m *memory) Lease(_ context.Context, id string) (*broker.Lease, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l, there := m.byID[id]
	if !there {
		return nil, broker.ErrNoLease
	}
	return &l, nil
}

func (m *memory) Due(_ context.Context, now time.Time, limit int) ([]*broker.Lease, error) {
	out := m.all(func(l *broker.Lease) bool {
		return l.State != broker.Revoked && !l.NextAt.IsZero() && !l.NextAt.After(now)
	})
	slices.SortStableFunc(out, func(a, b *broker.Lease) int { return a.NextAt.Compare(b.NextAt) })
	return out[:min(limit, len(out))], nil
}

func (m *memory) List(_ context.Context, f broker.Filter) ([]*broker.Lease, error) {
	out := m.all(func(l *broker.Lease) bool {
		states := len(f.States) == 0 && l.State != broker.Revoked || slices.Contains(f.States, l.State)
		return states && l.Seq > f.AfterSeq && strings.HasPrefix(l.ID, f.Prefix) &&
			(f.Target == "" || f.Target == l.Target) && (f.Identity == "" || f.Identity == l.Identity)
	})
	if f.Limit == 0 {
		f.Limit = 1000
	}
	return out[:min(f.Limit, len(out))], nil
}

// all copies the leases that keep wants, by Seq.
func (m *memory) all(keep func(*broker.Lease) bool) []*broker.Lease {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []*broker.Lease
	for _, l := range m.byID {
		if keep(&l) {
			out = append(out, &l)
		}
	}
	slices.SortFunc(out, func(a, b *broker.Lease) int { return int(a.Seq - b.Seq) })
	return out
}

// gatedStore is a store that can refuse, as a full disk or the end of the process does.
type gatedStore struct {
	broker.Store
	refuse func(write string) bool                     // "insert", "move"; nil: never
	due    func(found []*broker.Lease) []*broker.Lease // alters what Due found; nil: nothing
}

var errRefused = errors.New("disk full at /var/lib/secret-path")

func (s *gatedStore) Insert(ctx context.Context, l *broker.Lease) error {
	if s.refuse != nil && s.refuse("insert") {
		return errRefused
	}
	return s.Store.Insert(ctx, l)
}

func (s *gatedStore) Move(ctx context.Context, l *broker.Lease, from ...broker.State) error {
	if s.refuse != nil && s.refuse("move") {
		return errRefused
	}
	return s.Store.Move(ctx, l, from...)
}

func (s *gatedStore) Due(ctx context.Context, now time.Time, limit int) ([]*broker.Lease, error) {
	found, err := s.Store.Due(ctx, now, limit)
	if s.due != nil {
		found = s.due(found)
	}
	return found, err
}
