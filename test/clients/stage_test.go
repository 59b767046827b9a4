package clients_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// stage is a Bailiff in front of a Vault and a PostgreSQL, with an AppRole for programs.
type stage struct {
	b     *testenv.BailiffServer
	vault *testenv.VaultServer
	pg    *testenv.PostgresServer
}

const objects = `
target "a" {
  type    = "vault"
  address = env("A_ADDR")
  auth {
    method = "token"
    token  = env("A_TOKEN")
  }
}
target "pg" {
  type     = "postgres"
  address  = env("PG_ADDR")
  username = env("PG_USER")
  password = env("PG_PASSWORD")
}
mount "secret" {
  type   = "vault"
  target = "a"
}
mount "transit" {
  type   = "vault"
  target = "a"
}
mount "database" {
  type = "broker"
}
producer "database/short" {
  target              = "pg"
  default_ttl         = "3s"
  max_ttl             = "8s"
  creation_statements = ["CREATE ROLE \"{{name}}\" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'"]
}
producer "database/long" {
  target              = "pg"
  default_ttl         = "1h"
  max_ttl             = "24h"
  creation_statements = ["CREATE ROLE \"{{name}}\" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'"]
}
policy "program" {
  rules = <<EOT
path "secret/data/clients/*" {
  capabilities = ["create", "read", "update", "patch", "delete"]
}
path "secret/metadata/clients/*" {
  capabilities = ["read", "list", "delete"]
}
path "secret/metadata/clients" {
  capabilities = ["list"]
}
path "database/creds/*" {
  capabilities = ["read"]
}
path "sys/leases/revoke" {
  capabilities = ["update"]
}
path "transit/+/sops" {
  capabilities = ["create", "read", "update"]
}
EOT
}
role "program" {
  policies = ["program"]
}
`

// newStage starts the servers for one client. Its tests mostly wait, so they do it beside one another.
func newStage(t *testing.T) *stage {
	t.Helper()
	t.Parallel()
	s := &stage{vault: testenv.NewVault(t), pg: testenv.Postgres(t), b: testenv.NewBailiff(t, testenv.BailiffOptions{})}
	s.call(t, s.vault.Addr, s.vault.RootToken, "sys/mounts/transit", `{"type":"transit"}`)
	if err := s.b.Apply(t.Context(), objects, "A_ADDR="+s.vault.Addr, "A_TOKEN="+s.vault.RootToken, "PG_USER="+s.pg.AdminUser,
		"PG_ADDR=postgres://"+s.pg.Addr+"/postgres?sslmode=disable", "PG_PASSWORD="+s.pg.AdminPassword); err != nil {
		t.Fatal(err)
	}
	return s
}

// approle makes an AppRole whose tokens live for ttl and then for max in all, and returns what logs in with it.
func (s *stage) approle(t *testing.T, ttl, max string) (roleID, secretID string) {
	t.Helper()
	s.call(t, s.b.Addr, s.b.Token, "sys/auth/approle", `{"type":"approle"}`, "path is already in use")
	s.call(t, s.b.Addr, s.b.Token, "auth/approle/role/program", `{"token_policies":["program"],"token_ttl":"`+ttl+`","token_max_ttl":"`+max+`"}`)
	role := s.call(t, s.b.Addr, s.b.Token, "auth/approle/role/program/role-id", "")
	secret := s.call(t, s.b.Addr, s.b.Token, "auth/approle/role/program/secret-id", "{}")
	return role["role_id"].(string), secret["secret_id"].(string)
}

// put writes a secret to the Vault behind.
func (s *stage) put(t *testing.T, path, value string) {
	t.Helper()
	s.call(t, s.vault.Addr, s.vault.RootToken, "secret/data/"+path, `{"data":{"k":"`+value+`"}}`)
}

// call does a request for the test itself: a read where there is no body. An error that it has to expect is none.
func (s *stage) call(t *testing.T, addr, token, path, body string, expected ...string) map[string]any {
	t.Helper()
	method := http.MethodGet
	if body != "" {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(t.Context(), method, addr+"/v1/"+path, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Vault-Token", token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		for _, words := range expected {
			if strings.Contains(string(text), words) {
				return nil
			}
		}
		t.Fatalf("%s %s: %d %s", method, path, resp.StatusCode, text)
	}
	var out struct {
		Data map[string]any `json:"data"`
	}
	if len(text) > 0 && json.Unmarshal(text, &out) != nil {
		t.Fatalf("%s %s: %s", method, path, text)
	}
	return out.Data
}

// logsIn is nil if a login at the PostgreSQL works.
func (s *stage) logsIn(ctx context.Context, user, password string) error {
	_, err := s.pg.SQL(ctx, user, password, "postgres", "SELECT 1")
	return err
}

// write writes a file into a directory and returns its path.
func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
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
