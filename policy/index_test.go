package policy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiff-secrets/bailiff/policy"
)

// TestWhoCanIsWhatEachCan compares the answer about everybody with a question for each.
func TestWhoCanIsWhatEachCan(t *testing.T) {
	allowed, conditional, asked := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		extras := rapid.SampledFrom([]string{"", "", "", `when = "identity.name == 'm1'"`, `when = "false"`, `required_parameters = ["a"]`, `valid { until = "2020-01-01" }`, `max_wrapping_ttl = "1h"`})
		var policies []*policy.Policy
		var names []string
		for i := range rapid.IntRange(2, 6).Draw(t, "policies") {
			var b strings.Builder
			for _, r := range rapid.SliceOfN(genRules(), 1, 1).Draw(t, "rules")[0] {
				if rapid.IntRange(1, 6).Draw(t, "templated") == 1 && !strings.HasSuffix(r.pattern, "*") {
					r.pattern += "/{{identity.entity.name}}"
				}
				quoted := `"` + strings.Join(r.caps, `", "`) + `"`
				if len(r.caps) == 0 {
					quoted = ""
				}
				fmt.Fprintf(&b, "path %q {\n capabilities = [%s]\n%s\n}\n", r.pattern, quoted, extras.Draw(t, "extra"))
			}
			p, err := policy.Parse(fmt.Sprint("p", i), int64(i+1), b.String())
			if err != nil {
				t.Fatal(err)
			}
			policies, names = append(policies, p), append(names, p.Name())
		}
		var members []policy.Member
		for i := range 8 {
			name := fmt.Sprint("m", i)
			members = append(members, policy.Member{
				Name: name, Policies: rapid.SliceOfNDistinct(rapid.SampledFrom(names), 0, len(names), rapid.ID[string]).Draw(t, "has"),
				Context: &policy.Context{Identity: name}, Subject: func() *policy.Subject { return &policy.Subject{ID: name, Name: name} },
			})
		}
		x := policy.NewIndex(policies)
		for range 6 {
			q := &policy.Question{
				Op:   rapid.SampledFrom([]policy.Operation{policy.Read, policy.List, policy.Update, policy.Delete}).Draw(t, "op"),
				Path: strings.TrimSuffix(genPath().Draw(t, "path"), "/"), Context: &policy.Context{Time: noon},
			}
			if rapid.Bool().Draw(t, "own") {
				q.Path += "/m1"
			}
			got := map[string]policy.Verdict{}
			x.WhoCan(q, x.Members(members), func(m *policy.Member, v policy.Verdict) { got[m.Name] = v })
			open := map[string]policy.Verdict{}
			x.WhoCan(&policy.Question{Op: q.Op, Path: q.Path}, x.Members(members), func(m *policy.Member, v policy.Verdict) { open[m.Name] = v })
			for _, m := range members {
				var mine []*policy.Policy
				for _, n := range m.Policies {
					mine = append(mine, x.Policy(n))
				}
				one := *q
				one.Context = &policy.Context{Identity: m.Name, Time: noon}
				acl := policy.NewSet(mine...).For(m.Subject())
				want := acl.Judge(&one)
				if asked++; want.Allowed {
					allowed++
				}
				if got[m.Name].Allowed != want.Allowed {
					t.Fatalf("%s %s for %s with %v: got %+v, want %+v", q.Op, q.Path, m.Name, m.Policies, got[m.Name], want)
				}
				first := acl.Decide(q.Op, q.Path)
				v := open[m.Name]
				if v.Allowed && !first.Allowed || first.Allowed && !v.Allowed || want.Allowed && !v.Allowed && !v.Conditional {
					t.Fatalf("%s %s for %s with %v: got %+v where nothing is known, want %+v", q.Op, q.Path, m.Name, m.Policies, v, first)
				}
				if v.Conditional {
					conditional++
				}
			}
		}
	})
	if allowed < asked/200 || conditional < asked/200 {
		t.Errorf("%d of %d allowed, %d under conditions: too few to tell", allowed, asked, conditional)
	}
}

// estate is as many policies of ten rules each, and members of whom each has its own set of eight and the default one.
func estate(t testing.TB, policies, members int) (*policy.Index, []policy.Member) {
	t.Helper()
	builtin, err := policy.Parse("default", 0, policy.Default)
	if err != nil {
		t.Fatal(err)
	}
	list := []*policy.Policy{builtin}
	for i := range policies {
		var b strings.Builder
		b.WriteString(rule(fmt.Sprintf("secret/data/team%d/*", i), "read list"))
		b.WriteString(rule(fmt.Sprintf("secret/+/group%d/*", i%100), "read list"))
		b.WriteString(rule(fmt.Sprintf("database/creds/role%d", i), "read"))
		for j := range 7 {
			b.WriteString(rule(fmt.Sprintf("kv%d/data/app%d/*", j, i), "create update"))
		}
		p, err := policy.Parse(fmt.Sprint("p", i), 1, b.String())
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	out := make([]policy.Member, members)
	for i := range out {
		name := fmt.Sprint("m", i)
		has := []string{"default"}
		for j := range 8 {
			has = append(has, fmt.Sprint("p", (i*(j+1)*7919+j*104729)%policies))
		}
		out[i] = policy.Member{Name: name, Policies: has, Subject: func() *policy.Subject { return &policy.Subject{ID: name, Name: name} }}
	}
	return policy.NewIndex(list), out
}

func TestWhoCanOfMany(t *testing.T) {
	x, members := estate(t, 1000, 10_000)
	for path, want := range map[string]int{
		"secret/data/team77/a": -1, "secret/data/group7/a": -1, "database/creds/none": 0, "identity/entity/name/m5": 1, "auth/token/lookup-self": len(members),
	} {
		got := 0
		x.WhoCan(&policy.Question{Op: policy.Read, Path: path}, x.Members(members), func(m *policy.Member, v policy.Verdict) {
			if got++; want < 0 && !slices.ContainsFunc(m.Policies, func(p string) bool { return v.Rule.Policy == p }) {
				t.Errorf("%s: %s is let in by a rule of %s, which it does not have", path, m.Name, v.Rule.Policy)
			}
		})
		if want >= 0 && got != want || want < 0 && got == 0 {
			t.Errorf("%s: got %d members, want %d", path, got, want)
		}
	}
}

func BenchmarkWhoCan(b *testing.B) {
	x, list := estate(b, 10_000, 100_000)
	members := x.Members(list)
	for name, path := range map[string]string{"one": "database/creds/role77", "many": "secret/data/group7/x", "all": "auth/token/lookup-self", "template": "identity/entity/name/m5"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				n := 0
				x.WhoCan(&policy.Question{Op: policy.Read, Path: path}, members, func(*policy.Member, policy.Verdict) { n++ })
				b.ReportMetric(float64(n), "members")
			}
		})
	}
}

func TestExplain(t *testing.T) {
	parse := func(name, text string) *policy.Policy {
		p, err := policy.Parse(name, 3, text)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	x := policy.NewIndex([]*policy.Policy{
		parse("wide", rule("secret/*", "read")), parse("prod", "\n"+rule("secret/prod/*", "list")), parse("admin", rule("secret/prod/*", "read")),
		parse("own", rule("secret/{{identity.entity.name}}/*", "update")), parse("other", rule("kv/*", "read")), parse("root", ""),
		parse("night", `path "secret/prod/*" { capabilities = ["read"] when = "time.getHours() < 6" }`),
	})
	ann := &policy.Subject{ID: "e", Name: "prod"}
	e := x.Explain(&policy.Question{Op: policy.Read, Path: "secret/prod/x", Context: &policy.Context{Time: noon}}, []string{"wide", "prod", "own", "gone"}, ann)
	if e.Decision.Allowed || e.Decision.Rule.Policy != "prod" || e.Decision.Rule.Line != 2 || e.Decision.Nearest == nil || e.Decision.Nearest.Policy != "wide" {
		t.Errorf("got %+v, want it refused by prod, line 2, with wide the nearest", e.Decision)
	}
	var got []string
	for _, m := range e.Matches {
		got = append(got, fmt.Sprintf("%s %s %v %s", m.Policy, m.Pattern, m.Counts, strings.Join(m.Capabilities, ",")))
	}
	want := []string{"prod secret/prod/* true list", "own secret/{{identity.entity.name}}/* true update", "wide secret/* false read"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if !slices.Equal(e.Others, []string{"admin"}) {
		t.Errorf("got %v, want admin alone", e.Others)
	}
	if e := x.Explain(&policy.Question{Op: policy.Read, Path: "secret/prod/x", Context: &policy.Context{Time: noon.Add(-8 * time.Hour)}}, []string{"night"}, nil); !e.Decision.Allowed ||
		e.Matches[0].Condition != "when time.getHours() < 6" || len(e.Others) != 0 {
		t.Errorf("got %+v, want it allowed with the condition named", e)
	}
	if e := x.Explain(&policy.Question{Op: policy.Read, Path: "x"}, []string{"root"}, nil); !e.Decision.Allowed || len(e.Matches) != 0 {
		t.Errorf("root: got %+v", e)
	}
}

func TestRights(t *testing.T) {
	p, err := policy.Parse("p", 2, rule("b/+/c", "read")+rule("a/*", "list read")+rule("x/{{identity.entity.name}}", "update")+
		`path "c" { capabilities = ["read"] required_parameters = ["z", "y"] max_wrapping_ttl = "1m" }
path "c" { capabilities = ["update"] when = "true" valid { until = "2090-01-01" uses = 2 } }`)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range policy.NewSet(p).For(&policy.Subject{ID: "e", Name: "ann"}).Rights() {
		got = append(got, fmt.Sprintf("%s %v %s:%d %q", r.Pattern, r.Capabilities, r.Policy, r.Line, r.Conditions))
	}
	want := []string{
		`a/* [list read] p:2 []`, `b/+/c [read] p:1 []`, `c [read] p:4 ["wrapped for at most 1m0s" "required parameters y, z"]`,
		`c [update] p:5 ["when true, until 2090-01-01T00:00:00Z, uses 2"]`, `x/ann [update] p:3 []`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
