package scenarios_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/api"
	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// stage is a Bailiff of one test's own and the PostgreSQL servers that it lends logins of.
type stage struct {
	t  *testing.T
	b  *testenv.BailiffServer
	pg map[string]*testenv.PostgresServer // by target
}

// newStage declares a target for each of the PostgreSQL servers.
func newStage(t *testing.T, pg map[string]*testenv.PostgresServer) *stage {
	t.Helper()
	s := &stage{t: t, b: testenv.NewBailiff(t, testenv.BailiffOptions{}), pg: pg}
	s.apply("mount \"database\" {\n  type = \"broker\"\n}\n")
	for name, server := range pg {
		s.apply(target(name, server.AdminUser, server.AdminPassword, server))
	}
	return s
}

// onPostgres is newStage with a store in PostgreSQL.
func onPostgres(t *testing.T, store *testenv.PostgresServer, pg map[string]*testenv.PostgresServer) *stage {
	t.Helper()
	if _, err := store.SQL(t.Context(), store.AdminUser, store.AdminPassword, "postgres", "create database bailiff encoding 'UTF8' template template0"); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(store.AdminPassword+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &stage{t: t, pg: pg, b: testenv.NewBailiff(t, testenv.BailiffOptions{
		Config: fmt.Sprintf("store {\n  postgres {\n    url = %q\n    password_file = %q\n  }\n}\n",
			"postgres://"+store.AdminUser+"@"+store.Addr+"/bailiff?sslmode=disable", file),
	})}
	s.apply("mount \"database\" {\n  type = \"broker\"\n}\n")
	for name, server := range pg {
		s.apply(target(name, server.AdminUser, server.AdminPassword, server))
	}
	return s
}

func target(name, user, password string, pg *testenv.PostgresServer) string {
	return fmt.Sprintf("target %q {\n  type = \"postgres\"\n  address = \"postgres://%s/postgres?sslmode=disable\"\n  username = %q\n  password = %q\n  timeout = \"3s\"\n}\n",
		name, pg.Addr, user, password)
}

const create = `CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'`

// producer declares a role of database/ that lends logins of a target; more holds other attributes.
func producer(name, target, ttl, more string) string {
	if !strings.Contains(more, "creation_statements") {
		more += fmt.Sprintf("\n  creation_statements = [%q]", create)
	}
	return fmt.Sprintf("producer \"database/%s\" {\n  target = %q\n  default_ttl = %q\n  max_ttl = \"24h\"\n%s\n}\n", name, target, ttl, more)
}

func (s *stage) apply(hcl string) {
	s.t.Helper()
	if err := s.b.Apply(s.t.Context(), hcl); err != nil {
		s.t.Fatal(err)
	}
}

const rules = `path "database/creds/*" { capabilities = ["read"] }
path "sys/leases/*" { capabilities = ["update"] }
`

// identity makes somebody who may take logins, and returns the token.
func (s *stage) identity(name string) string {
	s.t.Helper()
	s.apply(fmt.Sprintf("policy \"lend\" {\n  rules = <<EOT\n%sEOT\n}\nrole \"lend\" {\n  policies = [\"lend\"]\n}\n", rules))
	token, err := s.b.NewIdentity(s.t.Context(), name, "lend")
	if err != nil {
		s.t.Fatal(err)
	}
	return token
}

// run runs the bailiff command as the administrator and fails the test unless it ends in order.
func (s *stage) run(args ...string) string {
	s.t.Helper()
	out, errs, code := s.b.CLI(s.t.Context(), s.b.Token, nil, args...)
	if code != 0 {
		s.t.Fatalf("bailiff %s: status %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return out
}

// leases lists the leases that are not ended.
func (s *stage) leases() []api.Lease {
	s.t.Helper()
	return decode[[]api.Lease](s.t, s.run("lease", "list", "--format", "json"))
}

// records asks the trail.
func (s *stage) records(flags ...string) []audit.Record {
	s.t.Helper()
	return decode[[]audit.Record](s.t, s.run(append([]string{"audit", "query", "--format", "json", "--limit", "1000"}, flags...)...))
}

func decode[T any](t *testing.T, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

// answer is what came over HTTP.
type answer struct {
	code   int
	header http.Header
	body   string
	took   time.Duration
}

var httpClient = &http.Client{Timeout: time.Minute}

func (s *stage) do(method, path, token, body string) answer {
	s.t.Helper()
	began := time.Now()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.b.Addr+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("X-Vault-Token", token)
	}
	resp, err := httpClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(b), time.Since(began)}
}

// loan is a login that was lent.
type loan struct {
	ID       string   `json:"lease_id"`
	Duration int      `json:"lease_duration"`
	Warnings []string `json:"warnings"`
	Data     struct{ Username, Password string }
}

func (s *stage) issue(token, role string) loan {
	s.t.Helper()
	a := s.do(http.MethodGet, "/v1/database/creds/"+role, token, "")
	if a.code != http.StatusOK {
		s.t.Fatalf("issue %s: got %d %s", role, a.code, a.body)
	}
	return decode[loan](s.t, a.body)
}

// tryIssue is issue for when it may fail.
func (s *stage) tryIssue(token, role string) (l loan, err error) {
	s.t.Helper()
	a := s.do(http.MethodGet, "/v1/database/creds/"+role, token, "")
	if a.code != http.StatusOK {
		return l, fmt.Errorf("issue %s: got %d %s", role, a.code, a.body)
	}
	return l, json.Unmarshal([]byte(a.body), &l)
}

func (s *stage) revoke(token, id string) answer {
	s.t.Helper()
	return s.do(http.MethodPut, "/v1/sys/leases/revoke", token, fmt.Sprintf(`{"lease_id":%q,"sync":true}`, id))
}

// sql runs statements as the administrator of a target.
func (s *stage) sql(target, statements string) string {
	s.t.Helper()
	pg := s.pg[target]
	out, err := pg.SQL(s.t.Context(), pg.AdminUser, pg.AdminPassword, "postgres", statements)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// roles lists what Bailiff made on a target.
func (s *stage) roles(target string) []string {
	s.t.Helper()
	return strings.Fields(s.sql(target, `select rolname from pg_roles where rolname like 'bl-%' order by 1`))
}

func (s *stage) login(target string, l loan) error {
	_, err := s.pg[target].SQL(s.t.Context(), l.Data.Username, l.Data.Password, "postgres", "select 1")
	return err
}

// within waits for check to return nil.
func within(t *testing.T, d time.Duration, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
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

// noRoles is for within.
func (s *stage) noRoles(target string) func() error {
	return func() error {
		if left := s.roles(target); len(left) != 0 {
			return fmt.Errorf("left on %s: %v", target, left)
		}
		return nil
	}
}

func p99(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)*99/100]
}

// only is a stage with the PostgreSQL that the tests share, on which it leaves nothing.
func only(t *testing.T) *stage {
	t.Helper()
	s := newStage(t, map[string]*testenv.PostgresServer{"pg": testenv.Postgres(t)})
	t.Cleanup(func() {
		if err := s.b.Stop(); err != nil {
			t.Error(err)
		}
		pg := s.pg["pg"]
		_, err := pg.SQL(context.Background(), pg.AdminUser, pg.AdminPassword, "postgres",
			`do $$ declare r text; begin for r in select rolname from pg_roles where rolname like 'bl-%' loop execute format('drop role %I', r); end loop; end $$`)
		if err != nil {
			t.Error(err)
		}
	})
	return s
}
