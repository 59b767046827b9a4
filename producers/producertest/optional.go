package producertest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
)

// What follows are the contracts of the interfaces that a producer may have beside broker.Producer. Each is tested where the
// producer has it.

func (r *run) told(t *testing.T) {
	p, ok := r.Producer.(broker.Teller)
	if !ok {
		return
	}
	spec := r.spec(r.Role)
	c := r.mustCreate(t, spec)
	if r.Hold != nil {
		for range 2 {
			if _, err := r.Hold(r.ctx(t), c); err != nil {
				t.Fatalf("opening a session: %v", err)
			}
		}
	}
	first, err := p.RevokeTold(r.ctx(t), ref(spec))
	if err != nil || first.Gone || r.Hold != nil && first.Sessions != 2 {
		t.Errorf("got %+v, %v, want two sessions closed", first, err)
	}
	again, err := p.RevokeTold(r.ctx(t), ref(spec))
	if err != nil || !again.Gone || again.Sessions != 0 {
		t.Errorf("again: got %+v, %v, want that it was gone", again, err)
	}
}

// batch ends credentials that work, one that isn't there, one with a name that Bailiff did not make, and one that can't be
// removed.
func (r *run) batch(t *testing.T) {
	p, ok := r.Producer.(broker.BatchRevoker)
	if !ok {
		return
	}
	const n = 9
	var specs []broker.Spec
	var creds []*broker.Credential
	for range n {
		specs = append(specs, r.spec(r.Role))
		creds = append(creds, r.mustCreate(t, specs[len(specs)-1]))
	}
	const stuck = 4
	free := func() {}
	if r.Stick != nil {
		var err error
		if free, err = r.Stick(r.ctx(t), creds[stuck]); err != nil {
			t.Fatalf("making one that can't be removed: %v", err)
		}
		t.Cleanup(free)
	}
	hostile := r.spec(r.Role)
	hostile.Principal = hostileNames[4]
	var refs []broker.Ref
	for _, s := range append(specs, r.spec(r.Role), hostile) {
		refs = append(refs, ref(s))
	}
	errs := p.RevokeBatch(r.ctx(t), refs)
	if len(errs) != len(refs) {
		t.Fatalf("got %d answers, want %d", len(errs), len(refs))
	}
	for i, err := range errs {
		r.note(err)
		switch {
		case i == stuck && r.Stick != nil:
			one := r.Producer.Revoke(r.ctx(t), refs[i])
			var want *broker.RevokeError
			if !errors.As(one, &want) {
				t.Fatalf("alone, the one that can't be removed gave %v", one)
			}
			r.wantCause(t, err, want.Cause)
		case i == n+1:
			if err == nil {
				t.Error("a name that Bailiff did not make: got no error")
			}
		case err != nil:
			t.Errorf("ref %d: %v", i, err)
		}
	}
	for i, c := range creds {
		if r.Use(r.ctx(t), c) == nil {
			t.Errorf("credential %d still works", i)
		}
		if i != stuck || r.Stick == nil {
			r.wantGone(t, specs[i].Principal)
		}
	}
	free()
	for i, err := range p.RevokeBatch(r.ctx(t), refs[:n]) {
		if err != nil {
			t.Errorf("again, ref %d: %v", i, err)
		}
	}
}

func (r *run) deadBatch(t *testing.T) {
	p, ok := r.Dead.(broker.BatchRevoker)
	if !ok {
		return
	}
	var refs []broker.Ref
	for range 64 {
		refs = append(refs, ref(r.spec(r.Role)))
	}
	began := time.Now()
	for _, err := range p.RevokeBatch(r.ctx(t), refs) {
		r.wantCause(t, err, broker.Unreachable)
	}
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("it took %v", d)
	}
}

func (r *run) probe(t *testing.T) {
	p, ok := r.Producer.(broker.Prober)
	if !ok {
		return
	}
	spec := r.spec(r.Role)
	c := r.mustCreate(t, spec)
	if err := p.Probe(r.ctx(t), spec, c); err != nil {
		t.Errorf("a credential that works: %v", err)
	}
	if d, ok := r.Dead.(broker.Prober); ok {
		r.wantCause(t, d.Probe(r.ctx(t), spec, c), broker.Unreachable)
	}
	r.revoke(t, ref(spec))
	r.wantCause(t, p.Probe(r.ctx(t), spec, c), broker.ForbiddenBy)
}

// find looks for a principal in the list.
func (r *run) find(t *testing.T, principal string) (found broker.Found, ok bool) {
	t.Helper()
	p, _ := r.Producer.(broker.Lister)
	if err := p.List(r.ctx(t), func(f broker.Found) error {
		if f.Name == principal {
			found, ok = f, true
		}
		return nil
	}); err != nil {
		t.Fatalf("List: %v", err)
	}
	return found, ok
}

func (r *run) list(t *testing.T) {
	p, ok := r.Producer.(broker.Lister)
	if !ok {
		return
	}
	spec := r.spec(r.Role)
	r.mustCreate(t, spec)
	want := broker.Found{Name: spec.Principal, LeaseID: spec.LeaseID, Enabled: true}
	if got, ok := r.find(t, spec.Principal); !ok || got != want {
		t.Errorf("got %+v, %v, want %+v", got, ok, want)
	}
	enough := errors.New("enough")
	if err := p.List(r.ctx(t), func(broker.Found) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("got %v, want the error of yield", err)
	}
	r.revoke(t, ref(spec))
	if _, ok := r.find(t, spec.Principal); ok {
		t.Error("what was revoked is still listed")
	}
	d, ok := r.Dead.(broker.Lister)
	if ok {
		r.wantCause(t, d.List(r.ctx(t), func(broker.Found) error { return nil }), broker.Unreachable)
	}
}

func (r *run) quarantine(t *testing.T) {
	p, ok := r.Producer.(broker.Quarantiner)
	if !ok {
		return
	}
	spec := r.spec(r.Role)
	c := r.mustCreate(t, spec)
	var alive func(context.Context) error
	if r.Hold != nil {
		var err error
		if alive, err = r.Hold(r.ctx(t), c); err != nil {
			t.Fatalf("opening a session: %v", err)
		}
	}
	for range 2 {
		if err := p.Quarantine(r.ctx(t), spec.Principal); err != nil {
			t.Fatalf("Quarantine: %v", err)
		}
	}
	if r.Use(r.ctx(t), c) == nil {
		t.Error("the credential still works")
	}
	if alive != nil && alive(r.ctx(t)) == nil {
		t.Error("the session still works")
	}
	if there, err := r.Exists(r.ctx(t), spec.Principal); err != nil || !there {
		t.Errorf("got %v, %v, want that it is still there", there, err)
	}
	if _, ok := r.Producer.(broker.Lister); ok {
		if f, ok := r.find(t, spec.Principal); !ok || f.Enabled {
			t.Errorf("listed as %+v, %v, want that it is not enabled", f, ok)
		}
	}
	r.revoke(t, ref(spec))
	r.wantGone(t, spec.Principal)
	if err := p.Quarantine(r.ctx(t), spec.Principal); err != nil {
		t.Errorf("one that isn't there: %v", err)
	}
	for _, name := range hostileNames {
		if err := p.Quarantine(r.ctx(t), name); err == nil {
			t.Errorf("%q: got no error", name)
		}
	}
}
