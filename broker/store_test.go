package broker_test

import (
	"container/heap"
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
	mu          sync.Mutex
	seq         int64
	byID        map[string]broker.Lease
	times       timeline
	claims      map[string]claim // by lease
	revocations map[string]broker.Revocation
}

// claim holds a lease for one broker.
type claim struct {
	by    string
	until time.Time
}

func newMemory() *memory {
	return &memory{
		byID: make(map[string]broker.Lease), claims: make(map[string]claim), revocations: make(map[string]broker.Revocation),
	}
}

func (m *memory) Insert(_ context.Context, l *broker.Lease) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, there := m.byID[l.ID]; there {
		return fmt.Errorf("lease %s is there already", l.ID)
	}
	m.seq++
	l.Seq, l.Version = m.seq, 1
	m.byID[l.ID] = *l
	m.at(l)
	return nil
}

func (m *memory) Move(_ context.Context, l *broker.Lease, from ...broker.State) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	old, there := m.byID[l.ID]
	if !there {
		return broker.ErrNoLease
	}
	if !slices.Contains(from, old.State) || old.Version != l.Version {
		return broker.ErrStale
	}
	if old.State == broker.Pooled && l.State != broker.Pooled {
		old.MaxExpiresAt, old.Identity, old.AccessID, old.RequestID = l.MaxExpiresAt, l.Identity, l.AccessID, l.RequestID
		old.Token, old.Claims, old.Outlives, old.ShareKey = l.Token, l.Claims, l.Outlives, l.ShareKey
	}
	l.Version++
	old.Version, old.Holders = l.Version, l.Holders
	old.State, old.IssuedAt, old.ExpiresAt, old.NextAt = l.State, l.IssuedAt, l.ExpiresAt, l.NextAt
	old.Attempt, old.Cause, old.Error = l.Attempt, l.Cause, l.Error
	if !old.NextAt.Equal(m.byID[l.ID].NextAt) {
		m.at(&old)
	}
	m.byID[l.ID] = old
	delete(m.claims, l.ID)
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
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.due(now, limit), nil
}

// due lists what Due does. The caller holds m.mu.
func (m *memory) due(now time.Time, limit int) []*broker.Lease {
	var out []*broker.Lease
	var found []moment
	for len(m.times) > 0 && len(out) < limit && !m.times[0].at.After(now) {
		x := heap.Pop(&m.times).(moment)
		l := m.byID[x.id]
		if l.State == broker.Revoked || !l.NextAt.Equal(x.at) || len(found) > 0 && found[len(found)-1] == x {
			continue
		}
		found = append(found, x)
		out = append(out, &l)
	}
	for _, x := range found {
		heap.Push(&m.times, x)
	}
	return out
}

// moment is when a lease was due when it was written.
type moment struct {
	at  time.Time
	seq int64
	id  string
}

// timeline is a heap of moments.
type timeline []moment

func (x timeline) Len() int { return len(x) }
func (x timeline) Less(i, j int) bool {
	if c := x[i].at.Compare(x[j].at); c != 0 {
		return c < 0
	}
	return x[i].seq < x[j].seq
}
func (x timeline) Swap(i, j int) { x[i], x[j] = x[j], x[i] }
func (x *timeline) Push(v any)   { *x = append(*x, v.(moment)) }
func (x *timeline) Pop() any {
	last := (*x)[len(*x)-1]
	*x = (*x)[:len(*x)-1]
	return last
}

// at notes when l is due. The caller holds m.mu.
func (m *memory) at(l *broker.Lease) {
	if !l.NextAt.IsZero() {
		heap.Push(&m.times, moment{l.NextAt, l.Seq, l.ID})
	}
}

func (m *memory) List(_ context.Context, f broker.Filter) ([]*broker.Lease, error) {
	out := m.all(func(l *broker.Lease) bool {
		states := len(f.States) == 0 && l.State != broker.Revoked || slices.Contains(f.States, l.State)
		return states && l.Seq > f.AfterSeq && strings.HasPrefix(l.ID, f.Prefix) &&
			(f.Target == "" || f.Target == l.Target) && (f.Identity == "" || f.Identity == l.Identity) &&
			(f.Mount == "" || f.Mount == l.Mount) && (f.Role == "" || f.Role == l.Role) && (f.Cause == "" || f.Cause == l.Cause) &&
			(f.Producer == "" || f.Producer == l.Producer) && (f.Token == "" || f.Token == l.Token) &&
			(f.ShareKey == "" || f.ShareKey == l.ShareKey) && (len(f.Claims) == 0 || broker.Selector{Claims: f.Claims}.Matches(l))
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

func (m *memory) Claim(_ context.Context, by string, now, until time.Time, limit int) ([]*broker.Lease, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []*broker.Lease
	for _, l := range m.due(now, limit+len(m.claims)) {
		if c, held := m.claims[l.ID]; held && c.until.After(now) {
			continue
		}
		if len(out) == limit {
			break
		}
		m.claims[l.ID] = claim{by, until}
		out = append(out, l)
	}
	return out, nil
}

func (m *memory) PutRevocation(_ context.Context, r *broker.Revocation) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	r.UpTo = m.seq
	m.revocations[r.ID] = *r
	return nil
}

func (m *memory) UpdateRevocation(_ context.Context, r *broker.Revocation) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, there := m.revocations[r.ID]; !there {
		return broker.ErrNoRevocation
	}
	m.revocations[r.ID] = *r
	return nil
}

func (m *memory) Revocation(_ context.Context, id string) (*broker.Revocation, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, there := m.revocations[id]
	if !there {
		return nil, broker.ErrNoRevocation
	}
	return &r, nil
}

func (m *memory) OpenRevocations(_ context.Context, limit int) ([]*broker.Revocation, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var open, done []*broker.Revocation
	for _, r := range m.revocations {
		if r.DoneAt.IsZero() {
			open = append(open, &r)
		} else {
			done = append(done, &r)
		}
	}
	slices.SortFunc(open, func(a, b *broker.Revocation) int { return a.CreatedAt.Compare(b.CreatedAt) })
	slices.SortFunc(done, func(a, b *broker.Revocation) int { return b.DoneAt.Compare(a.DoneAt) })
	return append(open, done[:min(len(done), max(0, limit-len(open)))]...), nil
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

// The revocations of many are those of the store below, where it keeps some.

func (s *gatedStore) PutRevocation(ctx context.Context, r *broker.Revocation) error {
	if s.refuse != nil && s.refuse("put") {
		return errRefused
	}
	return s.Store.(broker.Revocations).PutRevocation(ctx, r)
}

func (s *gatedStore) UpdateRevocation(ctx context.Context, r *broker.Revocation) error {
	if s.refuse != nil && s.refuse("update") {
		return errRefused
	}
	return s.Store.(broker.Revocations).UpdateRevocation(ctx, r)
}

func (s *gatedStore) Revocation(ctx context.Context, id string) (*broker.Revocation, error) {
	return s.Store.(broker.Revocations).Revocation(ctx, id)
}

func (s *gatedStore) OpenRevocations(ctx context.Context, limit int) ([]*broker.Revocation, error) {
	return s.Store.(broker.Revocations).OpenRevocations(ctx, limit)
}

func (s *gatedStore) Due(ctx context.Context, now time.Time, limit int) ([]*broker.Lease, error) {
	found, err := s.Store.Due(ctx, now, limit)
	if s.due != nil {
		found = s.due(found)
	}
	return found, err
}
