package policy_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/bailiff-secrets/bailiff/policy"
)

// TestThePageIsTrue: the policies in docs/policy.md are formatted, have nothing that lint finds and pass the tests beside
// them, and what the page says of the commands on them is what they say.
func TestThePageIsTrue(t *testing.T) {
	page, err := os.ReadFile("../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	var policies []*policy.Policy
	suites, expectations := 0, 0
	for _, block := range regexp.MustCompile("(?s)```hcl (policy|test)=(\\w+)\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		kind, name, text := block[1], block[2], block[3]
		if kind == "policy" {
			p := parse(t, name, text)
			policies = append(policies, p)
			if got, err := policy.Format(text); err != nil || got != text {
				t.Errorf("policy %s is not formatted: got %v and\n%s", name, err, got)
			}
			for _, f := range policy.Lint(p, noon) {
				t.Errorf("policy %s, line %d: %s", name, f.Line, f.Msg)
			}
			continue
		}
		s, err := policy.ParseSuite(name, text)
		if err != nil {
			t.Fatal(err)
		}
		s.Policies = []string{name}
		failures, err := s.Run(policies)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range failures {
			t.Errorf("%s: %s: want %s %s: %s", name, f.Test, f.Want, f.Sentence, f.Why)
		}
		suites++
		expectations += s.Tests()
	}
	want := fmt.Sprintf("ok: %d expectations in %d files\n", expectations, suites)
	if suites < 5 || suites != len(policies) || !strings.Contains(string(page), want) {
		t.Errorf("got %d suites of %d policies; the page does not say %q", suites, len(policies), want)
	}
}
