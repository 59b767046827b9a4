package server

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/document"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/secret"
)

// TestTokensOnTwoServers makes tokens on one server and ends them on the other: within a second it counts on both.
func TestTokensOnTwoServers(t *testing.T) {
	x := newSharing(t)
	a := x.start(t, "a")
	b := x.start(t, "b")
	key, err := identities{a.estate}.Create(t.Context(), "test", object.Identity{Name: "ops"}, "")
	if err != nil {
		t.Fatal(err)
	}
	lets := func(n *node, token string) bool {
		code, _ := n.call(token, http.MethodGet, "auth/token/lookup-self", nil)
		return code == http.StatusOK
	}
	by, err := a.estate.tokens.Authenticate(t.Context(), secret.New(key.AccessID+identity.Separator+key.Key.Reveal()), addrNone)
	if err != nil {
		t.Fatal(err)
	}
	child := func(n *node, by identity.Caller) (string, identity.Caller) {
		made, err := n.estate.tokens.Create(t.Context(), identity.TokenRequest{By: by, Path: "auth/token/create"})
		if err != nil {
			t.Fatal(err)
		}
		return made.Token.Reveal(), made.Caller
	}
	token, parent := child(a, by)
	if !lets(a, token) {
		t.Error("where it was made, a token is refused")
	}
	soon(t, "the token is let in on the other server", func() bool { return lets(b, token) })
	below, _ := child(b, parent)
	soon(t, "so is its child here", func() bool { return lets(a, below) })

	if code, body := b.call(token, http.MethodPost, "auth/token/revoke-self", nil); code != http.StatusNoContent {
		t.Fatalf("%d %v", code, body)
	}
	began := time.Now()
	if lets(b, token) || lets(b, below) {
		t.Error("where it was revoked, a token or its child is let in")
	}
	soon(t, "both are refused on the other server", func() bool { return !lets(a, token) && !lets(a, below) })
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %v until the revocation counted on the other server", took)
	}

	token, _ = child(a, by)
	soon(t, "another token is let in on the other server", func() bool { return lets(b, token) })
	if err := (identities{a.estate}).SetKeyDisabled(t.Context(), "test", "ops", by.KeyID, true); err != nil {
		t.Fatal(err)
	}
	if lets(a, token) {
		t.Error("the token of a key that is switched off is let in")
	}
	soon(t, "it is refused on the other server", func() bool { return !lets(b, token) })
}

// TestTheTokensOfAnIdentityEndWithIt logs in by a declared alias, without an access key.
func TestTheTokensOfAnIdentityEndWithIt(t *testing.T) {
	x := newSharing(t)
	a := x.start(t, "a")
	ids := identities{a.estate}
	for _, name := range []string{"off", "gone"} {
		in := object.Identity{Name: name, Aliases: []object.Alias{{Mount: "userpass", Name: name}}}
		if _, err := ids.Create(t.Context(), "test", in, ""); err != nil {
			t.Fatal(err)
		}
	}
	tokens := map[string]string{}
	for _, name := range []string{"off", "gone"} {
		made, err := a.estate.tokens.Login(t.Context(), identity.LoginSpec{MountPath: "auth/userpass/", MountAccessor: "userpass_1", MountType: "userpass", Alias: name})
		if err != nil || made.Caller.Name != name {
			t.Fatalf("%+v, %v", made.Caller, err)
		}
		tokens[name] = made.Token.Reveal()
	}
	if err := ids.SetDisabled(t.Context(), "test", "off", true); err != nil {
		t.Fatal(err)
	}
	if err := a.estate.DeleteObject(t.Context(), "test", object.KindIdentity, "gone", 0); err != nil {
		t.Fatal(err)
	}
	for name, token := range tokens {
		if code, _ := a.call(token, http.MethodGet, "auth/token/lookup-self", nil); code != http.StatusForbidden {
			t.Errorf("%s: got %d", name, code)
		}
	}
	if found, err := a.db.Documents(t.Context(), document.Query{Space: "token"}); err != nil || len(found) != 0 {
		t.Errorf("%d tokens are kept, %v", len(found), err)
	}
}

// TestATokenThatExpiresIsForgotten leaves a token to its end: the sweep removes it.
func TestATokenThatExpiresIsForgotten(t *testing.T) {
	x := newSharing(t)
	a := x.start(t, "a")
	made, err := a.estate.tokens.Login(t.Context(), identity.LoginSpec{
		MountPath: "auth/approle/", MountAccessor: "approle_1", MountType: "approle", Alias: "ci", DisplayName: "approle-ci", Params: identity.TokenParams{TTL: time.Second},
	})
	if err != nil {
		t.Fatal(err)
	}
	if code, _ := a.call(made.Token.Reveal(), http.MethodGet, "auth/token/lookup-self", nil); code != http.StatusOK {
		t.Errorf("got %d", code)
	}
	soon(t, "the token is removed", func() bool {
		found, err := a.db.Documents(context.WithoutCancel(t.Context()), document.Query{Space: "token"})
		return err == nil && len(found) == 0
	})
	if code, _ := a.call(made.Token.Reveal(), http.MethodGet, "auth/token/lookup-self", nil); code != http.StatusForbidden {
		t.Errorf("got %d", code)
	}
}
