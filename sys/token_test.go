package sys_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/secret"
)

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }

func TestACallerLooksAtItsOwnToken(t *testing.T) {
	w := newWorld(t, app, nil)
	w.declare(&object.Policy{Name: "app", Rules: `
path "auth/token/lookup-self" { capabilities = ["update"] }
path "auth/token/lookup" { capabilities = ["read"] }`})
	for _, ask := range []string{"read auth/token/lookup-self", "update auth/token/lookup-self", "read auth/token/lookup"} {
		got := w.data("ci", ask, "")
		if got["display_name"] != "ci" || got["expire_time"] != nil || got["ttl"] != 0.0 || got["renewable"] != false || got["orphan"] != true || got["type"] != "service" {
			t.Errorf("got %v", got)
		}
		if got["id"] != w.tokens["ci"].Reveal() {
			t.Errorf("id: got %q, want the token, which vault login keeps", got["id"])
		}
		if got["meta"].(map[string]any)["team"] != "ci" || len(got["policies"].([]any)) != 2 {
			t.Errorf("got meta %v, policies %v", got["meta"], got["policies"])
		}
		if _, err := time.Parse(time.RFC3339Nano, got["issue_time"].(string)); err != nil {
			t.Errorf("issue_time: %v", err)
		}
	}
}

func TestAKeyThatExpiresSaysSo(t *testing.T) {
	w := newWorld(t, app, nil)
	got := w.data("root", "update sys/bailiff/identities/ci/keys", `{"note":"short","ttl":"1h"}`)
	w.tokens["short"] = secret.New(got["access_id"].(string) + identity.Separator + got["access_key"].(string))
	if _, err := time.Parse(time.RFC3339Nano, got["expires_at"].(string)); err != nil {
		t.Errorf("expires_at: %v", err)
	}
	self := w.data("short", "read auth/token/lookup-self", "")
	if ttl := self["ttl"].(float64); ttl < 3500 || ttl > 3600 || self["creation_ttl"] != 3600.0 || self["expire_time"] == nil {
		t.Errorf("got ttl %v, creation_ttl %v, expire_time %v", ttl, self["creation_ttl"], self["expire_time"])
	}
}

func TestLookingAtAnothersToken(t *testing.T) {
	w := newWorld(t, `path "auth/token/lookup" { capabilities = ["update"] }`, nil)
	other := `{"token":"` + w.tokens["nobody"].Reveal() + `"}`
	if got := w.data("ci", "update auth/token/lookup", other); got["display_name"] != "nobody" {
		t.Errorf("got %v", got)
	}
	if got := w.ask("nobody", "update auth/token/lookup", other); got != "denied" {
		t.Errorf("without a policy: got %s", got)
	}
	if got := w.data("ci", "update auth/token/lookup", `{"token":"`+w.tokens["ci"].Reveal()+`"}`); got["display_name"] != "ci" {
		t.Errorf("its own: got %v", got)
	}
	if got := w.data("root", "update sys/capabilities", `{"path":"auth/token/lookup","token":"`+w.tokens["nobody"].Reveal()+`"}`); got["capabilities"].([]any)[0] != "deny" {
		t.Errorf("capabilities: got %v", got)
	}
	accessor := w.data("ci", "read auth/token/lookup-self", "")["accessor"].(string)
	if got := w.data("root", "update sys/capabilities-accessor", `{"path":"x","accessor":"`+rootAccessor(w)+`"}`); got["capabilities"].([]any)[0] != "root" {
		t.Errorf("own accessor: got %v", got)
	}
	if got := w.data("root", "update auth/token/lookup-accessor", `{"accessor":"`+accessor+`"}`); got["id"] != "" || got["display_name"] != "ci" {
		t.Errorf("another's accessor: got %s", got)
	}
	if got := w.data("root", "update auth/token/lookup-accessor", `{"accessor":"`+rootAccessor(w)+`"}`); got["id"] != "" || got["display_name"] != "root" {
		t.Errorf("by accessor: got %v, want it without the token", got)
	}
}

func rootAccessor(w *world) string {
	return w.data("root", "read auth/token/lookup-self", "")["accessor"].(string)
}

func TestACallerGivesUpItsKey(t *testing.T) {
	w := newWorld(t, app, nil)
	if got := w.ask("ci", "update auth/token/revoke-self", "{}"); got != "no content" {
		t.Fatalf("got %s", got)
	}
	if d := w.last().Detail; !strings.HasPrefix(d, "disabled access key k-") || !strings.HasSuffix(d, "of identity ci") {
		t.Errorf("recorded as %q", d)
	}
	if got := w.ask("ci", "read auth/token/lookup-self", ""); got != "error: permission denied" {
		t.Errorf("after it: got %s", got)
	}
	if got := w.ask("root", "read auth/token/lookup-self", ""); !strings.HasPrefix(got, "ok") {
		t.Errorf("another: got %s", got)
	}
}
