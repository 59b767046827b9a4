package upstream_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/internal/testenv"
	"github.com/bailiff-secrets/bailiff/policy"
	"github.com/bailiff-secrets/bailiff/upstream"
)

// admin does something at a real Vault as root and returns what is in its answer.
func admin(t *testing.T, v *testenv.VaultServer, method, path string, in any) map[string]any {
	t.Helper()
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, v.Addr+"/v1/"+path, bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Vault-Token", v.RootToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	out := map[string]any{}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode > 299 {
		t.Fatalf("%s %s: %d %s", method, path, resp.StatusCode, body)
	}
	if len(body) > 0 {
		if err := json.Unmarshal(body, &out); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func inner(t *testing.T, m map[string]any, names ...string) any {
	t.Helper()
	var v any = m
	for _, name := range names {
		v = v.(map[string]any)[name]
	}
	return v
}

func realTarget(v *testenv.VaultServer, token string) object.Target {
	return object.Target{Name: "real", Type: "vault", Address: v.Addr, Auth: &object.VaultAuth{Method: "token", Token: secret.New(token)}}
}

func TestRealKV(t *testing.T) {
	server := testenv.Vault(t)
	admin(t, server, "POST", "sys/mounts/upkv1", map[string]any{"type": "kv"})
	v := newVault(t, upstream.Config{Target: realTarget(server, server.RootToken)})
	v1, v2 := v.Mount("upkv1", 1), v.Mount("secret", 2)
	body := func(s string) io.Reader { return strings.NewReader(s) }
	patch := write("data/up/a", body(`{"data":{"n":"2"}}`), 18)
	patch.Op, patch.ContentType = policy.Patch, "application/merge-patch+json"
	list := func(rest string) *gate.Request { r := read(rest); r.Op = policy.List; return r }
	remove := func(rest string) *gate.Request { r := read(rest); r.Op = policy.Delete; return r }
	help := read("data/up/a")
	help.Op = policy.Help
	steps := []struct {
		what string
		b    gate.Backend
		r    *gate.Request
		code int
		part string
	}{
		{"write to KV v2", v2, write("data/up/a", body(`{"data":{"k":"v"}}`), 18), 200, `"version":1`},
		{"read from KV v2", v2, read("data/up/a"), 200, `"k":"v"`},
		{"patch in KV v2", v2, patch, 200, `"version":2`},
		{"read what was patched", v2, read("data/up/a"), 200, `"data":{"k":"v","n":"2"}`},
		{"list KV v2", v2, list("metadata/up"), 200, `"keys":["a"]`},
		{"help", v2, help, 200, `"help":`},
		{"read what isn't there", v2, read("data/up/none"), 404, `{"errors":[]}`},
		{"write to KV v1 with a space and a slash's neighbours", v1, write("a b/ü?", body(`{"k":"v1"}`), 10), 204, ""},
		{"read from KV v1", v1, read("a b/ü?"), 200, `"data":{"k":"v1"}`},
		{"list KV v1", v1, list("a b"), 200, `"keys":["ü?"]`},
		{"list the mount itself", v1, list(""), 200, `"keys":["a b/"]`},
		{"delete from KV v1", v1, remove("a b/ü?"), 204, ""},
		{"read what was deleted", v1, read("a b/ü?"), 404, `{"errors":[]}`},
	}
	for _, s := range steps {
		got := mustServe(t, s.b, s.r)
		if got.code != s.code || !strings.Contains(got.body, s.part) {
			t.Errorf("%s: got %d %s, want %d with %s", s.what, got.code, got.body, s.code, s.part)
		}
	}
}

func TestRealExists(t *testing.T) {
	server := testenv.Vault(t)
	admin(t, server, "POST", "sys/mounts/exkv1", map[string]any{"type": "kv"})
	admin(t, server, "PUT", "exkv1/a", map[string]any{"k": "v"})
	for _, name := range []string{"a", "deleted", "destroyed"} {
		admin(t, server, "PUT", "secret/data/ex/"+name, map[string]any{"data": map[string]any{"k": "v"}})
	}
	admin(t, server, "DELETE", "secret/data/ex/deleted", nil)
	admin(t, server, "PUT", "secret/destroy/ex/destroyed", map[string]any{"versions": []int{1}})
	v := newVault(t, upstream.Config{Target: realTarget(server, server.RootToken)})
	tests := []struct {
		remote, rest  string
		kv            int
		exists, known bool
	}{
		{"exkv1", "a", 1, true, true},
		{"exkv1", "none", 1, false, true},
		{"secret", "data/ex/a", 2, true, true},
		{"secret", "data/ex/none", 2, false, true},
		{"secret", "data/ex/deleted", 2, false, true},
		{"secret", "data/ex/destroyed", 2, false, true},
		{"secret", "metadata/ex/deleted", 2, true, true},
		{"secret", "metadata/ex/none", 2, false, true},
		{"secret", "delete/ex/a", 2, false, false},
		{"secret", "config", 2, false, false},
		{"transit", "keys/a", 0, false, false},
	}
	for _, tt := range tests {
		x := v.Mount(tt.remote, tt.kv).(gate.Exister)
		exists, known, err := x.Exists(t.Context(), read(tt.rest))
		if err != nil || exists != tt.exists || known != tt.known {
			t.Errorf("%s/%s: got %v, %v, %v, want %v, %v", tt.remote, tt.rest, exists, known, err, tt.exists, tt.known)
		}
	}
}

func TestRealMountsAndHealth(t *testing.T) {
	server := testenv.Vault(t)
	admin(t, server, "PUT", "sys/policies/acl/up-read", map[string]any{"policy": `path "secret/*" { capabilities = ["read"] }`})
	limited := inner(t, admin(t, server, "POST", "auth/token/create", map[string]any{"policies": []string{"up-read"}}), "auth", "client_token").(string)
	for _, token := range []string{server.RootToken, limited} {
		v := newVault(t, upstream.Config{Target: realTarget(server, token)})
		mounts, err := v.Mounts(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, m := range mounts {
			if m.Path != "secret/" {
				continue
			}
			found = true
			want := upstream.MountInfo{Path: "secret/", Type: "kv", Description: "key/value secret storage", Options: map[string]string{"version": "2"}, Accessor: m.Accessor, UUID: m.UUID}
			if diff := cmp.Diff(want, m); diff != "" || m.Accessor == "" {
				t.Errorf("secret/ differs (-want +got):\n%s", diff)
			}
		}
		if !found {
			t.Errorf("got %+v, want secret/ among them", mounts)
		}
		if err := v.Health(t.Context()); err != nil {
			t.Errorf("Health: %v", err)
		}
	}
}

// renewing makes a token that lives for seconds unless somebody renews it.
func renewing(t *testing.T, server *testenv.VaultServer, ttl string) string {
	return inner(t, admin(t, server, "POST", "auth/token/create", map[string]any{"period": ttl, "policies": []string{"root"}}), "auth", "client_token").(string)
}

func TestRealTokenIsRenewed(t *testing.T) {
	server := testenv.Vault(t)
	const ttl = 3 * time.Second
	v := newVault(t, upstream.Config{Target: realTarget(server, renewing(t, server, "3s"))})
	runFor(t, v)
	b := v.Mount("secret", 2)
	start := time.Now()
	eventually(t, "twice its first time is over, and the token lives", func() bool {
		if got := mustServe(t, b, read("metadata/none")); got.code != 404 {
			t.Fatalf("after %v: got %d %s, want 404", time.Since(start), got.code, got.body)
		}
		return time.Since(start) > 2*ttl
	})
}

// runFor runs v until the test ends.
func runFor(t *testing.T, v *upstream.Vault) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- v.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestRealTokenThatWasRevoked(t *testing.T) {
	server := testenv.Vault(t)
	token := renewing(t, server, "1h")
	b := newVault(t, upstream.Config{Target: realTarget(server, token)}).Mount("secret", 2)
	if got := mustServe(t, b, read("data/none")); got.code != 404 {
		t.Fatalf("got %d, want 404", got.code)
	}
	admin(t, server, "POST", "auth/token/revoke", map[string]any{"token": token})
	eventually(t, "the token is found dead", func() bool { _, err := serve(t, b, read("data/none")); return err != nil })
	_, err := serve(t, b, read("data/none"))
	if said := wantKind(t, err, gate.TargetDown); !strings.Contains(said.Msg, "token") || strings.Contains(said.Msg, token) {
		t.Errorf("got %q, want words about the token without it", said.Msg)
	}
}

func TestRealAppRole(t *testing.T) {
	server := testenv.Vault(t)
	admin(t, server, "POST", "sys/auth/up-approle", map[string]any{"type": "approle"})
	admin(t, server, "PUT", "sys/policies/acl/up-app", map[string]any{"policy": `path "secret/*" { capabilities = ["read", "list"] }`})
	admin(t, server, "PUT", "auth/up-approle/role/r", map[string]any{"token_policies": "up-app", "token_ttl": "3s", "token_max_ttl": "5s"})
	roleID := inner(t, admin(t, server, "GET", "auth/up-approle/role/r/role-id", nil), "data", "role_id").(string)
	secretID := inner(t, admin(t, server, "PUT", "auth/up-approle/role/r/secret-id", nil), "data", "secret_id").(string)
	target := realTarget(server, "x")
	target.Auth = &object.VaultAuth{Method: "approle", Mount: "up-approle", RoleID: roleID, SecretID: secret.New(secretID)}
	v := newVault(t, upstream.Config{Target: target})
	runFor(t, v)
	b := v.Mount("secret", 2)
	start := time.Now()
	eventually(t, "longer than the token may ever live is over", func() bool {
		if got := mustServe(t, b, read("data/none")); got.code != 404 {
			t.Fatalf("after %v: got %d %s, want 404", time.Since(start), got.code, got.body)
		}
		return time.Since(start) > 6500*time.Millisecond
	})
	// All its tokens are revoked behind its back: the next requests log in again.
	accessors := inner(t, admin(t, server, "LIST", "auth/token/accessors", nil), "data", "keys").([]any)
	for _, a := range accessors {
		info := admin(t, server, "POST", "auth/token/lookup-accessor", map[string]any{"accessor": a})
		if strings.HasPrefix(inner(t, info, "data", "path").(string), "auth/up-approle/") {
			admin(t, server, "POST", "auth/token/revoke-accessor", map[string]any{"accessor": a})
		}
	}
	eventually(t, "a new login serves", func() bool {
		got, err := serve(t, b, read("data/none"))
		return err == nil && got.code == 404
	})
	if got := mustServe(t, b, write("data/none", strings.NewReader(`{"data":{}}`), 11)); got.code != 403 {
		t.Errorf("what Bailiff's role may not do there: got %d, want the target's own 403", got.code)
	}
}

func TestRealSealedVault(t *testing.T) {
	server := testenv.NewVault(t)
	v := newVault(t, upstream.Config{Target: realTarget(server, server.RootToken)})
	b := v.Mount("secret", 2)
	mustServe(t, b, read("data/none"))
	admin(t, server, "PUT", "sys/seal", nil)
	_, err := serve(t, b, read("data/none"))
	if said := wantKind(t, err, gate.TargetDown); !strings.Contains(said.Msg, "sealed") {
		t.Errorf("got %q, want words about a seal", said.Msg)
	}
	wantKind(t, v.Health(t.Context()), gate.TargetDown)
}
