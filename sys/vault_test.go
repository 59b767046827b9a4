package sys_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bailiff-secrets/bailiff/hvp"
	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

// server is a Vault, or Bailiff as one.
type server struct {
	t      *testing.T
	addr   string
	tokens map[string]string
}

// send asks as the vault command does and returns the status and the body.
func (s *server) send(who, method, path, body string) (int, map[string]any) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.addr+"/v1/"+path, strings.NewReader(body))
	must(s.t, err)
	req.Header.Set("X-Vault-Token", s.tokens[who])
	resp, err := http.DefaultClient.Do(req)
	must(s.t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(s.t, err)
	out := map[string]any{}
	if len(text) > 0 {
		must(s.t, json.Unmarshal(text, &out))
	}
	return resp.StatusCode, out
}

// set asks what must succeed.
func (s *server) set(method, path, body string) map[string]any {
	s.t.Helper()
	code, out := s.send("root", method, path, body)
	if code >= 300 {
		s.t.Fatalf("%s %s: %d %v", method, path, code, out)
	}
	return out
}

const (
	vaultApp = `path "secret/data/app/*" { capabilities = ["read"] }
path "database/creds/ro" { capabilities = ["read"] }
path "sys/leases/revoke/*" { capabilities = ["update"] }`
	vaultCreation = `CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'`
)

// bothSides are a real Vault and Bailiff with the same mounts, policies, callers and database.
func bothSides(t *testing.T) (vault, bailiff *server) {
	v, pg := testenv.NewVault(t), testenv.Postgres(t)
	vault = &server{t: t, addr: v.Addr, tokens: map[string]string{"root": v.RootToken, "bad": "nosuch"}}
	policyBody, err := json.Marshal(map[string]string{"policy": vaultApp})
	must(t, err)
	vault.set("PUT", "sys/policies/acl/app", string(policyBody))
	vault.set("POST", "sys/mounts/database", `{"type":"database","description":"credentials","config":{"max_lease_ttl":"24h"}}`)
	vault.set("PUT", "database/config/pg", fmt.Sprintf(`{"plugin_name":"postgresql-database-plugin","allowed_roles":"*","username":%q,"password":%q,"connection_url":"postgresql://{{username}}:{{password}}@%s/postgres?sslmode=disable"}`,
		pg.AdminUser, pg.AdminPassword, pg.Addr))
	role, err := json.Marshal(map[string]any{"db_name": "pg", "creation_statements": []string{vaultCreation}, "default_ttl": "1h", "max_ttl": "24h"})
	must(t, err)
	vault.set("PUT", "database/roles/ro", string(role))
	for who, body := range map[string]string{"ci": `{"policies":["app"]}`, "nobody": `{"policies":["default"]}`} {
		vault.tokens[who] = vault.set("POST", "auth/token/create", body)["auth"].(map[string]any)["client_token"].(string)
	}

	w := newWorldWithDatabase(t, vaultApp)
	h, err := hvp.New(hvp.Config{Gate: w.gate, Info: func(context.Context) hvp.Info { return hvp.Info{} }, Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	front := httptest.NewServer(h)
	t.Cleanup(front.Close)
	bailiff = &server{t: t, addr: front.URL, tokens: map[string]string{"bad": "nosuch"}}
	for who, token := range w.tokens {
		bailiff.tokens[who] = token.Reveal()
	}
	return vault, bailiff
}

// TestAnswersAreVaults sends the same to a real Vault and to Bailiff: status and errors must be the same, and every answer
// must have the same fields of the same types.
func TestAnswersAreVaults(t *testing.T) {
	vault, bailiff := bothSides(t)
	leases := map[*server][]string{}
	for _, s := range []*server{vault, bailiff} {
		for range 3 {
			leases[s] = append(leases[s], s.mustLease("ci"))
		}
	}
	tests := []struct {
		who, method, path, body string // LEASE0, LEASE1, TOKEN and ROOT stand for what each side calls them
		only                    string // the part that is compared: "data.secret/"; whole where empty
	}{
		{"ci", "GET", "sys/internal/ui/mounts/secret/app/b", "", ""},
		{"ci", "GET", "sys/internal/ui/mounts/secret", "", ""},
		{"root", "GET", "sys/internal/ui/mounts/sys/mounts", "", ""},
		{"root", "GET", "sys/internal/ui/mounts/auth/token/lookup-self", "", ""},
		{"nobody", "GET", "sys/internal/ui/mounts/secret/app/b", "", ""},
		{"root", "GET", "sys/internal/ui/mounts/nosuch/x", "", ""},
		{"bad", "GET", "sys/internal/ui/mounts/secret/app/b", "", ""},
		{"ci", "GET", "sys/internal/ui/mounts", "", "data.secret.secret/"},
		{"ci", "GET", "sys/internal/ui/mounts", "", "data.auth"},
		{"root", "GET", "sys/internal/ui/resultant-acl", "", ""},
		{"ci", "GET", "sys/mounts", "", ""},
		{"root", "GET", "sys/mounts", "", "data.secret/"},
		{"root", "GET", "sys/mounts", "", "data.database/"},
		{"root", "GET", "sys/mounts", "", "secret/"},
		{"root", "GET", "sys/mounts/secret", "", ""},
		{"root", "GET", "sys/mounts/secret/tune", "", ""},
		{"root", "GET", "sys/mounts/database/tune", "", ""},
		{"root", "GET", "sys/mounts/nosuch", "", ""},
		{"root", "GET", "sys/mounts/nosuch/tune", "", ""},
		{"root", "GET", "sys/auth", "", ""},
		{"root", "GET", "sys/auth/token", "", ""},
		{"root", "GET", "sys/auth/token/tune", "", ""},
		{"root", "GET", "sys/auth/nosuch", "", ""},
		{"root", "GET", "sys/policies/acl?list=true", "", ""},
		{"root", "LIST", "sys/policies/acl", "", ""},
		{"root", "GET", "sys/policies/acl/app", "", ""},
		{"root", "GET", "sys/policies/acl/APP", "", ""},
		{"root", "GET", "sys/policies/acl/nosuch", "", ""},
		{"root", "GET", "sys/policies/acl/root", "", ""},
		{"root", "GET", "sys/policy", "", ""},
		{"root", "GET", "sys/policy?list=true", "", ""},
		{"root", "GET", "sys/policy/app", "", ""},
		{"root", "GET", "sys/policy/nosuch", "", ""},
		{"ci", "POST", "sys/capabilities-self", `{"path":"secret/data/app/a","token":"TOKEN"}`, ""},
		{"ci", "POST", "sys/capabilities-self", `{"paths":["secret/data/app/a","x"]}`, ""},
		{"root", "POST", "sys/capabilities-self", `{"paths":"a,b"}`, ""},
		{"ci", "POST", "sys/capabilities-self", `{}`, ""},
		{"root", "POST", "sys/capabilities", `{"path":"secret/data/app/a","token":"TOKEN"}`, ""},
		{"root", "POST", "sys/capabilities", `{"path":"secret/data/app/a","token":"nosuch"}`, ""},
		{"root", "GET", "auth/token/lookup-self", "", ""}, // it does not end, as an access key
		{"bad", "GET", "auth/token/lookup-self", "", ""},
		{"root", "POST", "auth/token/lookup", `{"token":"nosuch"}`, ""},
		{"root", "POST", "auth/token/lookup", `{"token":"ROOT"}`, ""},
		{"ci", "POST", "auth/token/lookup", `{"token":"TOKEN"}`, ""},
		{"root", "PUT", "auth/token/renew-self", `{"increment":0}`, ""},

		{"ci", "PUT", "sys/leases/lookup", `{"lease_id":"LEASE0"}`, ""},
		{"ci", "PUT", "sys/leases/lookup", `{"lease_id":"nosuch"}`, ""},
		{"ci", "PUT", "sys/leases/lookup", `{}`, ""},
		{"ci", "PUT", "sys/leases/renew", `{"increment":0,"lease_id":"LEASE0"}`, ""},
		{"ci", "PUT", "sys/leases/renew", `{"increment":7200,"lease_id":"LEASE0"}`, ""},
		{"ci", "PUT", "sys/leases/renew", `{"lease_id":"nosuch"}`, ""},
		{"ci", "PUT", "sys/leases/renew", `{}`, ""},
		{"root", "LIST", "sys/leases/lookup/database/creds/ro", "", ""},
		{"root", "LIST", "sys/leases/lookup/database/creds", "", ""},
		{"root", "LIST", "sys/leases/lookup/nosuch", "", ""},
		{"ci", "LIST", "sys/leases/lookup/database/creds/ro", "", ""},
		{"root", "GET", "sys/leases/count?type=irrevocable", "", ""},
		{"root", "GET", "sys/leases/count", "", ""},
		{"root", "GET", "sys/leases?type=irrevocable", "", ""},
		{"root", "GET", "sys/leases?type=irrevocable&limit=none", "", ""},
		{"root", "GET", "sys/leases?type=irrevocable&limit=5", "", ""},
		{"ci", "PUT", "sys/leases/revoke/LEASE0", `{"sync":true}`, ""},
		{"ci", "PUT", "sys/leases/lookup", `{"lease_id":"LEASE0"}`, ""},
		{"ci", "PUT", "sys/leases/renew", `{"lease_id":"LEASE0"}`, ""},
		{"ci", "PUT", "sys/leases/revoke/LEASE0", `{"sync":true}`, ""},
		{"ci", "PUT", "sys/leases/revoke/LEASE1", `{"sync":false}`, ""},
		{"ci", "PUT", "sys/leases/revoke-prefix/database", `{"sync":true}`, ""},
		{"root", "PUT", "sys/leases/revoke-prefix/database/creds/ro", `{"sync":false}`, ""},
		{"root", "PUT", "sys/leases/revoke-prefix/database/creds/ro", `{"sync":true}`, ""},
		{"root", "PUT", "sys/leases/revoke-prefix/nosuch", ``, ""},
		{"root", "PUT", "sys/leases/revoke", `{}`, ""},
		{"ci", "PUT", "sys/leases/revoke-force/database/creds/ro", ``, ""},
		{"root", "PUT", "sys/leases/revoke-force/database/creds/ro", ``, ""},
		{"root", "PUT", "sys/leases/revoke-force/nosuch", `{"sync":false}`, ""},
		{"root", "PUT", "sys/revoke-force/nosuch", ``, ""},
		{"root", "LIST", "sys/leases/lookup/database/creds/ro", "", ""},
		{"root", "POST", "sys/leases/tidy", ``, ""},
		{"root", "POST", "sys/mounts/database/tune", `{"default_lease_ttl":"30m","max_lease_ttl":"2h","options":null}`, ""},
		{"root", "GET", "sys/mounts/database/tune", ``, "data.default_lease_ttl"},
		{"root", "POST", "sys/mounts/database/tune", `{"default_lease_ttl":"5h"}`, ""},
		{"root", "POST", "sys/mounts/nosuch/tune", `{"default_lease_ttl":"5h"}`, ""},
		{"ci", "POST", "sys/mounts/database/tune", `{}`, ""},
	}
	for _, tt := range tests {
		t.Run(strings.ReplaceAll(tt.who+" "+tt.method+" "+tt.path+" "+tt.only, "/", "_"), func(t *testing.T) {
			answer := func(s *server) (int, any) {
				r := strings.NewReplacer("LEASE0", leases[s][0], "LEASE1", leases[s][1], "TOKEN", s.tokens["ci"], "ROOT", s.tokens["root"])
				code, body := s.send(tt.who, tt.method, r.Replace(tt.path), r.Replace(tt.body))
				return code, shape(pick(t, body, tt.only))
			}
			wantCode, want := answer(vault)
			gotCode, got := answer(bailiff)
			if gotCode != wantCode {
				t.Errorf("status: got %d, Vault has %d", gotCode, wantCode)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("answer (-Vault +Bailiff):\n%s", d)
			}
		})
	}
}

func (s *server) mustLease(who string) string {
	s.t.Helper()
	code, out := s.send(who, "GET", "database/creds/ro", "")
	if code != http.StatusOK {
		s.t.Fatalf("a credential: %d %v", code, out)
	}
	return out["lease_id"].(string)
}

// pick follows a dotted path.
func pick(t *testing.T, body map[string]any, path string) any {
	t.Helper()
	var at any = body
	for part := range strings.SplitSeq(path, ".") {
		if path == "" {
			break
		}
		m, _ := at.(map[string]any)
		if at = m[part]; at == nil {
			t.Fatalf("there is no %s in %v", path, body)
		}
	}
	return at
}

// shape keeps the names and types of fields, and texts where they are the same on every server.
func shape(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for _, name := range slices.Sorted(maps.Keys(v)) {
			switch name {
			case "passthrough_request_headers": // of Vault's own mounts alone
			case "errors", "capabilities", "policy", "rules", "renewable", "keys", "type", "options", "lease_duration", "path", "warnings":
				out[name] = exact(name, v[name])
			default:
				out[name] = shape(v[name])
			}
		}
		return out
	case []any:
		if len(v) == 0 {
			return "empty list"
		}
		return []any{shape(v[0])}
	default:
		return fmt.Sprintf("%T", v)
	}
}

// exact keeps a value that must be the same, but for the names of leases and of who a caller is.
func exact(name string, v any) any {
	if keys, isList := v.([]any); isList && name == "keys" && len(keys) > 0 {
		if key, _ := keys[0].(string); len(key) > 20 {
			return fmt.Sprintf("%d long names", len(keys))
		}
	}
	if text, isText := v.(string); isText && name == "path" && strings.HasPrefix(text, "auth/") {
		return "auth/…"
	}
	return v
}
