package server

import (
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
