package auth_test

import (
	"net/http"
	"slices"
	"testing"

	"github.com/bailiff-secrets/bailiff/auth"
	"github.com/bailiff-secrets/bailiff/auth/approle"
	"github.com/bailiff-secrets/bailiff/auth/userpass"
	"github.com/bailiff-secrets/bailiff/internal/document"
	"github.com/bailiff-secrets/bailiff/internal/testenv"
	"github.com/bailiff-secrets/bailiff/test/authtest"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func world(t *testing.T, limits auth.Limits) *authtest.World {
	return authtest.New(t, authtest.Options{Limits: limits}, methods)
}

func methods(keys auth.AccessKeys) map[string]auth.Method {
	return map[string]auth.Method{"approle": approle.New(keys), "userpass": userpass.New(keys)}
}

// TestMountsAreVaults sends the same to a real Vault and to Bailiff.
func TestMountsAreVaults(t *testing.T) {
	w := world(t, auth.Limits{})
	authtest.Compare(t, authtest.Vault(t), &w.Server, []authtest.Step{
		{Method: "GET", Path: "sys/auth/m1"},
		{Method: "GET", Path: "sys/auth/m1/tune"},
		{Method: "POST", Path: "sys/auth/m1/tune", Body: `{"description":"x"}`},
		{Method: "DELETE", Path: "sys/auth/m1"},
		{Method: "POST", Path: "sys/auth/m1", Body: `{}`},
		{Method: "POST", Path: "sys/auth/m1", Body: `{"type":"token"}`},
		{Method: "POST", Path: "sys/auth/m1", Body: `{"type":"nosuch"}`, Words: "plugin not found in the catalog: nosuch; the types of auth methods are approle, userpass"},
		{Method: "POST", Path: "sys/auth/m1", Body: `{"type":"approle","config":{"default_lease_ttl":"2h","max_lease_ttl":"1h"}}`},
		{Method: "POST", Path: "sys/auth/m1", Body: `{"type":"approle","config":{"token_type":"odd"}}`},
		{Method: "POST", Path: "sys/auth/m1", Body: `{"type":"approle","config":{"listing_visibility":"odd"}}`},
		{Method: "POST", Path: "sys/auth/m1", Body: `{"type":"approle","options":{"version":"2"}}`},
		{Method: "POST", Path: "sys/auth/m1", Body: `{"type":"approle","description":"the first","config":{"default_lease_ttl":"1h","listing_visibility":"unauth","token_type":"service"},"options":{"a":"b"}}`},
		{Method: "POST", Path: "sys/auth/m1", Body: `{"type":"approle"}`},
		{Method: "POST", Path: "sys/auth/m1/inner", Body: `{"type":"approle"}`},
		{Method: "POST", Path: "sys/auth/token", Body: `{"type":"approle"}`},
		{Method: "POST", Path: "sys/auth/deep/inner", Body: `{"type":"userpass"}`},
		{Method: "POST", Path: "sys/auth/deep", Body: `{"type":"userpass"}`},
		{Method: "GET", Path: "sys/auth/m1"},
		{Method: "GET", Path: "sys/auth/m1/tune"},
		{Method: "GET", Path: "sys/auth/deep/inner"},
		{Method: "GET", Path: "sys/auth/token/tune"},
		{Method: "GET", Path: "sys/auth"},
		{Method: "POST", Path: "sys/auth/token/tune", Body: `{"description":"x"}`, Ignore: []string{"x"}, Code: 400, Words: `cannot tune "auth/token/"`},
		{Method: "POST", Path: "sys/auth/m1/tune", Body: `{"token_type":"odd"}`},
		{Method: "POST", Path: "sys/auth/m1/tune", Body: `{"default_lease_ttl":"1h","max_lease_ttl":"4h","description":"tuned","listing_visibility":"hidden","token_type":"default-service","passthrough_request_headers":"X-A,X-B","audit_non_hmac_request_keys":["k"]}`},
		{Method: "GET", Path: "sys/auth/m1/tune"},
		{Method: "GET", Path: "sys/auth/m1"},
		{Method: "POST", Path: "sys/auth/m1/tune", Body: `{"user_lockout_config":{"lockout_threshold":"3","lockout_duration":"10m","lockout_counter_reset_duration":"5m"}}`},
		{Method: "GET", Path: "sys/auth/m1/tune"},
		{Method: "POST", Path: "sys/auth/m1/tune", Body: `{"default_lease_ttl":"system","options":{"a":"","c":"d"}}`},
		{Method: "GET", Path: "sys/auth/m1/tune"},
		{Method: "DELETE", Path: "sys/auth/deep/inner"},
		{Method: "GET", Path: "sys/auth/deep/inner"},
		{Method: "DELETE", Path: "sys/auth/m1"},
		{Method: "DELETE", Path: "sys/auth/m1"},
		{Method: "PUT", Path: "auth/m1/login", Body: `{"role_id":"x"}`, NoToken: true},
	})
}

func TestDisablingEndsTheTokensOfAMountAndForgetsWhatItHad(t *testing.T) {
	w := world(t, auth.Limits{})
	w.Must("POST", "sys/auth/one", `{"type":"userpass"}`)
	w.Must("POST", "sys/auth/two", `{"type":"userpass"}`)
	for _, at := range []string{"one", "two"} {
		w.Must("PUT", "auth/"+at+"/users/ann", `{"password":"x"}`)
	}
	w.Must("DELETE", "sys/auth/one", nil)
	if got := w.Ended(); !slices.Equal(got, []string{"auth/one/"}) {
		t.Errorf("the tokens of %v were ended", got)
	}
	if a := w.Send("GET", "auth/one/users/ann", nil); a.Code != http.StatusNotFound {
		t.Errorf("got %d %v", a.Code, a.Body)
	}
	w.Must("GET", "auth/two/users/ann", nil)
	docs, err := w.DB.Documents(t.Context(), document.Query{Space: "auth"})
	if err != nil || len(docs) != 1 {
		t.Errorf("%d documents are left, want that of two: %v", len(docs), err)
	}
	w.Must("POST", "sys/auth/one", `{"type":"userpass"}`)
	if a := w.Send("GET", "auth/one/users/ann", nil); a.Code != http.StatusNotFound {
		t.Errorf("the new mount has what the old one had: %v", a.Body)
	}
}

func TestAMountIsThereOnOtherNodesAndAfterAStart(t *testing.T) {
	w := world(t, auth.Limits{})
	w.Must("POST", "sys/auth/one", `{"type":"userpass"}`)
	changed := 0
	other, err := auth.New(t.Context(), auth.Config{Store: w.DB, Methods: methods(nil), Tokens: w, Logger: w.Logger, Changed: func() error { changed++; return nil }})
	if err != nil {
		t.Fatal(err)
	}
	paths := func() (out []string) {
		for _, m := range other.Mounts() {
			out = append(out, m.Path)
		}
		slices.Sort(out)
		return out
	}
	if got := paths(); !slices.Equal(got, []string{"auth/one/"}) {
		t.Errorf("after a start: %v", got)
	}
	w.Must("POST", "sys/auth/two", `{"type":"approle"}`)
	w.Must("DELETE", "sys/auth/one", nil)
	if err := other.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := paths(); !slices.Equal(got, []string{"auth/two/"}) || changed != 1 {
		t.Errorf("after a change elsewhere: %v, told %d times", got, changed)
	}
	if err := other.Refresh(t.Context()); err != nil || changed != 1 {
		t.Errorf("nothing has changed: told %d times, %v", changed, err)
	}
}

// TestWhatACrashLeavesOfADisabledMountIsCleared stops between the write that takes a mount out and the end of its tokens.
func TestWhatACrashLeavesOfADisabledMountIsCleared(t *testing.T) {
	w := world(t, auth.Limits{})
	w.Must("POST", "sys/auth/one", `{"type":"userpass"}`)
	w.Must("PUT", "auth/one/users/ann", `{"password":"x"}`)
	w.FailEnd(true)
	if a := w.Send("DELETE", "sys/auth/one", nil); a.Code != http.StatusInternalServerError {
		t.Fatalf("got %d %v", a.Code, a.Body)
	}
	if a := w.SendAs("", "PUT", "auth/one/login/ann", `{"password":"x"}`); a.Code == http.StatusOK {
		t.Error("somebody was let in through a mount that is being disabled")
	}
	if a := w.Send("POST", "sys/auth/one", `{"type":"userpass"}`); a.Code != http.StatusBadRequest {
		t.Errorf("its path is free: got %d %v", a.Code, a.Body)
	}
	w.FailEnd(false)
	if err := w.Backend.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := w.Ended(); !slices.Equal(got, []string{"auth/one/"}) {
		t.Errorf("the tokens of %v were ended", got)
	}
	w.Must("POST", "sys/auth/one", `{"type":"userpass"}`)
}

func TestWhatAMountSaysOfTokensCounts(t *testing.T) {
	w := world(t, auth.Limits{})
	w.Must("POST", "sys/auth/team/a", `{"type":"userpass","config":{"default_lease_ttl":"7m","max_lease_ttl":"20m","token_type":"default-batch"}}`)
	w.Must("PUT", "auth/team/a/users/ann", `{"password":"x","token_max_ttl":"1h"}`)
	w.Must("PUT", "auth/team/a/login/ann", `{"password":"x"}`)
	s := w.Spec()
	if s.Params.TTL.Minutes() != 7 || s.Params.MaxTTL.Minutes() != 20 || s.Params.Type != "batch" || s.DisplayName != "team-a-ann" {
		t.Errorf("got %+v", s)
	}
}
