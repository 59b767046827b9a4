package server

import (
	"fmt"
	"testing"

	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/policy"
)

func parsed(t *testing.T, rules map[string]string) *policies {
	t.Helper()
	var list []versionedPolicy
	for name, text := range rules {
		list = append(list, versionedPolicy{object.Policy{Name: name, Rules: text}, 1})
	}
	p, err := parsePolicies(list, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// versions is a subjects that says of each entity how often it has changed.
type versions map[string]uint64

func (v versions) EntityVersion(id string) uint64 { return v[id] }

func (v versions) Subject(who *identity.Caller) *policy.Subject {
	return &policy.Subject{ID: who.EntityID, Name: fmt.Sprint(who.Name, v[who.EntityID])}
}

func TestACompiledSetIsSharedAndTemplatesAreNot(t *testing.T) {
	p := parsed(t, map[string]string{
		"plain": `path "secret/*" { capabilities = ["read"] }`,
		"own":   `path "secret/{{identity.entity.name}}" { capabilities = ["update"] }`,
	})
	ann := &identity.Caller{Name: "ann", EntityID: "e-1", Policies: []string{"own", "plain"}}
	bob := &identity.Caller{Name: "bob", EntityID: "e-2", Policies: []string{"own", "plain"}}
	for _, who := range []*identity.Caller{ann, bob, ann} {
		for _, path := range []string{"secret/ann", "secret/bob"} {
			if d := p.acl(who).Decide(policy.Update, path); d.Allowed != (path == "secret/"+who.Name) {
				t.Errorf("%s, %s: got %+v", who.Name, path, d)
			}
		}
	}
	mine := parsed(t, map[string]string{"own": `path "secret/{{identity.entity.id}}" { capabilities = ["update"] }`})
	for _, id := range []string{"e-1", "e-2"} { // of the same name, one after the other
		if d := mine.acl(&identity.Caller{Name: "ann", EntityID: id, Policies: []string{"own"}}).Decide(policy.Update, "secret/"+id); !d.Allowed {
			t.Errorf("%s: got %+v, want its own", id, d)
		}
	}
	plain := []string{"plain"}
	if p.acl(&identity.Caller{Name: "ann", Policies: plain}) != p.acl(&identity.Caller{Name: "bob", Policies: plain}) {
		t.Error("two callers with the same policies have two compiled sets")
	}
	if n := testing.AllocsPerRun(100, func() { p.acl(ann) }); n != 0 {
		t.Errorf("a known caller's rules cost %v allocations, want none", n)
	}
}

func TestATemplateFollowsItsEntity(t *testing.T) {
	p := parsed(t, map[string]string{"own": `path "secret/{{identity.entity.name}}" { capabilities = ["update"] }`})
	v := versions{}
	p.subjects = v
	ann := &identity.Caller{Name: "ann", EntityID: "e-1", Policies: []string{"own"}}
	for n := range uint64(3) {
		v["e-1"] = n
		for other := range uint64(3) {
			if d := p.acl(ann).Decide(policy.Update, fmt.Sprint("secret/ann", other)); d.Allowed != (n == other) {
				t.Errorf("after %d changes, ann%d: got %+v", n, other, d)
			}
		}
	}
}

func TestPersonalSetsAreBounded(t *testing.T) {
	p := parsed(t, map[string]string{"own": `path "secret/{{identity.entity.id}}" { capabilities = ["update"] }`})
	for i := range maxPersonal + 10 {
		p.acl(&identity.Caller{EntityID: fmt.Sprint("e-", i), Policies: []string{"own"}})
	}
	if len(p.personal) > maxPersonal {
		t.Errorf("got %d, want at most %d", len(p.personal), maxPersonal)
	}
}
