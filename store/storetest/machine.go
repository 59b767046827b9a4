package storetest

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/secret"
)

// RunMachine does random sequences of operations on a store and on the model, and compares every answer and, at the end of
// each sequence, all that is kept. A store that is a Reopener is opened anew in between.
func RunMachine(t *testing.T, open Open) {
	rapid.Check(t, func(rt *rapid.T) {
		m := &machine{real: open(t), model: newModel(), ctx: t.Context(), t: t, seqs: map[int64]int64{}}
		defer m.close(rt)
		rt.Repeat(map[string]func(*rapid.T){
			"insert": m.insert, "move": m.move, "lease": m.lease, "due": m.due, "list": m.list, "claim": m.claim, "count": m.count,
			"put revocation": m.putRevocation, "update revocation": m.updateRevocation, "revocations": m.revocations,
			"apply": m.apply, "put key": m.putKey, "delete key": m.deleteKey, "object": m.object, "reopen": m.reopen,
		})
		if d, err := compare(m.ctx, m.real, m.model); err != nil || d != "" {
			rt.Fatalf("the store and the model differ (-store +model): %v\n%s", err, d)
		}
	})
}

type machine struct {
	t       testing.TB
	ctx     context.Context
	real    Store
	model   *model
	lastSeq int64
	seqs    map[int64]int64 // the model's Seq → the store's
	claimed time.Time       // the latest time at which something was claimed
}

func (m *machine) close(rt *rapid.T) {
	if c, ok := m.real.(io.Closer); ok {
		if err := c.Close(); err != nil {
			rt.Errorf("closing: %v", err)
		}
	}
}

// class is what callers ask of an error.
func class(err error) string {
	for _, e := range []error{broker.ErrNoLease, broker.ErrStale, broker.ErrNoRevocation, object.ErrConflict, object.ErrNotFound} {
		if errors.Is(err, e) {
			return e.Error()
		}
	}
	if err != nil {
		return "another error"
	}
	return ""
}

func sameError(rt *rapid.T, got, want error) {
	if class(got) != class(want) {
		rt.Fatalf("the store says %v, the model %v", got, want)
	}
}

func same(rt *rapid.T, got, want any) {
	if d := diff(got, want); d != "" {
		rt.Fatalf("the store and the model answer differently (-store +model):\n%s", d)
	}
}

func draw[T any](rt *rapid.T, label string, values ...T) T {
	return rapid.SampledFrom(values).Draw(rt, label)
}

func drawID(rt *rapid.T) string {
	return draw(rt, "id", "db/creds/app/1", "db/creds/app/2", "db/creds/ap_/1", "db/creds/é/1", "db2/creds/app/1", "日本")
}

func drawTime(rt *rapid.T, label string) time.Time {
	n := rapid.IntRange(-1, 5).Draw(rt, label)
	if n < 0 {
		return time.Time{}
	}
	return epoch().Add(time.Duration(n))
}

// claimsOfToken are what decided at the login of a token: for one token they are always the same.
func claimsOfToken(token string) map[string]string {
	if token == "" {
		return nil
	}
	return map[string]string{"job": token, "env": "prod", "ref": "refs/heads/é"}
}

func drawLease(rt *rapid.T) *broker.Lease {
	l := drawFields(rt)
	l.Claims = claimsOfToken(l.Token)
	return l
}

func drawFields(rt *rapid.T) *broker.Lease {
	return &broker.Lease{
		ID: drawID(rt), Mount: draw(rt, "mount", "db/", "db2/"), Role: draw(rt, "role", "app", "é"), Target: draw(rt, "target", "pg", "pg2"),
		Identity: draw(rt, "identity", "ci", "ann"), State: draw(rt, "state", allStates()...),
		ExpiresAt: drawTime(rt, "expires"), NextAt: drawTime(rt, "next"), IssuedAt: drawTime(rt, "issued"), MaxExpiresAt: drawTime(rt, "max"),
		Producer: draw(rt, "producer", "postgres", "p"), Token: draw(rt, "token", "", "t-1", "t-2"), Outlives: rapid.Bool().Draw(rt, "outlives"),
		Holders: rapid.IntRange(0, 3).Draw(rt, "holders"), ShareKey: draw(rt, "share key", "", "s-1"),
		Version: int64(rapid.IntRange(0, 3).Draw(rt, "version")),
		Attempt: rapid.IntRange(0, 9).Draw(rt, "attempt"), Cause: draw(rt, "cause", "", broker.Unreachable, broker.OwnsObjects),
		Error: draw(rt, "error", "", "no route"), Data: rapid.SliceOfN(rapid.Byte(), 0, 9).Draw(rt, "data"),
	}
}

func (m *machine) insert(rt *rapid.T) {
	l := drawLease(rt)
	other := copyLease(l)
	err := m.real.Insert(m.ctx, l)
	sameError(rt, err, m.model.Insert(m.ctx, other))
	if err != nil {
		return
	}
	if l.Seq <= m.lastSeq {
		rt.Fatalf("seq %d follows %d", l.Seq, m.lastSeq)
	}
	m.lastSeq, m.seqs[other.Seq] = l.Seq, l.Seq
}

func (m *machine) move(rt *rapid.T) {
	l := drawLease(rt)
	if stored := m.model.find(l.ID); stored != nil && rapid.IntRange(0, 3).Draw(rt, "read before") > 0 {
		l.Version = stored.Version
	}
	other := copyLease(l)
	from := rapid.SliceOfN(rapid.SampledFrom(allStates()), 0, 4).Draw(rt, "from")
	sameError(rt, m.real.Move(m.ctx, l, from...), m.model.Move(m.ctx, other, from...))
	if l.Version != other.Version {
		rt.Fatalf("the store says that the version is %d, the model %d", l.Version, other.Version)
	}
}

func (m *machine) lease(rt *rapid.T) {
	id := drawID(rt)
	got, err := m.real.Lease(m.ctx, id)
	want, wantErr := m.model.Lease(m.ctx, id)
	sameError(rt, err, wantErr)
	if err == nil {
		m.sameLeases(rt, []*broker.Lease{got}, []*broker.Lease{want})
	}
}

func (m *machine) due(rt *rapid.T) {
	now, limit := drawTime(rt, "now"), rapid.IntRange(0, 4).Draw(rt, "limit")
	got, err := m.real.Due(m.ctx, now, limit)
	want, wantErr := m.model.Due(m.ctx, now, limit)
	sameError(rt, err, wantErr)
	m.sameLeases(rt, got, want)
	after := drawTime(rt, "after")
	got, err = m.real.Expiring(m.ctx, after, 0, now, limit)
	want, wantErr = m.model.Expiring(m.ctx, after, 0, now, limit)
	sameError(rt, err, wantErr)
	m.sameLeases(rt, got, want)
}

func (m *machine) list(rt *rapid.T) {
	f := broker.Filter{
		Prefix:   draw(rt, "prefix", "", "", "db", "db/creds/ap", "db/creds/ap_", "db/creds/é", "日"),
		Identity: draw(rt, "identity", "", "", "ci"), Target: draw(rt, "target", "", "", "pg"), Mount: draw(rt, "mount", "", "", "db/"),
		Producer: draw(rt, "producer", "", "", "p"), Token: draw(rt, "token", "", "", "t-1"), ShareKey: draw(rt, "share key", "", "", "s-1"),
		Role: draw(rt, "role", "", "", "app"), Cause: draw(rt, "cause", "", "", broker.Unreachable),
		States: rapid.SliceOfN(rapid.SampledFrom(allStates()), 0, 4).Draw(rt, "states"),
		Claims: rapid.SampledFrom([]map[string]string{nil, nil, nil, {"job": "t-1"}, {"env": "prod"}, {"env": "prod", "job": "t-2"}, {"env": "test"}}).Draw(rt, "claims"),
		Limit:  rapid.IntRange(0, 3).Draw(rt, "limit"), AfterSeq: int64(rapid.IntRange(0, 3).Draw(rt, "after")),
	}
	after, ok := m.seqs[f.AfterSeq]
	if !ok {
		after, f.AfterSeq = 0, 0
	}
	want, wantErr := m.model.List(m.ctx, f)
	f.AfterSeq = after
	got, err := m.real.List(m.ctx, f)
	sameError(rt, err, wantErr)
	m.sameLeases(rt, got, want)
}

// sameLeases compares leases, with the model's Seq as the store gave it.
func (m *machine) sameLeases(rt *rapid.T, got, want []*broker.Lease) {
	for _, l := range want {
		l.Seq = m.seqs[l.Seq]
	}
	same(rt, got, want)
}

func drawChange(rt *rapid.T) object.Change {
	c := object.Change{
		Record: object.Record{
			Kind: draw(rt, "kind", object.KindTarget, object.KindRole, object.KindProducer), Name: draw(rt, "name", "a", "a/b", "é"),
			Body: []byte(draw(rt, "body", `{}`, `{"a":1}`)), Source: draw(rt, "source", "apply", "api"), UpdatedAt: drawTime(rt, "updated"),
		},
		Expect: int64(rapid.IntRange(0, 3).Draw(rt, "expect")),
		Delete: rapid.Bool().Draw(rt, "delete"),
	}
	if rapid.Bool().Draw(rt, "secret") {
		c.Record.Secrets = map[string]secret.Value{"token": secret.New(draw(rt, "token", "t", "\xff"))}
	}
	return c
}

func (m *machine) apply(rt *rapid.T) {
	var changes []object.Change
	for range rapid.IntRange(0, 3).Draw(rt, "changes") {
		c := drawChange(rt)
		if rapid.Bool().Draw(rt, "expect what is there") {
			c.Expect = m.model.objects[objectName{c.Record.Kind, c.Record.Name}].Version
		}
		changes = append(changes, c)
	}
	sameError(rt, m.real.Apply(m.ctx, changes), m.model.Apply(m.ctx, changes))
}

func (m *machine) object(rt *rapid.T) {
	r := drawChange(rt).Record
	got, err := m.real.Object(m.ctx, r.Kind, r.Name)
	want, wantErr := m.model.Object(m.ctx, r.Kind, r.Name)
	sameError(rt, err, wantErr)
	same(rt, got, want)
}

func (m *machine) putKey(rt *rapid.T) {
	k := identity.Key{
		ID: draw(rt, "id", "k-1", "k-2", "k-é"), AccessID: draw(rt, "access id", "p-1", "p-2"), Note: draw(rt, "note", "", "n"),
		CreatedAt: drawTime(rt, "created"), ExpiresAt: drawTime(rt, "expires"), Disabled: rapid.Bool().Draw(rt, "disabled"),
	}
	k.Hash[3] = rapid.Byte().Draw(rt, "hash")
	sameError(rt, m.real.PutKey(m.ctx, k), m.model.PutKey(m.ctx, k))
}

func (m *machine) deleteKey(rt *rapid.T) {
	id, accessID := draw(rt, "id", "k-1", "k-2", "k-é"), draw(rt, "access id", "p-1", "p-2")
	sameError(rt, m.real.DeleteKey(m.ctx, accessID, id), m.model.DeleteKey(m.ctx, accessID, id))
}

func (m *machine) reopen(rt *rapid.T) {
	r, ok := m.real.(Reopener)
	if !ok || rapid.IntRange(0, 4).Draw(rt, "reopen") > 0 {
		rt.Skip("not now")
	}
	m.real = r.Reopen(m.t)
	if m.keepsNoClaims() {
		clear(m.model.claims)
	}
}
