package engine_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// side is a Vault, or a Bailiff as one, with a database mount and accounts of its own on one PostgreSQL.
type side struct {
	t           *testing.T
	name        string
	addr, token string
	pg          *testenv.PostgresServer
	admin, app  string // accounts
	bailiff     *testenv.BailiffServer
	byHand      bool // everything goes through the vault command
}

const adminPassword = "AdminPassword123456789"

func newSide(t *testing.T, name, addr, token string) *side {
	t.Helper()
	random := strings.ToLower(rand.Text())[:10]
	s := &side{t: t, name: name, addr: addr, token: token, pg: testenv.Postgres(t), admin: "boss" + random, app: "app" + random}
	s.sql(fmt.Sprintf(`CREATE ROLE %s LOGIN SUPERUSER PASSWORD '%s'; CREATE ROLE %s LOGIN PASSWORD 'nobody-knows'`, s.admin, adminPassword, s.app))
	return s
}

// newBailiff starts a server with an empty broker mount database.
func newBailiff(t *testing.T, o testenv.BailiffOptions) *side {
	t.Helper()
	b := testenv.NewBailiff(t, o)
	s := newSide(t, "bailiff", b.Addr, b.Token)
	s.bailiff = b
	s.apply(`mount "database" { type = "broker" }`)
	return s
}

// newVault starts a real Vault with an empty database mount.
func newVault(t *testing.T) *side {
	t.Helper()
	v := testenv.NewVault(t)
	s := newSide(t, "vault", v.Addr, v.RootToken)
	if code, body := s.send("POST", "sys/mounts/database", `{"type":"database"}`); code != http.StatusNoContent {
		t.Fatalf("mount: %d %v", code, body)
	}
	return s
}

// apply applies declared objects.
func (s *side) apply(hcl string) {
	s.t.Helper()
	if out, code := s.tryApply(hcl); code != 0 {
		s.t.Fatalf("apply: %d\n%s", code, out)
	}
}

func (s *side) tryApply(hcl string) (string, int) {
	s.t.Helper()
	dir := s.t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "objects.hcl"), []byte(hcl), 0o600); err != nil {
		s.t.Fatal(err)
	}
	env := []string{"BAILIFF_ADDR=" + s.addr, "BAILIFF_TOKEN=" + s.token}
	out, errs, code := testenv.RunCLI(s.t, "", s.bailiff.Program, env, "apply", "-f", dir, "--yes")
	return out + errs, code
}

func (s *side) sql(text string) {
	s.t.Helper()
	conn, err := pgx.Connect(s.t.Context(), s.pg.URL(s.pg.AdminUser, s.pg.AdminPassword, "postgres"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(s.t.Context(), text); err != nil {
		s.t.Fatalf("%s: %v", text, err)
	}
}

// login tries a password on the server itself.
func (s *side) login(username, password string) error {
	conn, err := pgx.Connect(context.Background(), s.pg.URL(username, password, "postgres"))
	if err != nil {
		return err
	}
	return conn.Close(context.Background())
}

// send asks over HTTP and returns the status and the body.
func (s *side) send(method, path, body string) (int, map[string]any) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.addr+"/v1/"+path, strings.NewReader(s.own(body)))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("X-Vault-Token", s.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	out := map[string]any{}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &out); err != nil {
			s.t.Fatalf("%s %s: %v in %q", method, path, err, text)
		}
	}
	return resp.StatusCode, out
}

// get reads a page.
func (s *side) get(url string) string {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// own puts the side's accounts and the server's address into a text.
func (s *side) own(text string) string {
	return strings.NewReplacer("«admin»", s.admin, "«app»", s.app, "«password»", adminPassword, "«addr»", s.pg.Addr).Replace(text)
}

// cli runs the real vault command.
func (s *side) cli(args ...string) (stdout, stderr string, code int) {
	s.t.Helper()
	for i := range args {
		args[i] = s.own(args[i])
	}
	return testenv.VaultCLI(s.t, []string{"VAULT_ADDR=" + s.addr, "VAULT_TOKEN=" + s.token}, args...)
}

// must runs the real vault command, which must succeed.
func (s *side) must(args ...string) string {
	s.t.Helper()
	out, errs, code := s.cli(args...)
	if code != 0 {
		s.t.Fatalf("%s: vault %s: %d\n%s%s", s.name, strings.Join(args, " "), code, out, errs)
	}
	return out
}

// data is the data of a read, with the real command where the side is in its hands.
func (s *side) data(path string) map[string]any {
	s.t.Helper()
	if !s.byHand {
		code, out := s.send("GET", path, "")
		d, ok := out["data"].(map[string]any)
		if code != http.StatusOK || !ok {
			s.t.Fatalf("%s: GET %s: %d %v", s.name, path, code, out)
		}
		return d
	}
	var out struct {
		Data map[string]any `json:"data"`
	}
	if err := json.Unmarshal([]byte(s.must("read", "-format=json", path)), &out); err != nil {
		s.t.Fatal(err)
	}
	return out.Data
}

// write writes fields.
func (s *side) write(path string, fields ...string) {
	s.t.Helper()
	body := map[string]string{}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, "=")
		body[name] = s.own(value)
	}
	text, err := json.Marshal(body)
	if err != nil {
		s.t.Fatal(err)
	}
	if code, out := s.send("PUT", path, string(text)); code >= 300 {
		s.t.Fatalf("%s: PUT %s: %d %v", s.name, path, code, out)
	}
}

// credential reads a username and a password and makes sure that they work.
func (s *side) credential(path string) (username, password string) {
	s.t.Helper()
	d := s.data(path)
	username, _ = d["username"].(string)
	password, _ = d["password"].(string)
	if err := s.login(username, password); err != nil {
		s.t.Fatalf("%s: the credential of %s doesn't work: %v", s.name, path, err)
	}
	return username, password
}

const (
	writeConfig = "plugin_name=postgresql-database-plugin"
	configURL   = "connection_url=postgresql://{{username}}:{{password}}@«addr»/postgres?sslmode=disable"
	creation    = `creation_statements=CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO "{{name}}";`
)

// setUp writes a config, a role and a static role as a runbook does.
func (s *side) setUp() {
	s.t.Helper()
	s.write("database/config/pg", writeConfig, configURL, "username=«admin»", "password=«password»", "allowed_roles=ro,app")
	s.write("database/roles/ro", "db_name=pg", creation, "default_ttl=1h", "max_ttl=24h")
	s.write("database/static-roles/app", "db_name=pg", "username=«app»", "rotation_period=24h")
}

// eventually waits until f is true.
func (s *side) eventually(what string, f func() bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			s.t.Fatalf("it never came true that %s", what)
		}
	}
}
