package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

// atVault does something at the Vault behind as its root, and returns the answer's data.
func atVault(t *testing.T, v *testenv.VaultServer, method, path, body string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, v.Addr+"/v1/"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Vault-Token", v.RootToken)
	return doRequest(t, req)
}

// must is atVault for what has to succeed.
func must(t *testing.T, v *testenv.VaultServer, method, path, body string) {
	t.Helper()
	if a := atVault(t, v, method, path, body); a.code > 299 {
		t.Fatalf("%s %s: %d %s", method, path, a.code, a.body)
	}
}

// newEnginesStage is a Bailiff in front of a Vault with engines of many kinds, one of them under another path.
func newEnginesStage(t *testing.T) *stage {
	t.Helper()
	s := newStage(t, testenv.BailiffOptions{})
	s.pg = testenv.NewPostgres(t)
	for path, engine := range map[string]string{
		"transit": `{"type":"transit"}`, "pki": `{"type":"pki"}`, "ssh": `{"type":"ssh"}`, "totp": `{"type":"totp"}`,
		"kv1": `{"type":"kv"}`, "behind-db": `{"type":"database"}`,
	} {
		must(t, s.a, http.MethodPost, "sys/mounts/"+path, engine)
	}
	must(t, s.a, http.MethodPost, "behind-db/config/pg", fmt.Sprintf(
		`{"plugin_name":"postgresql-database-plugin","allowed_roles":"*","username":%q,"password":%q,"connection_url":%q}`,
		s.pg.AdminUser, s.pg.AdminPassword, "postgresql://{{username}}:{{password}}@"+s.pg.Addr+"/postgres?sslmode=disable"))
	must(t, s.a, http.MethodPost, "behind-db/roles/ro",
		`{"db_name":"pg","creation_statements":"CREATE ROLE \"{{name}}\" WITH LOGIN PASSWORD '{{password}}'","default_ttl":"1h","max_ttl":"2h"}`)
	var hcl strings.Builder
	for _, path := range []string{"transit", "pki", "ssh", "totp", "kv1"} {
		fmt.Fprintf(&hcl, "mount %q {\n  type = \"vault\"\n  target = \"a\"\n}\n", path)
	}
	s.apply(hcl.String() + "mount \"db\" {\n  type = \"vault\"\n  target = \"a\"\n  remote_path = \"behind-db\"\n}\n")
	return s
}

// TestEnginesBehind uses engines of a Vault through Bailiff with the vault command.
func TestEnginesBehind(t *testing.T) {
	s := newEnginesStage(t)
	token := s.identity("app", adminRules)
	field := func(args ...string) string { return strings.TrimSpace(s.vault(token, args...)) }

	s.vault(token, "write", "-f", "transit/keys/k")
	cipher := field("write", "-field=ciphertext", "transit/encrypt/k", "plaintext=aGVsbG8=")
	if plain := field("write", "-field=plaintext", "transit/decrypt/k", "ciphertext="+cipher); plain != "aGVsbG8=" {
		t.Errorf("transit: got %q", plain)
	}
	s.vault(token, "write", "pki/root/generate/internal", "common_name=example.org", "ttl=1h")
	s.vault(token, "write", "pki/roles/web", "allowed_domains=example.org", "allow_subdomains=true", "max_ttl=30m")
	if cert := field("write", "-field=certificate", "pki/issue/web", "common_name=a.example.org"); !strings.HasPrefix(cert, "-----BEGIN CERTIFICATE") {
		t.Errorf("pki: got %q", cert)
	}
	if ca := s.get(token, "pki/ca/pem"); ca.code != http.StatusOK || !strings.HasPrefix(ca.body, "-----BEGIN CERTIFICATE") {
		t.Errorf("pki: got %d %q", ca.code, ca.body)
	}
	s.vault(token, "write", "ssh/roles/otp", "key_type=otp", "default_user=ubuntu", "cidr_list=10.0.0.0/8")
	if otp := field("write", "-field=key", "ssh/creds/otp", "ip=10.1.2.3"); len(otp) != 36 {
		t.Errorf("ssh: got %q", otp)
	}
	s.vault(token, "write", "totp/keys/me", "url=otpauth://totp/Vault:me?secret=Y64VEVMBTSXCYIWRSHRNDZW62MPGVU2G&issuer=Vault")
	if code := field("read", "-field=code", "totp/code/me"); len(code) != 6 {
		t.Errorf("totp: got %q", code)
	}
	s.vault(token, "kv", "put", "kv1/a", "x=1")
	s.vault(token, "kv", "put", "secret/a", "x=2")
	if one, two := field("kv", "get", "-field=x", "kv1/a"), field("kv", "get", "-field=x", "secret/a"); one != "1" || two != "2" {
		t.Errorf("kv: got %q and %q", one, two)
	}
}

// leaseOf is what Bailiff says of a lease.
type leaseOf struct {
	ID        string `json:"id"`
	TTL       int    `json:"ttl"`
	Renewable bool   `json:"renewable"`
}

func (s *stage) lookup(token, id string) (leaseOf, answer) {
	s.t.Helper()
	a, err := s.do(s.t.Context(), http.MethodPut, "/v1/sys/leases/lookup", token, fmt.Sprintf(`{"lease_id":%q}`, id))
	if err != nil {
		s.t.Fatal(err)
	}
	var out struct{ Data leaseOf }
	if a.code == http.StatusOK {
		if err := json.Unmarshal([]byte(a.body), &out); err != nil {
			s.t.Fatal(err)
		}
	}
	return out.Data, a
}

// users lists the logins that the Vault behind has made.
func (s *stage) users() []string {
	s.t.Helper()
	out, err := s.pg.SQL(s.t.Context(), s.pg.AdminUser, s.pg.AdminPassword, "postgres", `select rolname from pg_roles where rolname like 'v-%' order by 1`)
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.Fields(out)
}

// TestLeasesOfAVaultBehind follows a lease that the Vault behind issued: listed beside our own, under our path, renewed and
// revoked by its owner alone, on the Vault itself.
func TestLeasesOfAVaultBehind(t *testing.T) {
	s := newEnginesStage(t)
	owner, other := s.identity("owner", adminRules), s.identity("other", `path "*" { capabilities = ["create", "read", "update", "list"] }`)

	l := readLoan(t, s.vault(owner, "read", "-format=json", "db/creds/ro"))
	if !strings.HasPrefix(l.lease, "db/creds/ro/") || l.duration != 3600 {
		t.Fatalf("got lease %s for %d s, want one below db/ for an hour", l.lease, l.duration)
	}
	if err := s.login(l); err != nil {
		t.Fatal(err)
	}
	remote := "behind-" + l.lease
	if a := atVault(t, s.a, http.MethodPut, "sys/leases/lookup", fmt.Sprintf(`{"lease_id":%q}`, remote)); a.code != http.StatusOK {
		t.Fatalf("the Vault does not know %s: %d %s", remote, a.code, a.body)
	}
	if got, a := s.lookup(owner, l.lease); got.ID != l.lease || !got.Renewable || got.TTL < 3500 || got.TTL > 3600 {
		t.Errorf("lookup: got %+v (%d %s)", got, a.code, a.body)
	}
	if stdout, stderr, code := s.bailiff(nil, "lease", "list", "--format", "json"); code != 0 || !strings.Contains(stdout, l.lease) || !strings.Contains(stdout, `"vault"`) ||
		strings.Contains(stdout, "unseen-") || strings.Contains(stdout, l.password) {
		t.Errorf("bailiff lease list: %d %s%s", code, stdout, stderr)
	}
	if _, a := s.lookup(other, l.lease); a.code != http.StatusForbidden {
		t.Errorf("a lookup by somebody else: got %d %s", a.code, a.body)
	}

	var renewed struct {
		Duration int `json:"lease_duration"`
	}
	if err := json.Unmarshal([]byte(s.vault(owner, "lease", "renew", "-format=json", "-increment=5400", l.lease)), &renewed); err != nil || renewed.Duration < 5300 || renewed.Duration > 5400 {
		t.Errorf("renewed for %d s (%v), want an hour and a half", renewed.Duration, err)
	}
	if err := json.Unmarshal([]byte(s.vault(owner, "lease", "renew", "-format=json", "-increment=86400", l.lease)), &renewed); err != nil || renewed.Duration > 7200 {
		t.Errorf("renewed for %d s (%v), want no more than the role's two hours", renewed.Duration, err)
	}

	s.vault(owner, "lease", "revoke", "-sync", l.lease)
	if left := s.users(); len(left) != 0 {
		t.Errorf("left on the database: %v", left)
	}
	if a := atVault(t, s.a, http.MethodPut, "sys/leases/lookup", fmt.Sprintf(`{"lease_id":%q}`, remote)); a.code != http.StatusBadRequest {
		t.Errorf("the Vault still has it: %d %s", a.code, a.body)
	}
	if _, a := s.lookup(owner, l.lease); a.code != http.StatusBadRequest {
		t.Errorf("a lookup after the end: got %d %s", a.code, a.body)
	}

	// One that is gone on the Vault already is as good as revoked.
	gone := readLoan(t, s.vault(owner, "read", "-format=json", "db/creds/ro"))
	must(t, s.a, http.MethodPut, "sys/leases/revoke", fmt.Sprintf(`{"lease_id":%q,"sync":true}`, "behind-"+gone.lease))
	s.vault(owner, "lease", "revoke", "-sync", gone.lease)
}

// TestLeasesOfAVaultBehindEndWithTheirToken on the Vault.
func TestLeasesOfAVaultBehindEndWithTheirToken(t *testing.T) {
	s := newEnginesStage(t)
	owner := s.identity("owner", adminRules)
	var made struct {
		Auth struct {
			ClientToken string `json:"client_token"`
		}
	}
	if err := json.Unmarshal([]byte(s.vault(owner, "token", "create", "-format=json", "-policy=owner")), &made); err != nil {
		t.Fatal(err)
	}
	child := made.Auth.ClientToken
	s.vault(child, "read", "db/creds/ro")
	s.vault(child, "read", "db/creds/ro")
	if n := len(s.users()); n != 2 {
		t.Fatalf("got %d logins, want 2", n)
	}
	s.vault(owner, "token", "revoke", child)
	eventually(t, 20*time.Second, func() error {
		if left := s.users(); len(left) > 0 {
			return fmt.Errorf("left on the database: %v", left)
		}
		return nil
	})
}
