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
	objects map[objectName]object.Record
	keys    map[string]identity.Key
}

type objectName struct {
	kind object.Kind
	name string
}

func newModel() *model {
	return &model{objects: map[objectName]object.Record{}, keys: map[string]identity.Key{}}
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
	l.Seq = int64(len(m.leases) + 1)
	m.leases = append(m.leases, copyLease(l))
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
	case !slices.Contains(from, x.State), x.State == broker.Revoked && l.State != broker.Revoked:
		return broker.ErrStale
	}
	in := copyLease(l)
	x.State, x.IssuedAt, x.ExpiresAt, x.NextAt = in.State, in.IssuedAt, in.ExpiresAt, in.NextAt
	x.Attempt, x.Cause, x.Error = in.Attempt, in.Cause, in.Error
	return nil
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
	due, err := m.choose(ctx, func(l *broker.Lease) bool {
		return l.State != broker.Revoked && !l.NextAt.IsZero() && !l.NextAt.After(now)
	})
	slices.SortStableFunc(due, func(a, b *broker.Lease) int { return a.NextAt.Compare(b.NextAt) })
	return due[:min(len(due), max(limit, 0))], err
}

func (m *model) List(ctx context.Context, f broker.Filter) ([]*broker.Lease, error) {
	is := func(want, got string) bool { return want == "" || want == got }
	found, err := m.choose(ctx, func(l *broker.Lease) bool {
		state := l.State != broker.Revoked
		if len(f.States) > 0 {
			state = slices.Contains(f.States, l.State)
		}
		return state && l.Seq > f.AfterSeq && strings.HasPrefix(l.ID, f.Prefix) && is(f.Identity, l.Identity) && is(f.Target, l.Target) &&
			is(f.Mount, l.Mount) && is(f.Role, l.Role) && is(string(f.Cause), string(l.Cause))
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
	Objects []object.Record
	Keys    []identity.Key
}

func compare(ctx context.Context, got, want Store) (string, error) {
	var both [2]contents
	for i, s := range []Store{got, want} {
		var errs [3]error
		both[i].Leases, errs[0] = everything(ctx, s, 4)
		both[i].Objects, errs[1] = s.Objects(ctx)
		both[i].Keys, errs[2] = s.Keys(ctx)
		if err := errors.Join(errs[:]...); err != nil {
			return "", err
		}
		for _, l := range both[i].Leases {
			l.Seq = 0
		}
	}
	return diff(both[0], both[1]), nil
}
