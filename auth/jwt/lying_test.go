package jwt_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/bailiff-secrets/bailiff/test/authtest"
)

// lying is a provider whose ID tokens are as the test wants them.
type lying struct {
	*httptest.Server
	token func(nonce string) string
	nonce string // of the flow under way
}

func newLying(t *testing.T, i *issuer) *lying {
	l := &lying{}
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/.well-known/openid-configuration":
			json.NewEncoder(w).Encode(map[string]any{
				"issuer": l.URL, "authorization_endpoint": l.URL + "/authorize", "token_endpoint": l.URL + "/token", "jwks_uri": l.URL + "/keys",
				"id_token_signing_alg_values_supported": []string{"RS256", "HS256", "none"},
			})
		case "/keys":
			json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: i.key.Public(), Algorithm: "RS256", Use: "sig"}}})
		case "/token":
			json.NewEncoder(w).Encode(map[string]any{"access_token": "x", "token_type": "Bearer", "id_token": l.token(l.nonce)})
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(l.Close)
	return l
}

// TestATokenOfAProviderIsChecked has a provider that answers the code of a flow with tokens that are not for it.
func TestATokenOfAProviderIsChecked(t *testing.T) {
	i, other := newIssuer(t, jose.RS256), newIssuer(t, jose.RS256)
	l := newLying(t, i)
	w := world(t)
	w.Must("POST", "sys/auth/oidc", `{"type":"oidc"}`)
	w.Must("POST", "auth/oidc/config", map[string]any{"oidc_discovery_url": l.URL, "oidc_client_id": "me", "oidc_client_secret": "s"})
	w.Must("POST", "auth/oidc/role/people", `{"user_claim":"sub","allowed_redirect_uris":["http://localhost:8250/oidc/callback"],"max_age":"1h","bound_subject":"ann"}`)
	flow := func() *authtest.Answer {
		u, err := url.Parse(begin(w, nil))
		must(t, err)
		l.nonce = u.Query().Get("nonce")
		if u.Query().Get("max_age") != "3600" {
			t.Errorf("the provider is not told of max_age: %s", u)
		}
		return finish(w, url.Values{"state": {u.Query().Get("state")}, "code": {"c"}})
	}
	good := func(nonce string) claims {
		return claims{"iss": l.URL, "sub": "ann", "aud": "me", "exp": 300, "iat": 0, "nonce": nonce, "auth_time": authTime(0)}
	}
	l.token = func(nonce string) string { return i.sign(good(nonce)) }
	if a := flow(); a.Code != http.StatusOK {
		t.Fatalf("got %d %v", a.Code, a.Body)
	}
	for what, token := range map[string]func(nonce string) string{
		"another nonce":  func(string) string { return i.sign(good("other")) },
		"no nonce":       func(n string) string { return i.sign(with(good(n), claims{"nonce": nil})) },
		"another client": func(n string) string { return i.sign(with(good(n), claims{"aud": "you"})) },
		"another issuer": func(n string) string { return i.sign(with(good(n), claims{"iss": "https://else"})) },
		"over":           func(n string) string { return i.sign(with(good(n), claims{"exp": -300})) },
		"another key":    func(n string) string { return other.sign(good(n)) },
		"the secret as a key": func(n string) string {
			return i.signWith(jose.SigningKey{Algorithm: jose.HS256, Key: []byte(strings.Repeat("s", 32))}, good(n))
		},
		"no signature":           func(n string) string { return unsigned(good(n)) },
		"a login of yesterday":   func(n string) string { return i.sign(with(good(n), claims{"auth_time": authTime(-86400)})) },
		"somebody else":          func(n string) string { return i.sign(with(good(n), claims{"sub": "bob"})) },
		"another access token's": func(n string) string { return i.sign(with(good(n), claims{"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"})) },
	} {
		l.token = token
		if a := flow(); a.Code != http.StatusBadRequest {
			t.Errorf("%s: got %d %v", what, a.Code, a.Body)
		}
	}
	if w.Logins() != 1 {
		t.Errorf("%d logins", w.Logins())
	}
}
