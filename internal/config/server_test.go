package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bailiff-secrets/bailiff/internal/config"
)

func load(t testing.TB, text string) (*config.Server, string, error) {
	t.Helper()
	dir := write(t, map[string]string{"bailiff.hcl": text})
	s, err := config.LoadServer(filepath.Join(dir, "bailiff.hcl"))
	return s, dir, err
}

func TestAnEmptyFileIsTheDefaults(t *testing.T) {
	got, _, err := load(t, "")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(config.Default("/var/lib/bailiff"), got); d != "" {
		t.Errorf("(-Default +loaded):\n%s", d)
	}
	if got.RootKeyFile != "/var/lib/bailiff/root.key" || got.AdminSocket != "/var/lib/bailiff/admin.sock" || got.Audit.Dir != "/var/lib/bailiff/audit" {
		t.Errorf("derived paths: %q %q %q", got.RootKeyFile, got.AdminSocket, got.Audit.Dir)
	}
}

func TestExampleServerShowsTheDefaults(t *testing.T) {
	got, dir, err := load(t, config.ExampleServer)
	if err != nil {
		t.Fatal(err)
	}
	want := config.Default("/var/lib/bailiff")
	want.Node = "bailiff-1"
	want.Listener.Address = "0.0.0.0:8280"
	want.Listener.TLSCertFile = filepath.Join(dir, "tls/server.pem")
	want.Listener.TLSKeyFile = filepath.Join(dir, "tls/server.key")
	want.Listener.TrustedProxies = []string{"10.1.0.0/16"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +loaded):\n%s", d)
	}
}

func TestLoadServer(t *testing.T) {
	got, dir, err := load(t, `
data_dir = "data"
limits {
  max_body = 1000
  request_timeout = 5
  max_header_bytes = "1 MB"
}
audit { segment_size = "2GiB" }
`)
	if err != nil {
		t.Fatal(err)
	}
	want := config.Default(filepath.Join(dir, "data"))
	want.Limits.MaxBody, want.Limits.RequestTimeout, want.Limits.MaxHeaderBytes = 1000, 5*time.Second, 1_000_000
	want.Audit.SegmentSize = 2 << 30
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +loaded):\n%s", d)
	}
}

func TestStoreOnPostgres(t *testing.T) {
	for text, want := range map[string]config.Postgres{
		`url = "postgres://bailiff@db/bailiff"
		 password_file = "store.password"
		 max_connections = 5`: {URL: "postgres://bailiff@db/bailiff", PasswordFile: "DIR/store.password", MaxConnections: 5},
		`url_file = "/run/store.url"`: {URLFile: "/run/store.url"},
	} {
		got, dir, err := load(t, "store {\n postgres {\n"+text+"\n}\n}")
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		want.PasswordFile = strings.Replace(want.PasswordFile, "DIR", dir, 1)
		if d := cmp.Diff(&want, got.Store.Postgres); d != "" {
			t.Errorf("(-want +loaded):\n%s", d)
		}
	}
	for _, text := range []string{"", "store {}"} {
		if got, _, err := load(t, text); err != nil || got.Store.Postgres != nil {
			t.Errorf("%q: got %v, %v, want no database", text, got, err)
		}
	}
}

func TestListenersThatAreLetThrough(t *testing.T) {
	for _, text := range []string{
		`listener { address = "localhost:0" }`,
		`listener { address = "[::1]:8280" }`,
		`listener { address = "127.9.9.9:8280" }`,
		`listener {
			address = ":8280"
			plain_http_beyond_loopback = "I accept that secrets travel in the clear"
		}`,
		`listener {
			address = "10.0.0.1:8280"
			tls_cert_file = "c"
			tls_key_file = "k"
		}`,
		`metrics { address = "" }`,
	} {
		if _, _, err := load(t, text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestLoadServerRefuses(t *testing.T) {
	const plain = `write plain_http_beyond_loopback = "I accept that secrets travel in the clear"`
	tests := []struct{ name, text, want string }{
		{"an unknown key", "node = \"a\"\nlistner = 1", `bailiff.hcl:2:1: Unsupported argument`},
		{"an unknown block", "listner {}", `bailiff.hcl:1:1: Unsupported block type`},
		{"an unknown key in a block", "limits {\n  max_bodies = 1\n}", `bailiff.hcl:2:3: Unsupported argument`},
		{"a block that is there twice", "log {}\nlog {}", `bailiff.hcl:2:1: log is there twice`},
		{"a size that is none", `limits { max_body = "many" }`, `bailiff.hcl:1:10: max_body: write a size`},
		{"a size without its unit's end", `limits { max_body = "32Mi" }`, `write a size`},
		{"a size below zero", `limits { max_body = -1 }`, `write a size`},
		{"a size beyond all", `limits { max_body = "99999999999TiB" }`, `write a size`},
		{"a duration that is none", `limits { request_timeout = "long" }`, `request_timeout: not a duration`},
		{"a function", `node = env("X")`, `bailiff.hcl:1:8`},
		{"a limit of zero", `limits { request_timeout = 0 }`, `limits.request_timeout: it must be above zero`},
		{"a small segment", `audit { segment_size = "1KiB" }`, `audit.segment_size`},
		{"a store without an address", "store {\n postgres {}\n}", `store.postgres: set either url or url_file`},
		{"a store with two addresses", "store {\n postgres {\n url = \"postgres://a@b/c\"\n url_file = \"u\"\n}\n}", `store.postgres: set either url or url_file`},
		{"a password in the store's address", "store {\n postgres {\n url = \"postgres://a:hush@b/c\"\n}\n}", `it must hold no password`},
		{"a password behind the store's address", "store {\n postgres {\n url = \"postgres://a@b/c?password=hush\"\n}\n}", `it must hold no password`},
		{"a store's address that is none", "store {\n postgres {\n url = \"postgres://a@b:x/c\"\n}\n}", `it is not a URL`},
		{"connections below zero", "store {\n postgres {\n url_file = \"u\"\n max_connections = -1\n}\n}", `max_connections: it must not be below zero`},
		{"an unknown key of the store", "store {\n postgres {\n password = \"hush\"\n}\n}", `bailiff.hcl:3:2: Unsupported argument`},
		{"a node that is no name", `node = "a b"`, `node: use letters`},
		{"a level that is none", `log { level = "loud" }`, `log.level: write debug`},
		{"a format that is none", `log { format = "xml" }`, `log.format: write json`},
		{"an address without a port", `listener { address = "127.0.0.1" }`, `listener: address: write host:port`},
		{"an address with a bad port", `listener { address = "127.0.0.1:99999" }`, `its port is no number`},
		{"a metrics address without a port", `metrics { address = "x" }`, `metrics.address: write host:port`},
		{"a key without its certificate", `listener { tls_key_file = "k" }`, `belong together`},
		{"a proxy that is none", `listener { trusted_proxies = ["example.com"] }`, `trusted_proxies: "example.com" is neither an address`},
		{"everybody as a proxy", `listener { trusted_proxies = ["0.0.0.0/0"] }`, `is everybody`},
		{"a proxy in two families", `listener { trusted_proxies = ["::ffff:10.0.0.0/104"] }`, `as an IPv4 address`},
		{"a proxy with a zone", `listener { trusted_proxies = ["fe80::1%eth0"] }`, `is neither an address`},
		{"the PROXY protocol from nobody", `listener { proxy_protocol = true }`, `say in trusted_proxies who speaks it`},
		{"plain HTTP for everybody", `listener { address = "0.0.0.0:8280" }`, plain},
		{"plain HTTP on every address", `listener { address = ":8280" }`, plain},
		{"plain HTTP on a name", `listener { address = "bailiff.example.com:8280" }`, plain},
		{"plain HTTP on IPv6", `listener { address = "[::]:8280" }`, plain},
		{"plain HTTP with another sentence", "listener {\n address = \":8280\"\n plain_http_beyond_loopback = \"yes\"\n}", `it must say "I accept that secrets travel in the clear"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, _, err := load(t, tt.text)
			if err == nil || s != nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, %v, want an error with %s", s, err, tt.want)
			}
		})
	}
	if _, err := config.LoadServer(filepath.Join(t.TempDir(), "nosuch.hcl")); err == nil {
		t.Error("a file that is not there was loaded")
	}
}

func FuzzLoadServer(f *testing.F) {
	f.Add(config.ExampleServer)
	f.Add(`limits { max_body = "1KiB" }`)
	f.Add(`listener { address = "[::1]:0" }`)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(dir, "bailiff.hcl")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := config.LoadServer(path)
		if (s == nil) == (err == nil) {
			t.Fatalf("got %v and error %v", s, err)
		}
		if err == nil && s.Validate() != nil {
			t.Errorf("it was loaded and isn't valid: %v", s.Validate())
		}
	})
}
