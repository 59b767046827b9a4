package hvp_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

// front is a Handler before a real Vault, over TLS with HTTP/2, with nothing between that judges.
func front(t *testing.T, v *testenv.VaultServer) (*httptest.Server, *doer) {
	t.Helper()
	d := through(t, &recording{addr: v.Addr}, v.RootToken)
	s := httptest.NewUnstartedServer(newHandler(t, d))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	return s, d
}

// told is what of an answer must be the same.
type told struct {
	Code     int
	Type     string
	Encoding string
	Store    string
	Data     any
	Errors   any
}

func talk(t *testing.T, c *http.Client, token, method, url, body string, headers ...string) told {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Vault-Token", token)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if req.Header.Set(name, value); name == "Authorization" {
			req.Header.Del("X-Vault-Token")
		}
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatalf("%s %s %v: %v", method, url, headers, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	out := told{Code: resp.StatusCode, Type: resp.Header.Get("Content-Type"), Encoding: resp.Header.Get("Content-Encoding"), Store: resp.Header.Get("Cache-Control")}
	var e struct{ Data, Errors any }
	if len(text) > 0 {
		if err := json.Unmarshal(text, &e); err != nil {
			t.Fatalf("%s %s %v: %s: %v", method, url, headers, text, err)
		}
	}
	out.Data, out.Errors = e.Data, e.Errors
	return out
}

func TestHeadersMeanWhatTheyMeanToVault(t *testing.T) {
	v := testenv.Vault(t)
	s, _ := front(t, v)
	plain := &http.Client{Transport: &http.Transport{DisableCompression: true}}
	t.Cleanup(plain.CloseIdleConnections)
	talk(t, plain, v.RootToken, http.MethodPut, v.Addr+"/v1/secret/data/protocol", `{"data":{"a":"<b>&"}}`)
	for _, tt := range []struct{ method, path, body, header string }{
		{http.MethodGet, "secret/data/protocol", "", "Accept-Encoding: gzip, br"},
		{http.MethodGet, "secret/data/protocol", "", "Accept: text/plain"},
		{http.MethodGet, "secret/data/protocol", "", "If-Modified-Since: Wed, 21 Oct 2054 07:28:00 GMT"},
		{http.MethodGet, "secret/data/protocol", "", "If-None-Match: *"},
		{http.MethodGet, "secret/data/protocol", "", "Range: bytes=0-1"},
		{http.MethodGet, "secret/data/protocol", "", "X-Vault-Request: false"},
		{http.MethodGet, "secret/data/protocol", "", "X-Vault-Request: true"},
		{http.MethodGet, "secret/data/protocol", "", "X-Vault-Index: bm90aGluZw=="},
		{http.MethodGet, "secret/data/protocol", "", "X-Vault-MFA: totp:123456"},
		{http.MethodGet, "secret/data/protocol", "", "X-Vault-Wrap-TTL: 0"},
		{http.MethodGet, "secret/data/protocol", "", "X-Vault-Wrap-Format: jwt"},
		{http.MethodGet, "secret/data/protocol", "", "X-Http-Method-Override: DELETE"},
		{http.MethodGet, "secret/data/protocol", "", "Authorization: Bearer " + v.RootToken},
		{http.MethodGet, "secret/data/missing", "", "Accept: */*"},
		{"LIST", "secret/metadata", "", "Accept: */*"},
		{http.MethodGet, "secret/metadata/?list=true", "", "Accept: */*"},
		{http.MethodGet, "secret/metadata?list=maybe", "", "Accept: */*"},
		{http.MethodPut, "secret/data/protocol", `{"data":`, "Content-Type: application/json"},
		{http.MethodPut, "secret/data/protocol", `{"data":{"k":"v"},"options":{"cas":77}}`, "Content-Type: application/json"},
		{http.MethodPut, "secret/data/protocol", `{"data":{"k":"v"},"options":{"cas":77}}`, "Content-Type: application/x-www-form-urlencoded"},
		{http.MethodPut, "secret/data/protocol", `{"data":{"k":"v"},"options":{"cas":77}}`, "Content-Encoding: gzip"},
		{http.MethodPut, "secret/data/protocol", `{"data":{"k":"v"},"options":{"cas":77}}`, "Expect: 100-continue"},
		{http.MethodPatch, "secret/data/none", `{"data":{"k":"v"}}`, "Content-Type: application/merge-patch+json"},
		{http.MethodPatch, "secret/data/none", `{"data":{"k":"v"}}`, "Content-Type: application/json"},
		{http.MethodOptions, "secret/data/protocol", "", "Accept: */*"},
		{"BREW", "secret/data/protocol", "", "Accept: */*"},
	} {
		want := talk(t, plain, v.RootToken, tt.method, v.Addr+"/v1/"+tt.path, tt.body, tt.header)
		got := talk(t, s.Client(), v.RootToken, tt.method, s.URL+"/v1/"+tt.path, tt.body, tt.header)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s %s with %s (-vault +bailiff):\n%s", tt.method, tt.path, tt.header, diff)
		}
	}
}

func TestHTTP2(t *testing.T) {
	v := testenv.Vault(t)
	s, d := front(t, v)
	large := strings.Repeat("x", 200_000)
	write := talk(t, s.Client(), "t", http.MethodPut, s.URL+"/v1/secret/data/h2", `{"data":{"k":"`+large+`"}}`)
	read := talk(t, s.Client(), "t", http.MethodGet, s.URL+"/v1/secret/data/h2", "")
	data, _ := read.Data.(map[string]any)
	if inner, _ := data["data"].(map[string]any); write.Code != 200 || read.Code != 200 || inner["k"] != large {
		t.Errorf("got %d and %d, %d bytes", write.Code, read.Code, len(large))
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/v1/sys/health", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.ProtoMajor != 2 {
		t.Fatalf("got HTTP/%d, which is not what is tested here", resp.ProtoMajor)
	}
	d.serve = func(_ context.Context, r *gate.Request) (*gate.Response, error) {
		_, err := io.Copy(io.Discard, r.Body)
		return &gate.Response{}, err
	}
	req, err = http.NewRequestWithContext(t.Context(), http.MethodPut, s.URL+"/v1/secret/data/h2", io.NopCloser(bytes.NewReader([]byte("{}"))))
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = -1
	if resp, err = s.Client().Do(req); err != nil || resp.StatusCode != 204 {
		t.Errorf("a body of no length: got %v, %v", resp, err)
	} else {
		resp.Body.Close()
	}
}
