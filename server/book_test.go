package server

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/policy"
)

func putPolicy(t *testing.T, s *server, name, rules string, version int64) {
	t.Helper()
	rec, err := object.Encode(&object.Policy{Name: name, Rules: rules})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.estate.Put(t.Context(), "ann", rec, version); err != nil {
		t.Fatal(err)
	}
}

func TestPoliciesKeepTheirVersions(t *testing.T) {
	s := newServer(t)
	putPolicy(t, s, "app2", `path "x" {}`, 0)
	putPolicy(t, s, "app2", `path "y" {}`, 1)
	history := func() string {
		t.Helper()
		list, err := s.estate.PolicyVersions(t.Context(), "app")
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, v := range list {
			out = append(out, fmt.Sprintf("%d %s by %s %v", v.Version, strings.Fields(v.Rules)[1], v.By, v.Stands))
		}
		return strings.Join(out, ", ")
	}
	for i, step := range []struct {
		do   func()
		want string
	}{
		{func() {}, ""},
		{func() { putPolicy(t, s, "app", `path "a" {}`, 0) }, `1 "a" by ann true`},
		{func() { putPolicy(t, s, "app", `path "b" {}`, 1) }, `2 "b" by ann true, 1 "a" by ann false`},
		{func() {
			if err := s.estate.DeleteObject(t.Context(), "bob", object.KindPolicy, "app", 0); err != nil {
				t.Fatal(err)
			}
		}, `2 "b" by ann false, 1 "a" by ann false`},
		{func() { putPolicy(t, s, "app", `path "c" {}`, 0) }, `1 "c" by ann true, 2 "b" by ann false, 1 "a" by ann false`},
	} {
		step.do()
		if got := history(); got != step.want {
			t.Errorf("step %d: got %s, want %s", i, got, step.want)
		}
	}
	rec, err := object.Encode(&object.Policy{Name: "app", Rules: `path "d" {}`})
	if err != nil {
		t.Fatal(err)
	}
	var said *gate.Error
	if _, err := s.estate.Put(t.Context(), "ann", rec, 7); !errors.As(err, &said) || said.Kind != gate.Conflict {
		t.Errorf("over a version that does not stand: got %v, want a conflict", err)
	}
}

func TestEverybodyIsACaller(t *testing.T) {
	s := newServer(t)
	var records []object.Record
	for _, o := range []any{
		&object.Policy{Name: "app", Rules: `path "secret/{{identity.entity.name}}" { capabilities = ["read"] }`},
		&object.Role{Name: "app", Policies: []string{"app"}, Identities: []string{"ann", "bob"}},
		&object.Identity{Name: "ann", Metadata: map[string]string{"team": "red"}}, &object.Identity{Name: "bob", Disabled: true},
	} {
		r, err := object.Encode(o)
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, r)
	}
	if _, err := s.estate.Apply(t.Context(), "root", records, false, nil); err != nil {
		t.Fatal(err)
	}
	x, list := s.estate.PolicyIndex(), s.estate.Callers()
	var got []string
	for _, path := range []string{"secret/ann", "secret/bob"} {
		x.WhoCan(&policy.Question{Op: policy.Read, Path: path}, x.Members(list), func(m *policy.Member, v policy.Verdict) {
			got = append(got, path+" "+m.Name+" "+v.Rule.Policy+" "+m.Context.Metadata["team"])
		})
	}
	if strings.Join(got, ", ") != "secret/ann ann app red" {
		t.Errorf("got %v, want ann alone for what is hers", got)
	}
}
