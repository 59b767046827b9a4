package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/bailiff-secrets/bailiff/policy"
)

// large is a policy of 1,000 rules: a third exact, a third with a star, a third with a plus.
func large(t testing.TB) *policy.Policy {
	var b strings.Builder
	for i := range 334 {
		b.WriteString(rule(fmt.Sprintf("secret/data/team%d/app", i), "read"))
		b.WriteString(rule(fmt.Sprintf("secret/data/team%d/*", i), "read list"))
		b.WriteString(rule(fmt.Sprintf("secret/+/group%d/*", i), "read list"))
	}
	p, err := policy.Parse("large", 1, b.String())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// questions are asked of large, and answered by each kind of rule.
func questions() map[string]sentence {
	return map[string]sentence{
		"exact":  {policy.Read, "secret/data/team77/app", true},
		"prefix": {policy.Read, "secret/data/team77/db/password", true},
		"plus":   {policy.Read, "secret/data/group77/db/password", true},
		"list":   {policy.List, "secret/metadata/group77/db", true},
		"none":   {policy.Read, "kv/data/group77/db/password", false},
		"denied": {policy.Delete, "secret/data/team77/app", false},
	}
}

func TestDecideAllocatesNothing(t *testing.T) {
	acl := policy.Compile(large(t))
	for name, q := range questions() {
		if d := acl.Decide(q.op, q.path); d.Allowed != q.want {
			t.Errorf("%s: got %+v, want %v", name, d, q.want)
		}
		if n := testing.AllocsPerRun(100, func() { acl.Decide(q.op, q.path) }); n != 0 {
			t.Errorf("%s: got %v allocations, want none", name, n)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	acl := policy.Compile(large(b))
	for name, q := range questions() {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				acl.Decide(q.op, q.path)
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	large := large(b)
	def, err := policy.Parse("default", 1, policy.Default)
	if err != nil {
		b.Fatal(err)
	}
	for name, set := range map[string][]*policy.Policy{"default": {def}, "large": {def, large}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				policy.Compile(set...)
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := policy.Parse("default", 1, policy.Default); err != nil {
			b.Fatal(err)
		}
	}
}
