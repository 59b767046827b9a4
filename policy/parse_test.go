package policy_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/bailiff-secrets/bailiff/policy"
)

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct {
		text string
		line int
		msg  string
	}{
		{"paths \"a\" {}", 1, `unknown key "paths": a policy holds path, secret and name`},
		{"\nname = 1", 2, "name must be a string"},
		{"name = \"a\"\nname = \"b\"", 2, `key "name" is given twice`},
		{"path = \"a\"", 1, `path must be a block: path "a/b" { … }`},
		{"path \"a\" \"b\" {}", 1, `path "a": unknown key "b"`},
		{"path { capabilities = [\"read\"] }", 1, `path "capabilities" must be a block`},
		{"path \"a\" {\n  capability = [\"read\"]\n}", 2, `path "a": unknown key "capability"`},
		{"path \"a\" {\n  Capabilities = [\"read\"]\n}", 2, `path "a": unknown key "Capabilities"`},
		{"path \"a\" {\n\n  capabilities = \"read\"\n}", 3, `path "a": capabilities must be a list: ["read", "list"]`},
		{"path \"a\" { capabilities = [1] }", 1, `path "a": a capability must be a string`},
		{"path \"a\" { capabilities = [\"read\", \"write\"] }", 1, `path "a": unknown capability "write"`},
		{"path \"a\" { capabilities = [\"Read\"] }", 1, `path "a": unknown capability "Read"`},
		{"path \"a\" { capabilities = [\"root\"] }", 1, `path "a": unknown capability "root"`},
		{"path \"a\" { capabilities = [\"deny\", \"x\"] }", 1, `path "a": unknown capability "x"`},
		{"path \"a\" {\n capabilities = [\"deny\"]\n capabilities = [\"read\"]\n}", 3, `key "capabilities" is given twice`},
		{"path \"a\" {\n policy = \"deny\"\n policy = \"read\"\n}", 3, `key "policy" is given twice`},
		{"path \"a\" {\n comment = \"x\"\n comment = \"y\"\n}", 3, `key "comment" is given twice`},
		{"path \"a\" { policy = [\"read\"] }", 1, `path "a": policy must be a string`},
		{"path \"a\" { policy = \"admin\" }", 1, `path "a": unknown policy "admin": it is deny, read, write or sudo`},
		{"path \"a\" { mfa_methods = [\"x\"] }", 1, `path "a": mfa_methods is not supported: without it the rule would allow more than it says`},
		{"path \"a\" { control_group = { factor \"x\" {} } }", 1, `path "a": control_group is not supported: without it the rule would allow more than it says`},
		{"path \"a}}\" {}", 1, `path "a}}": unbalanced templating characters`},
		{"\n\npath \"a/{{identity.entity.id}}/}}\" {}", 3, `path "a/{{identity.entity.id}}/}}": unbalanced templating characters`},
		{"path \"a/{{b/c\" {}", 1, `path "a/{{b/c": unbalanced templating characters`},
		{"path \"a\" {\n allowed_parameters = [\"x\"]\n}", 2, `path "a": allowed_parameters must be a block: { "name" = ["value"] }`},
		{"path \"a\" {\n denied_parameters = {\n\"x\" = \"y\" } }", 3, `path "a": denied_parameters: the values of "x" must be a list`},
		{"path \"a\" {\n denied_parameters = {\n\"x\" = []\n\"X\" = [] } }", 4, `key "X" is given twice`},
		{"path \"a\" { allowed_parameters { \"x\" = [] }\nallowed_parameters { \"y\" = [] } }", 2, `key "allowed_parameters" is given twice`},
		{"path \"a\" { required_parameters = \"x\" }", 1, `path "a": required_parameters must be a list: ["name"]`},
		{"path \"a\" { required_parameters = [true] }", 1, `path "a": required_parameters must be a list of strings`},
		{"path \"a\" { min_wrapping_ttl = \"soon\" }", 1, `path "a": min_wrapping_ttl must be a duration: "90s", "15m" or a number of seconds`},
		{"path \"a\" { max_wrapping_ttl = -5 }", 1, `path "a": max_wrapping_ttl must be a duration: "90s", "15m" or a number of seconds`},
		{"path \"a\" { min_wrapping_ttl = 6\n max_wrapping_ttl = \"5s\" }", 1, `path "a": max_wrapping_ttl is less than min_wrapping_ttl`},
		{"{\"path\": {\"a\": {\n\"allowed_parameters\": {\"x\": [null]}}}}", 2, `null is not a value that a parameter can be compared with`},
		{"path \"a/+*\" {}", 1, `path "a/+*": "+*" is not a wildcard: "+" is a whole segment`},
		{"path \"+*/a\" {}", 1, `path "+*/a": "+*" is not a wildcard: "+" is a whole segment`},
		{"path \"a\" {", 1, "object expected closing RBRACE got: EOF"},
		{"\npath \"a\"", 2, "key 'path \"a\"' expected start of object ('{') or assignment ('=')"},
		{"path \"a\" {}\n}", 2, "expected: IDENT | STRING | ASSIGN | LBRACE got: RBRACE"},
		{"path \"a\xff\" {}", 0, "the text is not valid UTF-8"},
		{strings.Repeat(" ", policy.MaxText+1), 0, "the text is longer than 262144 bytes"},

		{`{"paths": {}}`, 1, `unknown key "paths": a policy holds path, secret and name`},
		{`{"path": "a"}`, 1, `path must be a block: path "a/b" { … }`},
		{"{\n\"path\": {\n\"a\": []}}", 3, `path "a" must be a block`},
		{"{\"path\": {\n\"a\": {\"capabilities\": [\"read\", true]}}}", 2, `path "a": a capability must be a string`},
		{"{\"path\": {\"a\": {\n\"capabilities\": [\"deny\"],\n\"capabilities\": [\"read\"]}}}", 3, `key "capabilities" is given twice`},
		{`{"path": {"a": {"capabilities": ["read"]}}`, 1, "unexpected end of JSON input"},
		{"{\n\n]", 3, "invalid character ']' looking for beginning of object key string"},
		{"{}\n{}", 2, "invalid character '{' after top-level value"},
		{`{"path": {"a": null}}`, 1, `path "a" must be a block`},
	} {
		_, err := policy.Parse("app", 1, c.text)
		var at *policy.ParseError
		if !errors.As(err, &at) {
			t.Errorf("%.60q: got %v, want a ParseError", c.text, err)
			continue
		}
		if at.File != "app" || at.Line != c.line || at.Msg != c.msg {
			t.Errorf("%.60q:\n got %s:%d: %s\nwant app:%d: %s", c.text, at.File, at.Line, at.Msg, c.line, c.msg)
		}
	}
}

func TestErrorsNameTheirPlace(t *testing.T) {
	for want, err := range map[string]error{
		`policy "app", line 3: no`: &policy.ParseError{File: "app", Line: 3, Msg: "no"},
		`policy "app": no`:         &policy.ParseError{File: "app", Msg: "no"},
	} {
		if err.Error() != want {
			t.Errorf("got %s, want %s", err, want)
		}
	}
}

func TestParseAccepts(t *testing.T) {
	for name, text := range map[string]string{
		"HCL":              "path \"a/*\" {\n  capabilities = [\"read\", \"list\"]\n}",
		"HCL with all":     "// x\nname = \"other\" # y\n/* z */ path \"a/*\" { comment = \"why\" capabilities = [\"read\", \"list\",] }",
		"HCL on one line":  `path "a/*" { capabilities = ["read", "list"] policy = "read" }`,
		"HCL, quoted keys": `"path" "a/*" { "capabilities" = ["read", "list"] }`,
		"HCL, CR LF":       "path \"a/*\" {\r\n  capabilities = [\"read\", \"list\"]\r\n}\r\n",
		"HCL, escapes":     `path "a\u002f*" { capabilities = ["\x72ead", "list"] }`,
		"HCL, twice":       `path "a/*" { capabilities = ["read"] } path "a/*" { capabilities = ["list"] }`,
		"JSON":             `{"path": {"a/*": {"capabilities": ["read", "list"]}}}`,
		"JSON, lists":      " \n" + `{"name": "x", "path": [{"a/*": {"capabilities": ["read"]}}, {"a/*": [{"policy": "read", "comment": "y"}]}]}`,
		"JSON, escapes":    `{"path": {"a\/*": {"capabilities": ["\u0072ead", "list"]}}}`,
	} {
		p, err := policy.Parse("app", 7, text)
		if err != nil {
			t.Errorf("%s: got %v", name, err)
			continue
		}
		got := policy.Compile(p).Capabilities("a/b")
		if !slices.Equal(got, []string{"list", "read"}) || p.Name() != "app" || p.Version() != 7 {
			t.Errorf("%s: got %v of %s version %d, want list and read of app version 7", name, got, p.Name(), p.Version())
		}
	}
	for _, text := range []string{"", "\n# nothing\n", "{}", `{"path": {}}`, `path "" {}`, policy.Default} {
		if _, err := policy.Parse("app", 1, text); err != nil {
			t.Errorf("%q: got %v", text, err)
		}
	}
}

func TestJSONRulesHaveTheirOwnLine(t *testing.T) {
	p, err := policy.Parse("app", 1, "\n{\n \"path\": {\n  \"a\": {\"capabilities\":\n [\"read\"]},\n  \"b\":\n {\"policy\": \"read\"}}}")
	if err != nil {
		t.Fatal(err)
	}
	acl := policy.Compile(p)
	for path, want := range map[string]int{"a": 4, "b": 6} {
		if got := acl.Decide(policy.Read, path).Rule.Line; got != want {
			t.Errorf("%s: got line %d, want %d", path, got, want)
		}
	}
}

func TestDeepNestingIsOnlyRefused(t *testing.T) {
	for name, text := range map[string]string{
		"HCL blocks":   strings.Repeat("a{", policy.MaxText/2),
		"HCL lists":    "a=" + strings.Repeat("[", policy.MaxText-2),
		"HCL illegal":  strings.Repeat("a{\x00", policy.MaxText/3),
		"HCL labels":   strings.Repeat("a ", policy.MaxText/2),
		"JSON objects": strings.Repeat(`{"a":`, policy.MaxText/5),
		"JSON lists":   `{"a":` + strings.Repeat("[", policy.MaxText-5),
	} {
		if _, err := policy.Parse("app", 1, text); err == nil || len(err.Error()) > 400 {
			t.Errorf("%s: got %.500v, want a short error", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{
		policy.Default,
		rule("a/*", "read list") + rule("+/b/c*", "deny"),
		`name = "x" path "a" { policy = "write" comment = <<EOT` + "\nx\nEOT\n}",
		`{"path": {"a/*": {"capabilities": ["read"]}, "b": [{"policy": "sudo"}]}}`,
		`path "a/{{x}}" {}`, `path "a\q" {}`, `path "${a" {}`, `path "a" { allowed_parameters = { "x" = [["y"]] } }`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := policy.Parse("app", 1, text)
		if err != nil {
			var at *policy.ParseError
			if !errors.As(err, &at) || at.File != "app" || at.Line < 0 || at.Line > 1+strings.Count(text, "\n") {
				t.Fatalf("got %#v, want a ParseError with a line of the text", err)
			}
			return
		}
		acl := policy.Compile(p)
		for _, path := range []string{"a", "a/b", "x/b/c", "auth/token/lookup-self"} {
			if d := acl.Decide(policy.Read, path); d.Allowed != slices.Contains(acl.Capabilities(path), "read") {
				t.Fatalf("read %s: got %+v, and capabilities %v", path, d, acl.Capabilities(path))
			}
		}
	})
}
