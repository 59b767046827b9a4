package sys_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bailiff-secrets/bailiff/hvp"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/testenv"
	"github.com/bailiff-secrets/bailiff/sys"
)

// Put makes the world an estate that takes single objects.
func (w *world) Put(ctx context.Context, by string, rec object.Record, version int64) (object.Plan, error) {
	rec.Source = object.SourceAPI
	return w.Apply(ctx, by, []object.Record{rec}, false, map[string]int64{string(rec.Kind) + "/" + rec.Name: version})
}

var _ sys.Putter = (*world)(nil)

// policyBody is the body of a write.
func policyBody(t *testing.T, field, text string) string {
	t.Helper()
	b, err := json.Marshal(map[string]string{field: text})
	must(t, err)
	return string(b)
}

// TestPolicyAnswersAreVaults writes, reads, lists and deletes policies on a real Vault and on Bailiff, and compares what both
// answer, in this order.
func TestPolicyAnswersAreVaults(t *testing.T) {
	v := testenv.NewVault(t)
	vault := &server{t: t, addr: v.Addr, tokens: map[string]string{"root": v.RootToken}}
	w := newWorld(t, `path "secret/*" { capabilities = ["read"] }`, nil)
	vault.set("PUT", "sys/policies/acl/app", policyBody(t, "policy", `path "secret/*" { capabilities = ["read"] }`))
	h, err := hvp.New(hvp.Config{Gate: w.gate, Info: func(context.Context) hvp.Info { return hvp.Info{} }, Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	front := httptest.NewServer(h)
	t.Cleanup(front.Close)
	bailiff := &server{t: t, addr: front.URL, tokens: map[string]string{"root": w.tokens["root"].Reveal()}}

	type step struct{ method, path, body string }
	write := func(path, text string) step { return step{"PUT", path, policyBody(t, "policy", text)} }
	good := `path "a" { capabilities = ["read"] }`
	steps := []step{
		write("sys/policies/acl/one", good), {"GET", "sys/policies/acl/one", ""}, {"GET", "sys/policy/one", ""}, {"LIST", "sys/policies/acl", ""},
		write("sys/policies/acl/ONE", good+"\n# twice"), {"GET", "sys/policies/acl/One", ""}, {"GET", "sys/policy", ""},
		write("sys/policies/acl/team/two", good), {"GET", "sys/policies/acl/team/two", ""}, {"DELETE", "sys/policies/acl/team/two", ""}, {"GET", "sys/policies/acl/team/two", ""},
		write("sys/policy/three", good), {"PUT", "sys/policy/three", policyBody(t, "rules", good)}, {"PUT", "sys/policies/acl/three", policyBody(t, "rules", good)},
		{"POST", "sys/policies/acl/four", `{"policy":"cGF0aCAiYSIgeyBjYXBhYmlsaXRpZXMgPSBbInJlYWQiXSB9"}`}, {"GET", "sys/policies/acl/four", ""},
		{"DELETE", "sys/policies/acl/four", ""}, {"DELETE", "sys/policies/acl/four", ""}, {"DELETE", "sys/policy/three", ""},
		write("sys/policies/acl/root", good), {"DELETE", "sys/policies/acl/root", ""}, write("sys/policies/acl/response-wrapping", good), {"DELETE", "sys/policy/control-group", ""},
		write("sys/policies/acl/default", good), {"GET", "sys/policies/acl/default", ""}, {"DELETE", "sys/policies/acl/default", ""},
		write("sys/policies/acl/bad", ""), {"PUT", "sys/policies/acl/bad", `{}`}, {"PUT", "sys/policies/acl/bad", `{"policy":`}, {"GET", "sys/policies/acl/bad", ""},
		{"LIST", "sys/policies/acl", ""}, {"GET", "sys/policies/acl", ""}, {"LIST", "sys/policy", ""},
	}
	for _, text := range []string{
		`path "a/+*" { capabilities = ["read"] }`, `path "a" { capabilities = ["write"] }`, `path "a" { policy = "admin" }`, "path \"a\" {\n capability = [\"read\"] }",
		`paths "a" { capabilities = ["read"] }`, `path "a" { capabilities = ["read"]`, `path "a}}" { capabilities = ["read"] }`,
		`{"path": {"a": {"capabilities": ["write"]}}}`, `path "a" { min_wrapping_ttl = "5m" max_wrapping_ttl = "1m" }`, `path "a" { min_wrapping_ttl = "soon" }`, `rubbish`,
	} {
		steps = append(steps, write("sys/policies/acl/bad", text))
	}
	for _, s := range steps {
		wantCode, want := vault.send("root", s.method, s.path, s.body)
		gotCode, got := bailiff.send("root", s.method, s.path, s.body)
		for _, answer := range []map[string]any{want, got} {
			delete(answer, "request_id")
		}
		if d := cmp.Diff(want, got); wantCode != gotCode || d != "" {
			if strings.HasSuffix(s.path, "/default") && s.method == "GET" && wantCode == gotCode {
				continue
			}
			t.Errorf("%s %s %s: got %d, Vault has %d (-Vault +Bailiff):\n%s", s.method, s.path, s.body, gotCode, wantCode, d)
		}
	}
}

func TestPoliciesAreWritten(t *testing.T) {
	w := newWorld(t, `path "secret/*" { capabilities = ["read"] }`, nil)
	body := func(text string, cas string) string { return `{"policy":"` + text + `"` + cas + `}` }
	for _, c := range []struct{ name, who, line, body, want string }{
		{"by whoever may", "ci", "update sys/policies/acl/x", body("", ""), "denied"},
		{"for the first time", "root", "update sys/policies/acl/x", body(`path \"a\" {}`, `,"cas":0`), "no content"},
		{"not for the first time again", "root", "update sys/policies/acl/x", body(`path \"b\" {}`, `,"cas":0`), "conflict: "},
		{"over the version that stands", "root", "update sys/policies/acl/x", body(`path \"b\" {}`, `,"cas":1`), "no content"},
		{"over no other", "root", "update sys/policies/acl/x", body(`path \"c\" {}`, `,"cas":1`), "conflict: "},
		{"over no rubbish", "root", "update sys/policies/acl/x", body(`path \"c\" {}`, `,"cas":"x"`), "invalid: cas must be the number"},
		{"once more", "root", "read sys/policies/acl/x", "", `ok {"name":"x","policy":"path \"b\" {}"}`},
		{"with a strange name", "root", "update sys/policies/acl/-x", body(`path \"a\" {}`, ""), "invalid: "},
	} {
		if got := w.ask(c.who, c.line, c.body); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
	rec, err := w.db.Object(t.Context(), object.KindPolicy, "x")
	if err != nil || rec.Source != object.SourceAPI || rec.UpdatedBy != "root" || rec.Version != 2 {
		t.Errorf("got %+v, %v, want version 2 by root through the API", rec, err)
	}
	if got := w.ask("root", "update sys/policies/acl/y", body(`path \"a\" {}`, "")); got != "no content" {
		t.Errorf("got %s", got)
	}
	if r := w.last(); r.Detail != "wrote policy y" || r.Path != "sys/policies/acl/y" {
		t.Errorf("got record %+v, want it to say what was written", r)
	}
}

func TestAllOfACallersRulesAreListed(t *testing.T) {
	w := newWorld(t, `path "secret/*" {
  capabilities = ["update", "read", "patch"]
  allowed_parameters = { "a" = ["x", 5] "b" = [] }
  required_parameters = ["A"]
  max_wrapping_ttl = "1h"
}
path "deep/+/x" { capabilities = ["read"] }
path "no" { capabilities = ["deny", "read"] }
path "sys/internal/ui/resultant-acl" { capabilities = ["read"] }`, nil)
	data := w.data("ci", "read sys/internal/ui/resultant-acl", "")
	got, err := json.Marshal(map[string]any{"root": data["root"], "secret/": data["glob_paths"].(map[string]any)["secret/"], "no": data["exact_paths"].(map[string]any)["no"]})
	must(t, err)
	want := `{"no":{"capabilities":["deny"]},"root":false,"secret/":{"allowed_parameters":{"a":["x",5],"b":[]},"capabilities":["read","update","patch"],` +
		`"max_wrapping_ttl":3600,"required_parameters":["A"]}}`
	if string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
