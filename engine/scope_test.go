package engine_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

// wantCode sends a request and makes sure of its status and of words in its answer.
func (s *side) wantCode(method, path, body string, code int, words string) {
	s.t.Helper()
	got, out := s.send(method, path, body)
	if got != code || !strings.Contains(fmt.Sprint(out), words) {
		s.t.Errorf("%s %s %.40s: got %d %v, want %d with %q", method, path, body, got, out, code, words)
	}
}

func TestATargetBelongsToItsMount(t *testing.T) {
	t.Parallel()
	s := newBailiff(t, testenv.BailiffOptions{})
	s.setUp()
	s.apply(`mount "other" { type = "broker" }`)
	s.wantCode("POST", "other/config/pg", jsonConfig, 400, `the name "pg" is taken by a connection of another mount`)
	s.wantCode("GET", "other/config/pg", "", 404, "")
	s.wantCode("LIST", "other/config", "", 404, "")
	s.wantCode("POST", "other/roles/ro", jsonRole, 400, `failed to find entry for connection with name: "pg"`)
	s.wantCode("POST", "other/rotate-root/pg", "", 400, "failed to find entry")
	s.wantCode("POST", "other/reset/pg", "", 400, "failed to find entry")
	s.wantCode("POST", "other/static-roles/x", `{"db_name":"pg","username":"«app»","rotation_period":60}`, 400, "failed to find entry")
	s.wantCode("DELETE", "other/config/pg", "", 204, "")
	s.wantCode("GET", "database/config/pg", "", 200, "postgresql-database-plugin")
	if out, code := s.tryApply(`producer "other/ro" {
  target = "pg"
  creation_statements = ["CREATE ROLE \"{{name}}\" LOGIN PASSWORD '{{password}}'"]
}`); code == 0 || !strings.Contains(out, `belongs to mount "database"`) {
		t.Errorf("a declared role on another mount's target: got %d %s", code, out)
	}
	s.wantCode("DELETE", "database/config/pg", "", 400, `there is no target "pg"`)
	s.wantCode("POST", "database/static-roles/twin", `{"db_name":"pg","username":"«admin»","rotation_period":60}`, 403, "not an allowed role")
	s.write("database/config/pg", "allowed_roles=*")
	s.wantCode("POST", "database/static-roles/twin", `{"db_name":"pg","username":"«admin»","rotation_period":60}`, 400, "rotate-root")
	s.wantCode("POST", "database/static-roles/twin", `{"db_name":"pg","username":"«app»","rotation_period":60}`, 400, "has the same account")
	s.wantCode("POST", "database/static-roles/twin", `{"db_name":"pg","username":"nobody","rotation_period":60}`, 400, "is not there")
	s.wantCode("GET", "database/static-roles/twin", "", 404, "")
}

func TestADeclaredTargetIsAConfigOfTheMountThatUsesIt(t *testing.T) {
	t.Parallel()
	s := newBailiff(t, testenv.BailiffOptions{})
	declared := s.own(`
target "pg" {
  type = "postgres"
  address = "postgres://«addr»/postgres?sslmode=disable"
  username = "«admin»"
  password = "«password»"
}
mount "database" { type = "broker" }
static_role "database/app" {
  target = "pg"
  username = "«app»"
  rotation_schedule = "30 3 * * SUN"
}
`)
	s.apply(declared)
	s.eventually("the static role has its first password", func() bool {
		code, _ := s.send("GET", "database/static-creds/app", "")
		return code == 200
	})
	if d := s.data("database/static-creds/app"); d["rotation_schedule"] != "30 3 * * SUN" || d["rotation_period"] != nil || d["ttl"].(float64) < 1 {
		t.Errorf("a role with a schedule: got %v", d)
	}
	if d := s.data("database/config/pg"); fmt.Sprint(d["allowed_roles"]) != "[*]" ||
		d["connection_details"].(map[string]any)["connection_url"] != s.own("postgres://{{username}}:{{password}}@«addr»/postgres?sslmode=disable") {
		t.Errorf("a declared target: got %v", d)
	}
	s.write("database/rotate-root/pg")
	s.apply(declared) // the file still holds the password from before
	s.write("database/roles/ro", "db_name=pg", creation, "default_ttl=1h")
	s.credential("database/creds/ro")
	s.write("database/config/pg", "password=«password»", "verify_connection=false")
	s.write("database/reset/pg")
	s.credential("database/creds/ro")
	if s.login(s.admin, adminPassword) == nil {
		t.Error("the password from before the rotation works again")
	}
}

func TestACreateNeedsTheCapabilityAndAnUpdateTheOther(t *testing.T) {
	t.Parallel()
	s := newBailiff(t, testenv.BailiffOptions{})
	s.setUp()
	s.apply(`
policy "maker" { rules = "path \"database/roles/*\" { capabilities = [\"create\"] }" }
role "maker" {
  policies   = ["maker"]
  identities = ["maker"]
}
identity "maker" {}
`)
	code, out := s.send("POST", "sys/bailiff/identities/maker/keys", `{}`)
	if code != 200 {
		t.Fatalf("a key: %d %v", code, out)
	}
	key := out["data"].(map[string]any)
	maker := *s
	maker.token = fmt.Sprint(key["access_id"], "..", key["access_key"])
	maker.wantCode("POST", "database/roles/no-2", jsonRole, 204, "")
	maker.wantCode("POST", "database/roles/no-2", jsonRole, 403, "permission denied")
	maker.wantCode("GET", "database/creds/no-2", "", 403, "permission denied")
}

func TestWhatABodyMayHold(t *testing.T) {
	t.Parallel()
	s := newBailiff(t, testenv.BailiffOptions{})
	config := func(url, more string) string {
		return `{"plugin_name":"postgresql-database-plugin","verify_connection":false,"username":"u","password":"p","connection_url":"` + url + `"` + more + `}`
	}
	for _, x := range []struct {
		path, body string
		code       int
		words      string
	}{
		{"config/a", `[]`, 400, "error parsing JSON"},
		{"config/a", config("mysql://h/db", ""), 400, "must have the form postgresql://"},
		{"config/a", config("postgresql://{{username}}:{{password}}@h/db?sslrootcert=/etc/ca.pem", ""), 400, "names something on Bailiff's disk"},
		{"config/a", config("postgresql://{{username}}:{{password}}@h/db?user=x", ""), 400, "give the user and the password"},
		{"config/a", config("postgresql://{{username}}:{{password}}@h/db", ""), 200, "does not ask for TLS"},
		{"config/b", config("postgresql://{{username}}:{{password}}@h/db?sslmode=verify-full&application_name=x", ""), 200, "no effect: application_name"},
		{"config/c", config("postgresql://me:s3cr%40t@h/db?sslmode=disable", ""), 200, "Password found in connection_url"},
		{"config/d", config("postgresql://{{username}}:{{password}}@h/db?sslmode=disable", `,"username_template":"x","password_policy":"y"`), 200, "username_template has no effect"},
		{"config/e", config("postgresql://{{username}}:{{password}}@h/db?sslmode=disable", `,"max_open_connections":"many"`), 400, "max_open_connections"},
		{"config/e", config("postgresql://{{username}}:{{password}}@h/db?sslmode=disable", `,"max_open_connections":"7","allowed_roles":["x","y"]`), 204, ""},
		{"roles/r", `{"db_name":"nosuch","creation_statements":"x"}`, 400, `failed to find entry for connection with name: "nosuch"`},
		{"roles/r", `{"db_name":"e","creation_statements":"CREATE ROLE \"{{name}}\" PASSWORD '{{pasword}}'"}`, 400, "unknown placeholder"},
		{"roles/r", `{"db_name":"e"}`, 400, "creation_statements"},
		{"static-roles/s", `{"db_name":"e","username":"x","rotation_schedule":"at noon"}`, 400, "no schedule"},
		{"roles/a/b", `{}`, 404, "unsupported path"},
	} {
		s.wantCode("POST", "database/"+x.path, x.body, x.code, x.words)
	}
	for name, url := range map[string]string{
		"a": "postgresql://{{username}}:{{password}}@h/db",
		"b": "postgresql://{{username}}:{{password}}@h/db?sslmode=verify-full",
		"c": "postgresql://{{username}}:{{password}}@h/db?sslmode=disable",
	} {
		d := s.data("database/config/" + name)
		if got := d["connection_details"].(map[string]any)["connection_url"]; got != url {
			t.Errorf("%s: got %v, want %s", name, got, url)
		}
		if strings.Contains(fmt.Sprint(d), "s3cr") {
			t.Errorf("%s: reading shows the password: %v", name, d)
		}
	}
	if d := s.data("database/config/e"); fmt.Sprint(d["allowed_roles"]) != "[x y]" || d["connection_details"].(map[string]any)["max_open_connections"] != float64(7) {
		t.Errorf("e: got %v", d)
	}
}

func TestARotationIsInTheTrailAndInTheMetrics(t *testing.T) {
	t.Parallel()
	s := newBailiff(t, testenv.BailiffOptions{})
	s.setUp()
	s.write("database/rotate-role/app")
	s.write("database/rotate-root/pg")
	code, out := s.send("GET", "sys/bailiff/audit?limit=200", "")
	if code != 200 {
		t.Fatalf("audit: %d %v", code, out)
	}
	trail := fmt.Sprint(out)
	for _, words := range []string{"the password was changed", "changed the password of static role app", "create target pg", "create static_role database/app"} {
		if !strings.Contains(trail, words) {
			t.Errorf("the trail does not say %q", words)
		}
	}
	if strings.Contains(trail, adminPassword) {
		t.Error("the trail holds a password")
	}
	metrics := s.get(s.bailiff.MetricsAddr + "/metrics")
	for _, line := range []string{
		`bailiff_rotations_total{account="static",outcome="ok",target="pg"} 2`, `bailiff_rotations_total{account="root",outcome="ok",target="pg"} 1`,
		"bailiff_oldest_overdue_rotation_seconds 0",
	} {
		if !strings.Contains(metrics, line) {
			t.Errorf("the metrics lack %s", line)
		}
	}
}
