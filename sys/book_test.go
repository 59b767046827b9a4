package sys_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/policy"
	"github.com/bailiff-secrets/bailiff/sys"
)

// PolicyIndex, Callers and PolicyVersions make the world a book.
func (w *world) PolicyIndex() *policy.Index {
	var list []*policy.Policy
	for _, rec := range *w.records.Load() {
		if rec.Kind != object.KindPolicy {
			continue
		}
		v, err := object.Decode(rec)
		must(w.t, err)
		p, err := policy.Parse(rec.Name, rec.Version, v.(*object.Policy).Rules)
		must(w.t, err)
		list = append(list, p)
	}
	for name, text := range map[string]string{object.PolicyDefault: policy.Default, object.PolicyRoot: ""} {
		p, err := policy.Parse(name, 0, text)
		must(w.t, err)
		list = append(list, p)
	}
	return policy.NewIndex(list)
}

func (w *world) Callers() []policy.Member {
	member := func(name, token string, policies ...string) policy.Member {
		return policy.Member{
			Name: name, Token: token, Policies: policies, Context: &policy.Context{Identity: name},
			Subject: func() *policy.Subject { return &policy.Subject{ID: "e-" + name, Name: name} },
		}
	}
	return []policy.Member{
		member("root", "", "root"), member("ci", "", "app", "default"), member("nobody", "", "default"), member("nobody", "t1", "app", "default"), member("ann", "", "default", "own"),
		member("bob", "", "app"), member("bob", "t2", "nightly"),
	}
}

func (w *world) PolicyVersions(_ context.Context, name string) ([]sys.PolicyVersion, error) {
	if name != "app" {
		return nil, nil
	}
	return sys.SortVersions([]sys.PolicyVersion{{Version: 1, Rules: `path "old" {}`}, {Version: 2, Rules: `path "new" {}`, Stands: true}}), nil
}

var _ sys.Book = (*world)(nil)

const bookRules = `path "secret/data/app/*" { capabilities = ["read", "create"] }
path "secret/data/app/prod/*" { capabilities = ["list"] }
path "night/*" { capabilities = ["read"] when = "time.getHours() < 6" }
path "sys/bailiff/policies/*" { capabilities = ["read", "update"] }`

func TestQuestionsAboutPolicies(t *testing.T) {
	w := newWorld(t, bookRules, nil)
	w.declare(&object.Policy{Name: "nightly", Rules: `path "night/*" { capabilities = ["read"] }`},
		&object.Policy{Name: "own", Rules: `path "secret/data/{{identity.entity.name}}/*" { capabilities = ["read"] }`},
		&object.Policy{Name: "wide", Rules: `path "secret/*" { capabilities = ["read"] }
path "secret/data/app/prod/*" { capabilities = ["read"] }`})
	names := func(data map[string]any) string {
		var out []string
		for _, h := range data["identities"].([]any) {
			m := h.(map[string]any)
			out = append(out, fmt.Sprintf("%v%v%v", m["name"], m["tokens"], m["depends"]))
		}
		return strings.Join(out, " ")
	}
	for body, want := range map[string]string{
		`{"op":"read","path":"secret/data/app/x"}`:                     "bob<nil>false ci<nil>false nobody[t1]false root<nil>false",
		`{"op":"read","path":"/secret/data/ann/x"}`:                    "ann<nil>false root<nil>false",
		`{"op":"read","path":"night/x"}`:                               "bob[t2]false ci<nil>true nobody[t1]true root<nil>false",
		`{"op":"read","path":"night/x","time":"2026-11-24T05:00:00Z"}`: "bob<nil>false ci<nil>false nobody[t1]false root<nil>false",
		`{"op":"read","path":"night/x","time":"2026-11-24T07:00:00Z"}`: "bob[t2]false root<nil>false",
		`{"op":"update","path":"auth/token/renew-self"}`:               "ann<nil>false ci<nil>false nobody<nil>false root<nil>false",
	} {
		if got := names(w.data("root", "update sys/bailiff/policies/who-can", body)); got != want {
			t.Errorf("%s: got %s, want %s", body, got, want)
		}
	}
	for _, c := range []struct{ body, want string }{
		{`{"identity":"ci","op":"read","path":"secret/data/app/x"}`, `true the rule grants it app:1 [] []`},
		{`{"identity":"ci","op":"read","path":"secret/data/app/prod/x"}`, `false the rule does not grant it app:2 [app 2 true,app 1 false] [wide]`},
		{`{"identity":"nobody","op":"read","path":"secret/data/app/x"}`, `false no rule matches the path  [] [app wide]`},
		{`{"identity":"nobody","token":"t1","op":"read","path":"secret/data/app/x"}`, `true the rule grants it app:1 [] []`},
		{`{"identity":"ci","op":"read","path":"night/x","time":"2026-11-24T05:00:00Z"}`, `true the rule grants it app:3 [] []`},
		{`{"identity":"ci","op":"read","path":"night/x","time":"2026-11-24T07:00:00Z"}`, `false the rule's condition does not hold app:3 [app 3 true] [nightly]`},
		{`{"identity":"ann","op":"read","path":"secret/data/ann/x"}`, `true the rule grants it own:1 [] []`},
	} {
		d := w.data("root", "update sys/bailiff/policies/explain", c.body)
		rule := ""
		if r, ok := d["rule"].(map[string]any); ok {
			rule = fmt.Sprintf("%v:%v", r["policy"], r["line"])
		}
		var matches []string
		if d["allowed"] == false {
			for _, m := range d["matches"].([]any) {
				m := m.(map[string]any)
				matches = append(matches, fmt.Sprint(m["policy"], " ", m["line"], " ", m["counts"]))
			}
		}
		if got := fmt.Sprint(d["allowed"], " ", d["reason"], " ", rule, " [", strings.Join(matches, ","), "] ", d["would_allow"]); got != c.want {
			t.Errorf("%s: got %s, want %s", c.body, got, c.want)
		}
	}
	for _, c := range []struct{ line, body, want string }{
		{"update sys/bailiff/policies/explain", `{"identity":"gone","op":"read","path":"a"}`, `not found: there is no identity "gone"`},
		{"update sys/bailiff/policies/explain", `{"identity":"ci","token":"t9","op":"read","path":"a"}`, `not found: identity "ci" has no token`},
		{"update sys/bailiff/policies/explain", `{"identity":"ci","op":"look","path":"a"}`, "invalid: op must be"},
		{"update sys/bailiff/policies/explain", `{"identity":"ci","op":"read"}`, "invalid: path is missing"},
		{"update sys/bailiff/policies/explain", `{"identity":"ci","op":"read","path":"a","from":"here"}`, "invalid: from must be an address"},
		{"update sys/bailiff/policies/explain", `{"request_id":"gone"}`, "not found: there is no record"},
		{"update sys/bailiff/policies/who-can", `{"op":"read","path":"a","wrap_ttl":"soon"}`, "invalid: wrap_ttl"},
		{"update sys/bailiff/policies/what-can", `{"identity":"root"}`, `ok {"identity":"root","policies":["root"],"rules":[{"pattern":"*","capabilities":["root"],"policy":"root"`},
		{"update sys/bailiff/policies/impact", `{"policies":[{"name":"app","rules":"path"}]}`, "invalid: policy \"app\", line 1"},
		{"update sys/bailiff/policies/impact", `{"since":"soon"}`, "invalid: since and until"},
		{"read sys/bailiff/policies/versions/gone", "", "not found: there is no policy"},
		{"read sys/bailiff/policies/versions/APP", "", `ok {"name":"app","versions":[{"version":2,`},
		{"update sys/bailiff/policies/rollback/app", `{"version":7}`, `not found: policy "app" has no version 7`},
	} {
		if got := w.ask("root", c.line, c.body); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s %s: got %s, want %s", c.line, c.body, got, c.want)
		}
		if got := w.ask("nobody", c.line, c.body); got != "denied" {
			t.Errorf("%s: nobody gets %s, want it denied", c.line, got)
		}
	}
	if got := w.data("root", "update sys/bailiff/policies/what-can", `{"identity":"ann"}`); !strings.Contains(fmt.Sprint(got["rules"]), "pattern:secret/data/ann/*") {
		t.Errorf("got %v, want the template filled in", got)
	}
}

func TestARefusalIsExplainedByItsRequest(t *testing.T) {
	w := newWorld(t, bookRules, nil)
	if got := w.ask("ci", "read sys/mounts/app", ""); got != "denied" {
		t.Fatalf("got %s", got)
	}
	body, err := json.Marshal(map[string]string{"request_id": w.last().RequestID})
	must(t, err)
	d := w.data("root", "update sys/bailiff/policies/explain", string(body))
	if d["allowed"] != false || d["path"] != "sys/mounts/app" || d["identity"] != "ci" || d["record"].(map[string]any)["status"] != "denied" {
		t.Errorf("got %v, want the record and why", d)
	}
}

func TestImpactAndUnused(t *testing.T) {
	w := newWorld(t, bookRules+"\n"+`path "sys/policies/*" { capabilities = ["read", "list"] }`, nil)
	for _, line := range []string{"read sys/policies/acl/app", "read sys/policies/acl/app", "list sys/policies/acl", "read sys/mounts"} {
		w.ask("ci", line, "")
	}
	body, err := json.Marshal(map[string]any{"policies": []map[string]string{{"name": "app", "rules": `path "sys/policies/acl" { capabilities = ["list"] }
path "sys/mounts" { capabilities = ["read"] }`}}, "since": "1h"})
	must(t, err)
	d := w.data("root", "update sys/bailiff/policies/impact", string(body))
	var got []string
	for _, f := range d["flips"].([]any) {
		f := f.(map[string]any)
		got = append(got, fmt.Sprint(f["identity"], " ", f["op"], " ", f["path"], " ", f["times"], " ", f["before"], " → ", f["after"]))
	}
	want := "ci read sys/mounts 1 denied → allowed, ci read sys/policies/acl/app 2 allowed → denied"
	if strings.Join(got, ", ") != want {
		t.Errorf("got %s, want %s", strings.Join(got, ", "), want)
	}
	if got := w.ask("ci", "read sys/policies/acl/app", ""); !strings.HasPrefix(got, "ok ") {
		t.Errorf("what was only asked about counts: %s", got)
	}
	unused := fmt.Sprint(w.data("root", "read sys/bailiff/policies/unused?since=1h&policy=app", "")["rules"])
	if !strings.Contains(unused, "pattern:night/*") || strings.Contains(unused, "pattern:sys/policies/*") || strings.Contains(unused, "auth/token") {
		t.Errorf("got %s, want what nobody used of app alone", unused)
	}
}
