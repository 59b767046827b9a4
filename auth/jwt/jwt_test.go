package jwt_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/auth"
	"github.com/bailiff-secrets/bailiff/auth/jwt"
	"github.com/bailiff-secrets/bailiff/internal/testenv"
	"github.com/bailiff-secrets/bailiff/test/authtest"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func world(t *testing.T) *authtest.World {
	return authtest.New(t, authtest.Options{}, func(auth.AccessKeys) map[string]auth.Method {
		j := jwt.New()
		return map[string]auth.Method{"jwt": j, "oidc": j}
	})
}

type claims map[string]any

// issuer signs what it is told to.
type issuer struct {
	t   *testing.T
	alg jose.SignatureAlgorithm
	key crypto.Signer
}

func newIssuer(t *testing.T, alg jose.SignatureAlgorithm) *issuer {
	var key crypto.Signer
	var err error
	if alg == jose.ES256 {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	} else {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	must(t, err)
	return &issuer{t, alg, key}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// pem is the public key.
func (i *issuer) pem() string {
	der, err := x509.MarshalPKIXPublicKey(i.key.Public())
	must(i.t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// sign makes a token. Times are seconds from now.
func (i *issuer) sign(c claims) string {
	return i.signWith(jose.SigningKey{Algorithm: i.alg, Key: i.key}, c)
}

func (i *issuer) signWith(k jose.SigningKey, c claims) string {
	i.t.Helper()
	c = maps.Clone(c)
	for _, name := range []string{"exp", "nbf", "iat"} {
		if n, ok := c[name].(int); ok {
			c[name] = time.Now().Unix() + int64(n)
		}
	}
	signer, err := jose.NewSigner(k, nil)
	must(i.t, err)
	text, err := json.Marshal(c)
	must(i.t, err)
	s, err := signer.Sign(text)
	must(i.t, err)
	out, err := s.CompactSerialize()
	must(i.t, err)
	return out
}

// unsigned is a token that says it needs no signature.
func unsigned(c claims) string {
	text, _ := json.Marshal(c)
	b := base64.RawURLEncoding
	return b.EncodeToString([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + b.EncodeToString(text) + "."
}

func with(c claims, more claims) claims {
	out := maps.Clone(c)
	for name, v := range more {
		if v == nil {
			delete(out, name)
		} else {
			out[name] = v
		}
	}
	return out
}

func quoted(s string) string {
	text, _ := json.Marshal(s)
	return string(text)
}

// TestAnswersAreVaults sends the same, with tokens of the same issuer, to a real Vault and to Bailiff.
func TestAnswersAreVaults(t *testing.T) {
	w := world(t)
	const at = "auth/cmpjwt/"
	i := newIssuer(t, jose.RS256)
	good := claims{"iss": "me", "sub": "alice", "aud": "vault", "exp": 300, "iat": 0, "nbf": 0, "team": "x", "groups": []string{"a", "b"}, "n": map[string]any{"deep": []any{"v"}}, "ok": true}
	ignore := []string{"warnings"}
	try := func(role string, c claims) authtest.Step {
		return authtest.Step{Method: "POST", Path: at + "login", Body: fmt.Sprintf(`{"role":%q,"jwt":%q}`, role, i.sign(c)), NoToken: true, Ignore: ignore}
	}
	role := func(name, body string) authtest.Step {
		return authtest.Step{Method: "POST", Path: at + "role/" + name, Body: body}
	}
	stricter := func(s authtest.Step) authtest.Step {
		s.Code, s.Words = 400, "audience claim found in JWT but no audiences bound to the role"
		return s
	}
	steps := []authtest.Step{
		{Method: "POST", Path: "sys/auth/cmpjwt", Body: `{"type":"jwt"}`},
		{Method: "GET", Path: at + "config"},
		{Method: "POST", Path: at + "login", Body: `{"role":"r","jwt":"x"}`, NoToken: true},
		{Method: "POST", Path: at + "config", Body: `{}`},
		{Method: "POST", Path: at + "config", Body: `{"jwks_url":"http://127.0.0.1:1/","jwt_validation_pubkeys":"x"}`},
		{Method: "POST", Path: at + "config", Body: `{"jwt_validation_pubkeys":"x"}`},
		{Method: "POST", Path: at + "config", Body: `{"oidc_discovery_url":"http://127.0.0.1:1/","oidc_client_id":"x"}`},
		{Method: "POST", Path: at + "config", Body: fmt.Sprintf(`{"jwt_validation_pubkeys":[%s],"jwt_supported_algs":"HS256"}`, quoted(i.pem())), Words: `invalid jwt_supported_algs: unsupported signing algorithm "HS256"`},
		{Method: "POST", Path: at + "config", Body: fmt.Sprintf(`{"jwt_validation_pubkeys":[%s],"bound_issuer":"me","default_role":"Usual"}`, quoted(i.pem()))},
		{Method: "GET", Path: at + "config", Ignore: []string{"data.jwt_validation_pubkeys"}},
		{Method: "LIST", Path: at + "role"},
		{Method: "GET", Path: at + "role/usual"},
		role("usual", `{}`),
		role("usual", `{"role_type":"odd"}`),
		role("usual", `{"role_type":"jwt"}`),
		role("usual", `{"role_type":"jwt","user_claim":"sub"}`),
		role("usual", `{"role_type":"oidc","user_claim":"sub"}`),
		role("usual", `{"role_type":"jwt","user_claim":"sub","bound_claims_type":"odd","bound_audiences":"vault"}`),
		role("usual", `{"role_type":"jwt","user_claim":"sub","bound_audiences":"vault","claim_mappings":{"a":"role"}}`),
		role("usual", `{"role_type":"jwt","user_claim":"sub","bound_audiences":"vault","claim_mappings":{"a":"x","b":"x"}}`),
		role("usual", `{"role_type":"jwt","user_claim":"sub","bound_audiences":["vault"],"token_policies":["p"],"groups_claim":"groups","claim_mappings":{"team":"team_name","/n/deep/0":"deep"}}`),
		{Method: "GET", Path: at + "role/usual"},
		role("subject", `{"role_type":"jwt","user_claim":"sub","bound_audiences":"other,vault","bound_subject":"bob"}`),
		role("claims", `{"role_type":"jwt","user_claim":"sub","bound_audiences":"vault","bound_claims":{"team":["y","x"],"/n/deep/0":"v"}}`),
		role("globs", `{"role_type":"jwt","user_claim":"sub","bound_audiences":"vault","bound_claims_type":"glob","bound_claims":{"sub":"al*e","team":"*"}}`),
		role("yes", `{"role_type":"jwt","user_claim":"sub","bound_audiences":"vault","bound_claims":{"ok":true}}`),
		role("noaud", `{"role_type":"jwt","user_claim":"sub","bound_subject":"alice"}`),
		role("leeway", `{"role_type":"jwt","user_claim":"sub","bound_audiences":"vault","clock_skew_leeway":-1,"expiration_leeway":"10s","not_before_leeway":-1}`),
		{Method: "GET", Path: at + "role/leeway"},
		role("old", `{"role_type":"jwt","user_claim":"sub","bound_audiences":"vault","policies":"b,A","ttl":"10m","max_ttl":"20m","num_uses":3,"period":"5m"}`),
		{Method: "GET", Path: at + "role/old"},
		role("browser", `{"user_claim":"email","allowed_redirect_uris":"http://localhost:8250/oidc/callback","oidc_scopes":"profile"}`),
		{Method: "GET", Path: at + "role/browser"},
		{Method: "LIST", Path: at + "role"},

		try("usual", good),
		try("", good),
		try("USUAL", with(good, claims{"aud": []string{"x", "vault"}})),
		try("nosuch", good),
		try("usual", with(good, claims{"aud": "else"})),
		try("usual", with(good, claims{"aud": nil})),
		try("usual", with(good, claims{"iss": "you"})),
		try("usual", with(good, claims{"sub": nil})),
		try("usual", with(good, claims{"groups": nil})),
		try("usual", with(good, claims{"groups": "one"})),
		try("usual", with(good, claims{"team": []string{"x"}})),
		try("usual", with(good, claims{"exp": -30})),
		try("usual", with(good, claims{"exp": -90})),
		try("usual", with(good, claims{"nbf": 30})),
		try("usual", with(good, claims{"nbf": 90})),
		try("usual", with(good, claims{"iat": 90, "nbf": nil})),
		try("usual", with(good, claims{"exp": nil, "iat": nil, "nbf": nil})),
		try("usual", with(good, claims{"exp": nil})),
		try("usual", with(good, claims{"exp": nil, "iat": -200, "nbf": -200})),
		try("usual", with(good, claims{"exp": nil, "iat": -220, "nbf": -220})),
		try("leeway", with(good, claims{"exp": nil, "iat": -5, "nbf": -5})),
		try("leeway", with(good, claims{"exp": nil, "iat": -15, "nbf": -15})),
		try("leeway", with(good, claims{"exp": -2})),
		try("subject", good),
		try("subject", with(good, claims{"sub": "bob"})),
		try("claims", good),
		try("claims", with(good, claims{"team": "z"})),
		try("claims", with(good, claims{"team": []string{"q", "y"}})),
		try("claims", with(good, claims{"n": nil})),
		try("globs", good),
		try("globs", with(good, claims{"sub": "bob"})),
		try("globs", with(good, claims{"team": nil})),
		try("yes", good),
		try("yes", with(good, claims{"ok": false})),
		stricter(try("noaud", good)), // Vault looks at a list alone
		try("noaud", with(good, claims{"aud": []string{"vault"}})),
		try("noaud", with(good, claims{"aud": nil})),
		try("old", good),
		try("browser", good),
		{Method: "POST", Path: at + "login", Body: `{"role":"usual"}`, NoToken: true},
		{Method: "POST", Path: at + "oidc/auth_url", Body: `{"role":"browser","redirect_uri":"http://localhost:8250/oidc/callback"}`, NoToken: true},
		{Method: "GET", Path: at + "oidc/callback?state=x&code=y", NoToken: true},
		{Method: "DELETE", Path: at + "role/usual"},
		{Method: "DELETE", Path: at + "role/usual"},
		{Method: "GET", Path: at + "role/usual"},
		{Method: "DELETE", Path: "sys/auth/cmpjwt"},
	}
	authtest.Compare(t, authtest.Vault(t), &w.Server, steps)
}

// configured is a world with jwt at jwt/ that knows the issuer's key, and the role r.
func configured(t *testing.T, i *issuer, role string) *authtest.World {
	w := world(t)
	w.Must("POST", "sys/auth/jwt", `{"type":"jwt"}`)
	w.Must("POST", "auth/jwt/config", map[string]any{"jwt_validation_pubkeys": []string{i.pem()}, "bound_issuer": "me"})
	w.Must("POST", "auth/jwt/role/r", role)
	return w
}

func login(w *authtest.World, token string) *authtest.Answer {
	return w.SendAs("", "POST", "auth/jwt/login", map[string]string{"role": "r", "jwt": token})
}

func TestOnlyListedAlgorithmsCount(t *testing.T) {
	i, elliptic := newIssuer(t, jose.RS256), newIssuer(t, jose.ES256)
	w := configured(t, i, `{"role_type":"jwt","user_claim":"sub","bound_audiences":"v"}`)
	c := claims{"iss": "me", "sub": "a", "aud": "v", "exp": 60, "iat": 0}
	if a := login(w, i.sign(c)); a.Code != http.StatusOK {
		t.Fatalf("got %d %v", a.Code, a.Body)
	}
	if a := login(w, i.signWith(jose.SigningKey{Algorithm: jose.PS512, Key: i.key}, c)); a.Code != http.StatusOK {
		t.Errorf("PS512: got %d %v", a.Code, a.Body)
	}
	now := with(c, claims{"exp": time.Now().Unix() + 60, "iat": time.Now().Unix()})
	signed := i.sign(c)
	for what, token := range map[string]string{
		"no algorithm":               unsigned(now),
		"the public key as a secret": i.signWith(jose.SigningKey{Algorithm: jose.HS256, Key: []byte(i.pem())}, c),
		"another key":                newIssuer(t, jose.RS256).sign(c),
		"another kind of key":        elliptic.sign(c),
		"no signature":               signed[:strings.LastIndex(signed, ".")+1],
		"other claims":               signed[:strings.Index(signed, ".")+1] + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"b"}`)) + signed[strings.LastIndex(signed, "."):],
		"nonsense":                   "a.b.c",
		"a flood":                    strings.Repeat("a", 100<<10),
	} {
		if a := login(w, token); a.Code != http.StatusBadRequest || !strings.HasPrefix(a.Errors(), "error validating token: ") {
			t.Errorf("%s: got %d %v", what, a.Code, a.Body)
		}
	}
	w.Must("POST", "auth/jwt/config", map[string]any{"jwt_validation_pubkeys": []string{i.pem()}, "jwt_supported_algs": []string{"PS512"}})
	if a := login(w, i.sign(c)); a.Code != http.StatusBadRequest {
		t.Errorf("RS256, where PS512 alone is allowed: got %d %v", a.Code, a.Body)
	}
}

func TestALoginSaysWhoItIsAndWhatDecided(t *testing.T) {
	i := newIssuer(t, jose.ES256)
	w := configured(t, i, `{"role_type":"jwt","user_claim":"sub","bound_audiences":"v","groups_claim":"groups","claim_mappings":{"team":"t"},"token_ttl":"3m"}`)
	token := i.sign(claims{"iss": "me", "sub": "alice", "aud": []string{"v"}, "exp": 60, "iat": 0, "jti": "once", "team": "x", "run": 7, "groups": []string{"a", "b"}})
	if a := login(w, token); a.Code != http.StatusOK || a.Text("auth.metadata.t") != "x" || a.Text("auth.metadata.role") != "r" {
		t.Fatalf("got %d %v", a.Code, a.Body)
	}
	s := w.Spec()
	if s.Alias != "alice" || s.DisplayName != "jwt-alice" || s.Role != "r" || strings.Join(s.Groups, ",") != "a,b" || s.AliasMetadata["t"] != "x" {
		t.Errorf("got %+v", s)
	}
	want := map[string]string{"iss": "me", "sub": "alice", "aud": "v", "team": "x", "run": "7"}
	if !maps.Equal(s.Claims, want) {
		t.Errorf("got the claims %v, want %v", s.Claims, want)
	}
	login(w, i.sign(claims{"iss": "me", "sub": "mallory", "aud": "w", "exp": 60}))
	end := w.Records("auth/jwt/login")[0]
	if end.Status != audit.Denied || !strings.Contains(end.Error, `"mallory"`) || !strings.Contains(end.Error, "audience") {
		t.Errorf("got the record %+v", end)
	}
	if found := w.Kept(token); found != "" {
		t.Errorf("the token is in %s", found)
	}
}

func TestPresetsDemandWhatCantBeTakenOver(t *testing.T) {
	i := newIssuer(t, jose.RS256)
	w := configured(t, i, `{"role_type":"jwt","user_claim":"sub","bound_audiences":"v"}`)
	tests := []struct{ preset, role, words string }{
		{"github-actions", `{"bound_audiences":"b","bound_claims":{"repository":"acme/app"}}`, "must bind the claim repository_id"},
		{"github-actions", `{"bound_audiences":"b","bound_subject":"repo:acme/app:ref:refs/heads/main"}`, "must bind the claim repository_id"},
		{"github-actions", `{"bound_audiences":"b","bound_claims_type":"glob","bound_claims":{"repository_id":"12*"}}`, "and not to patterns"},
		{"github-actions", `{"bound_claims":{"repository_id":"123"}}`, "an audience of your own"},
		{"github-actions", `{"bound_audiences":"b","user_claim":"sub","bound_claims":{"repository_id":"123"}}`, "user_claim must not be sub"},
		{"github-actions", `{"bound_audiences":"b","bound_claims":{"repository_id":"123","environment":"prod"}}`, ""},
		{"gitlab-ci", `{"bound_audiences":"b","bound_claims":{"project_path":"acme/app"}}`, "must bind the claim project_id"},
		{"gitlab-ci", `{"bound_audiences":"b","bound_claims":{"project_id":["22","23"],"ref_protected":"true"}}`, ""},
		{"nosuch", `{"bound_audiences":"b"}`, `there is no preset "nosuch"`},
	}
	for n, c := range tests {
		var body map[string]any
		must(t, json.Unmarshal([]byte(c.role), &body))
		body["preset"] = c.preset
		a := w.Send("POST", fmt.Sprintf("auth/jwt/role/p%d", n), body)
		if c.words == "" && a.Code >= 300 || c.words != "" && (a.Code != http.StatusBadRequest || !strings.Contains(a.Errors(), c.words)) {
			t.Errorf("%s %s: got %d %v, want %q", c.preset, c.role, a.Code, a.Body, c.words)
		}
	}
	job := claims{"iss": "me", "sub": "repo:acme/app:environment:prod", "aud": "b", "exp": 300, "iat": 0, "repository_id": "123", "repository": "acme/app", "environment": "prod", "run_id": "77", "ref": "refs/heads/main"}
	send := func(c claims) *authtest.Answer {
		return w.SendAs("", "POST", "auth/jwt/login", map[string]string{"role": "p5", "jwt": i.sign(c)})
	}
	if a := send(job); a.Code != http.StatusOK || a.Text("auth.metadata.repository") != "acme/app" || a.Text("auth.metadata.run_id") != "77" {
		t.Errorf("got %d %v", a.Code, a.Body)
	}
	if s := w.Spec(); s.Alias != "123" || s.Claims["environment"] != "prod" {
		t.Errorf("got %+v", s)
	}
	if a := send(with(job, claims{"repository_id": "124"})); a.Code != http.StatusBadRequest {
		t.Errorf("another repository of the same name: got %d %v", a.Code, a.Body)
	}
	if a := send(with(job, claims{"environment": nil})); a.Code != http.StatusBadRequest {
		t.Errorf("outside of the environment: got %d %v", a.Code, a.Body)
	}
}

func TestAMountWithAPresetAsksItOfEachRole(t *testing.T) {
	i := newIssuer(t, jose.RS256)
	w := configured(t, i, `{"role_type":"jwt","user_claim":"sub","bound_audiences":"v"}`)
	w.Must("POST", "auth/jwt/config", map[string]any{"jwt_validation_pubkeys": []string{i.pem()}, "preset": "gitlab-ci"})
	if a := w.Send("POST", "auth/jwt/role/q", `{"role_type":"jwt","user_claim":"sub","bound_audiences":"v"}`); a.Code != http.StatusBadRequest || !strings.Contains(a.Errors(), "project_id") {
		t.Errorf("got %d %v", a.Code, a.Body)
	}
	if a := w.Must("GET", "auth/jwt/config", nil); a.Text("data.preset") != "gitlab-ci" {
		t.Errorf("got %v", a.Body)
	}
}

func authTime(seconds int64) int64 { return time.Now().Unix() + seconds }

// FuzzToken: whatever is presented, nothing is let in that the issuer has not signed, and nothing panics.
func FuzzToken(f *testing.F) {
	i := newIssuer(&testing.T{}, jose.ES256)
	good := i.sign(claims{"iss": "me", "sub": "a", "aud": "v", "exp": 3600})
	f.Add(good[:len(good)-1], `{"sub":"a"}`)
	f.Add("a.b.c", `{"exp":1e400,"aud":[1,{}],"/x":{"y":[0]}}`)
	f.Add(unsigned(claims{"sub": "a"}), `[]`)
	f.Fuzz(func(t *testing.T, token, text string) {
		if jwt.Verifies(t.Context(), []string{i.pem()}, token) && token != good {
			t.Errorf("%q counts", token)
		}
		jwt.Look(text)
	})
}
