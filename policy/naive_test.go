package policy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/bailiff-secrets/bailiff/policy"
)

// naiveRule is a path block as it is written.
type naiveRule struct {
	pattern string
	caps    []string
}

// text writes rules as the text of a policy.
func text(rules []naiveRule) string {
	var b strings.Builder
	for _, r := range rules {
		quoted := make([]string, len(r.caps))
		for i, c := range r.caps {
			quoted[i] = fmt.Sprintf("%q", c)
		}
		fmt.Fprintf(&b, "path %q {\n  capabilities = [%s]\n}\n", r.pattern, strings.Join(quoted, ", "))
	}
	return b.String()
}

// naive answers what sys/capabilities should, by looking at every rule and comparing all that match pair by pair.
func naive(rules []naiveRule, path string) []string {
	tries := []string{path}
	if strings.HasSuffix(path, "/") {
		tries = append(tries, path[:len(path)-1])
	}
	for _, try := range tries { // an exact pattern, without a wildcard
		for _, r := range rules {
			p := strings.TrimPrefix(r.pattern, "/")
			if p == try && !strings.HasSuffix(p, "*") && !naiveSegments(p) {
				return naiveMerged(rules, p)
			}
		}
	}
	for _, try := range tries {
		winner, found := "", false
		for _, r := range rules {
			p := strings.TrimPrefix(r.pattern, "/")
			if naiveMatches(p, try) && (!found || naiveBeats(p, winner)) {
				winner, found = p, true
			}
		}
		if found {
			return naiveMerged(rules, winner)
		}
	}
	return []string{"deny"}
}

// naiveSegments says that a pattern is compared segment by segment: its first segment is "+" or a later one begins so.
func naiveSegments(p string) bool {
	for i, s := range strings.Split(p, "/") {
		if s == "+" || i > 0 && strings.HasPrefix(s, "+") {
			return true
		}
	}
	return false
}

func naiveMatches(p, path string) bool {
	star := strings.HasSuffix(p, "*")
	if !naiveSegments(p) {
		return star && strings.HasPrefix(path, strings.TrimSuffix(p, "*"))
	}
	want, got := strings.Split(strings.TrimSuffix(p, "*"), "/"), strings.Split(path, "/")
	if len(got) < len(want) || len(got) > len(want) && !star {
		return false
	}
	for i, w := range want {
		last := i == len(want)-1
		if w != "+" && w != got[i] && !(star && last && strings.HasPrefix(got[i], w)) {
			return false
		}
	}
	return true
}

// naiveBeats says that pattern p is more specific than q.
func naiveBeats(p, q string) bool {
	first := func(p string) int {
		if naiveSegments(p) {
			return strings.Index(p, "+")
		}
		return strings.Index(p, "*")
	}
	star := func(p string) bool { return strings.HasSuffix(p, "*") }
	pluses := func(p string) int {
		n := 0
		for _, s := range strings.Split(strings.TrimSuffix(p, "*"), "/") {
			if s == "+" && naiveSegments(p) {
				n++
			}
		}
		return n
	}
	switch {
	case first(p) != first(q):
		return first(p) > first(q)
	case star(p) != star(q):
		return star(q)
	case pluses(p) != pluses(q):
		return pluses(p) < pluses(q)
	case len(p) != len(q):
		return len(p) > len(q)
	}
	return p > q
}

// naiveMerged unites what all rules for one pattern grant.
func naiveMerged(rules []naiveRule, pattern string) []string {
	var caps []string
	for _, r := range rules {
		if strings.TrimPrefix(r.pattern, "/") == pattern {
			caps = append(caps, r.caps...)
		}
	}
	slices.Sort(caps)
	caps = slices.Compact(caps)
	if len(caps) == 0 || slices.Contains(caps, "deny") {
		return []string{"deny"}
	}
	return caps
}

// genSegment draws from few names, so that patterns meet and overlap.
func genSegment() *rapid.Generator[string] {
	return rapid.SampledFrom([]string{"a", "b", "ab", "abc", "a+b", "c", "kv"})
}

func genPattern() *rapid.Generator[string] {
	segment := rapid.OneOf(genSegment(), genSegment(), rapid.SampledFrom([]string{"+", "+", "+", "+a"}))
	return rapid.Custom(func(t *rapid.T) string {
		p := strings.Join(rapid.SliceOfN(segment, 1, 4).Draw(t, "segments"), "/")
		p = rapid.SampledFrom([]string{"", "", "", "/"}).Draw(t, "start") + p
		switch rapid.SampledFrom([]string{"", "", "", "/", "/*", "/*", "*", "/a*"}).Draw(t, "end") {
		case "/":
			return p + "/"
		case "/*":
			return p + "/*"
		case "/a*":
			return p + "/a*"
		case "*":
			if !strings.HasSuffix(p, "+") { // "+*" is refused
				return p + "*"
			}
		}
		return p
	})
}

func genRules() *rapid.Generator[[]naiveRule] {
	caps := rapid.OneOf(
		rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"create", "read", "update", "patch", "delete", "list", "sudo"}), 0, 4, rapid.ID[string]),
		rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"read", "list", "update"}), 1, 2, rapid.ID[string]),
		rapid.SampledFrom([][]string{{"deny"}, {"read", "deny"}}),
	)
	one := rapid.Custom(func(t *rapid.T) naiveRule {
		return naiveRule{pattern: genPattern().Draw(t, "pattern"), caps: caps.Draw(t, "caps")}
	})
	return rapid.SliceOfN(one, 2, 14)
}

func genPath() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		p := strings.Join(rapid.SliceOfN(rapid.OneOf(genSegment(), rapid.SampledFrom([]string{"x", "+a"})), 1, 5).Draw(t, "segments"), "/")
		return p + rapid.SampledFrom([]string{"", "", "/"}).Draw(t, "end")
	})
}

// TestCompiledIsWhatIsWritten compares the compiled ACL with the naive reading of the same rules, spread over policies.
// Rare meetings of patterns need more than the hundred sets of one check.
func TestCompiledIsWhatIsWritten(t *testing.T) {
	for range 20 {
		rapid.Check(t, compiledIsWhatIsWritten)
	}
}

func compiledIsWhatIsWritten(t *rapid.T) {
	operations := []policy.Operation{policy.Create, policy.Read, policy.Update, policy.Patch, policy.Delete, policy.List}
	rules := genRules().Draw(t, "rules")
	cut := rapid.IntRange(0, len(rules)).Draw(t, "cut")
	var policies []*policy.Policy
	for i, part := range [][]naiveRule{rules[:cut], rules[cut:]} {
		p, err := policy.Parse(fmt.Sprint("p", i), 1, text(part))
		if err != nil {
			t.Fatal(err)
		}
		policies = append(policies, p)
	}
	acl := policy.Compile(policies...)
	for _, path := range rapid.SliceOfN(genPath(), 1, 10).Draw(t, "paths") {
		want := naive(rules, path)
		if got := acl.Capabilities(path); !slices.Equal(got, want) {
			t.Fatalf("%q: got %v, want %v", path, got, want)
		}
		for _, op := range operations {
			asked := path
			if op == policy.List {
				asked = strings.TrimSuffix(path, "/") + "/"
			} else if strings.HasSuffix(path, "/") {
				continue // no other operation's path ends in a slash
			}
			want := naive(rules, asked)
			d := acl.Decide(op, strings.TrimSuffix(path, "/"))
			if d.Allowed != slices.Contains(want, string(op)) || d.Sudo != slices.Contains(want, "sudo") {
				t.Fatalf("%s %q: got %+v, want one of %v", op, path, d, want)
			}
			if d.Rule != nil && !slices.ContainsFunc(rules, func(r naiveRule) bool {
				return strings.TrimPrefix(r.pattern, "/") == d.Rule.Pattern && (!d.Allowed || slices.Contains(r.caps, string(op)))
			}) {
				t.Fatalf("%s %q: rule %+v did not contribute that", op, path, d.Rule)
			}
		}
	}
}
