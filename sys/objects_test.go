package sys_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/secret"
)

const vaultTarget = `{"kind":"target","name":"v","body":{"type":"vault","address":"http://127.0.0.1:1","auth":{"method":"token"}},"secrets":{"token":"` + canary + `"}}`

func TestPlanAndApply(t *testing.T) {
	w := newWorld(t, app, nil)
	body := `{"objects":[` + vaultTarget + `,{"kind":"role","name":"r","body":{"policies":["app"]}}]}`

	planned := w.ask("root", "update sys/bailiff/plan", body)
	for _, want := range []string{`"action":"create","kind":"target","name":"v","version":0`, `{"field":"token","new":"[redacted]"}`, `"action":"create","kind":"role"`} {
		if !strings.Contains(planned, want) {
			t.Errorf("plan: got %s, want it to say %s", planned, want)
		}
	}
	if got := w.ask("root", "read sys/bailiff/objects/target/v", ""); !strings.HasPrefix(got, "not found") {
		t.Errorf("the plan did it: %s", got)
	}
	if got := w.ask("root", "update sys/bailiff/apply", body); got != planned {
		t.Errorf("apply: got %s, want the plan, %s", got, planned)
	}
	if r := w.last(); r.Detail != "create target v, create role r" {
		t.Errorf("recorded as %q", r.Detail)
	}
	rec, err := w.db.Object(t.Context(), object.KindTarget, "v")
	must(t, err)
	if rec.Secrets["token"].Reveal() != canary || rec.UpdatedBy != "root" || rec.Source != "apply" {
		t.Errorf("stored as %+v", rec)
	}
	got := w.data("root", "read sys/bailiff/objects/target/v", "")
	if got["version"] != 1.0 || got["updated_by"] != "root" || got["source"] != "apply" || got["body"].(map[string]any)["type"] != "vault" {
		t.Errorf("read: got %v", got)
	}
	if got := w.data("root", "list sys/bailiff/objects/target", ""); len(got["objects"].([]any)) != 2 {
		t.Errorf("list: got %v", got)
	}
	if got := w.ask("root", "update sys/bailiff/apply", body); !strings.Contains(got, `"action":"unchanged"`) || w.last().Detail != "nothing changed" {
		t.Errorf("again: got %s, recorded as %q", got, w.last().Detail)
	}
}

func TestApplyRefuses(t *testing.T) {
	w := newWorld(t, app, nil)
	for _, tt := range []struct{ name, body, want string }{
		{"another version", `{"objects":[{"kind":"policy","name":"app","body":{"rules":"# x"}}],"expect":{"policy/app":7}}`, "conflict: the object has changed meanwhile"},
		{"an unknown field", `{"objects":[],"purge":true}`, `invalid: the body's field "purge" is not known`},
		{"an unknown field of an object", `{"objects":[{"kind":"role","name":"r","boby":{}}]}`, `invalid: the body's field "boby" is not known`},
		{"an unknown field of a body", `{"objects":[{"kind":"role","name":"r","body":{"rules":1}}]}`, `invalid: role "r": rules: there is no such field`},
		{"a kind that is none", `{"objects":[{"kind":"widget","name":"r"}]}`, `invalid: widget "r": kind: there is no such kind`},
		{"a secret in the body", `{"objects":[{"kind":"target","name":"v","body":{"token":"` + canary + `"}}]}`, `invalid: target "v": token: there is no such field`},
		{"what Check refuses", `{"objects":[{"kind":"role","name":"r","body":{"policies":["nosuch"]}}]}`, `invalid: role "r": policies: there is no policy "nosuch"`},
		{"an object twice", `{"objects":[{"kind":"role","name":"r"},{"kind":"role","name":"r"}]}`, `invalid: role "r": it is there twice`},
		{"a tail", `{"objects":[]} x`, `invalid: there is more behind`},
		{"half a body", `{"objects":[`, `invalid: the body is not a JSON object`},
		{"a wrong type", `{"objects":7}`, `invalid: the body's field "objects" can't be a JSON number`},
		{"too much", `{"objects":[{"kind":"policy","name":"p","body":{"rules":"` + strings.Repeat("x", 16<<20) + `"}}]}`, `too large: the body is larger than 16777216 bytes`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, ask := range []string{"update sys/bailiff/apply", "update sys/bailiff/plan"} {
				if strings.HasSuffix(ask, "plan") && tt.name == "another version" {
					continue // a plan looks at none
				}
				got := w.ask("root", ask, tt.body)
				if !strings.HasPrefix(got, tt.want) || strings.Contains(got, canary) {
					t.Errorf("%s: got %s, want %s", ask, got, tt.want)
				}
			}
		})
	}
}

func TestDeletingObjects(t *testing.T) {
	w := newWorld(t, app, nil)
	w.declare(&object.Role{Name: "x", Policies: []string{"app"}})
	for _, tt := range []struct{ ask, want string }{
		{"delete sys/bailiff/objects/role/x?version=9", "conflict: the object has changed meanwhile"},
		{"delete sys/bailiff/objects/role/x?version=x", "invalid: the query parameter version"},
		{"delete sys/bailiff/objects/role/x?force=1", "invalid: the query parameter"},
		{"delete sys/bailiff/objects/role/x?version=1", "no content"},
		{"delete sys/bailiff/objects/role/x", `not found: there is no role "x"`},
		{"delete sys/bailiff/objects/widget/x", `invalid: "widget" is no kind of object`},
		{"read sys/bailiff/objects/role/x", `not found: there is no role "x"`},
		{"read sys/bailiff/objects/producer/database/ro", `ok {"body":{"mount":"database","name":"ro"`},
		{"list sys/bailiff/objects/widget", `invalid: "widget" is no kind of object`},
	} {
		if got := w.ask("root", tt.ask, ""); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s: got %s, want %s", tt.ask, got, tt.want)
		}
		if tt.want == "no content" && w.last().Detail != "deleted role x" {
			t.Errorf("recorded as %q", w.last().Detail)
		}
	}
}

func TestIdentitiesAndTheirKeys(t *testing.T) {
	w := newWorld(t, app, nil)
	made := w.data("root", "update sys/bailiff/identities/bot", `{"description":"d","roles":["app"],"metadata":{"a":"b"}}`)
	if d := w.last().Detail; d != "created identity bot with access key "+made["key_id"].(string) {
		t.Errorf("recorded as %q", d)
	}
	token := func(m map[string]any) secret.Value {
		return secret.New(m["access_id"].(string) + identity.Separator + m["access_key"].(string))
	}
	w.tokens["bot"] = token(made)
	if got := w.ask("bot", "update sys/capabilities-self", `{"path":"secret/data/app/x"}`); !strings.Contains(got, `["create","read"]`) {
		t.Errorf("with its first key: got %s", got)
	}
	second := w.data("root", "update sys/bailiff/identities/bot/keys", `{"note":"second"}`)
	w.tokens["bot2"] = token(second)
	listed := w.data("root", "list sys/bailiff/identities/bot/keys", "")["keys"].([]any)
	if len(listed) != 2 || listed[1].(map[string]any)["note"] != "second" || listed[1].(map[string]any)["disabled"] != false {
		t.Errorf("keys: got %v", listed)
	}
	if strings.Contains(fmt.Sprint(listed), second["access_key"].(string)) {
		t.Error("the list shows a key")
	}

	const no = "error: permission denied"
	key := "sys/bailiff/identities/bot/keys/" + second["key_id"].(string)
	for _, step := range []struct{ ask, body, bot, bot2 string }{
		{"update " + key, `{"disabled":true}`, "ok", no},
		{"update " + key, `{"disabled":false}`, "ok", "ok"},
		{"update sys/bailiff/identities/bot", `{"disabled":true}`, no, no},
		{"update sys/bailiff/identities/bot", `{"disabled":false}`, "ok", "ok"},
		{"delete " + key, ``, "ok", no},
	} {
		if got := w.ask("root", step.ask, step.body); got != "no content" {
			t.Errorf("%s %s: got %s", step.ask, step.body, got)
		}
		if d := w.last().Detail; !strings.Contains(d, "identity bot") {
			t.Errorf("%s is recorded as %q", step.ask, d)
		}
		for who, want := range map[string]string{"bot": step.bot, "bot2": step.bot2} {
			if got := w.ask(who, "read auth/token/lookup-self", ""); !strings.HasPrefix(got, want) {
				t.Errorf("after %s %s, %s: got %s, want %s", step.ask, step.body, who, got, want)
			}
		}
	}

	for _, tt := range []struct{ ask, body, want string }{
		{"update sys/bailiff/identities/bot2", `{"roles":["nosuch"]}`, `invalid: identity "bot2": roles: there is no role "nosuch"`},
		{"update sys/bailiff/identities/b%20t", `{}`, `invalid: identity "b%20t": name:`},
		{"update sys/bailiff/identities/bot", `{"disabled":true,"description":"x"}`, "invalid: disabled stands alone"},
		{"update sys/bailiff/identities/bot", `{"access_id":"p-x"}`, `invalid: the body's field "access_id" is not known`},
		{"update sys/bailiff/identities/nosuch", `{"disabled":true}`, `not found: there is no identity "nosuch"`},
		{"update sys/bailiff/identities/nosuch/keys", `{}`, `not found: there is no identity "nosuch"`},
		{"list sys/bailiff/identities/nosuch/keys", ``, `not found: there is no identity "nosuch"`},
		{"update sys/bailiff/identities/bot/keys", `{"ttl":"soon"}`, `invalid: a duration in the body is none`},
		{"update sys/bailiff/identities/bot/keys", `{"ttl":"-1h"}`, `invalid: ttl must not be below zero`},
		{"update sys/bailiff/identities/bot/keys/k-nosuch", `{"disabled":true}`, `not found: access key not found`},
		{"update sys/bailiff/identities/bot/keys/k-nosuch", `{}`, `invalid: write {"disabled": true}`},
		{"delete sys/bailiff/identities/bot/keys/k-nosuch", ``, `not found: access key not found`},
	} {
		if got := w.ask("root", tt.ask, tt.body); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s %s: got %s, want %s", tt.ask, tt.body, got, tt.want)
		}
	}
}

func TestACreateIsToldFromAChange(t *testing.T) {
	w := newWorld(t, `path "sys/bailiff/identities/*" { capabilities = ["create"] }`, nil)
	if got := w.ask("ci", "update sys/bailiff/identities/new", `{}`); !strings.HasPrefix(got, "ok") {
		t.Errorf("create: got %s", got)
	}
	if got := w.ask("ci", "update sys/bailiff/identities/new", `{"disabled":true}`); got != "denied" {
		t.Errorf("change: got %s", got)
	}
}

func TestAKeyThatNobodyGotIsDeleted(t *testing.T) {
	w := newWorld(t, app, nil)
	for _, ask := range []string{"update sys/bailiff/identities/ci/keys", "update sys/bailiff/identities/new"} {
		w.failNext.Store(true)
		if got := w.ask("root", ask, `{}`); !strings.HasPrefix(got, "error: no record") {
			t.Fatalf("%s: got %s", ask, got)
		}
	}
	for name, want := range map[string]int{"ci": 1, "new": 0} {
		keys, err := w.Keys(t.Context(), name)
		must(t, err)
		if len(keys) != want {
			t.Errorf("%s has %d keys, want %d", name, len(keys), want)
		}
	}
}

func TestQueryingTheTrail(t *testing.T) {
	w := newWorld(t, app, nil)
	for range 3 {
		w.ask("ci", "read sys/mounts", "")
	}
	w.ask("root", "read sys/policies/acl/app", "")

	ask := func(query string) (paths []string, next float64) {
		got := w.data("root", "read sys/bailiff/audit?"+query, "")
		for _, r := range got["records"].([]any) {
			text, err := json.Marshal(r)
			must(t, err)
			var rec audit.Record
			must(t, json.Unmarshal(text, &rec))
			paths = append(paths, rec.Identity+" "+string(rec.Status)+" "+rec.Path)
		}
		return paths, got["next"].(float64)
	}
	for query, want := range map[string]string{
		"identity=ci":                            "[ci denied sys/mounts ci denied sys/mounts ci denied sys/mounts]",
		"path=sys/policies/*":                    "[root ok sys/policies/acl/app]",
		"status=denied&since=1h&limit=1":         "[ci denied sys/mounts]",
		"identity=ci&until=1h":                   "[]",
		"identity=ci&op=list":                    "[]",
		"identity=ci&via=api&since=2020-01-01":   "[ci denied sys/mounts ci denied sys/mounts ci denied sys/mounts]",
		"identity=ci&until=2020-01-01T00:00:00Z": "[]",
	} {
		if got, _ := ask(query); fmt.Sprint(got) != want {
			t.Errorf("%s: got %v, want %s", query, got, want)
		}
	}
	first, next := ask("identity=ci&limit=2")
	second, end := ask(fmt.Sprintf("identity=ci&limit=2&before=%.0f", next))
	if len(first) != 2 || len(second) != 1 || end != 0 {
		t.Errorf("two pages: got %v, %v and next %v", first, second, end)
	}
	for query, want := range map[string]string{
		"since=yesterday": "invalid: the query parameter since: time", "limit=5000": "invalid: the query parameter limit", "colour=red": "invalid: the query parameter",
	} {
		if got := w.ask("root", "read sys/bailiff/audit?"+query, ""); !strings.HasPrefix(got, want) {
			t.Errorf("%s: got %s, want %s", query, got, want)
		}
	}
	if got := w.ask("ci", "read sys/bailiff/audit", ""); got != "denied" {
		t.Errorf("without a policy: got %s", got)
	}
}

// TestNoSecretIsWrittenAnywhere does what holds secrets, and then looks through the log and the trail.
func TestNoSecretIsWrittenAnywhere(t *testing.T) {
	w := newWorld(t, app, nil)
	w.ask("root", "update sys/bailiff/apply", `{"objects":[`+vaultTarget+`]}`)
	w.ask("root", "update sys/bailiff/apply", `{"objects":[`+strings.ReplaceAll(vaultTarget, `"http:`, `"`+canary+`:`)+`]}`)
	w.ask("root", "update sys/bailiff/plan", `{"objects":[`+strings.ReplaceAll(vaultTarget, "token\":", "tok\":")+`]}`)
	w.ask("root", "update auth/token/lookup", `{"token":"`+canary+`"}`)
	key := w.data("root", "update sys/bailiff/identities/ci/keys", `{}`)["access_key"].(string)
	w.ask("root", "read sys/bailiff/objects/target/v", "")

	var trail strings.Builder
	must(t, w.trail.Query(t.Context(), audit.Query{}, func(r *audit.Record) error { return json.NewEncoder(&trail).Encode(r) }))
	for _, value := range []string{canary, key, w.tokens["root"].Reveal()} {
		if strings.Contains(w.logs.String(), value) {
			t.Errorf("the log holds %q", value)
		}
		if strings.Contains(trail.String(), value) {
			t.Errorf("the trail holds %q", value)
		}
	}
}
