package clients_test

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

func tokenOf(t *testing.T, req *http.Request) string {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // decoded
	var out struct {
		Auth struct {
			ClientToken string `json:"client_token"`
		} `json:"auth"`
		Errors []string `json:"errors"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil || out.Auth.ClientToken == "" {
		t.Fatalf("the login: %d %v %v", resp.StatusCode, out.Errors, err)
	}
	return out.Auth.ClientToken
}

// TestPrograms runs programs that use clients as libraries; what each did are the lines of its output.
func TestPrograms(t *testing.T) {
	s := newStage(t)
	s.put(t, "others/a", "not theirs")
	goClients := testenv.ToolBinary(t, "go-clients")
	for _, tc := range []struct {
		name    string
		command []string
		want    []string
	}{
		{"the official Go client", []string{goClients, "api"}, []string{"logged in", "patched", "unwrapped", "lease renewed, then over", "token renewed, then over", "the token has ended"}},
		{"vault-client-go", []string{goClients, "client-go"}, []string{"logged in", "listed", "unwrapped", "revoked itself"}},
		{"node-vault", []string{"node", filepath.Join(testenv.NodeProgram(t, "node-vault"), "client.js")}, []string{"logged in", "listed", "the lease has ended", "revoked itself"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			roleID, secretID := s.approle(t, "4s", "14s")
			env := []string{"VAULT_ADDR=" + s.b.Addr, "ROLE_ID=" + roleID, "SECRET_ID=" + secretID, "DATABASE=database/creds/short", "VAULT_MAX_RETRIES=0"}
			stdout, stderr, code := testenv.RunCLI(t, "", tc.command[0], env, tc.command[1:]...)
			if code != 0 {
				t.Errorf("it ends with %d: %s\n%s", code, stderr, stdout)
			}
			for _, want := range tc.want {
				if !strings.Contains(stdout, want+"\n") {
					t.Errorf("got\n%swant %q in it", stdout, want)
				}
			}
		})
	}
}

func TestSops(t *testing.T) {
	s := newStage(t)
	s.call(t, s.vault.Addr, s.vault.RootToken, "transit/keys/sops", "{}")
	dir := t.TempDir()
	file := write(t, dir, "secrets.yaml", "database:\n    password: correct horse\n")
	sops := testenv.ToolBinary(t, "sops")
	env := []string{"VAULT_ADDR=" + s.b.Addr, "VAULT_TOKEN=" + s.login(t, "1h", "1h")}
	sealed, stderr, code := testenv.RunCLI(t, "", sops, env, "encrypt", "--hc-vault-transit", s.b.Addr+"/v1/transit/keys/sops", file)
	if code != 0 || strings.Contains(sealed, "correct horse") || !strings.Contains(sealed, "vault:v1:") {
		t.Fatalf("encrypt: %d %s\n%s", code, stderr, sealed)
	}
	file = write(t, dir, "sealed.yaml", sealed)
	open, stderr, code := testenv.RunCLI(t, "", sops, env, "decrypt", file)
	if code != 0 || !strings.Contains(open, "password: correct horse") {
		t.Errorf("decrypt: %d %s\n%s", code, stderr, open)
	}
	if _, stderr, code := testenv.RunCLI(t, "", sops, env, "rotate", "-i", file); code != 0 {
		t.Errorf("rotate: %d %s", code, stderr)
	}
	stranger, err := s.b.NewIdentity(t.Context(), "stranger")
	if err != nil {
		t.Fatal(err)
	}
	open, _, code = testenv.RunCLI(t, "", sops, []string{"VAULT_ADDR=" + s.b.Addr, "VAULT_TOKEN=" + stranger}, "decrypt", file)
	if code == 0 || strings.Contains(open, "correct horse") {
		t.Errorf("decrypt by somebody who may not: got %d %s", code, open)
	}
}
