package server

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/object"
)

// prepared is a plan with what it was made of.
type prepared struct {
	now, want []object.Record
	plan      object.Plan
	goneIDs   []string // access ids of identities that the plan removes
}

// prepare resolves what want leaves open (from what stands, or by asking the target), checks the whole that would come
// of it, and compares. The caller holds e.mu.
func (e *estate) prepare(ctx context.Context, want []object.Record, prune bool) (prepared, error) {
	p := prepared{now: e.live.Load().set.records}
	ask := e.newAsker(want)
	defer ask.close()
	for _, rec := range want {
		resolved, err := e.resolve(ctx, ask, rec)
		if err != nil {
			return p, err
		}
		p.want = append(p.want, resolved)
	}
	p.plan = object.Diff(p.now, p.want, prune)
	next := p.next()
	s, err := e.check(next)
	if err != nil {
		return p, err
	}
	for _, step := range p.plan.Steps {
		if step.Kind == object.KindConnector && (step.Action == object.Created || step.Action == object.Updated) {
			if err := e.reach(ctx, ask, s, step.Name); err != nil {
				return p, err
			}
		}
	}
	for _, rec := range p.now {
		if _, ok := find(next, rec.Kind, rec.Name); !ok {
			p.noteGone(rec)
		}
	}
	return p, nil
}

func (p *prepared) noteGone(rec object.Record) {
	if rec.Kind != object.KindIdentity {
		return
	}
	if v, err := object.Decode(rec); err == nil {
		if id, ok := v.(*object.Identity); ok && id.AccessID != "" {
			p.goneIDs = append(p.goneIDs, id.AccessID)
		}
	}
}

// next is what would stand after the plan.
func (p *prepared) next() []object.Record {
	var out []object.Record
	for _, s := range p.plan.Steps {
		if s.Action == object.Deleted {
			continue
		}
		if rec, ok := find(p.want, s.Kind, s.Name); ok {
			out = append(out, rec)
		}
	}
	for _, rec := range p.now {
		if _, ok := find(out, rec.Kind, rec.Name); !ok && !p.deletes(rec) {
			out = append(out, rec)
		}
	}
	return out
}

func (p *prepared) deletes(rec object.Record) bool {
	for _, s := range p.plan.Steps {
		if s.Action == object.Deleted && s.Kind == rec.Kind && s.Name == rec.Name {
			return true
		}
	}
	return false
}

// changes turns the plan into one atomic write, where the versions are those that the caller saw.
func (p *prepared) changes(by, source string, expect map[string]int64) ([]object.Change, error) {
	var out []object.Change
	for _, s := range p.plan.Steps {
		if s.Action == object.Unchanged {
			continue
		}
		if expect != nil {
			if v, ok := expect[string(s.Kind)+"/"+s.Name]; !ok || v != s.Version {
				return nil, storeError(object.ErrConflict)
			}
		}
		c := object.Change{Expect: s.Version, Delete: s.Action == object.Deleted}
		if c.Delete {
			c.Record = object.Record{Kind: s.Kind, Name: s.Name}
		} else {
			c.Record, _ = find(p.want, s.Kind, s.Name)
		}
		c.Record.Source, c.Record.UpdatedBy, c.Record.UpdatedAt = source, by, time.Now().UTC()
		out = append(out, c)
	}
	return out, nil
}

// check judges a whole set of objects without touching anything.
func (e *estate) check(records []object.Record) (*set, error) {
	if err := object.Check(records); err != nil {
		return nil, invalid(err)
	}
	s, err := decodeAll(records)
	if err != nil {
		return nil, invalid(err)
	}
	for _, id := range s.identities {
		if x, taken := e.tokens.People().EntityNamed(id.Name); taken && !x.Declared {
			return nil, invalid(fmt.Errorf("identity %q: an entity that has logged in has this name, and leases by it: choose another", id.Name))
		}
	}
	for _, p := range s.policies {
		if _, err := e.parsed().parse(p); err != nil {
			return nil, invalid(err)
		}
	}
	for _, p := range s.producers {
		if _, err := roleOf(p, s.targets); err != nil {
			return nil, invalid(err)
		}
	}
	for _, r := range s.statics {
		if err := checkStatic(r); err != nil {
			return nil, invalid(err)
		}
	}
	for _, t := range s.targets {
		if err := checkSweep(t.Target); err != nil {
			return nil, invalid(err)
		}
		if err := tryTarget(t.Target); err != nil {
			return nil, invalid(fmt.Errorf("target %q: %w", t.Name, err))
		}
	}
	return s, nil
}

func invalid(err error) error {
	out := &gate.Error{Kind: gate.Invalid, Msg: err.Error()}
	var p *object.Problem
	if errors.As(err, &p) {
		out.Hint = p.Hint
	}
	return out
}

// resolve fills in what an object may leave open.
func (e *estate) resolve(ctx context.Context, ask *asker, rec object.Record) (object.Record, error) {
	v, err := object.Decode(rec)
	if err != nil {
		return rec, invalid(err)
	}
	switch o := v.(type) {
	case *object.Target:
		if err := e.keptPassword(ctx, o); err != nil {
			return rec, err
		}
	case *object.Mount:
		if err := e.resolveMount(ctx, ask, o); err != nil {
			return rec, err
		}
	case *object.Identity:
		if stood, ok := e.standing(object.KindIdentity, o.Name).(*object.Identity); ok {
			o.AccessID = stood.AccessID
			o.Disabled = o.Disabled || stood.Disabled
		} else if o.AccessID == "" {
			o.AccessID = identity.NewAccessID()
		}
	default:
		return rec, nil
	}
	resolved, err := object.Encode(v)
	if err != nil {
		return rec, err
	}
	resolved.Source = rec.Source
	return resolved, nil
}

// standing finds an object as it stands, decoded; nil where there is none.
func (e *estate) standing(kind object.Kind, name string) any {
	rec, ok := find(e.live.Load().set.records, kind, name)
	if !ok {
		return nil
	}
	v, err := object.Decode(rec)
	if err != nil {
		return nil
	}
	return v
}

// resolveMount finds the engine and version of a mount on its Vault, where the file doesn't say.
func (e *estate) resolveMount(ctx context.Context, ask *asker, m *object.Mount) error {
	if m.Type != "vault" || (m.Engine != "" && (m.Engine != "kv" || m.KVVersion != 0)) {
		return nil
	}
	stood, ok := e.standing(object.KindMount, m.Path).(*object.Mount)
	if ok && stood.Target == m.Target && remotePath(*stood) == remotePath(*m) && (m.Engine == "" || m.Engine == stood.Engine) {
		m.Engine, m.KVVersion = stood.Engine, stood.KVVersion
		return nil
	}
	found, err := ask.mounts(ctx, m.Target)
	if err != nil {
		return &gate.Error{
			Kind: gate.Invalid, Msg: fmt.Sprintf("mount %q: what it is can't be asked of target %q: %v", m.Path, m.Target, err),
			Hint: `say engine = "kv" and kv_version = 2 in the mount, or make the target reachable`, Err: err,
		}
	}
	info, ok := found[remotePath(*m)]
	if !ok {
		return &gate.Error{
			Kind: gate.Invalid, Msg: fmt.Sprintf("mount %q: target %q has no mount %q", m.Path, m.Target, remotePath(*m)),
			Hint: "it has: " + strings.Join(sortedKeys(found), ", "),
		}
	}
	m.Engine, m.KVVersion = info.engine, info.kvVersion
	return nil
}

// reach checks that every KV mount of a connector's target is mounted, so that policy can judge what the connector shows.
func (e *estate) reach(ctx context.Context, ask *asker, s *set, name string) error {
	for _, c := range s.connectors {
		if c.Name != name || c.Target == "" {
			continue
		}
		found, err := ask.mounts(ctx, c.Target)
		if err != nil {
			return &gate.Error{
				Kind: gate.Invalid, Msg: fmt.Sprintf("connector %q: its KV mounts can't be asked of target %q: %v", name, c.Target, err),
				Hint: "make the target reachable, or name one mount in the connector", Err: err,
			}
		}
		for _, path := range sortedKeys(found) {
			if found[path].kvVersion > 0 && !mounted(s.mounts, c.Target, path) {
				return &gate.Error{
					Kind: gate.Invalid,
					Msg:  fmt.Sprintf("connector %q reaches the KV mount %q of target %q, which is not mounted", name, path, c.Target),
					Hint: fmt.Sprintf("add: mount %q { type = \"vault\"  target = %q }", path, c.Target),
				}
			}
		}
	}
	return nil
}

func mounted(mounts []object.Mount, target, path string) bool {
	for _, m := range mounts {
		if m.Target == target && remotePath(m) == path {
			return true
		}
	}
	return false
}

func find(records []object.Record, kind object.Kind, name string) (object.Record, bool) {
	for _, r := range records {
		if r.Kind == kind && r.Name == name {
			return r, true
		}
	}
	return object.Record{}, false
}
