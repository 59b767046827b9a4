package kubernetes_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/auth"
	"github.com/bailiff-secrets/bailiff/auth/kubernetes"
	"github.com/bailiff-secrets/bailiff/internal/testenv"
	"github.com/bailiff-secrets/bailiff/test/authtest"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func world(t *testing.T) *authtest.World {
	return authtest.New(t, authtest.Options{}, func(auth.AccessKeys) map[string]auth.Method {
		return map[string]auth.Method{"kubernetes": kubernetes.New()}
	})
}

// cluster is a real API server with a namespace of the test's own.
type cluster struct {
	*testenv.KubernetesServer
	t         *testing.T
	namespace string
}

func newCluster(t *testing.T) *cluster {
	c := &cluster{testenv.Kubernetes(t), t, fmt.Sprintf("ns-%d", time.Now().UnixNano())}
	c.must("POST", "/api/v1/namespaces", `{"metadata":{"name":"`+c.namespace+`"}}`)
	return c
}

func (c *cluster) must(method, path, body string) map[string]any {
	c.t.Helper()
	resp, err := c.Do(c.t.Context(), method, path, body)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		c.t.Fatalf("%s %s: %s %s %v", method, path, resp.Status, text, err)
	}
	var out map[string]any
	if err := json.Unmarshal(text, &out); err != nil {
		c.t.Fatal(err)
	}
	return out
}

func (c *cluster) accounts() string { return "/api/v1/namespaces/" + c.namespace + "/serviceaccounts" }

// account makes a service account and returns its uid.
func (c *cluster) account(name string) string {
	made := c.must("POST", c.accounts(), `{"metadata":{"name":"`+name+`"}}`)
	return made["metadata"].(map[string]any)["uid"].(string)
}

// token makes a token of a service account, as the kubelet does for a pod.
func (c *cluster) token(name, audience string) string {
	body := `{"spec":{"expirationSeconds":600}}`
	if audience != "" {
		body = `{"spec":{"expirationSeconds":600,"audiences":["` + audience + `"]}}`
	}
	made := c.must("POST", c.accounts()+"/"+name+"/token", body)
	return made["status"].(map[string]any)["token"].(string)
}

// reviewer makes a service account that may review tokens, and returns a token of it.
func (c *cluster) reviewer() string {
	c.account("reviewer")
	c.must("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", fmt.Sprintf(
		`{"metadata":{"name":"%[1]s-reviewer"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"system:auth-delegator"},
		"subjects":[{"kind":"ServiceAccount","name":"reviewer","namespace":%[1]q}]}`, c.namespace))
	return c.token("reviewer", "")
}

func setUp(t *testing.T, c *cluster, config map[string]any, role map[string]any) *authtest.World {
	w := world(t)
	w.Must("POST", "sys/auth/kubernetes", `{"type":"kubernetes"}`)
	config["kubernetes_host"], config["kubernetes_ca_cert"] = c.Addr, c.CACert
	w.Must("POST", "auth/kubernetes/config", config)
	role["bound_service_account_namespaces"] = c.namespace
	w.Must("POST", "auth/kubernetes/role/app", role)
	return w
}

func login(w *authtest.World, token string) *authtest.Answer {
	return w.SendAs("", "POST", "auth/kubernetes/login", map[string]string{"role": "app", "jwt": token})
}

// TestARealClusterReviewsTokens takes a service account from its making to its end.
func TestARealClusterReviewsTokens(t *testing.T) {
	c := newCluster(t)
	uid := c.account("app")
	c.account("other")
	w := setUp(t, c, map[string]any{"token_reviewer_jwt": c.reviewer()}, map[string]any{"bound_service_account_names": "app", "token_policies": "p"})
	token := c.token("app", "")
	if a := login(w, token); a.Code != http.StatusOK || a.Text("auth.metadata.service_account_name") != "app" {
		t.Fatalf("got %d %v", a.Code, a.Body)
	}
	if s := w.Spec(); s.Alias != uid || s.DisplayName != "kubernetes-"+c.namespace+"-app" || s.Claims["service_account"] != c.namespace+"/app" || s.Params.Policies[0] != "p" {
		t.Errorf("got %+v", s)
	}
	if a := login(w, c.token("other", "")); a.Code != http.StatusForbidden || a.Errors() != "service account name not authorized" {
		t.Errorf("another account: got %d %v", a.Code, a.Body)
	}
	end := w.Records("auth/kubernetes/login")[0]
	if end.Status != audit.Denied || !strings.Contains(end.Error, c.namespace+"/other") {
		t.Errorf("got the record %+v", end)
	}
	if a := login(w, token[:len(token)-4]+"AAAA"); a.Code != http.StatusForbidden || a.Errors() != "permission denied" {
		t.Errorf("a signature that is none: got %d %v", a.Code, a.Body)
	}
	if a := login(w, c.token("app", "elsewhere")); a.Code != http.StatusOK { // the role says nothing of audiences: as in Vault
		t.Errorf("another audience: got %d %v", a.Code, a.Body)
	}
	w.Must("POST", "auth/kubernetes/role/app", map[string]any{"audience": "bailiff", "alias_name_source": "serviceaccount_name"})
	if a := login(w, c.token("app", "elsewhere")); a.Code != http.StatusForbidden || !strings.Contains(a.Errors(), "audience") {
		t.Errorf("another audience than the role's: got %d %v", a.Code, a.Body)
	}
	mine := c.token("app", "bailiff")
	if a := login(w, mine); a.Code != http.StatusOK || w.Spec().Alias != c.namespace+"/app" {
		t.Errorf("the role's audience: got %d %v", a.Code, a.Body)
	}
	w.Must("POST", "auth/kubernetes/role/app", map[string]any{"bound_service_account_uids": uid})
	if a := login(w, mine); a.Code != http.StatusOK {
		t.Errorf("the bound uid: got %d %v", a.Code, a.Body)
	}
	c.must("DELETE", c.accounts()+"/app", "")
	c.account("app")
	ended := false
	for deadline := time.Now().Add(20 * time.Second); !ended && time.Now().Before(deadline); { // the API goes on believing for 10 s
		ended = login(w, mine).Code == http.StatusForbidden
	}
	if !ended {
		t.Error("the token of an account that is gone still counts")
	}
	if a := login(w, c.token("app", "bailiff")); a.Code != http.StatusForbidden {
		t.Errorf("a new account of the same name: got %d %v", a.Code, a.Body)
	}
}

func TestTokensAreCheckedOfflineWithTheClustersKeys(t *testing.T) {
	c := newCluster(t)
	c.account("app")
	w := setUp(t, c, map[string]any{"validation": "offline", "issuer": c.Addr, "token_reviewer_jwt": c.AdminToken},
		map[string]any{"bound_service_account_names": "app*", "audience": "bailiff"})
	token := c.token("app", "bailiff")
	for range 3 {
		if a := login(w, token); a.Code != http.StatusOK {
			t.Fatalf("got %d %v", a.Code, a.Body)
		}
	}
	for what, token := range map[string]string{
		"another audience": c.token("app", ""), "a signature that is none": token[:len(token)-4] + "AAAA", "nonsense": "a.b.c",
	} {
		if a := login(w, token); a.Code != http.StatusForbidden {
			t.Errorf("%s: got %d %v", what, a.Code, a.Body)
		}
	}
	w.Must("POST", "auth/kubernetes/config", map[string]any{"kubernetes_host": c.Addr, "kubernetes_ca_cert": c.CACert, "validation": "offline", "issuer": "https://else", "token_reviewer_jwt": c.AdminToken})
	if a := login(w, token); a.Code != http.StatusForbidden || a.Errors() != "invalid issuer (iss) claim" {
		t.Errorf("another issuer: got %d %v", a.Code, a.Body)
	}
	w.Must("POST", "auth/kubernetes/config", map[string]any{"kubernetes_host": c.Addr, "kubernetes_ca_cert": c.CACert, "validation": "offline", "issuer": c.Addr, "token_reviewer_jwt": c.AdminToken})
	w.Must("POST", "auth/kubernetes/role/app", map[string]any{"audience": ""})
	if a := login(w, token); a.Code != http.StatusForbidden || !strings.Contains(a.Errors(), "must have an audience") {
		t.Errorf("a role without an audience: got %d %v", a.Code, a.Body)
	}
}

// TestAClusterThatDoesNotAnswerIsNoJudgement keeps an outage apart from a no.
func TestAClusterThatDoesNotAnswerIsNoJudgement(t *testing.T) {
	c := newCluster(t)
	c.account("app")
	w := setUp(t, c, map[string]any{"token_reviewer_jwt": c.AdminToken}, map[string]any{"bound_service_account_names": "app"})
	token := c.token("app", "")
	broken := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) { out.WriteHeader(http.StatusServiceUnavailable) }))
	defer broken.Close()
	for _, host := range []string{broken.URL, "http://127.0.0.1:1"} {
		w.Must("POST", "auth/kubernetes/config", map[string]any{"kubernetes_host": host, "token_reviewer_jwt": c.AdminToken})
		if a := login(w, token); a.Code != http.StatusBadGateway {
			t.Errorf("%s: got %d %v", host, a.Code, a.Body)
		}
	}
}

// TestAnswersAreVaults sends the same to a real Vault and to Bailiff, both in front of the same cluster.
func TestAnswersAreVaults(t *testing.T) {
	c := newCluster(t)
	c.account("app")
	c.account("other")
	config, _ := json.Marshal(map[string]any{"kubernetes_host": c.Addr, "kubernetes_ca_cert": c.CACert, "token_reviewer_jwt": c.reviewer()})
	w := world(t)
	const at = "auth/cmpkube/"
	role := func(name, body string) authtest.Step {
		return authtest.Step{Method: "POST", Path: at + "role/" + name, Body: strings.ReplaceAll(body, "NS", c.namespace)}
	}
	try := func(role, token string) authtest.Step {
		return authtest.Step{Method: "POST", Path: at + "login", Body: fmt.Sprintf(`{"role":%q,"jwt":%q}`, role, token), NoToken: true, Ignore: []string{"warnings"}}
	}
	authtest.Compare(t, authtest.Vault(t), &w.Server, []authtest.Step{
		{Method: "POST", Path: "sys/auth/cmpkube", Body: `{"type":"kubernetes"}`},
		{Method: "GET", Path: at + "config"},
		{Method: "POST", Path: at + "config", Body: `{}`},
		{Method: "POST", Path: at + "config", Body: `{"kubernetes_host":"https://x","disable_local_ca_jwt":true}`},
		{Method: "POST", Path: at + "config", Body: `{"kubernetes_host":"https://x","kubernetes_ca_cert":"y","pem_keys":["nonsense"]}`},
		{Method: "POST", Path: at + "config", Body: string(config)},
		{Method: "GET", Path: at + "config"},
		{Method: "LIST", Path: at + "role"},
		{Method: "GET", Path: at + "role/a"},
		role("a", `{}`),
		role("a", `{"bound_service_account_names":"app"}`),
		role("a", `{"bound_service_account_names":"app,*","bound_service_account_namespaces":"NS"}`),
		role("a", `{"bound_service_account_names":"app","bound_service_account_namespaces":"NS","alias_name_source":"odd"}`),
		role("a", `{"bound_service_account_names":"app","bound_service_account_namespaces":"NS","token_policies":["p"],"token_ttl":"10m","audience":"aud"}`),
		{Method: "GET", Path: at + "role/a"},
		role("any", `{"bound_service_account_names":"*","bound_service_account_namespaces":"*","alias_name_source":"serviceaccount_name","policies":"x","ttl":"5m"}`),
		{Method: "GET", Path: at + "role/any"},
		role("ns", `{"bound_service_account_names":"*","bound_service_account_namespaces":"elsewhere"}`),
		{Method: "LIST", Path: at + "role"},
		try("a", c.token("app", "aud")),
		try("a", c.token("other", "aud")),
		try("any", c.token("other", "aud")),
		try("any", c.token("app", "")),
		try("ns", c.token("app", "")),
		{Method: "POST", Path: at + "login", Body: `{"role":"a"}`, NoToken: true},
		{Method: "POST", Path: at + "login", Body: `{"jwt":"a"}`, NoToken: true},
		try("nosuch", "x.y.z"),
		{Method: "DELETE", Path: at + "role/a"},
		{Method: "GET", Path: at + "role/a"},
		{Method: "DELETE", Path: "sys/auth/cmpkube"},
	})
}

// TestWhatTheReviewSaysCounts has an API that says of a real token what it is told to: it may know better than the token.
func TestWhatTheReviewSaysCounts(t *testing.T) {
	c := newCluster(t)
	uid := c.account("app")
	token := c.token("app", "bailiff")
	answer := ""
	api := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		var review struct {
			Spec struct {
				Token     string   `json:"token"`
				Audiences []string `json:"audiences"`
			} `json:"spec"`
		}
		if r.URL.Path != "/apis/authentication.k8s.io/v1/tokenreviews" || r.Header.Get("Authorization") != "Bearer reviewer" ||
			json.NewDecoder(r.Body).Decode(&review) != nil || review.Spec.Token != token || strings.Join(review.Spec.Audiences, " ") != "bailiff" {
			out.WriteHeader(http.StatusBadRequest)
			return
		}
		out.WriteHeader(http.StatusCreated)
		io.WriteString(out, answer)
	}))
	defer api.Close()
	w := setUp(t, c, map[string]any{}, map[string]any{"bound_service_account_names": "app", "audience": "bailiff"})
	w.Must("POST", "auth/kubernetes/config", map[string]any{"kubernetes_host": api.URL, "token_reviewer_jwt": "reviewer"})
	user := "system:serviceaccount:" + c.namespace + ":app"
	status := func(authenticated bool, user, uid, audience string) string {
		return fmt.Sprintf(`{"kind":"TokenReview","status":{"authenticated":%v,"user":{"username":%q,"uid":%q},"audiences":[%q]}}`, authenticated, user, uid, audience)
	}
	for _, x := range []struct {
		what, answer string
		code         int
	}{
		{"all is well", status(true, user, uid, "bailiff"), http.StatusOK},
		{"it is not good", status(false, user, uid, "bailiff"), http.StatusForbidden},
		{"it is another account's", status(true, user+"2", uid, "bailiff"), http.StatusForbidden},
		{"it is no account's", status(true, "admin", uid, "bailiff"), http.StatusForbidden},
		{"the account is a new one", status(true, user, "other", "bailiff"), http.StatusForbidden},
		{"it is for others", status(true, user, uid, "other"), http.StatusForbidden},
		{"nonsense", `{"kind":"Status"}`, http.StatusBadGateway},
	} {
		answer = x.answer
		if a := login(w, token); a.Code != x.code {
			t.Errorf("%s: got %d %v, want %d", x.what, a.Code, a.Body, x.code)
		}
	}
}
