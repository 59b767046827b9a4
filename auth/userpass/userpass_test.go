package userpass_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/auth"
	"github.com/bailiff-secrets/bailiff/auth/userpass"
	"github.com/bailiff-secrets/bailiff/internal/testenv"
	"github.com/bailiff-secrets/bailiff/test/authtest"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func world(t *testing.T) *authtest.World {
	return authtest.New(t, authtest.Options{}, func(keys auth.AccessKeys) map[string]auth.Method {
		return map[string]auth.Method{"userpass": userpass.New(keys)}
	})
}

// TestAnswersAreVaults sends the same to a real Vault and to Bailiff.
func TestAnswersAreVaults(t *testing.T) {
	w := world(t)
	const at = "auth/cmp/"
	login := []string{"warnings"}
	authtest.Compare(t, authtest.Vault(t), &w.Server, []authtest.Step{
		{Method: "POST", Path: "sys/auth/cmp", Body: `{"type":"userpass"}`},
		{Method: "LIST", Path: at + "users"},
		{Method: "GET", Path: at + "users/ann"},
		{Method: "DELETE", Path: at + "users/ann"},
		{Method: "PUT", Path: at + "users/ann", Body: `{"token_policies":"a"}`},
		{Method: "PUT", Path: at + "users/ann", Body: `{"password":""}`},
		{Method: "PUT", Path: at + "users/ann", Body: `{"password":"s3cret","token_ttl":"-1s"}`},
		{Method: "PUT", Path: at + "users/Ann", Body: `{"password":"s3cret","token_policies":"p2,p1","token_ttl":"1h","token_bound_cidrs":"127.0.0.1/32","nonsense":true}`},
		{Method: "GET", Path: at + "users/ann"},
		{Method: "GET", Path: at + "users/ANN"},
		{Method: "PUT", Path: at + "users/bob", Body: `{"password":"s3cret","policies":"Q,p","ttl":"30m","max_ttl":"2h","bound_cidrs":"127.0.0.0/8"}`},
		{Method: "GET", Path: at + "users/bob"},
		{Method: "LIST", Path: at + "users"},
		{Method: "PUT", Path: at + "users/ann/policies", Body: `{"policies":"x,Y"}`},
		{Method: "GET", Path: at + "users/ann"},
		{Method: "PUT", Path: at + "users/ann/policies", Body: `{"token_policies":"z"}`},
		{Method: "GET", Path: at + "users/ann"},
		{Method: "PUT", Path: at + "users/none/policies", Body: `{"policies":"x"}`, Code: 400},
		{Method: "PUT", Path: at + "users/none/password", Body: `{"password":"x"}`, Code: 400},
		{Method: "PUT", Path: at + "users/ann/password", Body: `{}`},
		{Method: "GET", Path: at + "users/ann/password"},
		{Method: "PUT", Path: at + "login/ann", Body: `{}`, NoToken: true, Code: 400},
		{Method: "PUT", Path: at + "login/ann", Body: `{"password":"wrong"}`, NoToken: true, Code: 400},
		{Method: "PUT", Path: at + "login/nobody", Body: `{"password":"wrong"}`, NoToken: true},
		{Method: "PUT", Path: at + "login/ANN", Body: `{"password":"s3cret"}`, NoToken: true, Ignore: login},
		{Method: "PUT", Path: at + "login/bob", Body: `{"password":"s3cret"}`, NoToken: true, Ignore: login},
		{Method: "PUT", Path: at + "users/ann/password", Body: `{"password":"other"}`},
		{Method: "PUT", Path: at + "login/ann", Body: `{"password":"s3cret"}`, NoToken: true, Code: 400},
		{Method: "PUT", Path: at + "login/ann", Body: `{"password":"other"}`, NoToken: true, Ignore: login},
		{Method: "GET", Path: at + "login/ann", NoToken: true, Code: 405},
		{Method: "PUT", Path: at + "users/far", Body: `{"password":"x","token_bound_cidrs":"10.0.0.0/8"}`},
		{Method: "PUT", Path: at + "login/far", Body: `{"password":"x"}`, NoToken: true},
		{Method: "DELETE", Path: at + "users/ann"},
		{Method: "PUT", Path: at + "login/ann", Body: `{"password":"other"}`, NoToken: true},
		{Method: "DELETE", Path: "sys/auth/cmp"},
	})
}

func try(w *authtest.World, name, password string) *authtest.Answer {
	return w.SendAs("", "POST", "auth/userpass/login/"+name, map[string]string{"password": password})
}

func TestPasswordsAreNotKept(t *testing.T) {
	w := world(t)
	w.Must("POST", "sys/auth/userpass", `{"type":"userpass"}`)
	w.Must("PUT", "auth/userpass/users/ann", `{"password":"a-canary-of-mine"}`)
	try(w, "ann", "a-canary-of-mine")
	try(w, "bob", "a-canary-of-mine")
	if found := w.Kept("a-canary-of-mine"); found != "" {
		t.Errorf("it is in %s", found)
	}
	if w.Kept("$argon2id$v=19$m=19456,t=2,p=1$") == "" {
		t.Error("no argon2id hash is kept")
	}
}

func TestAnAccessKeyLogsInAsItsIdentity(t *testing.T) {
	w := world(t)
	w.Must("POST", "sys/auth/userpass", `{"type":"userpass"}`)
	if a := try(w, w.AccessID, w.Key); a.Code != http.StatusOK || w.Spec().Identity != "app" {
		t.Fatalf("got %d %v", a.Code, a.Body)
	}
	if a := try(w, w.AccessID, w.Key[:len(w.Key)-1]+"x"); a.Code != http.StatusBadRequest || a.Errors() != "invalid username or password" {
		t.Errorf("got %d %v", a.Code, a.Body)
	}
}

// TestUnknownAndWrongAreTheSame compares answers, lock-outs and the work that they cost.
func TestUnknownAndWrongAreTheSame(t *testing.T) {
	w := world(t)
	w.Must("POST", "sys/auth/userpass", `{"type":"userpass"}`)
	w.Must("PUT", "auth/userpass/users/ann", `{"password":"right"}`)
	took := map[string]time.Duration{}
	for i := range 7 {
		for _, name := range []string{"ann", "nobody"} {
			began := time.Now()
			a := try(w, name, "wrong")
			if d := time.Since(began); i < 5 && (took[name] == 0 || d < took[name]) {
				took[name] = d // the best of five: what else the machine does counts out
			}
			want, words := http.StatusBadRequest, "invalid username or password"
			if i >= 5 {
				want, words = http.StatusForbidden, "permission denied"
			}
			if a.Code != want || a.Errors() != words {
				t.Errorf("%s, try %d: got %d %s, want %d %s", name, i+1, a.Code, a.Errors(), want, words)
			}
		}
	}
	if known, unknown := took["ann"], took["nobody"]; unknown < known/2 || known < unknown/2 {
		t.Errorf("a wrong password took %v and an unknown name %v", known, unknown)
	}
	if a := try(w, "ann", "right"); a.Code != http.StatusForbidden {
		t.Errorf("locked out, with the right password: got %d", a.Code)
	}
	end := w.Records("auth/userpass/login/ann")[0]
	if end.Status != audit.Denied || !strings.Contains(end.Error, "locked out") {
		t.Errorf("got the record %+v", end)
	}
	w.Must("POST", "sys/auth/userpass/tune", `{"user_lockout_config":{"lockout_disable":true}}`)
	if a := try(w, "ann", "right"); a.Code != http.StatusOK {
		t.Errorf("without lock-outs: got %d %v", a.Code, a.Body)
	}
}
