package api_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bailiff-secrets/bailiff/api"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/policy"
)

func client(t *testing.T, addr, token string) *api.Client {
	t.Helper()
	c, err := api.NewClient(api.ClientConfig{Addr: addr, Token: secret.New(token)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestClientAndServerAgree(t *testing.T) {
	e := newEstate(t, func(r *gate.Request) (*gate.Response, error) {
		if r.Path == "sys/leases/revoke" || r.Op == policy.Delete || strings.HasSuffix(r.Path, "keys/k-1") {
			return &gate.Response{Status: gate.NoContent}, nil
		}
		return &gate.Response{Data: map[string]any{"name": r.Path, "steps": []object.Step{{Name: "s", Version: 3}},
			"objects": []any{map[string]any{"name": "o"}}, "keys": []any{map[string]any{"id": "k-1"}},
			"leases": []any{map[string]any{"id": "l"}}, "next": 7, "records": []any{map[string]any{"seq": 9}}}}, nil
	})
	c, ctx := client(t, e.url, "ann"), t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	status, err := c.Status(ctx)
	must(err)
	if !json.Valid(status) {
		t.Errorf("status: %s", status)
	}
	page, err := c.Audit(ctx, url.Values{"identity": {"ci"}})
	must(err)
	plan, err := c.Plan(ctx, api.PlanRequest{Objects: []api.ObjectInput{{Kind: "role", Name: "r", Body: json.RawMessage(`{}`)}}})
	must(err)
	_, err = c.Apply(ctx, api.PlanRequest{Objects: []api.ObjectInput{}})
	must(err)
	objects, err := c.Objects(ctx, object.KindRole)
	must(err)
	one, err := c.Object(ctx, object.KindProducer, "database/readonly")
	must(err)
	must(c.DeleteObject(ctx, object.KindRole, "r", 2))
	_, err = c.CreateIdentity(ctx, "ci", api.IdentityRequest{Roles: []string{"app"}})
	must(err)
	must(c.DisableIdentity(ctx, "ci", true))
	keys, err := c.Keys(ctx, "ci")
	must(err)
	_, err = c.CreateKey(ctx, "ci", api.KeyRequest{TTL: "1h"})
	must(err)
	must(c.DisableKey(ctx, "ci", "k-1", false))
	must(c.DeleteKey(ctx, "ci", "k-1"))
	leases, err := c.Leases(ctx, url.Values{"state": {"stuck"}})
	must(err)
	_, err = c.Lease(ctx, "database/creds/r/a?b")
	must(err)
	_, err = c.RenewLease(ctx, "database/creds/r/a", 60)
	must(err)
	must(c.RevokeLease(ctx, "database/creds/r/a", true))

	if len(page.Records) != 1 || page.Records[0].Seq != 9 || page.Next != 7 {
		t.Errorf("audit: %+v", page)
	}
	if len(plan.Steps) != 1 || len(objects) != 1 || len(keys) != 1 || len(leases.Leases) != 1 || one.Name == "" {
		t.Errorf("answers: %+v %+v %+v %+v %+v", plan, objects, keys, leases, one)
	}
	if diff := cmp.Diff([]string{
		"read sys/bailiff/status",
		"read sys/bailiff/audit?identity=ci",
		`update sys/bailiff/plan {"objects":[{"kind":"role","name":"r","body":{}}]}`,
		`update sys/bailiff/apply {"objects":[]}`,
		"list sys/bailiff/objects/role",
		"read sys/bailiff/objects/producer/database/readonly",
		"delete sys/bailiff/objects/role/r?version=2",
		`update sys/bailiff/identities/ci {"roles":["app"]}`,
		`update sys/bailiff/identities/ci {"disabled":true}`,
		"list sys/bailiff/identities/ci/keys",
		`update sys/bailiff/identities/ci/keys {"ttl":"1h"}`,
		`update sys/bailiff/identities/ci/keys/k-1 {"disabled":false}`,
		"delete sys/bailiff/identities/ci/keys/k-1",
		"list sys/bailiff/leases?state=stuck",
		"read sys/bailiff/leases/database/creds/r/a?b",
		`update sys/leases/renew {"lease_id":"database/creds/r/a","increment":60}`,
		`update sys/leases/revoke {"lease_id":"database/creds/r/a","sync":true}`,
	}, e.requests()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestUSCOverTheWire(t *testing.T) {
	e := newEstate(t, func(r *gate.Request) (*gate.Response, error) {
		switch {
		case r.Op == policy.List && r.Path == "secret/metadata":
			return raw(200, `{"data":{"keys":["app/","top"]}}`)
		case r.Op == policy.List:
			return raw(404, `{"errors":[]}`)
		case r.Op == policy.Read && strings.HasPrefix(r.Path, "secret/metadata/"):
			return raw(200, `{"data":{"current_version":4,"versions":{"4":{"deletion_time":"","destroyed":false}}}}`)
		case r.Op == policy.Read:
			return raw(200, `{"data":{"data":{"password":"p"},"metadata":{"version":4,"created_time":"2026-01-02T03:04:05Z","custom_metadata":{"o":"w"}}}}`)
		case r.Op == policy.Delete:
			return raw(204, ``)
		default:
			return raw(200, `{"data":{"version":5}}`)
		}
	})
	for _, c := range []struct{ op, body, want string }{
		{"list", `{"usc-name":"kv"}`, `{"secrets_list":[{"secret_id":"top","name":"top","type":"kv-v2","status":true}]}`},
		{"list", `{"usc-name":"kv","flat":true}`, `{"secrets_list":[{"secret_id":"app/","name":"app/","type":"folder","status":true},` +
			`{"secret_id":"top","name":"top","type":"kv-v2","status":true}]}`},
		{"list", `{"usc-name":"kv","path":"none"}`, `{"secrets_list":[]}`},
		{"get", `{"usc-name":"kv","secret-id":"app/db"}`, `{"name":"app/db","value":"` + base64.StdEncoding.EncodeToString([]byte(`{"password":"p"}`)) +
			`","binary_value":false,"metadata":{"created":"2026-01-02T03:04:05Z","updated":"2026-01-02T03:04:05Z","version":4,"custom":{"o":"w"}}}`},
		{"create", `{"usc-name":"kv","secret-name":"app/db","value":{"a": 1}}`, `{"secret_id":"app/db","version_id":"5"}`},
		{"update", `{"usc-name":"kv","secret-id":"app/db","value":"a=b=c"}`, `{"name":"app/db","secret_id":"app/db","version_id":"5"}`},
		{"update", `{"usc-name":"kv","secret-id":"app/db","value":"eyJhIjoiYiJ9","expect-version":9}`, `{"name":"app/db","secret_id":"app/db","version_id":"5"}`},
		{"delete", `{"usc-name":"kv","secret-id":"app/db"}`, `{"name":"app/db"}`},
		{"delete", `{"usc-name":"kv","secret-id":"app/db","all-versions":true}`, `{"name":"app/db"}`},
	} {
		resp, body := e.send("ann", "POST", "/api/v1/usc/"+c.op, c.body)
		if resp.StatusCode != http.StatusOK || strings.TrimSpace(body) != c.want {
			t.Errorf("%s %s:\ngot  %d %swant 200 %s", c.op, c.body, resp.StatusCode, body, c.want)
		}
	}
	if diff := cmp.Diff([]string{
		"list secret/metadata", "list secret/metadata/app",
		"list secret/metadata",
		"list secret/metadata/none",
		"read secret/data/app/db",
		`update secret/data/app/db {"data":{"a": 1},"options":{"cas":0}}`,
		"read secret/metadata/app/db", `update secret/data/app/db {"data":{"a":"b=c"},"options":{"cas":4}}`,
		`update secret/data/app/db {"data":{"a":"b"},"options":{"cas":9}}`,
		"delete secret/data/app/db", "delete secret/metadata/app/db",
	}, e.requests()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	for _, rec := range e.records() {
		if !strings.HasPrefix(rec, "ann usc ok ") {
			t.Errorf("record %q", rec)
		}
	}
	c := client(t, e.url, "ann")
	got, err := c.GetSecret(t.Context(), api.USCGet{Name: "kv", SecretID: "app/db"})
	if err != nil || got.Metadata.Version != 4 {
		t.Errorf("get: %+v, %v", got, err)
	}
	_, err = c.GetSecret(t.Context(), api.USCGet{Name: "none", SecretID: "app/db"})
	var no *api.Error
	if !errors.As(err, &no) || no.Kind != api.NotFound || no.Status != 404 || no.Hint == "" || no.RequestID == "" {
		t.Errorf("get from nowhere: %+v", err)
	}
}

func TestClientRefusesAddressesThatWouldLeak(t *testing.T) {
	for _, addr := range []string{"", "127.0.0.1:8280", "ftp://a", "http://", "http://user:pass@a", "http://a/?token=x", "http://a/#x", "https://a b"} {
		if _, err := api.NewClient(api.ClientConfig{Addr: addr}); err == nil {
			t.Errorf("%q was accepted", addr)
		}
	}
	if _, err := api.NewClient(api.ClientConfig{Addr: "https://a", CACert: []byte("no certificate")}); err == nil {
		t.Error("a CA file without a certificate was accepted")
	}
}

func TestClientSendsTheTokenOnlyInAHeader(t *testing.T) {
	var seen []string
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		seen = append(seen, "elsewhere "+r.Header.Get("Authorization"))
	}))
	defer elsewhere.Close()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		seen = append(seen, r.Header.Get("Authorization"))
		if strings.Contains(r.RequestURI+string(body), "t0ken") {
			t.Errorf("the token is in %s %s", r.RequestURI, body)
		}
		http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
	}))
	defer srv.Close()
	_, err := client(t, srv.URL, "t0ken").Status(t.Context())
	var no *api.Error
	if !errors.As(err, &no) || no.Status != http.StatusTemporaryRedirect {
		t.Errorf("a redirect: got %v", err)
	}
	if diff := cmp.Diff([]string{"Bearer t0ken"}, seen); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestClientWithAnswersThatAreNotOurs(t *testing.T) {
	for _, c := range []struct {
		sentence string
		code     int
		body     string
	}{
		{"a proxy's error", 502, "<html>bad gateway</html>"},
		{"Vault's error", 403, `{"errors":["permission denied"]}`},
		{"no JSON", 200, "hunter2"},
		{"JSON of another form", 200, `["hunter2"]`},
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(c.code)
			io.WriteString(w, c.body)
		}))
		_, err := client(t, srv.URL, "t").Keys(t.Context(), "ci")
		var no *api.Error
		if !errors.As(err, &no) || no.Status != c.code || no.Kind != api.Internal || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v", c.sentence, err)
		}
		srv.Close()
	}
	srv := httptest.NewServer(http.NotFoundHandler())
	srv.Close()
	_, err := client(t, srv.URL, "t0ken").Status(t.Context())
	var gone *url.Error
	if !errors.As(err, &gone) || strings.Contains(err.Error(), "t0ken") {
		t.Errorf("no server: got %v", err)
	}
}

func TestParseValue(t *testing.T) {
	for _, c := range []struct{ raw, want string }{
		{`{"a":"b"}`, `{"a":"b"}`},
		{` {"a" : 1.10} `, `{"a" : 1.10}`},
		{`{}`, `{}`},
		{`"e30="`, `{}`},
		{`"eyJhIjoiYiJ9"`, `{"a":"b"}`},
		{`"a=b"`, `{"a":"b"}`},
		{`"a="`, `{"a":""}`},
		{`"a=b=c"`, `{"a":"b=c"}`},
		{`"=b"`, ``}, {`""`, ``}, {`"abc"`, ``}, {`null`, ``}, {`[]`, ``}, {`1`, ``}, {``, ``}, {`{"a"`, ``},
	} {
		got, err := api.ParseValue(json.RawMessage(c.raw))
		if got.Reveal() != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: got %s, %v, want %s", c.raw, got.Reveal(), err, c.want)
		}
	}
}
