package aws_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/auth"
	"github.com/bailiff-secrets/bailiff/auth/aws"
	"github.com/bailiff-secrets/bailiff/test/authtest"
)

func world(t *testing.T) *authtest.World {
	return authtest.New(t, authtest.Options{}, func(auth.AccessKeys) map[string]auth.Method {
		return map[string]auth.Method{"aws": aws.New()}
	})
}

const (
	keyID  = "AKIAEXAMPLE"
	secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	host   = "sts.eu-central-1.amazonaws.com"
	ask    = "Action=GetCallerIdentity&Version=2011-06-15"
)

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// signature is AWS's signature version 4 of a POST to / as its documentation has it.
func signature(date, body string, headers map[string]string) (names, sum string) {
	var list []string
	for name := range headers {
		list = append(list, name)
	}
	slices.Sort(list)
	names = strings.Join(list, ";")
	canonical := "POST\n/\n\n"
	for _, name := range list {
		canonical += name + ":" + strings.TrimSpace(headers[name]) + "\n"
	}
	canonical += "\n" + names + "\n" + digest(body)
	scope := date[:8] + "/eu-central-1/sts/aws4_request"
	key := mac(mac(mac(mac([]byte("AWS4"+secret), date[:8]), "eu-central-1"), "sts"), "aws4_request")
	return names, hex.EncodeToString(mac(key, "AWS4-HMAC-SHA256\n"+date+"\n"+scope+"\n"+digest(canonical)))
}

// request is what a client signs and hands over.
type request struct {
	url, body string
	headers   map[string]string
}

func newRequest(headers map[string]string) *request {
	r := &request{url: "https://" + host + "/", body: ask, headers: map[string]string{
		"host": host, "x-amz-date": time.Now().UTC().Format("20060102T150405Z"), "content-type": "application/x-www-form-urlencoded; charset=utf-8",
	}}
	for k, v := range headers {
		r.headers[k] = v
	}
	return r
}

// form is the body of the login.
func (r *request) form(role string) map[string]any {
	names, sum := signature(r.headers["x-amz-date"], r.body, r.headers)
	headers := map[string][]string{"Authorization": {fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/%s/eu-central-1/sts/aws4_request, SignedHeaders=%s, Signature=%s", keyID, r.headers["x-amz-date"][:8], names, sum)}}
	for k, v := range r.headers {
		headers[k] = []string{v}
	}
	text, _ := json.Marshal(headers)
	b := base64.StdEncoding
	return map[string]any{
		"role": role, "iam_http_request_method": "POST", "iam_request_url": b.EncodeToString([]byte(r.url)), "iam_request_body": b.EncodeToString([]byte(r.body)),
		"iam_request_headers": b.EncodeToString(text),
	}
}

// service is a token service that checks a request's signature as AWS's documentation says, and answers in its words.
type service struct {
	*httptest.Server
	arn, userID string
	asked       int
	status      int
}

func newService(t *testing.T) *service {
	s := &service{arn: "arn:aws:sts::123456789012:assumed-role/ci/session-1", userID: "AROAEXAMPLE:session-1"}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked++
		if s.status != 0 {
			w.WriteHeader(s.status)
			return
		}
		body, _ := io.ReadAll(r.Body)
		headers := map[string]string{}
		var given string
		for part := range strings.SplitSeq(strings.TrimPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 "), ", ") {
			name, value, _ := strings.Cut(part, "=")
			switch name {
			case "SignedHeaders":
				for h := range strings.SplitSeq(value, ";") {
					headers[h] = r.Header.Get(h)
					if h == "host" {
						headers[h] = r.Host
					}
				}
			case "Signature":
				given = value
			}
		}
		date := r.Header.Get("X-Amz-Date")
		if len(date) < 8 || r.Method != http.MethodPost || r.URL.Path != "/" || headers["host"] == "" || string(body) != ask {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if _, want := signature(date, string(body), headers); given != want {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		w.Header().Set("Content-Type", "text/xml")
		fmt.Fprintf(w, `<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult><Arn>%s</Arn><UserId>%s</UserId><Account>123456789012</Account></GetCallerIdentityResult><ResponseMetadata><RequestId>x</RequestId></ResponseMetadata></GetCallerIdentityResponse>`, s.arn, s.userID)
	}))
	t.Cleanup(s.Close)
	return s
}

func setUp(t *testing.T, s *service, role map[string]any) *authtest.World {
	w := world(t)
	w.Must("POST", "sys/auth/aws", `{"type":"aws"}`)
	w.Must("POST", "auth/aws/config/client", map[string]any{"sts_endpoint": s.URL, "iam_server_id_header_value": "bailiff.example.org"})
	w.Must("POST", "auth/aws/role/ci", role)
	return w
}

func login(w *authtest.World, form map[string]any) *authtest.Answer {
	return w.SendAs("", "POST", "auth/aws/login", form)
}

func forUs() map[string]string {
	return map[string]string{"x-vault-aws-iam-server-id": "bailiff.example.org"}
}

func TestASignedRequestLogsIn(t *testing.T) {
	s := newService(t)
	w := setUp(t, s, map[string]any{"auth_type": "iam", "bound_iam_principal_arn": "arn:aws:iam::123456789012:role/ci", "token_policies": "p"})
	form := newRequest(forUs()).form("ci")
	if a := login(w, form); a.Code != http.StatusOK || a.Text("auth.metadata.account_id") != "123456789012" {
		t.Fatalf("got %d %v", a.Code, a.Body)
	}
	if spec := w.Spec(); spec.Alias == "" || spec.Claims["arn"] != s.arn || spec.DisplayName != "aws-ci" || spec.Params.Policies[0] != "p" {
		t.Errorf("got %+v", spec)
	}
	w.Must("POST", "auth/aws/config/identity", map[string]any{"iam_alias": "unique_id"})
	if a := login(w, newRequest(forUs()).form("")); a.Code != http.StatusOK || w.Spec().Alias != "AROAEXAMPLE" {
		t.Errorf("without a role, whose name is then the caller's: got %d %v", a.Code, a.Body)
	}
	for _, header := range []string{"iam_request_headers"} {
		if found := w.Kept(form[header].(string)); found != "" {
			t.Errorf("the signature is in %s", found)
		}
	}
}

func TestOnlyTheOneQuestionIsSentOn(t *testing.T) {
	s := newService(t)
	w := setUp(t, s, map[string]any{"bound_account_id": "123456789012"})
	edit := func(f func(r *request)) map[string]any {
		r := newRequest(forUs())
		f(r)
		return r.form("ci")
	}
	tests := map[string]map[string]any{
		"another action":               edit(func(r *request) { r.body = "Action=AssumeRole&Version=2011-06-15" }),
		"two actions":                  edit(func(r *request) { r.body += "&Action=AssumeRole" }),
		"a further field":              edit(func(r *request) { r.body += "&RoleArn=x" }),
		"a path":                       edit(func(r *request) { r.url += "x" }),
		"a query":                      edit(func(r *request) { r.url += "?Action=AssumeRole" }),
		"another host":                 edit(func(r *request) { r.headers["host"] = "sts.amazonaws.com" }),
		"a header that is not known":   edit(func(r *request) { r.headers["x-amz-target"] = "x" }),
		"no server id":                 newRequest(nil).form("ci"),
		"another server's id":          newRequest(map[string]string{"x-vault-aws-iam-server-id": "other"}).form("ci"),
		"another method":               with(newRequest(forUs()).form("ci"), "iam_http_request_method", "GET"),
		"headers that are not":         with(newRequest(forUs()).form("ci"), "iam_request_headers", "x"),
		"an address that is not coded": with(newRequest(forUs()).form("ci"), "iam_request_url", "https://sts.amazonaws.com/"),
	}
	for what, form := range tests {
		if a := login(w, form); a.Code != http.StatusBadRequest {
			t.Errorf("%s: got %d %v", what, a.Code, a.Body)
		}
	}
	unsigned := newRequest(nil)
	form := unsigned.form("ci")
	var headers map[string][]string
	text, _ := base64.StdEncoding.DecodeString(form["iam_request_headers"].(string))
	json.Unmarshal(text, &headers)
	headers["X-Vault-AWS-IAM-Server-ID"] = []string{"bailiff.example.org"} // put in by somebody who only saw the request
	if a := login(w, with(form, "iam_request_headers", headers)); a.Code != http.StatusBadRequest || !strings.Contains(a.Errors(), "was not signed") {
		t.Errorf("a server id that is not signed: got %d %v", a.Code, a.Body)
	}
	if s.asked != 0 {
		t.Errorf("the token service was asked %d times", s.asked)
	}
	if a := login(w, newRequest(forUs()).form("ci")); a.Code != http.StatusOK {
		t.Errorf("the one question: got %d %v", a.Code, a.Body)
	}
}

func with(form map[string]any, name string, value any) map[string]any {
	form[name] = value
	return form
}

func TestARequestForAnotherHostIsNotSent(t *testing.T) {
	s := newService(t)
	w := setUp(t, s, map[string]any{"bound_account_id": "123456789012"})
	w.Must("POST", "auth/aws/config/client", map[string]any{"sts_endpoint": ""})
	for _, u := range []string{s.URL + "/", "https://sts.amazonaws.com.evil.example/", "https://evil.example/sts.amazonaws.com", "https://sts.amazonaws.com@evil.example/", "http://sts.amazonaws.com/", "https://169.254.169.254/"} {
		r := newRequest(forUs())
		r.url = u
		delete(r.headers, "host")
		if a := login(w, r.form("ci")); a.Code != http.StatusBadRequest {
			t.Errorf("%s: got %d %v", u, a.Code, a.Body)
		}
	}
	if s.asked != 0 {
		t.Errorf("it was asked %d times", s.asked)
	}
}

func TestWhoDoesNotBelongToARoleIsRefused(t *testing.T) {
	s := newService(t)
	w := setUp(t, s, map[string]any{"bound_account_id": "123456789012"})
	for n, c := range []struct {
		role map[string]any
		in   bool
	}{
		{map[string]any{"bound_iam_principal_arn": "arn:aws:iam::123456789012:role/ci"}, true},
		{map[string]any{"bound_iam_principal_arn": "arn:aws:iam::123456789012:role/*"}, true},
		{map[string]any{"bound_iam_principal_arn": "arn:aws:iam::123456789012:user/ci"}, false},
		{map[string]any{"bound_iam_principal_arn": "arn:aws:iam::123456789012:role/c"}, false},
		{map[string]any{"bound_iam_principal_id": "AROAEXAMPLE"}, true},
		{map[string]any{"bound_iam_principal_id": "AROAOTHER", "bound_iam_principal_arn": "arn:aws:iam::123456789012:role/ci"}, false},
		{map[string]any{"bound_account_id": "210987654321"}, false},
	} {
		name := fmt.Sprintf("r%d", n)
		w.Must("POST", "auth/aws/role/"+name, c.role)
		if a := login(w, newRequest(forUs()).form(name)); (a.Code == http.StatusOK) != c.in {
			t.Errorf("%v: got %d %v", c.role, a.Code, a.Body)
		}
	}
	forged := newRequest(forUs()).form("r0")
	forged["iam_request_headers"] = strings.Replace(forged["iam_request_headers"].(string), "A", "B", 1)
	if a := login(w, forged); a.Code != http.StatusBadRequest {
		t.Errorf("another signature: got %d %v", a.Code, a.Body)
	}
	if a := login(w, newRequest(forUs()).form("nosuch")); a.Code != http.StatusBadRequest || a.Errors() != "entry for role nosuch not found" {
		t.Errorf("got %d %v", a.Code, a.Body)
	}
	end := w.Records("auth/aws/login")[0]
	if end.Status != audit.Denied || !strings.Contains(end.Error, s.arn) {
		t.Errorf("got the record %+v", end)
	}
	s.status = http.StatusServiceUnavailable
	if a := login(w, newRequest(forUs()).form("r0")); a.Code != http.StatusBadGateway {
		t.Errorf("a service that is away: got %d %v", a.Code, a.Body)
	}
	for _, role := range []map[string]any{{}, {"auth_type": "ec2"}, {"bound_iam_principal_arn": "ci"}, {"bound_iam_principal_arn": "arn:aws:iam::*:role/ci"}, {"resolve_aws_unique_ids": true, "bound_account_id": "1"}} {
		if a := w.Send("POST", "auth/aws/role/odd", role); a.Code != http.StatusBadRequest {
			t.Errorf("%v: got %d %v", role, a.Code, a.Body)
		}
	}
	if a := w.Send("POST", "auth/aws/config/client", map[string]any{"access_key": "x", "secret_key": "y"}); a.Code != http.StatusBadRequest {
		t.Errorf("a credential: got %d %v", a.Code, a.Body)
	}
}
