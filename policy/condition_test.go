package policy_test

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/policy"
)

// noon is a Tuesday.
var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func somebody() *policy.Context {
	return &policy.Context{
		Time: noon, Addr: netip.MustParseAddr("10.1.2.3"), Identity: "ann", EntityID: "e-1", Method: "oidc",
		Metadata: map[string]string{"team": "red"}, Groups: []string{"g-1", "g-2"}, Claims: map[string]string{"repository": "acme/app"},
		Reason: "incident", Ticket: "OPS-7",
	}
}

func TestConditionsDecide(t *testing.T) {
	params := `{"ttl": 5, "ratio": 0.5, "name": "x", "data": {"list": ["a", "b"], "deep": {"n": 7}}}`
	for expression, want := range map[string]bool{
		`true`:  true,
		`false`: false,
		`time.getHours() >= 9 && time.getHours() < 17`:                true,
		`time.getHours("America/New_York") >= 9`:                      false,
		`time.getDayOfWeek() in [1, 2, 3, 4, 5]`:                      true,
		`time < timestamp("2026-11-24T11:00:00Z")`:                    false,
		`address == "10.1.2.3"`:                                       true,
		`address.within("10.0.0.0/8")`:                                true,
		`address.within("10.2.0.0/16")`:                               false,
		`address.within("nonsense")`:                                  false,
		`op == "update" && path == "a"`:                               true,
		`op in ["read", "list"]`:                                      false,
		`identity.name == "ann" && identity.id == "e-1"`:              true,
		`identity.method == "oidc"`:                                   true,
		`identity.metadata.team == "red"`:                             true,
		`identity.metadata["team"] == "blue"`:                         false,
		`identity.metadata.gone == "red"`:                             false, // it can't be judged
		`has(identity.metadata.gone) || "g-2" in identity.groups`:     true,
		`identity.claims.repository.startsWith("acme/")`:              true,
		`identity.claims.repository.matches("^evil/")`:                false,
		`reason != "" && ticket.matches("^OPS-[0-9]+$")`:              true,
		`params.ttl <= 5 && params.ratio < 1.0 && params.name == "x"`: true,
		`params.data.list.all(x, x in ["a", "b"])`:                    true,
		`params.data.deep.n == 7`:                                     true,
		`params.ttl > 5`:                                              false,
		`params.gone == 1`:                                            false,
		`params.name > 5`:                                             false,
		`[1,2,3,4,5,6,7,8,9,10].all(a, [1,2,3,4,5,6,7,8,9,10].all(b, [1,2,3,4,5,6,7,8,9,10].all(c, [1,2,3,4,5,6,7,8,9,10].all(d, [1,2,3,4,5,6,7,8,9,10].all(e, a+b+c+d+e > 0)))))`: false, // it costs too much
	} {
		acl := compile(t, update("when = <<EOT\n"+expression+"\nEOT"))
		first := acl.Decide(policy.Update, "a")
		d := acl.Judge(&policy.Question{Op: policy.Update, Path: "a", Params: body(t, params), Context: somebody()})
		if d.Allowed != want || first.Allowed || !first.Conditional || d.Rule == nil || d.Rule.Line != 1 {
			t.Errorf("%s: got %+v after %+v, want %v", expression, d, first, want)
		}
		if got := first.NeedsParams; got != strings.Contains(expression, "params") {
			t.Errorf("%s: NeedsParams is %v", expression, got)
		}
		if got := first.NeedsOp; got != strings.Contains(expression, "op ") {
			t.Errorf("%s: NeedsOp is %v", expression, got)
		}
	}
}

func TestNumbersAreExact(t *testing.T) {
	params, err := policy.BodyParams("application/json", []byte(`{"n":9007199254740993}`))
	if err != nil {
		t.Fatal(err)
	}
	for expression, want := range map[string]bool{"params.n == 9007199254740993": true, "params.n == 9007199254740992": false} {
		if d := compile(t, update(`when = "`+expression+`"`)).Judge(&policy.Question{Op: policy.Update, Path: "a", Params: params}); d.Allowed != want {
			t.Errorf("%s: got %+v, want %v", expression, d, want)
		}
	}
}

func TestConditionsAreRefused(t *testing.T) {
	for _, c := range []struct{ rule, want string }{
		{`when = 5`, `when must be a string with an expression`},
		{`when = "1 + 1"`, `when: it is int, and must be true or false`},
		{`when = "tme.getHours() < 5"`, `when: column 1: undeclared reference to 'tme'`},
		{`when = "identity.nam == 'x'"`, `when: column 1: undeclared reference to 'identity'`},
		{`when = "time.getHours( < 5"`, `when: column 16: Syntax error`},
		{`when = "` + strings.Repeat("true && ", 600) + `true"`, `when: it is longer than 4096 bytes`},
		{`when = "true"` + "\n" + `when = "true"`, `key "when" is given twice`},
		{`valid = "2027-01-01"`, `valid must be a block`},
		{`valid { from = "soon" }`, `valid: from must be a day or a time`},
		{`valid { until = 5 }`, `valid: until must be a day or a time`},
		{`valid { uses = 0 }`, `valid: uses must be a whole number from 1`},
		{`valid { uses = "3" }`, `valid: uses must be a whole number from 1`},
		{`valid { times = 3 }`, `valid: unknown key "times"`},
		{`valid { uses = 3 uses = 4 }`, `key "uses" is given twice`},
		{`valid { from = "2027-01-02" until = "2027-01-01" }`, `valid: from is not before until`},
	} {
		_, err := policy.Parse("p", 1, update(c.rule))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.80s: got %v, want %s", c.rule, err, c.want)
		}
	}
	if _, err := policy.Parse("p", 1, `path "a" { capabilities = ["deny"] valid { uses = 3 } }`); err == nil {
		t.Error("a denial that is used up: got nil, want an error")
	}
}

func TestARuleIsValidForATime(t *testing.T) {
	acl := compile(t, update(`valid { from = "2026-11-24" until = "2026-11-24T13:00:00Z" }`))
	for at, want := range map[time.Time]string{
		noon.Add(-13 * time.Hour): "the rule is not valid yet",
		noon.Add(-12 * time.Hour): "",
		noon:                      "",
		noon.Add(time.Hour):       "the rule is not valid any more",
	} {
		d := acl.Judge(&policy.Question{Op: policy.Update, Path: "a", Context: &policy.Context{Time: at}})
		if d.Allowed != (want == "") || want != "" && d.Reason != want {
			t.Errorf("%v: got %+v, want %q", at, d, want)
		}
	}
}

func TestARuleIsUsedUp(t *testing.T) {
	counted := update(`valid { uses = 3 }`)
	q := &policy.Question{Op: policy.Update, Path: "a"}
	d := compile(t, counted).Judge(q)
	if !d.Allowed || d.Uses == nil || d.Uses.Max != 3 || d.Uses.Name == "" {
		t.Fatalf("got %+v, want it allowed and counted", d)
	}
	name := d.Uses.Name
	if d := compile(t, counted).Judge(&policy.Question{Op: policy.Update, Path: "a", Spent: []string{name}}); d.Allowed || d.Reason != "the rule is used up" {
		t.Errorf("got %+v, want it used up", d)
	}
	if d := compile(t, counted, update("")).Judge(q); !d.Allowed || d.Uses != nil || d.Rule.Policy != "p2" {
		t.Errorf("got %+v, want it allowed by the rule that isn't counted", d)
	}
	sudo := `path "a" { capabilities = ["update", "sudo"] valid { uses = 3 } }`
	if d := compile(t, sudo, update("")).Judge(q); !d.Allowed || d.Sudo || d.Uses != nil {
		t.Errorf("got %+v, want nothing of the rule that would have to be counted", d)
	}
	if d := compile(t, sudo).Judge(q); !d.Allowed || !d.Sudo || d.Uses == nil {
		t.Errorf("got %+v, want all of the rule, counted", d)
	}
	for same, text := range map[bool]string{
		true:  "# moved\n\n" + `path "a" { comment = "x" capabilities = ["update", "read"] valid { uses = 3 } }`,
		false: update(`valid { uses = 4 }`),
	} {
		if d := compile(t, text).Judge(q); (d.Uses.Name == name) != same {
			t.Errorf("%s: got name %s beside %s, want the same: %v", text, d.Uses.Name, name, same)
		}
	}
}

// TestAPatternStandsWhateverItsConditions says what counts where conditions don't hold.
func TestAPatternStandsWhateverItsConditions(t *testing.T) {
	wide := rule("s/*", "read list")
	never, always := `when = "false"`, `when = "true"`
	with := func(pattern, caps, more string) string {
		return strings.TrimSuffix(rule(pattern, caps), " }\n") + "\n" + more + "\n}\n"
	}
	for _, c := range []struct {
		name string
		text string
		want bool
	}{
		{"a grant that holds", wide + with("s/x/*", "read", always), true},
		{"a grant that does not makes no way for a wider one", wide + with("s/x/*", "read", never), false},
		{"nor for another for the same pattern that does not grant it", wide + rule("s/x/*", "list") + with("s/x/*", "read", never), false},
		{"but for one that does", wide + rule("s/x/*", "read") + with("s/x/*", "update", never), true},
		{"a denial that holds", wide + with("s/x/*", "deny", always), false},
		{"a denial that does not is not there", wide + with("s/x/*", "deny", never), true},
		{"a denial that can't be judged holds", wide + with("s/x/*", "deny", `when = "identity.metadata.gone == 'x'"`), false},
		{"a grant that can't be judged does not", with("s/x/*", "read", `when = "identity.metadata.gone == 'x'"`), false},
		{"a denial beside a grant", rule("s/x/*", "read") + with("s/x/*", "deny", always), false},
		{"a denial beside a grant that does not hold", rule("s/x/*", "read") + with("s/x/*", "deny", never), true},
		{"a denial without a condition", rule("s/x/*", "deny") + with("s/x/*", "read", always), false},
		{"two grants, one of them holds", with("s/x/*", "read", never) + with("s/x/*", "read", always), true},
		{"parameters of a rule that holds count", rule("s/x/*", "read") + with("s/x/*", "read", always+"\nrequired_parameters = [\"v\"]"), false},
		{"of one that does not they don't", rule("s/x/*", "read") + with("s/x/*", "read", never+"\nrequired_parameters = [\"v\"]"), true},
	} {
		acl := compile(t, c.text)
		if d := acl.Judge(&policy.Question{Op: policy.Read, Path: "s/x/y"}); d.Allowed != c.want {
			t.Errorf("%s: got %+v, want %v", c.name, d, c.want)
		}
	}
	acl := compile(t, wide+with("s/x/*", "deny", never)+with("s/y/*", "update", never)+with("s/z/*", "update", `valid { until = "2020-01-01" }`))
	for path, want := range map[string]string{"s/x/1": "list read", "s/y/1": "update", "s/z/1": "deny", "s/x/": "list read"} {
		if got := acl.Capabilities(path); !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("%s: got %v, want %s", path, got, want)
		}
	}
}

func TestASecretIsAllItsPaths(t *testing.T) {
	text := `secret "secret/app/*" {
  comment      = "what the application keeps"
  capabilities = ["create", "read", "update", "patch", "delete", "list"]
}
secret "secret/old" { capabilities = ["read", "destroy"] }
secret "kv/team/+/x" { mount = "kv/team"  capabilities = ["read"]  when = "address.within('10.0.0.0/8')" }
secret "secret/app/no" { capabilities = ["deny"] }
`
	acl := compile(t, text)
	for path, want := range map[string]string{
		"secret/data/app/a":           "create delete patch read update",
		"secret/metadata/app/a":       "create list patch read update",
		"secret/metadata/app/":        "create list patch read update",
		"secret/subkeys/app/a":        "read",
		"secret/delete/app/a":         "update",
		"secret/undelete/app/a":       "update",
		"secret/destroy/app/a":        "deny",
		"secret/data/app/no":          "deny",
		"secret/undelete/app/no":      "deny",
		"secret/destroy/old":          "update",
		"secret/metadata/old":         "delete read",
		"secret/data/old":             "read",
		"secret/data/other":           "deny",
		"kv/team/data/ann/x":          "read",
		"kv/data/team/ann/x":          "deny",
		"secret/app/a":                "deny",
		"secret/data/application/key": "deny",
	} {
		if got := acl.Capabilities(path); !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("%s: got %v, want %s", path, got, want)
		}
	}
	if d := acl.Judge(&policy.Question{Op: policy.Read, Path: "kv/team/data/ann/x", Context: somebody()}); !d.Allowed || d.Rule.Line != 6 {
		t.Errorf("got %+v, want it allowed by line 6", d)
	}
	for text, want := range map[string]string{
		`secret "secret" { capabilities = ["read"] }`:                      "it begins with a mount",
		`secret "+/x" { capabilities = ["read"] }`:                         "it begins with a mount",
		`secret "a/b/c" { mount = "a/x" capabilities = ["read"] }`:         "mount must be a string that the pattern begins with",
		`secret "a/b" { capabilities = ["sudo"] }`:                         `unknown capability "sudo"`,
		`secret "a/b" { capabilities = ["read"] allowed_parameters = {} }`: `unknown key "allowed_parameters"`,
		`secret "a/b" { capabilities = ["read"] capabilities = ["list"] }`: `key "capabilities" is given twice`,
		`secret "a/b" { capabilities = ["deny"] valid { uses = 1 } }`:      "a denial can't be used up",
		`secret "a/b/{{x" { capabilities = ["read"] }`:                     "unbalanced templating characters",
		`secret "a/b" { capabilities = ["read"] when = "nothing" }`:        "undeclared reference",
		`secret = "a"`: `secret must be a block: secret "a/b" { … }`,
	} {
		if _, err := policy.Parse("p", 1, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
}

func TestTheUsesOfASecretAreCountedTogether(t *testing.T) {
	acl := compile(t, `secret "secret/app/*" { capabilities = ["read"] valid { uses = 2 } }`)
	names := map[string]bool{}
	for _, path := range []string{"secret/data/app/a", "secret/metadata/app/a"} {
		d := acl.Judge(&policy.Question{Op: policy.Read, Path: path})
		if d.Uses == nil {
			t.Fatalf("%s: got %+v, want it counted", path, d)
		}
		names[d.Uses.Name] = true
	}
	if len(names) != 1 {
		t.Errorf("got the names %v, want one", names)
	}
}

func FuzzCondition(f *testing.F) {
	for _, text := range []string{`time.getHours() < 5`, `address.within("10.0.0.0/8")`, `params.a == 1`, `"x" in identity.groups`, `[1].all(x, x > 0)`, `"a".matches("(a+)+$")`, `identity.metadata[ticket] == reason`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "\nEOT") || strings.ContainsRune(text, '\r') {
			return // it would end the string
		}
		p, err := policy.Parse("p", 1, update("when = <<EOT\n"+text+"\nEOT"))
		if err != nil {
			return
		}
		start := time.Now()
		policy.Compile(p).Judge(&policy.Question{Op: policy.Update, Path: "a", Params: body(t, `{"a":[1,"x",{"b":null}]}`), Context: somebody()})
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("%q took %v", text, took)
		}
	})
}

func FuzzTemplate(f *testing.F) {
	for _, pattern := range []string{"s/{{identity.entity.id}}/*", "{{identity.entity.metadata.a}}", "+/{{time.now}}*", "{{identity.groups.names.g.metadata.k}}", "/{{ x }}", "a/{{identity.entity.aliases.a.name}}+"} {
		f.Add(pattern, "v")
	}
	f.Fuzz(func(t *testing.T, pattern, value string) {
		who := &policy.Subject{
			ID: value, Name: value, Metadata: map[string]string{"a": value}, Aliases: []policy.Alias{{Accessor: "a", Name: value}},
			Groups: []policy.Group{{ID: value, Name: "g", Metadata: map[string]string{"k": value}}},
		}
		p, err := policy.Parse("p", 1, `{"path":{`+quote(t, pattern)+`:{"capabilities":["read"]}}}`)
		if err != nil {
			return
		}
		set := policy.NewSet(p)
		acl := set.For(who)
		// Whatever the value is: what it grants lies below what stands before the template, and it is no wildcard itself.
		start, _, _ := strings.Cut(strings.TrimPrefix(pattern, "/"), "{{")
		if at := strings.IndexAny(start, "+*"); at >= 0 {
			start = start[:at]
		}
		for _, path := range []string{"x", "x/y", "s/x", "s/x/y", "zzz", "a/b/c"} {
			if acl.Decide(policy.Read, path).Allowed && !strings.HasPrefix(path, start) {
				t.Errorf("%q with %q: %s is allowed", pattern, value, path)
			}
		}
	})
}

func quote(t *testing.T, text string) string {
	t.Helper()
	b, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
