package clients_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

// templates is what both daemons render: a secret that stays, and a login that ends every few seconds.
const templates = `
template {
  contents    = "{{ with secret \"secret/data/clients/daemon\" }}{{ .Data.data.k }}{{ end }}"
  destination = "DIR/secret"
}
template {
  contents    = "{{ with secret \"database/creds/short\" }}{{ .Data.username }} {{ .Data.password }}{{ end }}"
  destination = "DIR/login"
}
`

// agent starts Vault Agent, logged in with an AppRole whose tokens live for six seconds at a time.
func (s *stage) agent(t *testing.T, more string) (dir string) {
	t.Helper()
	roleID, secretID := s.approle(t, "6s", "1h")
	return daemon(t, testenv.VaultBinary(t), func(dir string) []string {
		config := strings.NewReplacer("DIR", dir, "ADDR", s.b.Addr).Replace(`
vault {
  address = "ADDR"
}
auto_auth {
  method "approle" {
    config = {
      role_id_file_path                   = "DIR/role-id"
      secret_id_file_path                 = "DIR/secret-id"
      remove_secret_id_file_after_reading = false
    }
  }
  sink "file" {
    config = {
      path = "DIR/token"
    }
  }
}
template_config {
  static_secret_render_interval = "1s"
}
` + more)
		write(t, dir, "role-id", roleID)
		write(t, dir, "secret-id", secretID)
		return []string{"agent", "-config=" + write(t, dir, "agent.hcl", config)}
	})
}

func TestVaultAgentRendersTemplates(t *testing.T) {
	s := newStage(t)
	s.put(t, "clients/daemon", "first")
	dir := s.agent(t, templates)
	s.rendersAndKeepsUp(t, dir)
	token := read(dir, "token")
	if got := s.call(t, s.b.Addr, token, "auth/token/lookup-self", "")["path"]; got != "auth/approle/login" {
		t.Errorf("the agent's token: got one of %v, want one of auth/approle/login", got)
	}
	s.call(t, s.b.Addr, s.b.Token, "auth/token/revoke", `{"token":"`+token+`"}`)
	eventually(t, 30*time.Second, func() error {
		if now := read(dir, "token"); now == token || now == "" {
			return fmt.Errorf("the agent has not logged in again after its token was revoked")
		}
		return nil
	})
}

func TestVaultAgentServesPrograms(t *testing.T) {
	s := newStage(t)
	s.put(t, "clients/daemon", "first")
	port, err := testenv.FreePort(1)
	if err != nil {
		t.Fatal(err)
	}
	listener := fmt.Sprintf("127.0.0.1:%d", port)
	dir := s.agent(t, fmt.Sprintf(`
cache {}
api_proxy {
  use_auto_auth_token = true
}
listener "tcp" {
  address     = %q
  tls_disable = true
}
`, listener))
	eventually(t, 30*time.Second, func() error {
		if read(dir, "token") == "" {
			return fmt.Errorf("the agent has not logged in")
		}
		return nil
	})
	proxied := func(path string) map[string]any { return s.call(t, "http://"+listener, "", path, "") }
	if got := proxied("secret/data/clients/daemon")["data"]; fmt.Sprint(got) != "map[k:first]" {
		t.Errorf("through the agent's listener: got %v, want the secret", got)
	}
	first, again := proxied("database/creds/long"), proxied("database/creds/long")
	if first["username"] != again["username"] {
		t.Errorf("a cached login: got %v and then %v, want the same", first["username"], again["username"])
	}
	if err := s.logsIn(t.Context(), first["username"].(string), first["password"].(string)); err != nil {
		t.Error(err)
	}
	// What is cached goes with the token that it was read with.
	s.call(t, s.b.Addr, s.b.Token, "auth/token/revoke", `{"token":"`+read(dir, "token")+`"}`)
	eventually(t, 30*time.Second, func() error {
		if err := s.logsIn(t.Context(), first["username"].(string), first["password"].(string)); err == nil {
			return fmt.Errorf("the login of an ended token still works")
		}
		return nil
	})
}

func TestConsulTemplate(t *testing.T) {
	s := newStage(t)
	s.put(t, "clients/daemon", "first")
	token := s.login(t, "1h", "2h")
	dir := daemon(t, testenv.ToolBinary(t, "consul-template"), func(dir string) []string {
		config := strings.NewReplacer("DIR", dir, "ADDR", s.b.Addr, "TOKEN", token).Replace(`
vault {
  address                = "ADDR"
  token                  = "TOKEN"
  renew_token            = true
  default_lease_duration = "1s"
}
` + templates)
		return []string{"-config=" + write(t, dir, "consul-template.hcl", config), "-log-level=info"}
	})
	s.rendersAndKeepsUp(t, dir)
}

// daemon starts a program in a directory of its own, which configure fills.
func daemon(t *testing.T, program string, configure func(dir string) (args []string)) (dir string) {
	t.Helper()
	env := testenv.Shared(t)
	dir, err := env.NewDir("client", nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := env.Start(testenv.Command{
		Name: filepath.Base(program), Path: program, Args: configure(dir), Dir: dir, Env: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir},
	})
	if err != nil {
		t.Fatal(err)
	}
	testenv.CloseAfter(t, p)
	return dir
}

// rendersAndKeepsUp looks at what a daemon renders: the secret as it is, and a login that works, also when several have ended.
func (s *stage) rendersAndKeepsUp(t *testing.T, dir string) {
	t.Helper()
	eventually(t, 30*time.Second, func() error { return is(dir, "secret", "first") })
	s.put(t, "clients/daemon", "second")
	eventually(t, 30*time.Second, func() error { return is(dir, "secret", "second") })
	users := map[string]bool{}
	eventually(t, 60*time.Second, func() error {
		login := read(dir, "login")
		user, password, _ := strings.Cut(login, " ")
		if err := s.logsIn(t.Context(), user, password); err != nil && read(dir, "login") == login {
			// It may just have ended, and the next be on its way; what ends must be followed by another before that.
			if user != "" && len(users) > 0 {
				t.Errorf("the login that is rendered does not work: %v", err)
			}
			return err
		}
		users[user] = true
		if len(users) < 3 {
			return fmt.Errorf("%d logins have been rendered, want 3", len(users))
		}
		return nil
	})
}

func is(dir, name, want string) error {
	if got := read(dir, name); got != want {
		return fmt.Errorf("%s: got %q, want %q", name, got, want)
	}
	return nil
}

// read is the text of a file; empty where it isn't there yet.
func read(dir, name string) string {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(b))
}

// login logs in with an AppRole.
func (s *stage) login(t *testing.T, ttl, most string) (token string) {
	t.Helper()
	roleID, secretID := s.approle(t, ttl, most)
	body := fmt.Sprintf(`{"role_id":%q,"secret_id":%q}`, roleID, secretID)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.b.Addr+"/v1/auth/approle/login", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return tokenOf(t, req)
}
