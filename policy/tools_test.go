package policy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/policy"
)

func parse(t testing.TB, name, text string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse(name, 1, text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestFormatKeepsComments(t *testing.T) {
	for in, want := range map[string]string{
		"# why\npath   \"a\" { capabilities=[\"read\",\"list\"] # both\n}":         "# why\npath \"a\" {\n  capabilities = [\"read\", \"list\"] # both\n}\n",
		"secret \"s/x\" {\n// c\ncapabilities = [\"read\"]\nvalid {\nuses=3\n}\n}": "secret \"s/x\" {\n  // c\n  capabilities = [\"read\"]\n\n  valid {\n    uses = 3\n  }\n}\n",
		`{"path":{"a":{"policy":"read"}}}`:                                         "{\n  \"path\": {\n    \"a\": {\n      \"policy\": \"read\"\n    }\n  }\n}\n",
	} {
		got, err := policy.Format(in)
		if err != nil || got != want {
			t.Errorf("%s:\ngot  %q, %v\nwant %q", in, got, err, want)
		}
		if again, err := policy.Format(got); err != nil || again != got {
			t.Errorf("%s: formatted twice it is %q, %v", in, again, err)
		}
	}
	if _, err := policy.Format(`path "a" { capabilities = ["write"] }`); err == nil {
		t.Error("a policy that is none: got nil, want an error")
	}
}

func TestLintFinds(t *testing.T) {
	for text, want := range map[string]string{
		rule("a/*/b", "read"):                       `1: "a/*/b": a "*" that is not at the end stands for itself: use "+" for a segment`,
		rule("*", "read"):                           `1: "*" matches every path, sys/ and auth/ too`,
		rule("a/+b", "read"):                        `1: "a/+b": a "+" that is not a whole segment stands for itself`,
		`path "a" {}`:                               `1: "a": the rule grants nothing, and hides less specific rules for the same paths`,
		rule("a/{{identity.name}}", "read"):         `1: "a/{{identity.name}}": nothing is called "identity.name": the rule never counts`,
		rule("a", "read") + rule("a", "list"):       `2: "a": the rule of line 1 has the same pattern: they count together`,
		rule("a/*", "deny") + rule("a/b/*", "read"): `1: "a/*": the denial does not hold for "a/b/*", which line 2 grants: the more specific pattern counts alone`,
		`path "a" { capabilities = ["update"] allowed_parameters = { "x" = [5] } }`:        `1: "a": allowed_parameters: "x": 5 equals nothing in a request, as in Vault: only texts, truth values and lists of them do`,
		`path "a" { capabilities = ["update"] denied_parameters = { "x" = ["*"] } }`:       `1: "a": denied_parameters: "x": the value "*" stands for itself: an empty list stands for any value`,
		`path "a" { capabilities = ["update"] denied_parameters = { "*" = [] "x" = [] } }`: `1: "a": denied_parameters: beside "*" nothing else counts`,
		`path "a" { capabilities = ["update"] required_parameters = ["TTL"] }`:             `1: "a": required_parameters: "TTL" is looked for as "ttl"`,
		`path "a" { capabilities = ["delete"] required_parameters = ["ttl"] }`:             `1: "a": parameters count for create, read, update and patch alone`,
		`path "a" { capabilities = ["read"] valid { until = "2026-01-01" } }`:              `1: "a": the rule was valid until 2026-01-01T00:00:00Z`,
	} {
		var got []string
		for _, f := range policy.Lint(parse(t, "p", text), noon) {
			got = append(got, fmt.Sprintf("%d: %s", f.Line, f.Msg))
		}
		if strings.Join(got, "\n") != want {
			t.Errorf("%s:\ngot  %s\nwant %s", text, strings.Join(got, "\n"), want)
		}
	}
	for _, text := range []string{
		policy.Default, rule("a/*", "read list") + rule("a/b/*", "deny"), `secret "s/app/*" { capabilities = ["read", "update", "delete"] }`,
		rule("a/{{identity.entity.aliases.x.metadata.k}}/{{identity.groups.names.g.id}}/{{time.now}}/{{identity.entity.id}}", "read"),
	} {
		if got := policy.Lint(parse(t, "p", text), noon); len(got) > 0 {
			t.Errorf("%.60s: got %v, want nothing", text, got)
		}
	}
}

const suite = `policies = ["app"]

test "the application reads its own" {
  identity {
    name     = "ci"
    metadata = { team = "red" }
    groups   = ["ops"]
  }
  at     = "2026-11-24T12:00:00Z"
  from   = "10.1.2.3"
  reason = "release"
  allow  = [
    "read secret/data/red/x",
    "list secret/metadata/red",
    "update secret/data/red/x",
    "read night/x",
  ]
  deny = ["read secret/data/blue/x", "delete secret/data/red/x"]
}

test "it writes what it may" {
  params = { ttl = 5  kind = "small" }
  allow  = ["update orders"]
}

test "and nothing else" {
  params   = { kind = "large" }
  wrap_ttl = "1m"
  deny     = ["update orders"]
}
`

func TestSuites(t *testing.T) {
	s, err := policy.ParseSuite("app.test.hcl", suite)
	if err != nil {
		t.Fatal(err)
	}
	if s.Tests() != 8 {
		t.Errorf("got %d expectations, want 8", s.Tests())
	}
	right := rule("secret/data/{{identity.entity.metadata.team}}/*", "read update") + rule("secret/metadata/{{identity.entity.metadata.team}}/*", "list") +
		`path "night/*" { capabilities = ["read"] when = "address.within('10.0.0.0/8') && reason == 'release' && time.getHours() == 12 && 'ops' in identity.groups" }
path "orders" { capabilities = ["update"] allowed_parameters = { "ttl" = []  "kind" = ["small"] } }`
	failures, err := s.Run([]*policy.Policy{parse(t, "other", rule("*", "delete")), parse(t, "app", right)})
	if err != nil || len(failures) > 0 {
		t.Errorf("got %+v, %v, want every expectation to hold", failures, err)
	}
	wrong := rule("secret/data/*", "read") + rule("secret/metadata/*", "list") + rule("night/*", "read") + rule("orders", "update")
	failures, err = s.Run([]*policy.Policy{parse(t, "app", wrong)})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range failures {
		got = append(got, fmt.Sprintf("%d %s: %s: %s", f.Line, f.Test, f.Want, f.Sentence))
	}
	want := []string{
		"15 the application reads its own: allow: update secret/data/red/x", "18 the application reads its own: deny: read secret/data/blue/x",
		"29 and nothing else: deny: update orders",
	}
	if !slices.Equal(got, want) || failures[0].Why == "" || failures[0].Rule == nil {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, err := s.Run(nil); err == nil {
		t.Error("without its policy: got nil, want an error")
	}
}

func TestSuitesAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		`tests "x" {}`:                                   "line 1: unknown key \"tests\"",
		`test "x" {}`:                                    "line 1: test \"x\": it expects nothing",
		`test "x" { allow = ["look a"] }`:                `"look a" is no expectation`,
		`test "x" { allow = ["read"] }`:                  `"read" is no expectation`,
		`test "x" { allow = ["help a"] }`:                `"help a" is no expectation`,
		"test \"x\" {\n allow = [\"read a\",\n \"b\"] }": `line 3: test "x": "b" is no expectation`,
		`test "x" { at = "noon" allow = ["read a"] }`:    `at can't be read`,
		`test "x" { from = "here" allow = ["read a"] }`:  `from can't be read`,
		`test "x" { identity { nam = "x" } }`:            `unknown key "nam"`,
		`test "x" { why = "x" }`:                         `unknown key "why"`,
		`test = "x"`:                                     `test must be a block`,
		`policies = "x"`:                                 `policies must be a list`,
	} {
		if _, err := policy.ParseSuite("f", text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
}

func TestDiffSaysWhatChanges(t *testing.T) {
	before := parse(t, "p", "# one\n"+rule("a", "read")+rule("b", "read")+rule("c", "read list")+`path "d" { capabilities = ["update"] allowed_parameters = { "x" = ["1"] } }`)
	after := parse(t, "p", rule("c", "list")+rule("c", "read")+"# moved\n"+rule("a", "read list")+rule("e", "deny")+`path "d" { capabilities = ["update"] allowed_parameters = { "x" = ["2"] } }`)
	var got []string
	for _, c := range policy.Diff(before, after) {
		side := func(list []policy.Right) string {
			var words []string
			for _, r := range list {
				words = append(words, strings.Join(r.Capabilities, ",")+strings.Join(r.Conditions, ","))
			}
			return strings.Join(words, " ")
		}
		got = append(got, c.Pattern+": "+side(c.Before)+" → "+side(c.After))
	}
	want := []string{"a: read → list,read", "b: read → ", `d: updateallowed parameters x=["1"] → updateallowed parameters x=["2"]`, "e:  → deny"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := policy.Diff(before, before); len(got) > 0 {
		t.Errorf("a policy with itself: got %v", got)
	}
	if got := policy.Diff(nil, before); len(got) != 4 {
		t.Errorf("a new policy: got %v, want each of its patterns", got)
	}
}

func TestReplayFindsWhoLosesAndGains(t *testing.T) {
	before := policy.Compile(parse(t, "p", rule("a/*", "read")+rule("b/*", "read")+rule("c", "update")))
	after := policy.Compile(parse(t, "p", rule("a/*", "read")+rule("b/x", "read")+rule("d", "read")+`path "c" { capabilities = ["update"] required_parameters = ["x"] }`))
	acls := func(acl *policy.ACL) func(string) *policy.ACL {
		return func(who string) *policy.ACL {
			if who == "gone" {
				return nil
			}
			return acl
		}
	}
	r := policy.NewReplay(acls(before), acls(after))
	for i, line := range []string{"read a/1", "read b/x", "read b/y", "read b/y", "read d", "update c", "list a"} {
		op, path, _ := strings.Cut(line, " ")
		for _, who := range []string{"ann", "gone"} {
			r.Add(who, policy.Operation(op), path, noon.Add(time.Duration(i)*time.Minute))
		}
	}
	var got []string
	for _, f := range r.Flips() {
		got = append(got, fmt.Sprintf("%s %s %s %d %s: %s → %s", f.Identity, f.Op, f.Path, f.Times, f.Last.Format("15:04"), f.Before, f.After))
	}
	want := []string{"ann read b/y 2 12:03: allowed → denied", "ann update c 1 12:05: allowed → depends", "ann read d 1 12:04: denied → allowed"}
	if !slices.Equal(got, want) || r.Requests() != 7 {
		t.Errorf("got %q of %d requests, want %q of 7", got, r.Requests(), want)
	}
}

func BenchmarkReplay(b *testing.B) {
	acl := policy.Compile(large(b))
	r := policy.NewReplay(func(string) *policy.ACL { return acl }, func(string) *policy.ACL { return acl })
	paths := make([]string, 20_000)
	for i := range paths {
		paths[i] = fmt.Sprintf("secret/data/team%d/app%d", i%400, i)
	}
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		r.Add("ann", policy.Read, paths[i%len(paths)], noon)
		i++
	}
	b.ReportMetric(float64(i)/b.Elapsed().Seconds(), "requests/s")
}

func FuzzSuite(f *testing.F) {
	f.Add(suite)
	f.Add(`{"test":{"x":{"allow":["read a"]}}}`)
	f.Fuzz(func(t *testing.T, text string) {
		s, err := policy.ParseSuite("f", text)
		if err != nil {
			return
		}
		s.Policies = nil
		if _, err := s.Run(nil); err != nil {
			t.Fatal(err)
		}
	})
}

func TestSamplesMatchAndDont(t *testing.T) {
	p := parse(t, "p", rule("a/+/c/*", "read")+rule("b", "list")+rule("x/{{identity.entity.name}}/y", "read"))
	acl, allowed, denied := policy.Compile(p), 0, 0
	for _, path := range policy.Samples(p) {
		if strings.HasPrefix(path, "/") || strings.Contains(path, "//") || strings.ContainsAny(path, "+*{") {
			t.Errorf("%q is no path", path)
		}
		if acl.Capabilities(path)[0] == "deny" {
			denied++
		} else {
			allowed++
		}
	}
	if allowed < 4 || denied < 4 {
		t.Errorf("%d match and %d don't: too few to tell", allowed, denied)
	}
}
