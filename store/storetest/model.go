package storetest

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/secret"
)

// model is a store as simple as can be: what a real one is compared with. It keeps nothing on a disk and finds by looking at
// everything.
type model struct {
	mu      sync.Mutex // guards all below
	leases  []*broker.Lease
	ends    map[string]time.Time // when leases that are to be revoked should have been, by ID
	claims  map[string]time.Time // until when leases are claimed, by ID
	many    []*broker.Revocation
	objects map[objectName]object.Record
	keys    map[string]identity.Key
}

type objectName struct {
	kind object.Kind
	name string
}

func newModel() *model {
	return &model{
		objects: map[objectName]object.Record{}, keys: map[string]identity.Key{},
		ends: map[string]time.Time{}, claims: map[string]time.Time{},
	}
}

var errModel = errors.New("refused by the model")

func (m *model) Insert(ctx context.Context, l *broker.Lease) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if m.find(l.ID) != nil || !slices.Contains(allStates(), l.State) {
		return errModel
	}
	l.Seq, l.Version = int64(len(m.leases)+1), 1
	m.leases = append(m.leases, copyLease(l))
	m.keepEnd(l)
	return nil
}

func (m *model) Move(ctx context.Context, l *broker.Lease, from ...broker.State) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if !slices.Contains(allStates(), l.State) {
		return errModel
	}
	x := m.find(l.ID)
	switch {
	case x == nil:
		return broker.ErrNoLease
	case !slices.Contains(from, x.State), x.State == broker.Revoked && l.State != broker.Revoked, x.Version != l.Version:
		return broker.ErrStale
	}
	l.Version++
	in := copyLease(l)
	if x.State == broker.Pooled && l.State != broker.Pooled {
		x.MaxExpiresAt, x.Identity, x.AccessID, x.RequestID = in.MaxExpiresAt, in.Identity, in.AccessID, in.RequestID
		x.Token, x.Claims, x.Outlives, x.ShareKey = in.Token, in.Claims, in.Outlives, in.ShareKey
	}
	x.State, x.IssuedAt, x.ExpiresAt, x.NextAt = in.State, in.IssuedAt, in.ExpiresAt, in.NextAt
	x.Attempt, x.Cause, x.Error, x.Holders, x.Version = in.Attempt, in.Cause, in.Error, in.Holders, in.Version
	m.keepEnd(x)
	delete(m.claims, x.ID)
	return nil
}

// keepEnd notes when a lease that is to be revoked should have been, at the first move towards it.
func (m *model) keepEnd(l *broker.Lease) {
	at, kept := m.ends[l.ID]
	switch {
	case l.State != broker.Revoking && l.State != broker.Stuck:
		delete(m.ends, l.ID)
		return
	case kept && !at.IsZero():
		return
	}
	at = l.NextAt
	if at.IsZero() || !l.ExpiresAt.IsZero() && l.ExpiresAt.Before(at) {
		at = l.ExpiresAt
	}
	m.ends[l.ID] = at
}

func (m *model) Lease(ctx context.Context, id string) (*broker.Lease, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if l := m.find(id); l != nil {
		return copyLease(l), nil
	}
	return nil, broker.ErrNoLease
}

func (m *model) Due(ctx context.Context, now time.Time, limit int) ([]*broker.Lease, error) {
	due, err := m.choose(ctx, func(l *broker.Lease) bool { return isDue(l, now) })
	slices.SortStableFunc(due, func(a, b *broker.Lease) int { return a.NextAt.Compare(b.NextAt) })
	return due[:min(len(due), max(limit, 0))], err
}

func (m *model) Expiring(ctx context.Context, after time.Time, afterSeq int64, until time.Time, limit int) ([]*broker.Lease, error) {
	found, err := m.choose(ctx, func(l *broker.Lease) bool {
		return l.State == broker.Active && !l.NextAt.IsZero() && !l.NextAt.After(until) &&
			(l.NextAt.After(after) || l.NextAt.Equal(after) && l.Seq > afterSeq)
	})
	slices.SortStableFunc(found, func(a, b *broker.Lease) int { return a.NextAt.Compare(b.NextAt) })
	return found[:min(len(found), max(limit, 0))], err
}

func isDue(l *broker.Lease, now time.Time) bool {
	return l.State != broker.Revoked && !l.NextAt.IsZero() && !l.NextAt.After(now)
}

func (m *model) Claim(ctx context.Context, _ string, now, until time.Time, limit int) ([]*broker.Lease, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	due, err := m.look(ctx, func(l *broker.Lease) bool { return isDue(l, now) && !m.claims[l.ID].After(now) })
	slices.SortStableFunc(due, func(a, b *broker.Lease) int { return a.NextAt.Compare(b.NextAt) })
	due = due[:min(len(due), max(limit, 0))]
	for _, l := range due {
		m.claims[l.ID] = until
	}
	return due, err
}

func (m *model) Open(ctx context.Context, sel broker.Selector, _ int) (int, error) {
	found, err := m.choose(ctx, func(l *broker.Lease) bool { return l.State != broker.Revoked && sel.Matches(l) })
	return len(found), err
}

func (m *model) Tally(ctx context.Context) ([]broker.Tally, error) {
	open, err := m.choose(ctx, func(l *broker.Lease) bool { return l.State != broker.Revoked })
	n := map[broker.Tally]int{}
	for _, l := range open {
		n[broker.Tally{State: l.State, Target: l.Target, Cause: l.Cause}]++
	}
	var lines []broker.Tally
	for line, n := range n {
		line.N = n
		lines = append(lines, line)
	}
	sortTally(lines)
	return lines, err
}

func sortTally(lines []broker.Tally) {
	slices.SortFunc(lines, func(a, b broker.Tally) int {
		return cmp.Or(cmp.Compare(a.State, b.State), cmp.Compare(a.Target, b.Target), cmp.Compare(a.Cause, b.Cause))
	})
}

func (m *model) Overdue(ctx context.Context, now time.Time) (oldest time.Time, err error) {
	count := func(at time.Time) {
		if oldest.IsZero() || at.Before(oldest) {
			oldest = at
		}
	}
	_, err = m.choose(ctx, func(l *broker.Lease) bool {
		due := isDue(l, now)
		if due {
			count(l.NextAt)
		}
		if end, toEnd := m.ends[l.ID]; toEnd && !end.IsZero() && !end.After(now) && (due || l.Attempt > 0) {
			count(end)
		}
		return false
	})
	return oldest, err
}

func (m *model) PutRevocation(ctx context.Context, r *broker.Revocation) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if m.revocation(r.ID) != nil {
		return errModel
	}
	r.UpTo = int64(len(m.leases))
	c := *r
	m.many = append(m.many, &c)
	return nil
}

func (m *model) UpdateRevocation(ctx context.Context, r *broker.Revocation) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	x := m.revocation(r.ID)
	if x == nil {
		return broker.ErrNoRevocation
	}
	x.Cursor, x.Marked, x.Expanded, x.DoneAt, x.Revoked, x.Open, x.Sessions = r.Cursor, r.Marked, r.Expanded, r.DoneAt, r.Revoked, r.Open, r.Sessions
	return nil
}

func (m *model) Revocation(ctx context.Context, id string) (*broker.Revocation, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if x := m.revocation(id); x != nil {
		c := *x
		return &c, ctx.Err()
	}
	return nil, broker.ErrNoRevocation
}

func (m *model) OpenRevocations(ctx context.Context, limit int) ([]*broker.Revocation, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var open, done []*broker.Revocation
	for _, x := range m.many {
		c := *x
		if c.DoneAt.IsZero() {
			open = append(open, &c)
		} else {
			done = append(done, &c)
		}
	}
	slices.Reverse(done)
	return append(open, done[:min(len(done), max(limit-len(open), 0))]...), ctx.Err()
}

func (m *model) revocation(id string) *broker.Revocation {
	for _, r := range m.many {
		if r.ID == id {
			return r
		}
	}
	return nil
}

func (m *model) List(ctx context.Context, f broker.Filter) ([]*broker.Lease, error) {
	is := func(want, got string) bool { return want == "" || want == got }
	found, err := m.choose(ctx, func(l *broker.Lease) bool {
		state := l.State != broker.Revoked
		if len(f.States) > 0 {
			state = slices.Contains(f.States, l.State)
		}
		return state && l.Seq > f.AfterSeq && strings.HasPrefix(l.ID, f.Prefix) && is(f.Identity, l.Identity) && is(f.Target, l.Target) &&
			is(f.Mount, l.Mount) && is(f.Role, l.Role) && is(string(f.Cause), string(l.Cause)) && is(f.Producer, l.Producer) &&
			is(f.Token, l.Token) && is(f.ShareKey, l.ShareKey) && (len(f.Claims) == 0 || broker.Selector{Claims: f.Claims}.Matches(l))
	})
	limit := f.Limit
	if limit <= 0 {
		limit = 1000
	}
	return found[:min(len(found), limit)], err
}

func (m *model) choose(ctx context.Context, wanted func(*broker.Lease) bool) ([]*broker.Lease, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.look(ctx, wanted)
}

// look is choose for who holds mu.
func (m *model) look(ctx context.Context, wanted func(*broker.Lease) bool) ([]*broker.Lease, error) {
	var found []*broker.Lease
	for _, l := range m.leases {
		if wanted(l) {
			found = append(found, copyLease(l))
		}
	}
	return found, ctx.Err()
}

func (m *model) find(id string) *broker.Lease {
	for _, l := range m.leases {
		if l.ID == id {
			return l
		}
	}
	return nil
}

// copyLease is a copy that shares nothing, with times in UTC.
func copyLease(l *broker.Lease) *broker.Lease {
	c := *l
	c.Data = slices.Clone(l.Data)
	for _, t := range []*time.Time{&c.IssuedAt, &c.ExpiresAt, &c.MaxExpiresAt, &c.IntentDeadline, &c.NextAt} {
		*t = t.UTC()
	}
	return &c
}

func (m *model) Apply(ctx context.Context, changes []object.Change) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	next := maps.Clone(m.objects)
	for _, c := range changes {
		if !slices.Contains(object.Kinds, c.Record.Kind) {
			return errModel
		}
		name := objectName{c.Record.Kind, c.Record.Name}
		if next[name].Version != c.Expect { // 0 where there is none
			return object.ErrConflict
		}
		r := c.Record
		r.Version, r.Body, r.Secrets = c.Expect+1, slices.Clone(r.Body), maps.Clone(r.Secrets)
		next[name] = r
		if c.Delete {
			delete(next, name)
		}
	}
	m.objects = next
	return nil
}

func (m *model) Object(ctx context.Context, kind object.Kind, name string) (object.Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r, ok := m.objects[objectName{kind, name}]; ok {
		return r, ctx.Err()
	}
	return object.Record{}, object.ErrNotFound
}

func (m *model) Objects(ctx context.Context) ([]object.Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.SortedFunc(maps.Values(m.objects), func(a, b object.Record) int {
		return cmp.Or(slices.Index(object.Kinds, a.Kind)-slices.Index(object.Kinds, b.Kind), strings.Compare(a.Name, b.Name))
	}), ctx.Err()
}

func (m *model) PutKey(ctx context.Context, k identity.Key) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	m.keys[k.ID] = k
	return nil
}

func (m *model) DeleteKey(_ context.Context, accessID, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.keys[id].AccessID == accessID {
		delete(m.keys, id)
	}
	return nil
}

func (m *model) Keys(context.Context) ([]identity.Key, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.SortedFunc(maps.Values(m.keys), func(a, b identity.Key) int {
		return cmp.Or(strings.Compare(a.AccessID, b.AccessID), strings.Compare(a.ID, b.ID))
	}), nil
}

// fill writes some of everything. What is secret holds canary.
func fill(t testing.TB, s Store, canary string) {
	t.Helper()
	insert(t, s, newLease("database/creds/app/kept", func(l *broker.Lease) { l.Data = []byte("data " + canary) }))
	l := insert(t, s, newLease("database/creds/app/moved", func(l *broker.Lease) { l.Data = []byte(canary) }))
	l.State, l.Error, l.NextAt = broker.Revoking, "no route", epoch()
	if err := s.Move(t.Context(), l, broker.Pending); err != nil {
		t.Fatal(err)
	}
	insert(t, s, newLease("over", inState(broker.Revoked)))
	insert(t, s, newLease("pooled", inState(broker.Pooled)))
	putRevocation(t, s, "rv-open")
	done := putRevocation(t, s, "rv-done")
	done.Expanded, done.DoneAt, done.Marked, done.Cursor = true, epoch(), 2, done.UpTo
	if err := s.UpdateRevocation(t.Context(), done); err != nil {
		t.Fatal(err)
	}
	o := newObject(object.KindTarget, "größe")
	o.Secrets = map[string]secret.Value{"token": secret.New(canary), "password": secret.New("p " + canary)}
	apply(t, s, object.Change{Record: o}, object.Change{Record: newObject(object.KindMount, "secret")})
	apply(t, s, object.Change{Record: o, Expect: 1})
	putKey(t, s, newKey("p-1", "k-1"))
	putKey(t, s, newKey("p-2", "k-2"))
}

// wantSame compares all that two stores hold, but for Seq, of which only the order counts.
func wantSame(t testing.TB, got, want Store) {
	t.Helper()
	if d, err := compare(t.Context(), got, want); err != nil || d != "" {
		t.Errorf("the stores differ (-got +want): %v\n%s", err, d)
	}
}

// contents is all that a store holds.
type contents struct {
	Leases  []*broker.Lease
	Tally   []broker.Tally
	Many    []*broker.Revocation
	Objects []object.Record
	Keys    []identity.Key
}

func compare(ctx context.Context, got, want Store) (string, error) {
	var both [2]contents
	for i, s := range []Store{got, want} {
		var errs [5]error
		both[i].Leases, errs[0] = everything(ctx, s, 4)
		both[i].Objects, errs[1] = s.Objects(ctx)
		both[i].Keys, errs[2] = s.Keys(ctx)
		both[i].Tally, errs[3] = s.Tally(ctx)
		sortTally(both[i].Tally)
		both[i].Many, errs[4] = s.OpenRevocations(ctx, 1000)
		if err := errors.Join(errs[:]...); err != nil {
			return "", err
		}
		for _, l := range both[i].Leases {
			l.Seq = 0
		}
		for _, r := range both[i].Many {
			r.UpTo, r.Cursor = 0, 0
		}
	}
	return diff(both[0], both[1]), nil
}
