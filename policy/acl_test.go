package policy_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bailiff-secrets/bailiff/policy"
)

// compile parses texts as the policies p1, p2 and so on, and compiles them.
func compile(t testing.TB, texts ...string) *policy.ACL {
	t.Helper()
	names := []string{"p1", "p2", "p3", "p4"}
	policies := make([]*policy.Policy, len(texts))
	for i, text := range texts {
		p, err := policy.Parse(names[i], int64(i+1), text)
		if err != nil {
			t.Fatal(err)
		}
		policies[i] = p
	}
	return policy.Compile(policies...)
}

// rule writes one path block on one line.
func rule(pattern, caps string) string {
	return `path "` + pattern + `" { capabilities = ["` + strings.ReplaceAll(caps, " ", `", "`) + `"] }` + "\n"
}

// sentence is a question and the answer that is wanted.
type sentence struct {
	op   policy.Operation
	path string
	want bool
}

func allow(op policy.Operation, paths ...string) []sentence { return sentences(true, op, paths) }
func deny(op policy.Operation, paths ...string) []sentence  { return sentences(false, op, paths) }

func sentences(want bool, op policy.Operation, paths []string) []sentence {
	var out []sentence
	for _, p := range paths {
		out = append(out, sentence{op, p, want})
	}
	return out
}

type lines = [][]sentence

func TestDecide(t *testing.T) {
	for _, c := range []struct {
		name  string
		rules []string
		lines lines
	}{
		{"no policy grants nothing but help", nil, lines{
			deny(policy.Read, "secret/data/a", "a"),
			deny(policy.List, "secret/metadata", ""),
			allow(policy.Help, "secret/data/a"),
		}},
		{"an exact pattern is one path", []string{rule("secret/data/a", "read")}, lines{
			allow(policy.Read, "secret/data/a"),
			deny(policy.Read, "secret/data/ab", "secret/data", "secret/data/a/b", "Secret/data/a", "secret/data/a/"),
			deny(policy.Create, "secret/data/a"),
			deny(policy.Update, "secret/data/a"),
			deny(policy.Patch, "secret/data/a"),
			deny(policy.Delete, "secret/data/a"),
			deny(policy.List, "secret/data/a"),
		}},
		{"each operation needs its own capability", []string{
			rule("c", "create") + rule("r", "read") + rule("u", "update") + rule("p", "patch") + rule("d", "delete") + rule("l", "list"),
		}, lines{
			allow(policy.Create, "c"), deny(policy.Create, "r", "u", "p", "d", "l"),
			allow(policy.Read, "r"), deny(policy.Read, "c", "u", "p", "d", "l"),
			allow(policy.Update, "u"), deny(policy.Update, "c", "r", "p", "d", "l"),
			allow(policy.Patch, "p"), deny(policy.Patch, "c", "r", "u", "d", "l"),
			allow(policy.Delete, "d"), deny(policy.Delete, "c", "r", "u", "p", "l"),
			allow(policy.List, "l"), deny(policy.List, "c", "r", "u", "p", "d"),
			deny("sudo", "c", "r"), deny("", "r"), deny("deny", "r"),
		}},
		{"a leading slash of a pattern doesn't count", []string{rule("/secret/data/a", "read") + rule("/b/*", "read") + rule("/+/c", "read")}, lines{
			allow(policy.Read, "secret/data/a", "b/x", "x/c"),
		}},
		{"a star is any rest, also none", []string{rule("secret/data/*", "read") + rule("ssh/cre*", "update")}, lines{
			allow(policy.Read, "secret/data/a", "secret/data/a/b/c", "secret/data/"),
			deny(policy.Read, "secret/data", "secret/dat", "x/secret/data/a"),
			allow(policy.Update, "ssh/cre", "ssh/creds/x", "ssh/create"),
			deny(policy.Update, "ssh/cr"),
		}},
		{"a star alone is everything", []string{rule("*", "read")}, lines{
			allow(policy.Read, "a", "a/b", "sys/policies/acl"),
			deny(policy.List, "a"),
		}},
		{"a star inside is a character", []string{rule("a/*/c", "read")}, lines{
			allow(policy.Read, "a/*/c"),
			deny(policy.Read, "a/b/c"),
		}},
		{"a plus is one segment, whatever it is", []string{rule("secret/+/a", "read") + rule("+/x/+", "read") + rule("+", "read")}, lines{
			allow(policy.Read, "secret/data/a", "secret/metadata/a", "q/x/w", "one"),
			deny(policy.Read, "secret/a", "secret/data/b/a", "secret/data/a/b", "x/q", "q/x", "q/x/w/e", "two/parts"),
		}},
		{"a plus that is not a whole segment is a character", []string{rule("a/+b", "read") + rule("c+", "read") + rule("d+e/f", "read")}, lines{
			allow(policy.Read, "a/+b", "c+", "d+e/f"),
			deny(policy.Read, "a/xb", "cx", "dxe/f"),
		}},
		{"a plus and a star", []string{rule("secret/+/team/*", "read") + rule("kv/+/a*", "read")}, lines{
			allow(policy.Read, "secret/data/team/a", "secret/data/team/a/b", "secret/data/team/", "kv/x/abc/d", "kv/x/a"),
			deny(policy.Read, "secret/data/team", "secret/data/other/a", "kv/x", "kv/x/b"),
		}},
		{"the exact pattern wins over all others", []string{rule("a/b", "deny") + rule("a/+", "read") + rule("a/*", "read") + rule("a/b*", "read")}, lines{
			deny(policy.Read, "a/b"),
			allow(policy.Read, "a/c", "a/bc", "a/b/c"),
		}},
		{"a more specific allow wins over a deny", []string{rule("secret/*", "deny") + rule("secret/data/app/*", "read")}, lines{
			allow(policy.Read, "secret/data/app/x"),
			deny(policy.Read, "secret/data/x"),
		}},
		{"only the winner counts", []string{rule("secret/*", "read list") + rule("secret/data/*", "update")}, lines{
			allow(policy.Update, "secret/data/x"),
			deny(policy.Read, "secret/data/x"),
			allow(policy.Read, "secret/x"),
		}},
		{"the later first wildcard wins", []string{rule("a/+/c", "deny") + rule("a/b*", "read") + rule("x/y/+", "read") + rule("x/+/z", "deny")}, lines{
			allow(policy.Read, "a/b/c", "x/y/z"),
			deny(policy.Read, "a/x/c", "x/q/z"),
		}},
		{"at the same place a pattern without a star wins", []string{rule("a/*", "deny") + rule("a/+", "read") + rule("b/+/*", "deny") + rule("b/+/c", "read")}, lines{
			allow(policy.Read, "a/x", "b/x/c"),
			deny(policy.Read, "a/x/y", "b/x/d"),
		}},
		{"then the one with fewer pluses", []string{rule("a/+/+/d", "deny") + rule("a/+/c/d", "read")}, lines{
			allow(policy.Read, "a/x/c/d"),
			deny(policy.Read, "a/x/y/d"),
		}},
		{"then the longer", []string{rule("a/+/b*", "deny") + rule("a/+/bar*", "read") + rule("c/+/+/long", "read") + rule("c/+/d/+", "deny")}, lines{
			allow(policy.Read, "a/x/bar", "a/x/bark", "c/x/d/long"),
			deny(policy.Read, "a/x/baz"),
		}},
		{"then the lexicographically larger", []string{rule("a/+/+/c/d", "deny") + rule("a/+/b/+/d", "read")}, lines{
			deny(policy.Read, "a/x/y/c/d"),
			allow(policy.Read, "a/x/b/y/d"),
			allow(policy.Read, "a/x/b/c/d"), // "a/+/b/+/d" > "a/+/+/c/d"
		}},
		{"the first plus counts even where it is a character", []string{rule("a+b/c/+", "deny") + rule("a+b/c*", "read")}, lines{
			allow(policy.Read, "a+b/c/d"),
		}},
		{"the same pattern in one policy is united", []string{rule("a", "read") + rule("a", "list") + rule("/a", "update")}, lines{
			allow(policy.Read, "a"), allow(policy.List, "a"), allow(policy.Update, "a"), deny(policy.Delete, "a"),
		}},
		{"the same pattern in several policies is united", []string{rule("a/*", "read"), rule("a/*", "list"), rule("a/+", "update"), rule("a/+", "delete")}, lines{
			allow(policy.Update, "a/x"), allow(policy.Delete, "a/x"), deny(policy.Read, "a/x"),
			allow(policy.Read, "a/x/y"), allow(policy.List, "a/x/y"),
		}},
		{"a deny leaves only deny, wherever it stands", []string{rule("a", "read") + rule("b", "deny") + rule("c", "read deny"), rule("a", "deny") + rule("b", "read")}, lines{
			deny(policy.Read, "a", "b", "c"),
		}},
		{"no capabilities match and grant nothing", []string{rule("a/*", "read") + `path "a/b/*" { capabilities = [] }` + "\n" + `path "a/c" {}`}, lines{
			allow(policy.Read, "a/x"),
			deny(policy.Read, "a/b/x", "a/c"),
		}},
		{"the old words stand for capabilities", []string{`
			path "r" { policy = "read" }
			path "w" { policy = "write" }
			path "s" { policy = "sudo" }
			path "d" { policy = "deny" }
			path "m" { policy = "read" capabilities = ["delete"] }
			path "e" { policy = "" capabilities = ["read"] }
			path "x" { policy = "deny" capabilities = ["read"] }`}, lines{
			allow(policy.Read, "r", "w", "s", "m", "e"), allow(policy.List, "r", "w", "s", "m"),
			allow(policy.Create, "w", "s"), allow(policy.Update, "w", "s"), allow(policy.Delete, "w", "s", "m"),
			deny(policy.Patch, "r", "w", "s"), deny(policy.Create, "r", "d", "m"), deny(policy.Read, "d", "x"),
		}},
		{"a list is judged with a slash at its end, then without", []string{
			rule("a/", "list") + rule("b", "list") + rule("c/", "deny") + rule("c", "list") + rule("d/*", "list") + rule("e/+", "list") + rule("f/+/", "list"),
		}, lines{
			allow(policy.List, "a", "a/", "b", "d", "d/x", "e", "e/x", "f/x"), // "e/" has an empty second segment
			deny(policy.List, "c", "f", "e/x/y"),
			deny(policy.Read, "a"),
		}},
		{"what matches a list with its slash wins over what matches without", []string{
			rule("m/+", "deny") + rule("m/*", "list") + rule("n/+", "list") + rule("n/x/*", "deny"),
		}, lines{
			allow(policy.List, "m/x"),
			deny(policy.List, "n/x"),
			allow(policy.List, "n/y"),
		}},
		{"the built-in policy", []string{policy.Default}, lines{
			allow(policy.Read, "auth/token/lookup-self", "sys/internal/ui/resultant-acl", "cubbyhole/a/b", "identity/oidc/provider/x/authorize"),
			allow(policy.Update, "auth/token/renew-self", "auth/token/revoke-self", "sys/capabilities-self", "sys/renew", "sys/leases/renew",
				"sys/leases/lookup", "sys/wrapping/wrap", "sys/wrapping/lookup", "sys/wrapping/unwrap", "sys/tools/hash", "sys/tools/hash/sha2-256",
				"sys/control-group/request", "cubbyhole/a", "identity/oidc/provider/x/authorize"),
			allow(policy.Create, "cubbyhole/a"), allow(policy.Delete, "cubbyhole/a"), allow(policy.List, "cubbyhole", "cubbyhole/a"),
			deny(policy.Read, "secret/data/a", "auth/token/lookup", "sys/policies/acl/default", "identity/oidc/provider/x/y/authorize"),
			deny(policy.Update, "sys/capabilities", "sys/leases/revoke", "auth/token/create"),
		}},
	} {
		acl := compile(t, c.rules...)
		for _, line := range c.lines {
			for _, s := range line {
				if d := acl.Decide(s.op, s.path); d.Allowed != s.want || d.Reason == "" {
					t.Errorf("%s: %s %q: got %v (%s, %+v), want %v", c.name, s.op, s.path, d.Allowed, d.Reason, d.Rule, s.want)
				}
			}
		}
	}
}

func TestEveryDecisionNamesItsRule(t *testing.T) {
	acl := compile(t,
		"# a comment\n"+rule("a/*", "list")+rule("a/*", "read sudo")+"\n"+rule("b", "read"),
		rule("a/*", "read update")+rule("b", "deny")+rule("c/+/d*", "read"),
	)
	for _, c := range []struct {
		op   policy.Operation
		path string
		want policy.Decision
	}{
		{policy.List, "a/x", policy.Decision{Allowed: true, Sudo: true, Rule: &policy.Rule{Policy: "p1", Version: 1, Line: 2, Pattern: "a/*"}, Reason: "the rule grants it"}},
		{policy.Read, "a/x", policy.Decision{Allowed: true, Sudo: true, Rule: &policy.Rule{Policy: "p1", Version: 1, Line: 3, Pattern: "a/*"}, Reason: "the rule grants it"}},
		{policy.Update, "a/x", policy.Decision{Allowed: true, Sudo: true, Rule: &policy.Rule{Policy: "p2", Version: 2, Line: 1, Pattern: "a/*"}, Reason: "the rule grants it"}},
		{policy.Delete, "a/x", policy.Decision{Sudo: true, Rule: &policy.Rule{Policy: "p1", Version: 1, Line: 2, Pattern: "a/*"}, Reason: "the rule does not grant it"}},
		{policy.Read, "b", policy.Decision{Rule: &policy.Rule{Policy: "p2", Version: 2, Line: 2, Pattern: "b"}, Reason: "the rule denies it"}},
		{policy.Read, "c/x/dd", policy.Decision{Allowed: true, Rule: &policy.Rule{Policy: "p2", Version: 2, Line: 3, Pattern: "c/+/d*"}, Reason: "the rule grants it"}},
		{policy.Read, "d", policy.Decision{Reason: "no rule matches the path"}},
		{policy.Help, "b", policy.Decision{Allowed: true, Reason: "help is open to every known caller"}},
		{"seal", "a/x", policy.Decision{Reason: "no capability allows this operation"}},
	} {
		if diff := cmp.Diff(c.want, acl.Decide(c.op, c.path)); diff != "" {
			t.Errorf("%s %s (-want +got):\n%s", c.op, c.path, diff)
		}
	}
}

func TestRootStandsAlone(t *testing.T) {
	root, err := policy.Parse("root", 0, "")
	if err != nil {
		t.Fatal(err)
	}
	denies, err := policy.Parse("denies", 1, rule("*", "deny"))
	if err != nil {
		t.Fatal(err)
	}
	for _, acl := range []*policy.ACL{policy.Compile(root), policy.Compile(nil, denies, root)} {
		d := acl.Decide(policy.Delete, "sys/anything")
		if !d.Allowed || !d.Sudo || d.Rule == nil || d.Rule.Policy != "root" {
			t.Errorf("got %+v, want everything allowed by root", d)
		}
		if diff := cmp.Diff([]string{"root"}, acl.Capabilities("x")); diff != "" || !acl.Mountable("x/") {
			t.Errorf("root: capabilities %s, mountable %v", diff, acl.Mountable("x/"))
		}
	}
	acl := policy.Compile(nil, denies, nil)
	if d := acl.Decide(policy.Read, "a"); d.Allowed || d.Rule == nil {
		t.Errorf("got %+v, want a deny", d)
	}
}

func TestCapabilities(t *testing.T) {
	acl := compile(t, rule("a", "update read sudo patch list delete create")+rule("b/", "list")+rule("c", "deny")+rule("d/+", "read"))
	for path, want := range map[string]string{
		"a":    "create delete list patch read sudo update",
		"//a":  "create delete list patch read sudo update",
		"a/":   "create delete list patch read sudo update",
		"b":    "deny",
		"b/":   "list",
		"c":    "deny",
		"d/x":  "read",
		"d/x/": "read",
		"e":    "deny",
		"":     "deny",
	} {
		if got := strings.Join(acl.Capabilities(path), " "); got != want {
			t.Errorf("Capabilities(%q) = %s, want %s", path, got, want)
		}
	}
}

func TestMountable(t *testing.T) {
	for _, c := range []struct {
		rules    string
		yes, not string
	}{
		{rule("secret/data/a", "read"), "secret/", "secrets/ sec/ kv/"},
		{rule("secret/*", "read"), "secret/", "kv/"},
		{rule("secret/data/team/*", "list"), "secret/", "kv/"},
		{rule("sec*", "list"), "secret/ sec/", "kv/"},
		{rule("*", "list"), "secret/ kv/", ""},
		{rule("secret/*", "deny"), "", "secret/"},
		{rule("secret/*", "deny") + rule("secret/data/a", "read"), "secret/", ""},
		{rule("secret/data/a", "deny"), "", "secret/"},
		{`path "secret/data/a" { capabilities = [] }`, "", "secret/"},
		{rule("secret/+/a", "read"), "secret/", "kv/"},
		{rule("+/data/a", "read"), "secret/ kv/", "a/b/"},
		{rule("+/data/a*", "read"), "secret/ kv/ x/data/", "a/b/"},
		{rule("+/b/c/d", "read"), "a/ a/b/ a/b/c/", "a/c/ a/b/d/"},
		{rule("+/b*", "read"), "a/ a/b/ a/bc/", "a/c/"},
		{rule("+", "read"), "a/", "a/b/"},
		{rule("+/b*", "read") + rule("a/bc/d/*", "deny"), "a/bc/e/", "a/bc/d/"},
		{rule("+/data/a", "deny"), "", "secret/"},
		{policy.Default, "cubbyhole/ identity/ sys/", "secret/"},
	} {
		acl := compile(t, c.rules)
		for _, prefix := range strings.Fields(c.yes) {
			if !acl.Mountable(prefix) {
				t.Errorf("%s%s: got hidden, want shown", c.rules, prefix)
			}
		}
		for _, prefix := range strings.Fields(c.not) {
			if acl.Mountable(prefix) {
				t.Errorf("%s%s: got shown, want hidden", c.rules, prefix)
			}
		}
	}
}
