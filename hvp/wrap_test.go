package hvp_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

// wraps is a gate that wraps what it is asked to.
func wraps() *doer {
	return &doer{serve: func(_ context.Context, r *gate.Request) (*gate.Response, error) {
		if r.WrapTTL == 0 {
			return &gate.Response{Data: map[string]any{"k": "v"}}, nil
		}
		return &gate.Response{Wrap: &gate.Wrap{
			Token: secret.New("bw_x"), Accessor: "acc", TTL: r.WrapTTL, CreationTime: time.Now(), CreationPath: r.Path, WrappedAccessor: "inner",
		}}, nil
	}}
}

// ask sends one request with headers as "Name: value" and gives its status and body.
func ask(t *testing.T, method, url string, headers ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Add(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
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

func TestWrappingTimesAreReadAsVaultReadsThem(t *testing.T) {
	real := testenv.Vault(t)
	ours := newServer(t, wraps())
	for ttl, want := range map[string]time.Duration{
		"60": time.Minute, "60s": time.Minute, "1m": time.Minute, "1h30m": 90 * time.Minute, "1.5m": 90 * time.Second, "2d": 48 * time.Hour,
		" 60 ": time.Minute, "0": 0, "0s": 0, "": 0, "3600h": 3600 * time.Hour,
		"-5": -1, "-5s": -1, "-1d": -1, "abc": -1, "1e3": -1, "5 s": -1, "60x": -1, "d": -1, "1.5d": -1, "99999999999999999999": -1, "999999999999999h": -1,
	} {
		header := "X-Vault-Wrap-TTL: " + ttl
		code, body := ask(t, http.MethodGet, real.Addr+"/v1/sys/mounts", header, "X-Vault-Token: "+real.RootToken)
		gotCode, got := ask(t, http.MethodGet, ours.URL+"/v1/sys/mounts", header)
		if gotCode != code || (want < 0) != (code == 400) {
			t.Errorf("%q: got %d %s, want as Vault %d %s", ttl, gotCode, got, code, body)
			continue
		}
		switch {
		case want < 0 && got != body:
			t.Errorf("%q: got %s, want %s", ttl, got, body)
		case want > 0 && (!strings.Contains(got, `"wrap_info":{"token":"bw_x"`) || !strings.Contains(body, `"wrap_info":{"token"`)):
			t.Errorf("%q: got %s, want it wrapped as by Vault %s", ttl, got, body)
		case want == 0 && strings.Contains(got, "bw_x"):
			t.Errorf("%q: got %s, want it not wrapped", ttl, got)
		}
	}
}

func TestWrappingTimesThatNobodyMeans(t *testing.T) {
	ours := newServer(t, wraps())
	for _, ttl := range []string{"9223372036854775807", "-9223372036854775808", "106752d", "4294967297", "-4294967297"} {
		if code, body := ask(t, http.MethodGet, ours.URL+"/v1/secret/a", "X-Vault-Wrap-TTL: "+ttl); code != 400 {
			t.Errorf("%s: got %d %s, want 400", ttl, code, body)
		}
	}
}

func TestWrappedAnswersHaveVaultsShape(t *testing.T) {
	real := testenv.Vault(t)
	ours := newServer(t, wraps())
	headers := []string{"X-Vault-Wrap-TTL: 5m", "X-Vault-Token: " + real.RootToken}
	_, want := ask(t, http.MethodPost, real.Addr+"/v1/auth/token/create", headers...)
	_, got := ask(t, http.MethodPost, ours.URL+"/v1/auth/token/create", headers...)
	if diff := cmp.Diff(keys(t, want), keys(t, got)); diff != "" {
		t.Errorf("the fields differ from a real Vault's (-want +got):\n%s", diff)
	}
	inner := func(body string) []string {
		_, rest, _ := strings.Cut(body, `"wrap_info":`)
		rest, _, _ = strings.Cut(rest, `,"warnings"`)
		return keys(t, rest)
	}
	if diff := cmp.Diff(inner(want), inner(got)); diff != "" {
		t.Errorf("wrap_info differs from a real Vault's (-want +got):\n%s", diff)
	}
	for _, part := range []string{`{"request_id":"","lease_id":"",`, `"data":null`, `"ttl":300,`, `"creation_path":"auth/token/create"`, `"auth":null`} {
		if !strings.Contains(got, part) || !strings.Contains(want, part) {
			t.Errorf("got %s, want %s in it as in %s", got, part, want)
		}
	}
}

func TestSecondFactorsAreIgnoredInWords(t *testing.T) {
	raw := &gate.Response{Raw: &gate.Raw{Code: 200, Body: io.NopCloser(strings.NewReader("{}")), Length: 2}}
	tests := []struct {
		what string
		resp *gate.Response
		body bool // the words are in the body, or else in a header
	}{
		{"an answer of our own", &gate.Response{Data: map[string]any{"k": "v"}}, true},
		{"a target's answer", raw, false},
		{"nothing to say", &gate.Response{Status: gate.NoContent}, false},
		{"a wrapped one", &gate.Response{Wrap: &gate.Wrap{Token: secret.New("t")}}, false},
	}
	for _, tt := range tests {
		d := &doer{serve: func(context.Context, *gate.Request) (*gate.Response, error) { return tt.resp, nil }}
		got := send(t, newServer(t, d), request("GET /v1/secret/a", "X-Vault-MFA: totp:123456"))
		const words = "X-Vault-MFA is ignored"
		if strings.Contains(got.body, words) != tt.body || strings.Contains(got.header.Get("Warning"), words) == tt.body {
			t.Errorf("%s: got %s with %q", tt.what, got.body, got.header["Warning"])
		}
	}
	plain := send(t, newServer(t, &doer{}), request("GET /v1/secret/a"))
	if strings.Contains(plain.body, "MFA") || plain.header["Warning"] != nil {
		t.Errorf("without the header: got %s with %q", plain.body, plain.header["Warning"])
	}
}
