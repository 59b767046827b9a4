package hvp_test

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bailiff-secrets/bailiff/hvp"
	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url) //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// keys are the names in a JSON object, in their order.
func keys(t *testing.T, body string) []string {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(body))
	if _, err := d.Token(); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	var out []string
	for d.More() {
		name, err := d.Token()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, name.(string))
		var skip json.RawMessage
		if err := d.Decode(&skip); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func TestStatusPathsHaveVaultsShapes(t *testing.T) {
	real := testenv.Vault(t)
	ours := newServer(t, &doer{})
	for _, path := range []string{"sys/health", "sys/seal-status", "sys/leader", "sys/init"} {
		code, theirs := get(t, real.Addr+"/v1/"+path)
		gotCode, got := get(t, ours.URL+"/v1/"+path)
		if gotCode != code {
			t.Errorf("%s: got %d, want %d", path, gotCode, code)
		}
		want := slices.DeleteFunc(keys(t, theirs), func(name string) bool { return strings.Contains(name, "hcp_") })
		if diff := cmp.Diff(want, keys(t, got)); diff != "" {
			t.Errorf("%s: the fields differ from a real Vault's (-want +got):\n%s\n%s", path, diff, theirs)
		}
	}
}

func TestEnvelopeHasVaultsShape(t *testing.T) {
	real := testenv.Vault(t)
	ours := newServer(t, &doer{})
	shape := func(base, token string) []string {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/v1/auth/token/lookup-self", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Vault-Token", token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return keys(t, string(b))
	}
	if diff := cmp.Diff(shape(real.Addr, real.RootToken), shape(ours.URL, "t")); diff != "" {
		t.Errorf("the envelope differs from a real Vault's (-want +got):\n%s", diff)
	}
}

func TestHealth(t *testing.T) {
	healthy, sealed := hvp.Info{}, hvp.Info{Sealed: true}
	standby, fresh := hvp.Info{Standby: true}, hvp.Info{Uninitialized: true, Sealed: true}
	tests := []struct {
		what  string
		info  hvp.Info
		query string
		code  int
	}{
		{"healthy", healthy, "", 200},
		{"sealed", sealed, "", 503},
		{"a standby", standby, "", 429},
		{"not initialised", fresh, "", 501},
		{"a standby that may be one", standby, "standbyok=true", 200},
		{"a standby that may be one, without a value", standby, "standbyok", 200},
		{"a standby that may not be one", standby, "standbyok=false", 429},
		{"a standby with a code of the caller's", standby, "standbycode=299", 299},
		{"sealed with a code of the caller's", sealed, "sealedcode=200&standbyok=true", 200},
		{"not initialised with a code of the caller's", fresh, "uninitcode=299", 299},
		{"healthy with a code of the caller's", healthy, "activecode=204", 204},
		{"a standby that may be one, with another code for healthy", standby, "standbyok=true&activecode=299", 299},
		{"a code that is no number", healthy, "standbycode=x", 400},
		{"a code that is no status", healthy, "activecode=99", 400},
		{"a code that would be informational", healthy, "activecode=101", 400},
		{"a flag that is none", standby, "standbyok=maybe", 400},
		{"another flag", healthy, "perfstandbyok=true", 200},
		{"another flag that is none", healthy, "perfstandbyok=maybe", 400},
	}
	for _, tt := range tests {
		d := &doer{}
		s := newServer(t, d, func(c *hvp.Config) { c.Info = func(context.Context) hvp.Info { return tt.info } })
		for _, method := range []string{"GET", "HEAD"} {
			got := send(t, s, request(method+" /v1/sys/health?"+tt.query))
			if got.code != tt.code {
				t.Errorf("%s %s: got %d, want %d", method, tt.what, got.code, tt.code)
			}
			if body := got.body != ""; body != (method == "GET" && tt.code != 204) {
				t.Errorf("%s %s: got body %q", method, tt.what, got.body)
			}
		}
		if done, refused := d.counts(); done+refused != 0 {
			t.Errorf("%s: it reached the gate", tt.what)
		}
	}
}

func TestStatusPathsAreOpenForReadingOnly(t *testing.T) {
	d := &doer{}
	s := newServer(t, d)
	for _, target := range []string{"PUT /v1/sys/init", "POST /v1/sys/seal-status", "LIST /v1/sys/leader", "DELETE /v1/sys/health", "GET /v1/sys/health%2F..", "GET /v1/sys/healthy"} {
		done, refused := d.counts()
		send(t, s, request(target))
		if d2, r2 := d.counts(); d2+r2 != done+refused+1 {
			t.Errorf("%s: it did not go to the gate", target)
		}
	}
}

func TestVaultStatus(t *testing.T) {
	s := newServer(t, &doer{})
	out, errs, code := testenv.VaultCLI(t, []string{"VAULT_ADDR=" + s.URL}, "status", "-format=json")
	if code != 0 {
		t.Fatalf("vault status: %d %s", code, errs)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"version": hvp.Version, "sealed": false, "initialized": true, "cluster_name": "bailiff-test", "storage_type": "sqlite"}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			t.Errorf("got %s %v, want %v", name, got[name], want[name])
		}
	}
}
