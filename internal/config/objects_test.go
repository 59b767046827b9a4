package config_test

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/bailiff-secrets/bailiff/internal/config"
	"github.com/bailiff-secrets/bailiff/internal/object"
)

const canary = "canary-93b1e7"

// write makes a directory of files.
func write(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func env(name string) (string, bool) {
	v, ok := map[string]string{"TOKEN": canary, "EMPTY": "", "HOST": "db.example.com", "VAULT_A_TOKEN": canary, "VAULT_B_SECRET_ID": canary + "-b"}[name]
	return v, ok
}

// vault is a target's text with more in it.
func vault(more string) string {
	return "target \"v\" {\n  type = \"vault\"\n  address = \"http://h\"\n  auth {\n    method = \"token\"\n    token = env(\"TOKEN\")\n  }\n" + more + "\n}\n"
}

func names(records []object.Record) string {
	var out []string
	for _, r := range records {
		out = append(out, string(r.Kind)+" "+r.Name)
	}
	return strings.Join(out, ", ")
}

func TestExampleObjectsAreAGoodEstate(t *testing.T) {
	dir := write(t, map[string]string{"estate.hcl": config.ExampleObjects, "pg.password": canary + "-pg\n"})
	for _, path := range []string{dir, filepath.Join(dir, "estate.hcl")} {
		records, err := config.LoadObjects(path, env)
		if err != nil {
			t.Fatalf("LoadObjects: %v", err)
		}
		const want = "target pg, target vault-a, target vault-b, mount database, mount secret, mount team-b/kv, producer database/readonly, " +
			"connector demo-vault-usc, connector team-b-usc, policy app, role app, identity ci"
		if got := names(records); got != want {
			t.Errorf("got %s\nwant %s", got, want)
		}
		if err := object.Check(records); err != nil {
			t.Errorf("Check: %v", err)
		}
		secrets := map[string]string{}
		for _, r := range records {
			for field, v := range r.Secrets {
				secrets[r.Name+"."+field] = v.Reveal()
			}
			if strings.Contains(string(r.Body), canary) || r.Source != object.SourceApply {
				t.Errorf("%s %s: source %q, body %s", r.Kind, r.Name, r.Source, r.Body)
			}
		}
		if want := map[string]string{"vault-a.token": canary, "vault-b.secret_id": canary + "-b", "pg.password": canary + "-pg"}; !maps.Equal(secrets, want) {
			t.Errorf("got secrets %q, want %q", secrets, want)
		}
	}
}

func TestLoadObjectsReadsEveryField(t *testing.T) {
	dir := write(t, map[string]string{"a.hcl": `
target "v" {
  type = "vault"
  address = "https://h"
  namespace = "team/a"
  tls_server_name = "x"
  tls_skip_verify = true
  timeout = 30
  auth {
    method = "approle"
    mount = "approle"
    role_id = "r"
    secret_id = "s"
  }
}
target "pg" {
  type = "postgres"
  address = "postgres://${env("HOST")}:5432/app"
  username = "u"
  max_connections = 8
  mount = "db"
  allowed_roles = []
  root_rotation_statements = ["s"]
}
static_role "db/s" {
  target = "pg"
  username = "app"
  rotation_period = "24h"
  rotation_statements = ["t"]
}
static_role "db/at" {
  target = "pg"
  username = "app2"
  rotation_schedule = "@daily"
}
mount "m" {
  type = "vault"
  target = "v"
  remote_path = "rp"
  engine = "kv"
  kv_version = 2
  description = "d"
  default_ttl = "1h"
  max_ttl = "2h"
}
mount "db" { type = "broker" }
producer "db/p" {
  target = "pg"
  creation_statements = ["c"]
  renew_statements = ["n"]
  revocation_statements = ["r"]
  scram_iterations = 4096
  password_authentication = "password"
}
notify "n" {
  url        = "https://h/x"
  secret     = "sixteen-bytes-at-least"
  events     = ["lease.expiring"]
  before     = "10m"
  mounts     = ["db"]
  roles      = ["db/p"]
  identities = ["ci"]
}
`})
	records, err := config.LoadObjects(dir, env)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"v":     `{"name":"v","type":"vault","address":"https://h","namespace":"team/a","tls_server_name":"x","tls_skip_verify":true,"timeout":"30s","auth":{"method":"approle","mount":"approle","role_id":"r"}}`,
		"pg":    `{"name":"pg","type":"postgres","address":"postgres://db.example.com:5432/app","username":"u","max_connections":8,"mount":"db","allowed_roles":[],"root_rotation_statements":["s"]}`,
		"db/s":  `{"mount":"db","name":"s","target":"pg","username":"app","rotation_period":"24h0m0s","rotation_statements":["t"]}`,
		"db/at": `{"mount":"db","name":"at","target":"pg","username":"app2","rotation_schedule":"@daily"}`,
		"m":     `{"path":"m","type":"vault","target":"v","remote_path":"rp","engine":"kv","kv_version":2,"description":"d","default_ttl":"1h0m0s","max_ttl":"2h0m0s"}`,
		"db":    `{"path":"db","type":"broker"}`,
		"db/p":  `{"mount":"db","name":"p","target":"pg","creation_statements":["c"],"renew_statements":["n"],"revocation_statements":["r"],"scram_iterations":4096,"password_authentication":"password"}`,
		"n":     `{"name":"n","url":"https://h/x","events":["lease.expiring"],"before":"10m0s","mounts":["db"],"roles":["db/p"],"identities":["ci"]}`,
	}
	for _, r := range records {
		if string(r.Body) != want[r.Name] {
			t.Errorf("%s %s: got %s\nwant %s", r.Kind, r.Name, r.Body, want[r.Name])
		}
	}
	if len(records) != len(want) {
		t.Errorf("got %s", names(records))
	}
}

func TestAFileThatIsReadAsTextDeclaresNothing(t *testing.T) {
	const rules = "path \"secret/*\" { capabilities = [\"read\"] }\n"
	dir := write(t, map[string]string{"a.hcl": `policy "p" { rules = file("b.hcl") }`, "b.hcl": rules, ".c.hcl": "hidden {", "d.txt": "other {"})
	records, err := config.LoadObjects(dir, env)
	if err != nil {
		t.Fatal(err)
	}
	v, err := object.Decode(records[0])
	if err != nil || len(records) != 1 || v.(*object.Policy).Rules != rules {
		t.Errorf("got %s, %+v, %v", names(records), v, err)
	}
}

func TestLoadObjectsRefuses(t *testing.T) {
	tests := []struct {
		name string
		text string
		want []string // all of them in the error; a.hcl is the file
	}{
		{"an unknown key", vault(`  usernam = "x"`), []string{`a.hcl:8:3: Unsupported argument`, `"username"?`}},
		{"an unknown kind", `targett "v" {}`, []string{`a.hcl:1:1: Unsupported block type`, `"target"?`}},
		{"an unknown block", vault("  tls {}"), []string{`a.hcl:8:3: Unsupported block type`}},
		{"a key that is there twice", "role \"r\" {\n  policies = [\"a\"]\n  policies = [\"b\"]\n}", []string{`a.hcl:3:3: Attribute redefined`}},
		{"a block that is there twice", vault("  auth { method = \"token\" }"), []string{`a.hcl:8:3: auth is there twice: the first is at`, `a.hcl:4`}},
		{"no label", `target {}`, []string{`a.hcl:1:8: Missing name for target`}},
		{"no syntax", `target "v" {`, []string{`a.hcl:1:12`}},
		{"a value of the wrong type", `role "r" { policies = "a" }`, []string{`a.hcl:1:12: policies: write a list of strings`}},
		{"a list of other things", `role "r" { policies = ["a", 7] }`, []string{`policies: its element 2 is no string`}},
		{"a null", `connector "c" { target = null }`, []string{`a.hcl:1:17: target: it has no value`}},
		{"a number with a fraction", `mount "m" { kv_version = 1.5 }`, []string{`kv_version: write a whole number`}},
		{"a duration that is none", `mount "m" { max_ttl = "soon" }`, []string{`a.hcl:1:13: max_ttl: not a duration`}},
		{"metadata that is none", `identity "i" { metadata = { a = 1 } }`, []string{`metadata: the value of a is no string`}},
		{"an access id", `identity "i" { access_id = "p-1" }`, []string{`Unsupported argument`}},
		{"an unset variable", `connector "c" { target = env("NOSUCH") }`, []string{`a.hcl:1:26`, `the environment variable NOSUCH is not set`}},
		{"a file that is not there", `policy "p" { rules = file("nosuch.txt") }`, []string{`a.hcl:1:22`, `nosuch.txt: no such file`}},
		{"a file that is a directory", `policy "p" { rules = file(".") }`, []string{`is no file`}},
		{"an unknown function", `policy "p" { rules = exec("x") }`, []string{`a.hcl:1:22`, `exec`}},
		{"a variable", `policy "p" { rules = var.x }`, []string{`a.hcl:1:22`}},
		{"the same object twice", "role \"r\" { policies = [\"p\"] }\nrole \"r\" { policies = [\"q\"] }", []string{`a.hcl:2:1: role "r" is declared twice: here and at`, `a.hcl:1:1`}},
		{"an object that is wrong in itself, at its field", "mount \"m\" {\n  type = \"kv\"\n}", []string{`a.hcl:2:3: mount "m": type: "kv" is no type of mount`}},
		{"a block's field", "target \"v\" {\n type = \"vault\"\n address = \"http://h\"\n auth {\n  method = \"ldap\"\n }\n}", []string{`a.hcl:5:3: target "v": auth.method`}},
		{"an object that lacks a field, at the object", "\nmount \"m\" { type = \"vault\" }", []string{`a.hcl:2:1: mount "m": target: it is missing`}},
		{"an empty secret", "target \"v\" {\n type=\"vault\"\n address=\"http://h\"\n auth {\n method=\"token\"\n token=env(\"EMPTY\")\n }\n}", []string{`a.hcl:6:2`, `token: it is missing`}},
		{"everything at once", "mount \"a\" {}\nmount \"b\" {}\n", []string{`a.hcl:1:1`, `a.hcl:2:1`}},

		{"a secret in a field that is shown", vault(`  namespace = env("TOKEN")`), []string{`a.hcl:8:3: env("TOKEN") is a secret at`, `can't stand in a field that is shown`}},
		{"a secret within a string that is shown", vault("}\nidentity \"i\" {\n description = \"x ${env(\"TOKEN\")}\""), []string{`env("TOKEN") is a secret`}},
		{"a secret in a list that is shown", vault("}\nrole \"r\" {\n policies = [env(\"TOKEN\")]"), []string{`env("TOKEN") is a secret`}},

		{"a canary as a name", `connector "c" { target = env("TOKEN") == "x" ? 1 : env("TOKEN").x }`, nil},
		{"a canary as a type", vault("}\nmount \"m\" {\n type = env(\"TOKEN\")"), []string{`[redacted]`}},
		{"a canary as a key", `policy "p" { rules = {a = 1}[env("TOKEN")] }`, nil},
		{"a canary as a duration", `mount "m" { max_ttl = env("TOKEN") }`, nil},
		{"a canary as a file", `policy "p" { rules = file(env("TOKEN")) }`, nil},
		{"a canary as a variable", `policy "p" { rules = env(env("TOKEN")) }`, nil},
		{"a canary in an address", `target "t" { address = "http://u:${env("TOKEN")}@h" }`, nil},
		{"a canary as metadata", `identity "i" { metadata = { (env("TOKEN")) = 1 } }`, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			records, err := config.LoadObjects(write(t, map[string]string{"a.hcl": tt.text}), env)
			if err == nil || records != nil {
				t.Fatalf("got %s and error %v, want an error alone", names(records), err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v\nwant it to say %s", err, want)
				}
			}
			if strings.Contains(err.Error(), canary) {
				t.Errorf("the error shows a value: %v", err)
			}
		})
	}
}

func TestOneObjectInTwoFilesNamesBoth(t *testing.T) {
	dir := write(t, map[string]string{"a.hcl": `role "r" { policies = ["p"] }`, "b.hcl": "\n\n" + `role "r" { policies = ["p"] }`})
	_, err := config.LoadObjects(dir, env)
	if err == nil || !strings.Contains(err.Error(), "b.hcl:3:1") || !strings.Contains(err.Error(), "a.hcl:1:1") {
		t.Errorf("got %v", err)
	}
	var e *config.Error
	if !errors.As(err, &e) || e.Line != 3 || filepath.Base(e.File) != "b.hcl" {
		t.Errorf("got %+v", e)
	}
}

func TestThereMustBeSomethingToRead(t *testing.T) {
	for _, dir := range []string{write(t, nil), filepath.Join(t.TempDir(), "nosuch")} {
		if records, err := config.LoadObjects(dir, env); err == nil {
			t.Errorf("got %s and no error", names(records))
		}
	}
}

func FuzzLoadObjects(f *testing.F) {
	f.Add(config.ExampleObjects)
	f.Add(vault(`namespace = "x"`))
	f.Add(`policy "p" { rules = { a = env("TOKEN") }["b"] }`)
	f.Add(`identity "i" { metadata = { for k in ["a"] : k => "${env("TOKEN")}" } }`)
	f.Add("role \"r\" { policies = [for x in [env(\"TOKEN\")] : x] }")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(dir, "a.hcl")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		records, err := config.LoadObjects(path, env)
		if err != nil {
			if strings.Contains(err.Error(), canary) && !strings.Contains(text, canary) {
				t.Errorf("the error shows a value: %v", err)
			}
			return
		}
		for _, r := range records {
			if err := object.CheckRecord(r); err != nil || !json.Valid(r.Body) || !slices.Contains(object.Kinds, r.Kind) {
				t.Errorf("an object that is wrong in itself was let through: %+v: %v", r, err)
			}
		}
	})
}
