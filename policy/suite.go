package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Suite is tests of policies, as they stand in a file beside them.
type Suite struct {
	Policies []string // the names of those that count; empty: the file's own
	tests    []suiteTest
}

// suiteTest is what somebody shall be allowed and denied.
type suiteTest struct {
	name    string
	line    int
	context Context
	who     Subject
	params  map[string]any
	wrap    time.Duration
	lines   []expectation
}

// expectation is one "read secret/data/a".
type expectation struct {
	line  int
	op    Operation
	path  string
	allow bool
}

// Failure is an expectation that does not hold.
type Failure struct {
	Test     string   `json:"test"`
	Line     int      `json:"line"`
	Sentence string   `json:"sentence"` // "read secret/data/a"
	Want     string   `json:"want"`     // allow, deny
	Decision Decision `json:"-"`
	Why      string   `json:"why"`
	Rule     *Rule    `json:"rule,omitempty"`
}

// ParseSuite reads tests in HCL:
//
//	policies = ["app"]
//	test "the application reads its own" {
//	  identity { name = "ci"  metadata = { team = "red" }  groups = ["ops"] }
//	  at    = "2026-11-24T12:00:00Z"
//	  from  = "10.0.0.1"
//	  allow = ["read secret/data/app/x", "list secret/metadata/app"]
//	  deny  = ["read secret/data/other"]
//	}
//
// An error is a *ParseError with file as its File.
func ParseSuite(file, text string) (*Suite, error) {
	s, err := parseSuite(text)
	if err != nil {
		err.File = file
		return nil, err
	}
	return s, nil
}

func parseSuite(text string) (*Suite, *ParseError) {
	top, err := readTree(text)
	if err != nil {
		return nil, err
	}
	s := &Suite{}
	for _, f := range top {
		switch f.key {
		case "policies":
			if s.Policies, err = parseNames("policies", f); err != nil {
				return nil, err
			}
		case "test":
			if f.val.kind != objectNode {
				return nil, wrong(f.line, `test must be a block: test "what it shows" { … }`)
			}
			for _, t := range f.val.fields {
				if t.val.kind != objectNode {
					return nil, wrong(t.line, `test must be a block: test "what it shows" { … }`)
				}
				one, err := parseTest(t)
				if err != nil {
					return nil, err
				}
				s.tests = append(s.tests, one)
			}
		default:
			return nil, wrong(f.line, "unknown key %q: a file of tests holds policies and test", f.key)
		}
	}
	return s, nil
}

func parseTest(f field) (suiteTest, *ParseError) {
	t := suiteTest{name: f.key, line: f.line, who: Subject{}}
	for _, k := range f.val.fields {
		var err *ParseError
		ok := true
		switch k.key {
		case "allow", "deny":
			err = t.expect(k)
		case "identity":
			err = t.identity(k)
		case "at":
			t.context.Time, ok = moment(k.val)
		case "from":
			var perr error
			t.context.Addr, perr = netip.ParseAddr(k.val.text)
			ok = perr == nil
		case "reason":
			t.context.Reason = k.val.text
		case "ticket":
			t.context.Ticket = k.val.text
		case "wrap_ttl":
			t.wrap, ok = vaultDuration(k.val)
		case "params":
			t.params, err = testParams(k)
		default:
			err = wrong(k.line, "test %q: unknown key %q: use allow, deny, identity, params, wrap_ttl, at, from, reason and ticket", t.name, k.key)
		}
		if !ok {
			err = wrong(k.line, "test %q: %s can't be read", t.name, k.key)
		}
		if err != nil {
			return t, err
		}
	}
	if len(t.lines) == 0 {
		return t, wrong(f.line, "test %q: it expects nothing: write allow or deny", t.name)
	}
	return t, nil
}

func (t *suiteTest) expect(f field) *ParseError {
	list, err := parseNames(t.name, f)
	if err != nil {
		return err
	}
	for i, text := range list {
		op, path, ok := strings.Cut(strings.TrimSpace(text), " ")
		path = strings.TrimPrefix(strings.TrimSpace(path), "/")
		line := f.line
		if at := f.val.list[i].line; at > 0 {
			line = at
		}
		if _, known := needed(Operation(op)); !ok || !known || path == "" {
			return wrong(line, `test %q: %q is no expectation: write "read secret/data/a"`, t.name, text)
		}
		t.lines = append(t.lines, expectation{line, Operation(op), path, f.key == "allow"})
	}
	return nil
}

func (t *suiteTest) identity(f field) *ParseError {
	for _, k := range f.val.fields {
		var err *ParseError
		switch k.key {
		case "name":
			t.context.Identity, t.who.Name = k.val.text, k.val.text
		case "id":
			t.context.EntityID, t.who.ID = k.val.text, k.val.text
		case "method":
			t.context.Method = k.val.text
		case "metadata":
			t.context.Metadata, err = testTexts(t.name, k)
			t.who.Metadata = t.context.Metadata
		case "claims":
			t.context.Claims, err = testTexts(t.name, k)
		case "groups":
			var names []string
			if names, err = parseNames(t.name, k); err == nil {
				t.context.Groups = names
				for _, n := range names {
					t.who.Groups = append(t.who.Groups, Group{ID: n, Name: n})
				}
			}
		default:
			err = wrong(k.line, "test %q: identity: unknown key %q: use name, id, method, metadata, claims and groups", t.name, k.key)
		}
		if err != nil {
			return err
		}
	}
	if t.who.ID == "" {
		t.who.ID, t.context.EntityID = "entity", "entity"
	}
	return nil
}

func testTexts(test string, f field) (map[string]string, *ParseError) {
	out := map[string]string{}
	for _, k := range f.val.fields {
		if k.val.kind != stringNode {
			return nil, wrong(k.line, "test %q: %s: %s must be a string", test, f.key, k.key)
		}
		out[k.key] = k.val.text
	}
	return out, nil
}

// testParams reads parameters as the JSON of a request has them.
func testParams(f field) (map[string]any, *ParseError) {
	out := map[string]any{}
	for _, k := range f.val.fields {
		v, err := k.val.value(k.line, true)
		if err != nil {
			return nil, err
		}
		out[k.key] = requestValue(v)
	}
	return out, nil
}

// requestValue turns what equals nothing in a policy into the number that it is in a request.
func requestValue(v any) any {
	switch v := v.(type) {
	case never:
		return jsonNumber(v.text)
	case []any:
		for i := range v {
			v[i] = requestValue(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = requestValue(v[k])
		}
	}
	return v
}

// Tests is how many expectations there are.
func (s *Suite) Tests() int {
	n := 0
	for _, t := range s.tests {
		n += len(t.lines)
	}
	return n
}

// Run asks policies for each expectation and lists those that don't hold. Policies by other names than the suite's don't
// count; one that is missing is an error.
func (s *Suite) Run(policies []*Policy) ([]Failure, error) {
	var count []*Policy
	for _, name := range s.Policies {
		i := slices.IndexFunc(policies, func(p *Policy) bool { return p.name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no policy %q", name)
		}
		count = append(count, policies[i])
	}
	set := NewSet(count...)
	var out []Failure
	for i := range s.tests {
		t := &s.tests[i]
		acl := set.For(&t.who)
		for _, e := range t.lines {
			d := acl.Judge(&Question{Op: e.op, Path: e.path, WrapTTL: t.wrap, Params: t.params, Context: &t.context})
			if d.Allowed == e.allow {
				continue
			}
			want := "deny"
			if e.allow {
				want = "allow"
			}
			out = append(out, Failure{t.name, e.line, string(e.op) + " " + e.path, want, d, d.Why(), d.Rule})
		}
	}
	return out, nil
}
