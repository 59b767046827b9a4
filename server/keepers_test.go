package server

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/bailiff-secrets/bailiff/internal/document"
	"github.com/bailiff-secrets/bailiff/internal/object"
)

// asks sends one request and reads its answer.
func (u *under) asks(method, path, token, body string, headers ...string) (int, map[string]any) {
	u.t.Helper()
	req, err := http.NewRequestWithContext(u.t.Context(), method, "http://"+u.addr+"/v1/"+path, strings.NewReader(body))
	if err != nil {
		u.t.Fatal(err)
	}
	req.Header.Set("X-Vault-Token", token)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		u.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(bufio.NewReader(resp.Body))
	if err != nil {
		u.t.Fatal(err)
	}
	out := map[string]any{}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &out); err != nil {
			u.t.Fatalf("%s: %v", text, err)
		}
	}
	return resp.StatusCode, out
}

func within(m map[string]any, path string) any {
	var v any = m
	for name := range strings.SplitSeq(path, ".") {
		x, _ := v.(map[string]any)
		v = x[name]
	}
	return v
}

func TestATokensSmallStoreEndsWithIt(t *testing.T) {
	u := newUnder(t)
	apply(t, u.server, &object.Policy{Name: "app", Rules: `path "auth/token/create" { capabilities = ["update"] }`})
	_, made := u.asks("POST", "auth/token/create", u.token, `{"ttl":"1h"}`)
	token, _ := within(made, "auth.client_token").(string)
	accessor, _ := within(made, "auth.accessor").(string)
	if token == "" {
		t.Fatalf("got %v", made)
	}
	for _, who := range []string{token, u.token} {
		if code, got := u.asks("POST", "cubbyhole/x", who, `{"a":"b"}`); code != 204 {
			t.Fatalf("got %d %v", code, got)
		}
	}
	if code, got := u.asks("GET", "cubbyhole/x", token, ""); code != 200 || within(got, "data.a") != "b" {
		t.Errorf("got %d %v", code, got)
	}
	if lives, err := u.alive(t.Context(), accessor); err != nil || !lives {
		t.Errorf("got %v, %v: the token lives", lives, err)
	}
	if code, got := u.asks("POST", "auth/token/revoke-self", token, ""); code != 204 {
		t.Fatalf("got %d %v", code, got)
	}
	if lives, err := u.alive(t.Context(), accessor); err != nil || lives {
		t.Errorf("got %v, %v: the token has ended", lives, err)
	}
	for accessor, want := range map[string]int{accessor: 0, "k-": 1} {
		found, err := u.documentsOf("cubbyhole", accessor)
		if err != nil || found != want {
			t.Errorf("below %q: got %d documents and %v, want %d", accessor, found, err, want)
		}
	}
}

func TestAWrappingTokenIsNoCaller(t *testing.T) {
	u := newUnder(t)
	wrap := func() string {
		code, got := u.asks("GET", "secret/data/a", u.token, "", "X-Vault-Wrap-TTL: 60")
		token, _ := within(got, "wrap_info.token").(string)
		if code != 200 || token == "" || strings.Contains(token, "p-") {
			t.Fatalf("got %d %v", code, got)
		}
		return token
	}
	token := wrap()
	if code, got := u.asks("PUT", "sys/wrapping/unwrap", token, ""); code != 200 || within(got, "data.k") != "v" || within(got, "request_id") == "x" {
		t.Errorf("got %d %v", code, got)
	}
	for _, path := range []string{"secret/data/a", "cubbyhole/response", "auth/token/lookup-self"} {
		token := wrap()
		if code, got := u.asks("GET", path, token, ""); code != 403 {
			t.Errorf("%s: got %d %v", path, code, got)
		}
		if rec := u.newest(); rec.Method != "wrapping-token" || rec.Path != path || rec.Status != "denied" {
			t.Errorf("%s: got the record %+v", path, rec)
		}
		if code, got := u.asks("PUT", "sys/wrapping/unwrap", token, ""); code != 400 {
			t.Errorf("%s: the token still opens something: %d %v", path, code, got)
		}
	}
}

// documentsOf counts documents.
func (u *under) documentsOf(space, prefix string) (int, error) {
	found, err := u.db.Documents(u.t.Context(), document.Query{Space: space, Prefix: prefix})
	return len(found), err
}
