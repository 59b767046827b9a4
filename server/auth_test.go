package server

import (
	"fmt"
	"math"
	"net/http"
	"testing"

	"github.com/bailiff-secrets/bailiff/internal/object"
)

// TestAuthMethodsAreOfAllServers mounts a method on one server, logs in on another, and takes it away again.
func TestAuthMethodsAreOfAllServers(t *testing.T) {
	x := newSharing(t)
	a, b := x.start(t, "a"), x.start(t, "b")
	key, err := identities{a.estate}.Create(t.Context(), "test", object.Identity{Name: "ops"}, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.estate.Apply(t.Context(), "test", encode(t, &object.Role{Name: "ops", Policies: []string{"root"}, Identities: []string{"ops"}}), false, nil); err != nil {
		t.Fatal(err)
	}
	root := key.AccessID + ".." + key.Key.Reveal()
	if code, out := a.call(root, http.MethodPost, "sys/auth/people", map[string]any{"type": "userpass"}); code != http.StatusNoContent {
		t.Fatalf("got %d %v", code, out)
	}
	if code, out := a.call(root, http.MethodPut, "auth/people/users/ann", map[string]any{"password": "x"}); code != http.StatusNoContent {
		t.Fatalf("got %d %v", code, out)
	}
	token := ""
	soon(t, "the other server lets ann in", func() bool {
		code, out := b.call("", http.MethodPut, "auth/people/login/ann", map[string]any{"password": "x"})
		if code != http.StatusOK {
			return false
		}
		token, _ = out["auth"].(map[string]any)["client_token"].(string)
		return true
	})
	soon(t, "the token counts on the first server", func() bool {
		code, _ := a.call(token, http.MethodGet, "auth/token/lookup-self", nil)
		return code == http.StatusOK
	})
	if code, out := a.call(root, http.MethodDelete, "sys/auth/people", nil); code != http.StatusNoContent {
		t.Fatalf("got %d %v", code, out)
	}
	if code, _ := a.call(token, http.MethodGet, "auth/token/lookup-self", nil); code != http.StatusForbidden {
		t.Errorf("the token outlives its method: %d", code)
	}
	soon(t, "the token ends on the other server", func() bool {
		code, _ := b.call(token, http.MethodGet, "auth/token/lookup-self", nil)
		return code == http.StatusForbidden
	})
	soon(t, "the other server lets nobody in", func() bool {
		code, _ := b.call("", http.MethodPut, "auth/people/login/ann", map[string]any{"password": "x"})
		return code == http.StatusForbidden
	})
}

// TestATokenGoesOnAsItsMethodSaysNow renews tokens while what they came through changes.
func TestATokenGoesOnAsItsMethodSaysNow(t *testing.T) {
	a := newSharing(t).start(t, "a")
	key, err := identities{a.estate}.Create(t.Context(), "test", object.Identity{Name: "ops"}, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.estate.Apply(t.Context(), "test", encode(t, &object.Role{Name: "ops", Policies: []string{"root"}, Identities: []string{"ops"}}), false, nil); err != nil {
		t.Fatal(err)
	}
	root := key.AccessID + ".." + key.Key.Reveal()
	must := func(method, path string, body any) map[string]any {
		t.Helper()
		code, out := a.call(root, method, path, body)
		if code >= http.StatusMultipleChoices {
			t.Fatalf("%s: got %d %v", path, code, out)
		}
		return out
	}
	login := func(path string, body any) string {
		t.Helper()
		token, _ := must(http.MethodPut, path, body)["auth"].(map[string]any)["client_token"].(string)
		return token
	}
	renew := func(token string) (ttl float64, words any) {
		_, out := a.call(token, http.MethodPut, "auth/token/renew-self", map[string]any{})
		if auth, ok := out["auth"].(map[string]any); ok {
			return math.Round(auth["lease_duration"].(float64)/10) * 10, nil // what is left of it, a moment later
		}
		return 0, out["errors"]
	}
	must(http.MethodPost, "sys/auth/approle", map[string]any{"type": "approle"})
	must(http.MethodPost, "sys/auth/userpass", map[string]any{"type": "userpass"})
	must(http.MethodPut, "auth/approle/role/ci", map[string]any{"role_id": "ci", "token_ttl": "10m"})
	must(http.MethodPut, "auth/userpass/users/ann", map[string]any{"password": "x", "token_policies": "P"})
	id := must(http.MethodPut, "auth/approle/role/ci/secret-id", nil)["data"].(map[string]any)["secret_id"]
	ci := login("auth/approle/login", map[string]any{"role_id": "ci", "secret_id": id})
	ann := login("auth/userpass/login/ann", map[string]any{"password": "x"})
	if ttl, words := renew(ci); ttl != 600 {
		t.Errorf("got %v %v, want 10m", ttl, words)
	}
	must(http.MethodPut, "auth/approle/role/ci", map[string]any{"token_ttl": "20m"})
	if ttl, words := renew(ci); ttl != 1200 {
		t.Errorf("after the role has changed: got %v %v, want 20m", ttl, words)
	}
	if ttl, words := renew(ann); ttl == 0 {
		t.Errorf("ann: got %v", words)
	}
	must(http.MethodPut, "auth/userpass/users/ann/policies", map[string]any{"token_policies": "p,q"})
	if ttl, words := renew(ann); ttl != 0 {
		t.Errorf("ann, whose policies have changed, was renewed for %v", ttl)
	} else if text := fmt.Sprint(words); text != "[policies have changed, not renewing]" {
		t.Errorf("got %s", text)
	}
	must(http.MethodDelete, "auth/approle/role/ci", nil)
	if ttl, words := renew(ci); ttl != 0 || fmt.Sprint(words) != `[role "ci" does not exist during renewal]` {
		t.Errorf("after the role is gone: got %v %v", ttl, words)
	}
	child := login("auth/token/create-orphan", map[string]any{"ttl": "10m"})
	if ttl, words := renew(child); ttl != 600 {
		t.Errorf("a token that no method gave: got %v %v", ttl, words)
	}
}
