package jwt_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/bailiff-secrets/bailiff/test/authtest"
)

const callback = "http://localhost:8250/oidc/callback"

// provider is a Vault as an OpenID Connect provider, with the user ann.
type provider struct {
	*authtest.Server
	url, clientID, clientSecret, ann string
}

func newProvider(t *testing.T) *provider {
	v := authtest.Vault(t)
	n := strings.ToLower(t.Name())
	v.Must("POST", "sys/auth/"+n, `{"type":"userpass"}`)
	v.Must("PUT", "auth/"+n+"/users/ann", `{"password":"x"}`)
	v.Must("PUT", "identity/oidc/key/"+n, `{"allowed_client_ids":"*"}`)
	v.Must("PUT", "identity/oidc/client/"+n, map[string]any{"redirect_uris": []string{callback}, "assignments": []string{"allow_all"}, "key": n})
	template := `{"groups":["g1","g2"],"email":"ann@example.org"}`
	v.Must("PUT", "identity/oidc/scope/"+n, map[string]any{"template": base64.StdEncoding.EncodeToString([]byte(template))})
	v.Must("PUT", "identity/oidc/provider/"+n, map[string]any{"allowed_client_ids": []string{"*"}, "scopes_supported": []string{n}, "issuer": v.Addr})
	client := v.Must("GET", "identity/oidc/client/"+n, nil)
	return &provider{
		Server: v, url: v.Addr + "/v1/identity/oidc/provider/" + n, clientID: client.Text("data.client_id"), clientSecret: client.Text("data.client_secret"),
		ann: v.Must("PUT", "auth/"+n+"/login/ann", `{"password":"x"}`).Text("auth.client_token"),
	}
}

// consent is what a browser does: it follows the URL as ann and comes back with a code and the state.
func (p *provider) consent(authURL string) url.Values {
	p.T.Helper()
	u, err := url.Parse(authURL)
	if err != nil || authURL == "" {
		p.T.Fatalf("%q: %v", authURL, err)
	}
	path := strings.TrimPrefix(strings.Replace(u.Path, "/ui/vault/identity/oidc/provider/", "/v1/identity/oidc/provider/", 1), "/v1/")
	a := p.SendAs(p.ann, "GET", path+"?"+u.RawQuery, nil)
	if a.Code != http.StatusOK {
		p.T.Fatalf("authorize: %d %v", a.Code, a.Body)
	}
	return url.Values{"state": {a.Text("state")}, "code": {a.Text("code")}}
}

func (p *provider) setUp(w *authtest.World, role string) {
	w.Must("POST", "sys/auth/oidc", `{"type":"oidc"}`)
	w.Must("POST", "auth/oidc/config", map[string]any{"oidc_discovery_url": p.url, "oidc_client_id": p.clientID, "oidc_client_secret": p.clientSecret, "default_role": "people"})
	w.Must("POST", "auth/oidc/role/people", role)
}

func begin(w *authtest.World, more map[string]string) string {
	body := map[string]string{"redirect_uri": "http://localhost:8250/oidc/callback", "role": "people"}
	for k, v := range more {
		body[k] = v
	}
	a := w.SendAs("", "PUT", "auth/oidc/oidc/auth_url", body)
	if a.Code != http.StatusOK {
		w.T.Fatalf("auth_url: %d %v", a.Code, a.Body)
	}
	return a.Text("data.auth_url")
}

func finish(w *authtest.World, q url.Values) *authtest.Answer {
	return w.SendAs("", "GET", "auth/oidc/oidc/callback?"+q.Encode(), nil)
}

func TestSomebodyLogsInAtARealProvider(t *testing.T) {
	w, p := world(t), newProvider(t)
	n := strings.ToLower(t.Name())
	p.setUp(w, fmt.Sprintf(`{"user_claim":"email","groups_claim":"groups","allowed_redirect_uris":[%q],"oidc_scopes":[%q],"token_policies":"p","claim_mappings":{"email":"email"}}`, callback, n))
	to := begin(w, nil)
	u, _ := url.Parse(to)
	q := u.Query()
	if q.Get("code_challenge_method") != "S256" || len(q.Get("nonce")) < 32 || len(q.Get("state")) < 32 || q.Get("scope") != "openid "+n {
		t.Errorf("got %s", to)
	}
	back := p.consent(to)
	if a := finish(w, back); a.Code != http.StatusOK || a.Text("auth.client_token") == "" || a.Text("auth.metadata.email") != "ann@example.org" {
		t.Fatalf("got %d %v", a.Code, a.Body)
	}
	if s := w.Spec(); s.Alias != "ann@example.org" || strings.Join(s.Groups, ",") != "g1,g2" || s.Role != "people" || s.Params.Policies[0] != "p" {
		t.Errorf("got %+v", s)
	}
	if a := finish(w, back); a.Code != http.StatusBadRequest || a.Errors() != "Vault login failed. Expired or missing OAuth state." {
		t.Errorf("a second time: got %d %v", a.Code, a.Body)
	}
	if found := w.Kept(q.Get("state")); found != "" {
		t.Errorf("the state is in %s", found)
	}
}

func TestAFlowIsEndedByWhoBeganIt(t *testing.T) {
	w, p := world(t), newProvider(t)
	p.setUp(w, fmt.Sprintf(`{"user_claim":"sub","allowed_redirect_uris":[%q]}`, callback))
	good := func(more map[string]string) url.Values { return p.consent(begin(w, more)) }

	q := good(map[string]string{"client_nonce": "n"})
	if a := finish(w, q); a.Code != http.StatusBadRequest || a.Errors() != "invalid client_nonce" {
		t.Errorf("without the client's nonce: got %d %v", a.Code, a.Body)
	}
	q.Set("client_nonce", "n")
	if a := finish(w, q); a.Code != http.StatusBadRequest {
		t.Errorf("a flow that went wrong once goes on: got %d %v", a.Code, a.Body)
	}
	q = good(map[string]string{"client_nonce": "n"})
	q.Set("client_nonce", "n")
	if a := finish(w, q); a.Code != http.StatusOK {
		t.Errorf("with the client's nonce: got %d %v", a.Code, a.Body)
	}
	mine, theirs := good(nil), good(nil)
	mine.Set("code", theirs.Get("code")) // somebody else's code, put into my flow
	if a := finish(w, mine); a.Code != http.StatusBadRequest || !strings.Contains(a.Errors(), "Error exchanging oidc code") {
		t.Errorf("somebody else's code: got %d %v", a.Code, a.Body)
	}
	for _, q := range []url.Values{{}, {"state": {"x"}, "code": {"y"}}} {
		if a := finish(w, q); a.Code != http.StatusBadRequest {
			t.Errorf("%v: got %d %v", q, a.Code, a.Body)
		}
	}
}

func TestOnlyAllowedRedirectsGetAURL(t *testing.T) {
	w, p := world(t), newProvider(t)
	p.setUp(w, `{"user_claim":"sub","allowed_redirect_uris":["http://localhost:8250/oidc/callback","https://app.example.org/back"]}`)
	for uri, want := range map[string]bool{
		"http://localhost:8250/oidc/callback":             true,
		"http://localhost:1/oidc/callback":                true, // RFC 8252: a native app listens where it can
		"http://localhost:8250/other":                     false,
		"http://127.0.0.1:8250/oidc/callback":             false,
		"https://localhost:8250/oidc/callback":            false,
		"https://app.example.org/back":                    true,
		"https://app.example.org:444/back":                false,
		"https://app.example.org/back?x=y":                false,
		"https://evil.example.org/back":                   false,
		"http://localhost@evil.example.org/oidc/callback": false,
	} {
		if got := begin(w, map[string]string{"redirect_uri": uri}) != ""; got != want {
			t.Errorf("%s: allowed is %v, want %v", uri, got, want)
		}
	}
}

func TestTokensOfARealIssuerLogIn(t *testing.T) {
	w, v := world(t), newProvider(t)
	n := strings.ToLower(t.Name())
	v.Must("PUT", "identity/oidc/config", map[string]string{"issuer": v.Addr})
	v.Must("PUT", "identity/oidc/role/"+n, map[string]any{"key": n, "ttl": "5m", "client_id": "bailiff"})
	token := v.SendAs(v.ann, "GET", "identity/oidc/token/"+n, nil).Text("data.token")
	if token == "" {
		v.Must("PUT", "sys/policies/acl/"+n, map[string]string{"policy": `path "identity/oidc/token/*" { capabilities = ["read"] }`})
		v.Must("PUT", "auth/"+n+"/users/ann", `{"token_policies":"`+n+`"}`)
		ann := v.Must("PUT", "auth/"+n+"/login/ann", `{"password":"x"}`).Text("auth.client_token")
		token = v.SendAs(ann, "GET", "identity/oidc/token/"+n, nil).Text("data.token")
	}
	w.Must("POST", "sys/auth/jwt", `{"type":"jwt"}`)
	for _, config := range []map[string]any{
		{"oidc_discovery_url": v.Addr + "/v1/identity/oidc"},
		{"jwks_url": v.Addr + "/v1/identity/oidc/.well-known/keys", "bound_issuer": v.Addr + "/v1/identity/oidc"},
	} {
		w.Must("POST", "auth/jwt/config", config)
		w.Must("POST", "auth/jwt/role/r", `{"role_type":"jwt","user_claim":"sub","bound_audiences":"bailiff"}`)
		if a := login(w, token); a.Code != http.StatusOK {
			t.Errorf("%v: got %d %v", config, a.Code, a.Body)
		}
		w.Must("POST", "auth/jwt/role/r", `{"role_type":"jwt","user_claim":"sub","bound_audiences":"other"}`)
		if a := login(w, token); a.Code != http.StatusBadRequest {
			t.Errorf("%v: another audience: got %d %v", config, a.Code, a.Body)
		}
	}
	for _, config := range []map[string]any{
		{"oidc_discovery_url": v.Addr + "/v1/identity"}, {"jwks_url": v.Addr + "/v1/nosuch"},
		{"oidc_discovery_url": v.Addr + "/v1/identity/oidc", "oidc_discovery_ca_pem": "nonsense"},
	} {
		if a := w.Send("POST", "auth/jwt/config", config); a.Code != http.StatusBadRequest || !strings.HasPrefix(a.Errors(), "error checking ") {
			t.Errorf("%v: got %d %v", config, a.Code, a.Body)
		}
	}
}

// TestNewKeysOfAnIssuerAreFetched has an issuer that changes its keys, as all do.
func TestNewKeysOfAnIssuerAreFetched(t *testing.T) {
	one, two := newIssuer(t, jose.RS256), newIssuer(t, jose.RS256)
	var mu sync.Mutex
	keys, fetched := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: one.key.Public(), KeyID: "one", Algorithm: "RS256", Use: "sig"}}}, 0
	server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		fetched++
		json.NewEncoder(out).Encode(keys)
	}))
	defer server.Close()
	w := world(t)
	w.Must("POST", "sys/auth/jwt", `{"type":"jwt"}`)
	w.Must("POST", "auth/jwt/config", map[string]any{"jwks_url": server.URL})
	w.Must("POST", "auth/jwt/role/r", `{"role_type":"jwt","user_claim":"sub","bound_audiences":"v"}`)
	c := claims{"sub": "a", "aud": "v", "exp": 60, "iat": 0}
	with := func(i *issuer, kid string) string {
		return i.signWith(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: i.key, KeyID: kid}}, c)
	}
	for range 5 {
		if a := login(w, with(one, "one")); a.Code != http.StatusOK {
			t.Fatalf("got %d %v", a.Code, a.Body)
		}
	}
	mu.Lock()
	if fetched > 2 { // when the configuration was written, and at the first login
		t.Errorf("the keys were fetched %d times", fetched)
	}
	keys.Keys = []jose.JSONWebKey{{Key: two.key.Public(), KeyID: "two", Algorithm: "RS256", Use: "sig"}}
	mu.Unlock()
	if a := login(w, with(two, "two")); a.Code != http.StatusOK {
		t.Errorf("a new key: got %d %v", a.Code, a.Body)
	}
	if a := login(w, with(one, "one")); a.Code != http.StatusBadRequest {
		t.Errorf("a key that is gone: got %d %v", a.Code, a.Body)
	}
}
