package e2e_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

// TestEnginesAreEnabledThroughBailiff on the default Vault, and are governed at once.
func TestEnginesAreEnabledThroughBailiff(t *testing.T) {
	s := newStage(t, testenv.BailiffOptions{})
	admin := s.identity("chief", adminRules)
	plain := s.identity("plain", `path "*" { capabilities = ["create", "read", "update", "delete", "list"] }`)

	if out, code := s.tryVault(admin, "secrets", "enable", "-path=kvx", "kv-v2"); code == 0 || !strings.Contains(out, "several Vaults") {
		t.Errorf("with two Vaults and no default: got %d %s", code, out)
	}
	s.apply(strings.Replace(baseObjects, "target \"z\" {", "target \"z\" {\n  default = true", 1))
	if out, code := s.tryVault(plain, "secrets", "enable", "-path=kvx", "kv-v2"); code == 0 || !strings.Contains(out, "permission denied") {
		t.Errorf("without sudo: got %d %s", code, out)
	}
	s.vault(admin, "secrets", "enable", "-path=kvx", "-description=made here", "kv-v2")
	s.vault(admin, "kv", "put", "kvx/a", "x=1")
	if a := atVault(t, s.z, http.MethodGet, "kvx/data/a", ""); a.code != http.StatusOK {
		t.Errorf("it is not on the default Vault: %d %s", a.code, a.body)
	}
	if out := s.vault(admin, "secrets", "list"); !strings.Contains(out, "kvx/") || !strings.Contains(out, "made here") {
		t.Errorf("secrets list: %s", out)
	}
	if out, code := s.tryVault(admin, "secrets", "enable", "-path=kvx", "kv"); code == 0 || !strings.Contains(out, "already in use") {
		t.Errorf("twice: got %d %s", code, out)
	}
	s.vault(admin, "secrets", "tune", "-max-lease-ttl=1h", "-description=other words", "kvx")
	if a := atVault(t, s.z, http.MethodGet, "sys/mounts/kvx/tune", ""); !strings.Contains(a.body, `"max_lease_ttl":3600`) {
		t.Errorf("it was not tuned: %s", a.body)
	}
	s.vault(admin, "secrets", "move", "kvx", "kvy")
	if out := s.vault(admin, "kv", "get", "-field=x", "kvy/a"); strings.TrimSpace(out) != "1" {
		t.Errorf("after the move: %s", out)
	}
	if a := s.get(admin, "kvx/data/a"); a.code != http.StatusNotFound {
		t.Errorf("the old path: got %d %s", a.code, a.body)
	}
	s.vault(admin, "secrets", "disable", "kvy")
	s.vault(admin, "secrets", "disable", "kvy")
	if a := atVault(t, s.z, http.MethodGet, "sys/mounts/kvy", ""); a.code != http.StatusBadRequest {
		t.Errorf("it is still there: %d %s", a.code, a.body)
	}
	if a := s.get(admin, "kvy/data/a"); a.code != http.StatusNotFound {
		t.Errorf("after the end: got %d %s", a.code, a.body)
	}
	if a, err := s.do(t.Context(), http.MethodPut, "/v1/sys/seal", admin, ""); err != nil || a.code != http.StatusMethodNotAllowed {
		t.Errorf("seal: got %d %s", a.code, a.body)
	}
	s.drift(admin)
}

// tryVault runs the vault command against Bailiff.
func (s *stage) tryVault(token string, args ...string) (out string, code int) {
	s.t.Helper()
	stdout, stderr, code := testenv.VaultCLI(s.t, vaultEnv(s.b.Addr, token), args...)
	return stdout + stderr, code
}

// drift goes through the ways in which a Vault can differ, and what is proposed for it.
func (s *stage) drift(admin string) {
	t := s.t
	t.Helper()
	if out, _, code := s.bailiff(nil, "mount", "list", "--drift"); code != 0 || strings.Contains(out, "missing") || strings.Contains(out, "kv-version") {
		t.Errorf("before: %d %s", code, out)
	}
	s.vault(admin, "secrets", "enable", "-path=one", "kv")
	s.vault(admin, "secrets", "enable", "-path=two", "kv")
	s.vault(admin, "secrets", "enable", "-path=three", "kv")
	must(t, s.z, http.MethodDelete, "sys/mounts/one", "")
	must(t, s.z, http.MethodDelete, "sys/mounts/two", "")
	must(t, s.z, http.MethodPost, "sys/mounts/two", `{"type":"transit"}`)
	must(t, s.z, http.MethodDelete, "sys/mounts/three", "")
	must(t, s.z, http.MethodPost, "sys/mounts/three", `{"type":"kv","options":{"version":"2"}}`)
	must(t, s.z, http.MethodPost, "sys/mounts/four", `{"type":"totp"}`)
	out, _, _ := s.bailiff(nil, "mount", "list", "--drift")
	for _, want := range []string{"one/ missing", "two/ type", "three/ kv-version", "four/ ungoverned"} {
		path, kind, _ := strings.Cut(want, " ")
		if !hasLine(out, path, kind) {
			t.Errorf("want %s in\n%s", want, out)
		}
	}
	proposed, _, code := s.bailiff(nil, "discover", "z")
	if code != 0 || !strings.Contains(proposed, `mount "four"`) || strings.Contains(proposed, `"three"`) || strings.Contains(proposed, `"sys"`) {
		t.Fatalf("discover: %d %s", code, proposed)
	}
	s.apply(proposed)
	if out, _, _ := s.bailiff(nil, "mount", "list", "--drift"); strings.Contains(out, "four/") {
		t.Errorf("after what was proposed: %s", out)
	}
}

// hasLine tells whether a line holds all the words.
func hasLine(text string, words ...string) bool {
	for line := range strings.Lines(text) {
		all := true
		for _, w := range words {
			all = all && strings.Contains(line, w)
		}
		if all {
			return true
		}
	}
	return false
}

// TestNamespaces are prefixes of mounts' paths, said in the path or in X-Vault-Namespace.
func TestNamespaces(t *testing.T) {
	s := newStage(t, testenv.BailiffOptions{})
	s.apply("mount \"team-a/secret\" {\n  type = \"vault\"\n  target = \"z\"\n  remote_path = \"secret\"\n}\n")
	must(t, s.a, http.MethodPost, "secret/data/x", `{"data":{"of":"a"}}`)
	must(t, s.z, http.MethodPost, "secret/data/x", `{"data":{"of":"z"}}`)
	member := s.identity("member", `path "team-a/*" { capabilities = ["read", "list"] }`)
	ask := func(token, namespace, path string) answer {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.b.Addr+"/v1/"+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Vault-Token", token)
		if namespace != "" {
			req.Header.Set("X-Vault-Namespace", namespace)
		}
		return doRequest(t, req)
	}
	for _, c := range []struct {
		namespace, path, part string
		code                  int
	}{
		{"team-a", "secret/data/x", `"of":"z"`, 200},
		{"/team-a/", "secret/data/x", `"of":"z"`, 200},
		{"", "team-a/secret/data/x", `"of":"z"`, 200},
		{"root", "team-a/secret/data/x", `"of":"z"`, 200},
		{"", "secret/data/x", "permission denied", 403},
		{"team-b", "secret/data/x", "permission denied", 403},
		{"team-a", "sys/mounts", `"secret/":`, 200},
		{"", "team-a/sys/mounts", `"secret/":`, 200},
		{"", "sys/mounts", "permission denied", 403},
		{"team-a", "sys/internal/ui/mounts/secret", `"path":"secret/"`, 200},
		{"team-a", "sys/internal/ui/mounts", `"secret/":`, 200},
		{"a/../b", "secret/data/x", "namespace", 400},
	} {
		got := ask(member, c.namespace, c.path)
		if got.code != c.code || !strings.Contains(got.body, c.part) || strings.Contains(got.body, `"other/"`) || strings.Contains(got.body, "team-a/secret") {
			t.Errorf("%q %s: got %d %s, want %d with %s", c.namespace, c.path, got.code, got.body, c.code, c.part)
		}
	}
	if out, code := s.tryVault(member, "kv", "get", "-namespace=team-a", "-field=of", "secret/x"); code != 0 || strings.TrimSpace(out) != "z" {
		t.Errorf("vault kv get -namespace: %d %s", code, out)
	}
	for _, r := range s.records("--identity", "member", "--op", "read") {
		if r.Status == "ok" && !strings.HasPrefix(r.Path, "team-a/") {
			t.Errorf("the record names %s, not the full path", r.Path)
		}
	}
}
