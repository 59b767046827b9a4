package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/api"
	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// stage is a Bailiff in front of two Vault servers and a PostgreSQL.
type stage struct {
	t    *testing.T
	b    *testenv.BailiffServer
	a, z *testenv.VaultServer // secret/ is a's, other/ is z's secret/
	pg   *testenv.PostgresServer
}

const adminRules = `path "*" {
  capabilities = ["create", "read", "update", "patch", "delete", "list", "sudo"]
}
`

// baseObjects declares the two Vaults and their mounts.
const baseObjects = `
target "a" {
  type    = "vault"
  address = env("A_ADDR")
  timeout = "5s"
  auth {
    method = "token"
    token  = env("A_TOKEN")
  }
}
target "z" {
  type    = "vault"
  address = env("Z_ADDR")
  timeout = "5s"
  auth {
    method = "token"
    token  = env("Z_TOKEN")
  }
}
mount "secret" {
  type   = "vault"
  target = "a"
}
mount "other" {
  type        = "vault"
  target      = "z"
  remote_path = "secret"
}
connector "usc" {
  mount = "secret"
}
policy "everything" {
  rules = <<EOT
` + adminRules + `EOT
}
role "everything" {
  policies = ["everything"]
}
`

// databaseObjects declares the PostgreSQL. Its creation statements are one more than needed where a test says so.
const databaseObjects = `
target "pg" {
  type     = "postgres"
  address  = env("PG_ADDR")
  username = env("PG_USER")
  password = env("PG_PASSWORD")
}
mount "database" {
  type = "broker"
}
`

// producer declares a producer of logins.
func producer(name, ttl string, statements ...string) string {
	all := append([]string{`CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'`}, statements...)
	quoted, err := json.Marshal(all)
	if err != nil {
		panic(err) // strings are always encoded
	}
	return fmt.Sprintf("\nproducer \"database/%s\" {\n  target = \"pg\"\n  default_ttl = %q\n  max_ttl = \"24h\"\n  creation_statements = %s\n}\n", name, ttl, quoted)
}

// newStage starts a Bailiff of the test's own in front of Vaults of its own.
func newStage(t *testing.T, o testenv.BailiffOptions, more ...string) *stage {
	t.Helper()
	testenv.BuildBailiff(t, o.Tags...)
	s := &stage{t: t}
	together(t, func() { s.a = testenv.NewVault(t) }, func() { s.z = testenv.NewVault(t) }, func() { s.b = testenv.NewBailiff(t, o) })
	s.apply(baseObjects + strings.Join(more, ""))
	return s
}

// newDatabaseStage starts a Bailiff of the test's own in front of a PostgreSQL of its own.
func newDatabaseStage(t *testing.T, o testenv.BailiffOptions, more ...string) *stage {
	t.Helper()
	testenv.BuildBailiff(t, o.Tags...)
	s := &stage{t: t}
	together(t, func() { s.pg = testenv.NewPostgres(t) }, func() { s.b = testenv.NewBailiff(t, o) })
	s.apply(databaseObjects + strings.Join(more, ""))
	return s
}

// together starts servers beside one another: each mostly waits. A start that fails has failed the test.
func together(t *testing.T, starts ...func()) {
	t.Helper()
	var wg sync.WaitGroup
	for _, start := range starts {
		wg.Go(start)
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// apply declares objects.
func (s *stage) apply(hcl string) {
	s.t.Helper()
	var env []string
	if s.a != nil {
		env = append(env, "A_ADDR="+s.a.Addr, "A_TOKEN="+s.a.RootToken, "Z_ADDR="+s.z.Addr, "Z_TOKEN="+s.z.RootToken)
	}
	if s.pg != nil {
		env = append(env, "PG_ADDR=postgres://"+s.pg.Addr+"/postgres?sslmode=disable", "PG_USER="+s.pg.AdminUser, "PG_PASSWORD="+s.pg.AdminPassword)
	}
	if err := s.b.Apply(s.t.Context(), hcl, env...); err != nil {
		s.t.Fatal(err)
	}
}

// identity makes an identity with a role of its own that has the given rules, and returns its token.
func (s *stage) identity(name, rules string) string {
	s.t.Helper()
	s.apply(fmt.Sprintf("policy %q {\n  rules = <<EOT\n%s\nEOT\n}\nrole %q {\n  policies = [%q]\n}\n", name, rules, name, name))
	token, err := s.b.NewIdentity(s.t.Context(), name, name)
	if err != nil {
		s.t.Fatal(err)
	}
	return token
}

// vaultEnv is what the vault command needs to talk to an address.
func vaultEnv(addr, token string) []string {
	return []string{"VAULT_ADDR=" + addr, "VAULT_TOKEN=" + token, "VAULT_MAX_RETRIES=0"}
}

// vault runs the vault command against Bailiff and fails the test if it ends otherwise than in order.
func (s *stage) vault(token string, args ...string) string {
	s.t.Helper()
	stdout, stderr, code := testenv.VaultCLI(s.t, vaultEnv(s.b.Addr, token), args...)
	if code != 0 {
		s.t.Fatalf("vault %s: status %d\n%s%s", strings.Join(args, " "), code, stdout, stderr)
	}
	return stdout
}

// bailiff runs the bailiff command as the administrator, or as env says.
func (s *stage) bailiff(env []string, args ...string) (stdout, stderr string, code int) {
	s.t.Helper()
	return s.b.CLI(s.t.Context(), s.b.Token, env, args...)
}

// answer is what came over HTTP.
type answer struct {
	code   int
	header http.Header
	body   string
}

// do sends one request to Bailiff. A transport that fails is an error: what a killed server does to its clients.
func (s *stage) do(ctx context.Context, method, path, token, body string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, s.b.Addr+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return answer{}, err
	}
	if token != "" {
		req.Header.Set("X-Vault-Token", token)
	}
	return exchange(req)
}

func exchange(req *http.Request) (answer, error) {
	resp, err := httpClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, err
	}
	return answer{resp.StatusCode, resp.Header, string(b)}, nil
}

func doRequest(t *testing.T, req *http.Request) answer {
	t.Helper()
	a, err := exchange(req)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// httpClient keeps no connections: they would outlive the servers that tests kill.
var httpClient = &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}

// get reads a path of the Vault API, and fails the test if there is no answer.
func (s *stage) get(token, path string) answer {
	s.t.Helper()
	a, err := s.do(s.t.Context(), http.MethodGet, "/v1/"+path, token, "")
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

// client is a client of the interface that is Bailiff's own, for the administrator.
func (s *stage) client() *api.Client {
	s.t.Helper()
	c, err := api.NewClient(api.ClientConfig{Addr: s.b.Addr, Token: secret.New(s.b.Token)})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(c.Close)
	return c
}

// records asks the trail, with the flags of bailiff audit query.
func (s *stage) records(flags ...string) []audit.Record {
	s.t.Helper()
	args := append([]string{"audit", "query", "--format", "json", "--limit", "100000"}, flags...)
	stdout, stderr, code := s.bailiff(nil, args...)
	if code != 0 {
		s.t.Fatalf("bailiff %s: status %d: %s", strings.Join(args, " "), code, stderr)
	}
	var out []audit.Record
	if err := json.Unmarshal([]byte(stdout), &out); err != nil {
		s.t.Fatal(err)
	}
	return out
}

// eventually fails the test if check still returns an error after the time given.
func eventually(t *testing.T, within time.Duration, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal(errors.Join(err, ctx.Err()))
		}
	}
}
