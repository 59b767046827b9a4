package policy_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/policy"
)

// body decodes the JSON of a request as the gate does.
func body(t testing.TB, text string) map[string]any {
	t.Helper()
	var out map[string]any
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&out); err != nil {
		t.Fatal(err)
	}
	return out
}

// update writes a rule for "a" that grants update, and more as it is given.
func update(more string) string {
	return `path "a" { capabilities = ["update"] ` + "\n" + more + "\n}\n"
}

func TestParametersCount(t *testing.T) {
	for _, c := range []struct {
		name        string
		rules       []string
		allow, deny []string // bodies
	}{
		{"no list asks for nothing", []string{update("")}, []string{`{}`, `{"x":1}`}, nil},
		{"an allowed parameter may have any value", []string{update(`allowed_parameters = { "x" = [] }`)},
			[]string{`{}`, `{"x":1}`, `{"X":null}`}, []string{`{"y":1}`, `{"x":1,"y":1}`}},
		{"or one of those that are listed", []string{update(`allowed_parameters = { "x" = ["a", "b*", "*c", "*d*", true, ["e"], { f = "g" }] }`)},
			[]string{`{"x":"a"}`, `{"x":"bb"}`, `{"x":"cc"}`, `{"x":"ada"}`, `{"x":true}`, `{"x":["e"]}`, `{"x":{"f":"g"}}`},
			[]string{`{"x":"A"}`, `{"x":"aa"}`, `{"x":"cb"}`, `{"x":false}`, `{"x":"true"}`, `{"x":[]}`, `{"x":["e","e"]}`, `{"x":{"f":"h"}}`, `{"x":null}`}},
		{"a number equals nothing", []string{update(`allowed_parameters = { "x" = [5] }`)}, nil, []string{`{"x":5}`, `{"x":"5"}`}},
		{"a star alone stands for itself", []string{update(`allowed_parameters = { "x" = ["*"] }`)}, []string{`{"x":"*"}`}, []string{`{"x":"a"}`}},
		{"a star allows every parameter", []string{update(`allowed_parameters = { "*" = [] }`)}, []string{`{"x":1}`}, nil},
		{"beside others too, and those keep their values", []string{update(`allowed_parameters = { "*" = []  "x" = ["a"] }`)},
			[]string{`{"y":1}`, `{"x":"a"}`}, []string{`{"x":"b"}`}},
		{"a denied parameter has no value", []string{update(`denied_parameters = { "x" = [] }`)}, []string{`{}`, `{"y":1}`}, []string{`{"x":1}`, `{"X":1}`}},
		{"or none of those that are listed", []string{update(`denied_parameters = { "x" = ["a*"] }`)}, []string{`{"x":"b"}`}, []string{`{"x":"ab"}`}},
		{"a star denies every parameter", []string{update(`denied_parameters = { "*" = ["a"] }`)}, []string{`{}`}, []string{`{"x":"b"}`}},
		{"denied is more than allowed", []string{update(`allowed_parameters = { "x" = [] } denied_parameters = { "x" = ["a"] }`)},
			[]string{`{"x":"b"}`}, []string{`{"x":"a"}`}},
		{"what is required is there", []string{update(`required_parameters = ["x", "Y"]`)},
			[]string{`{"x":1,"y":1}`, `{"x":null,"y":1,"z":1}`}, []string{`{}`, `{"x":1}`, `{"X":1,"y":1}`}},
		{"rules for a pattern add up their values", []string{update(`allowed_parameters = { "x" = ["a"] }`), update(`allowed_parameters = { "x" = ["b"] "y" = [] }`)},
			[]string{`{"x":"a"}`, `{"x":"b"}`, `{"y":1}`}, []string{`{"x":"c"}`, `{"z":1}`}},
		{"any value is more than some", []string{update(`allowed_parameters = { "x" = ["a"] }`), update(`allowed_parameters = { "x" = [] }`)},
			[]string{`{"x":"c"}`}, []string{`{"z":1}`}},
		{"a rule without a list does not open the other's", []string{update(""), update(`allowed_parameters = { "x" = [] }`)},
			[]string{`{"x":1}`}, []string{`{"z":1}`}},
		{"required parameters are united", []string{update(`required_parameters = ["x"]`), update(`required_parameters = ["y", "x"]`)},
			[]string{`{"x":1,"y":1}`}, []string{`{"x":1}`, `{"y":1}`}},
		{"denied parameters are united", []string{update(`denied_parameters = { "x" = ["a"] }`), update(`denied_parameters = { "x" = ["b"] "y" = [] }`)},
			[]string{`{"x":"c"}`}, []string{`{"x":"a"}`, `{"x":"b"}`, `{"y":1}`}},
	} {
		acl := compile(t, c.rules...)
		for want, bodies := range map[bool][]string{true: c.allow, false: c.deny} {
			for _, b := range bodies {
				d := acl.Judge(&policy.Question{Op: policy.Update, Path: "a", Params: body(t, b)})
				if d.Allowed != want || d.Rule == nil || d.Reason == "" {
					t.Errorf("%s: %s: got %+v, want %v", c.name, b, d, want)
				}
			}
		}
	}
}

func TestParametersCountForSomeOperations(t *testing.T) {
	text := `path "a" {
  capabilities = ["create", "read", "update", "patch", "delete", "list"]
  denied_parameters = { "x" = [] }
}`
	acl := compile(t, text)
	for _, op := range []policy.Operation{policy.Create, policy.Read, policy.Update, policy.Patch, policy.Delete, policy.List} {
		first := acl.Decide(op, "a")
		last := acl.Judge(&policy.Question{Op: op, Path: "a", Params: body(t, `{"x":1}`)})
		counts := op != policy.Delete && op != policy.List
		if first.Allowed || !first.Conditional || first.NeedsParams != counts || last.Allowed == counts {
			t.Errorf("%s: got %+v and %+v, want them refused for parameters: %v", op, first, last, counts)
		}
	}
}

func TestWrappingTimesCount(t *testing.T) {
	for _, c := range []struct {
		name        string
		rules       []string
		allow, deny []time.Duration
	}{
		{"at least", []string{update(`min_wrapping_ttl = "1m"`)}, []time.Duration{time.Minute, time.Hour}, []time.Duration{0, time.Second}},
		{"at most", []string{update(`max_wrapping_ttl = 90`)}, []time.Duration{time.Second, 90 * time.Second}, []time.Duration{0, 91 * time.Second}},
		{"both", []string{update(`min_wrapping_ttl = "1m" max_wrapping_ttl = "1d"`)}, []time.Duration{time.Minute, 24 * time.Hour}, []time.Duration{0, time.Second, 25 * time.Hour}},
		{"of two the shorter", []string{update(`min_wrapping_ttl = "2m" max_wrapping_ttl = "5m"`), update(`min_wrapping_ttl = "1m" max_wrapping_ttl = "6m"`)},
			[]time.Duration{time.Minute, 5 * time.Minute}, []time.Duration{0, time.Second, 6 * time.Minute}},
		{"which may leave nothing", []string{update(`min_wrapping_ttl = "2m"`), update(`max_wrapping_ttl = "1m"`)}, nil, []time.Duration{0, time.Minute, 2 * time.Minute}},
		{"none", []string{update(`min_wrapping_ttl = "0s" max_wrapping_ttl = ""`)}, []time.Duration{0, time.Hour}, nil},
	} {
		acl := compile(t, c.rules...)
		for want, ttls := range map[bool][]time.Duration{true: c.allow, false: c.deny} {
			for _, ttl := range ttls {
				if d := acl.Judge(&policy.Question{Op: policy.Update, Path: "a", WrapTTL: ttl}); d.Allowed != want {
					t.Errorf("%s: %v: got %+v, want %v", c.name, ttl, d, want)
				}
			}
		}
	}
}

func TestTemplatesAreFilledIn(t *testing.T) {
	who := &policy.Subject{
		ID: "e-1", Name: "ann", Metadata: map[string]string{"team": "red", "star": "*", "plus": "+", "deep": "a/b", "none": ""},
		Aliases: []policy.Alias{{Accessor: "auth_1", ID: "al-1", Name: "ann@x", Metadata: map[string]string{"m": "mm"}, Custom: map[string]string{"c": "cc"}}},
		Groups:  []policy.Group{{ID: "g-1", Name: "dev", Metadata: map[string]string{"k": "v"}}},
	}
	for pattern, path := range map[string]string{
		"s/{{identity.entity.id}}":                                       "s/e-1",
		"s/{{ identity.entity.name }}/*":                                 "s/ann/x",
		"/s/{{identity.entity.metadata.team}}/+":                         "s/red/x",
		"s/{{identity.entity.metadata.deep}}":                            "s/a/b",
		"s/x{{identity.entity.metadata.none}}":                           "s/x",
		"{{identity.entity.name}}/{{identity.entity.id}}":                "ann/e-1",
		"s/{{identity.entity.aliases.auth_1.id}}":                        "s/al-1",
		"s/{{identity.entity.aliases.auth_1.name}}":                      "s/ann@x",
		"s/{{identity.entity.aliases.auth_1.metadata.m}}":                "s/mm",
		"s/{{identity.entity.aliases.auth_1.custom_metadata.c}}":         "s/cc",
		"s/{{identity.groups.ids.g-1.name}}":                             "s/dev",
		"s/{{identity.groups.names.dev.id}}":                             "s/g-1",
		"s/{{identity.groups.names.dev.metadata.k}}/*":                   "s/v/",
		"+/{{identity.groups.names.dev.name}}/{{identity.entity.name}}*": "x/dev/annie",
	} {
		p, err := policy.Parse("p", 1, rule(pattern, "read"))
		if err != nil {
			t.Fatal(err)
		}
		set := policy.NewSet(p)
		d := set.For(who).Decide(policy.Read, path)
		if !d.Allowed || "/"+d.Rule.Pattern != pattern && d.Rule.Pattern != pattern {
			t.Errorf("%s: %s: got %+v, want it allowed", pattern, path, d)
		}
		for name, other := range map[string]*policy.Subject{"nobody": nil, "another": {ID: "e-2", Name: "bob"}} {
			if d := set.For(other).Decide(policy.Read, path); d.Allowed {
				t.Errorf("%s: %s: %s is allowed too", pattern, path, name)
			}
		}
		if !set.Templated() || !p.Templated() {
			t.Errorf("%s: it does not count as a template", pattern)
		}
	}
}

func TestTemplatesThatCannotBeFilledInGrantNothing(t *testing.T) {
	who := &policy.Subject{ID: "e-1", Name: "ann", Metadata: map[string]string{"star": "*", "plus": "+", "both": "a+*"}}
	for _, pattern := range []string{
		"s/{{identity.entity.metadata.gone}}", "s/{{identity.entity.metadata}}", "s/{{identity.entity.groups.names}}", "s/{{x}}", "s/{{}}",
		"s/{{identity.entity.aliases.auth_1.name}}", "s/{{identity.groups.names.dev.name}}", "s/{{time.now.plus}}", "s/{{time.then}}",
		"s/{{identity.entity.metadata.star}}", "s/{{identity.entity.metadata.plus}}", "s/{{identity.entity.metadata.both}}",
	} {
		p, err := policy.Parse("p", 1, rule(pattern, "read")+rule("t", "read"))
		if err != nil {
			t.Fatal(err)
		}
		acl := policy.NewSet(p).For(who)
		for _, path := range []string{"s/x", "s/*", "s/+", "s/", "s/a+", pattern} {
			if d := acl.Decide(policy.Read, path); d.Allowed {
				t.Errorf("%s: %s: got %+v, want it refused", pattern, path, d)
			}
		}
		if !acl.Decide(policy.Read, "t").Allowed {
			t.Errorf("%s: the policy's other rule does not count", pattern)
		}
	}
	wide, err := policy.Parse("p", 1, rule("s/{{identity.entity.metadata.star}}", "deny")+rule("*", "read"))
	if err != nil {
		t.Fatal(err)
	}
	if d := policy.NewSet(wide).For(who).Decide(policy.Read, "s/x"); d.Allowed {
		t.Errorf("a deny with a wildcard that was filled in: got %+v, want it to deny", d)
	}
}

func TestTimeIsFilledIn(t *testing.T) {
	p, err := policy.Parse("p", 1, rule("s/{{time.now}}", "read")+rule("s/{{time.now.plus.1h}}", "update")+rule("s/{{time.now.minus.1h}}", "delete"))
	if err != nil {
		t.Fatal(err)
	}
	acl := policy.NewSet(p).For(nil)
	for op, d := range map[policy.Operation]time.Duration{policy.Read: 0, policy.Update: time.Hour, policy.Delete: -time.Hour} {
		allowed := false
		for range 100 { // the second may end in between
			at := time.Now().Add(d).Unix()
			allowed = allowed || acl.Decide(op, "s/"+json.Number(itoa(at)).String()).Allowed
		}
		if !allowed {
			t.Errorf("%s: never allowed", op)
		}
	}
}

func itoa(n int64) string { b, _ := json.Marshal(n); return string(b) }

func TestARefusalKnowsTheNearestRule(t *testing.T) {
	acl := compile(t, rule("secret/*", "read")+rule("secret/data/app/*", "list")+rule("secret/data/apps/x", "update")+
		rule("secret/data/ap*", "update delete")+`path "kv/*" { capabilities = ["update"] required_parameters = ["x"] }`)
	for _, c := range []struct {
		op   policy.Operation
		path string
		want string
	}{
		{policy.Read, "secret/data/app/x", "secret/*"},
		{policy.Update, "secret/data/app/x", "secret/data/ap*"},
		{policy.Update, "secret/data/b", "secret/data/ap*"},
		{policy.Update, "secret/data/apps/y/z", ""}, // it is allowed
		{policy.Delete, "kv/x", ""},                 // nothing below kv/ grants it
		{policy.Update, "kv/x", "kv/*"},
		{policy.Read, "other", ""},
	} {
		d := acl.Judge(&policy.Question{Op: c.op, Path: c.path})
		got := ""
		if d.Nearest != nil {
			got = d.Nearest.Pattern
		}
		if got != c.want {
			t.Errorf("%s %s: got %q in %+v, want %q", c.op, c.path, got, d, c.want)
		}
	}
}
