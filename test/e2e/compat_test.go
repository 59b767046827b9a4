package e2e_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

func mustVault(t *testing.T, env []string, args ...string) string {
	t.Helper()
	stdout, stderr, code := testenv.VaultCLI(t, env, args...)
	if code != 0 {
		t.Fatalf("vault %s: status %d\n%s%s", strings.Join(args, " "), code, stdout, stderr)
	}
	return stdout
}

// mask takes away the widths of tables.
func mask(s string) string { return regexp.MustCompile(`  +`).ReplaceAllString(s, "  ") }

func TestCommandsAboutTheServerAndTheToken(t *testing.T) {
	s := newStage(t, testenv.BailiffOptions{})
	token := s.identity("app", "path \"secret/data/app/*\" {\n  capabilities = [\"read\", \"create\"]\n}\n"+
		"path \"sys/policies/acl/*\" {\n  capabilities = [\"read\", \"list\"]\n}\npath \"sys/policies/acl\" {\n  capabilities = [\"list\"]\n}\n"+
		"path \"sys/mounts\" {\n  capabilities = [\"read\"]\n}\n")
	for _, tc := range []struct {
		line string
		code int
		want []string // in the output
	}{
		{line: "status", want: []string{"Sealed  false", "Initialized  true"}},
		{line: "status -format=json", want: []string{`"sealed": false`}},
		{line: "token lookup", want: []string{"policies", "app"}},
		{line: "token lookup -format=json", want: []string{`"policies"`, `"app"`, `"default"`, `"lease_id": ""`}},
		{line: "token capabilities secret/data/app/x", want: []string{"create, read"}},
		{line: "token capabilities secret/data/else", want: []string{"deny"}},
		{line: "login " + token, want: []string{"Success! You are now authenticated", "token_policies"}},
		{line: "login -no-print " + token},
		{line: "login p-nobody..nothing", code: 2, want: []string{"permission denied"}},
		{line: "secrets list", want: []string{"secret/", "other/", "kv"}},
		{line: "secrets list -format=json", want: []string{`"secret/"`, `"version": "2"`}},
		{line: "policy list", want: []string{"app", "default"}},
		{line: "policy read app", want: []string{"secret/data/app/*"}},
		{line: "policy read nothing", code: 2, want: []string{"No policy named"}},
		{line: "kv get secret/app/missing", code: 2, want: []string{"No value found at secret/data/app/missing"}},
	} {
		t.Run(strings.ReplaceAll(tc.line, token, "TOKEN"), func(t *testing.T) {
			stdout, stderr, code := testenv.VaultCLI(t, vaultEnv(s.b.Addr, token), strings.Fields(tc.line)...)
			if code != tc.code {
				t.Errorf("status: got %d, want %d\n%s%s", code, tc.code, stdout, stderr)
			}
			for _, want := range tc.want {
				if !strings.Contains(mask(stdout+stderr), want) {
					t.Errorf("got\n%s%swant %q in it", stdout, stderr, want)
				}
			}
		})
	}
}

func TestTwoVaultsAtOneAddress(t *testing.T) {
	s := newStage(t, testenv.BailiffOptions{})
	token, err := s.b.NewIdentity(t.Context(), "everybody", "everything")
	if err != nil {
		t.Fatal(err)
	}
	s.vault(token, "kv", "put", "secret/x", "of=a")
	s.vault(token, "kv", "put", "other/x", "of=z")
	for _, tc := range []struct {
		name, addr, token, path, want string
	}{
		{"through Bailiff", s.b.Addr, token, "secret/x", "a"},
		{"through Bailiff", s.b.Addr, token, "other/x", "z"},
		{"on the one Vault", s.a.Addr, s.a.RootToken, "secret/x", "a"},
		{"on the other Vault", s.z.Addr, s.z.RootToken, "secret/x", "z"},
	} {
		got := strings.TrimSpace(mustVault(t, vaultEnv(tc.addr, tc.token), "kv", "get", "-field=of", tc.path))
		if got != tc.want {
			t.Errorf("%s %s: got %q, want %q", tc.path, tc.name, got, tc.want)
		}
	}
}
