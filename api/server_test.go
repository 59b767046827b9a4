package api_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bailiff-secrets/bailiff/api"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/vpath/vpathtest"
)

func TestEachRouteIsOneRequest(t *testing.T) {
	for _, c := range []struct{ method, path, body, want string }{
		{"GET", "status", "", "read sys/bailiff/status"},
		{"GET", "audit?path=secret/*&limit=5", "", "read sys/bailiff/audit?limit=5&path=secret%2F%2A"},
		{"POST", "plan", `{"objects":[{"kind":"role","name":"r","body":{"a": 1}}]}`,
			`update sys/bailiff/plan {"objects":[{"kind":"role","name":"r","body":{"a":1}}]}`},
		{"POST", "apply", `{"objects":[{"kind":"target","name":"t","body":{},"secrets":{"token":"s"}}],"prune":true,"expect":{"target/t":3}}`,
			`update sys/bailiff/apply {"objects":[{"kind":"target","name":"t","body":{},"secrets":{"token":"s"}}],"prune":true,"expect":{"target/t":3}}`},
		{"GET", "objects/role", "", "list sys/bailiff/objects/role"},
		{"GET", "objects/producer/database/readonly", "", "read sys/bailiff/objects/producer/database/readonly"},
		{"GET", "objects/producer/database%2Freadonly", "", "read sys/bailiff/objects/producer/database/readonly"},
		{"DELETE", "objects/producer/database/readonly?version=4", "", "delete sys/bailiff/objects/producer/database/readonly?version=4"},
		{"POST", "identities/ci", `{"roles":["app"]}`, `update sys/bailiff/identities/ci {"roles":["app"]}`},
		{"POST", "identities/ci", `{"disabled":false}`, `update sys/bailiff/identities/ci {"disabled":false}`},
		{"GET", "identities/ci/keys", "", "list sys/bailiff/identities/ci/keys"},
		{"POST", "identities/ci/keys", `{"note":"n","ttl":"1h"}`, `update sys/bailiff/identities/ci/keys {"note":"n","ttl":"1h"}`},
		{"PATCH", "identities/ci/keys/k-1", `{"disabled":true}`, `update sys/bailiff/identities/ci/keys/k-1 {"disabled":true}`},
		{"DELETE", "identities/ci/keys/k-1", "", "delete sys/bailiff/identities/ci/keys/k-1"},
		{"GET", "leases?identity=ci&state=stuck", "", "list sys/bailiff/leases?identity=ci&state=stuck"},
		{"GET", "leases/database/creds/readonly/abc", "", "read sys/bailiff/leases/database/creds/readonly/abc"},
		{"GET", "leases/database/creds/read%20only/abc", "", "read sys/bailiff/leases/database/creds/read only/abc"},
		{"POST", "leases/renew", `{"lease_id":"database/creds/r/a","increment":60}`, `update sys/leases/renew {"lease_id":"database/creds/r/a","increment":60}`},
		{"POST", "leases/retry", `{"lease_id":"database/creds/r/a"}`, "update sys/bailiff/leases/database/creds/r/a/retry"},
		{"POST", "leases/force", `{"lease_id":"database/creds/r/a","reason":"gone"}`, `update sys/bailiff/leases/database/creds/r/a/force {"reason":"gone"}`},
		{"GET", "revocations?limit=5", "", "list sys/bailiff/revocations?limit=5"},
		{"GET", "revocations/rv-1", "", "read sys/bailiff/revocations/rv-1"},
		{"POST", "revocations", `{"identity":"alice","sync":true}`, `update sys/bailiff/revocations {"identity":"alice","sync":true}`},
		{"POST", "revocations/preview", `{"prefix":"database"}`, `update sys/bailiff/revocations/preview {"prefix":"database"}`},
		{"GET", "recover", "", "read sys/bailiff/recover"},
		{"POST", "recover", `{"reason":"checked"}`, `update sys/bailiff/recover {"reason":"checked"}`},
		{"POST", "reconcile/pg", `{"action":"quarantine"}`, `update sys/bailiff/reconcile/pg {"action":"quarantine"}`},
		{"POST", "leases/revoke", `{"lease_id":"database/creds/r/a","sync":true}`, `update sys/leases/revoke {"lease_id":"database/creds/r/a","sync":true}`},
	} {
		t.Run(c.method+" "+c.path, func(t *testing.T) {
			e := newEstate(t, nothing)
			resp, body := e.send("ann", c.method, "/api/v1/"+c.path, c.body)
			if resp.StatusCode != http.StatusOK {
				t.Errorf("status %d: %s", resp.StatusCode, body)
			}
			if diff := cmp.Diff([]string{c.want}, e.requests()); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
			if rec := e.records(); len(rec) != 1 || !strings.HasPrefix(rec[0], "ann api ok ") {
				t.Errorf("records: %q", rec)
			}
			if id := resp.Header.Get("X-Request-Id"); len(id) != 36 {
				t.Errorf("request id %q", id)
			}
			if resp, _ := e.send("ben", c.method, "/api/v1/"+c.path, c.body); resp.StatusCode != http.StatusForbidden {
				t.Errorf("one who may do nothing gets status %d", resp.StatusCode)
			}
			if n := len(e.requests()); n != 1 {
				t.Errorf("a denied request was served")
			}
		})
	}
}

func TestErrors(t *testing.T) {
	for _, c := range []struct {
		err     error
		code    int
		kind    api.Kind
		message string
	}{
		{gate.Errorf(gate.Invalid, "bad"), 400, api.Invalid, "bad"},
		{gate.Errorf(gate.NotFound, "none"), 404, api.NotFound, "none"},
		{gate.Errorf(gate.Unsupported, "no"), 405, api.Unsupported, "no"},
		{gate.Errorf(gate.Conflict, "changed"), 409, api.Conflict, "changed"},
		{gate.Errorf(gate.TooLarge, "large"), 413, api.TooLarge, "large"},
		{gate.Errorf(gate.TooMany, "slow down"), 429, api.TooMany, "slow down"},
		{gate.Errorf(gate.TargetDown, "down"), 502, api.TargetDown, "down"},
		{gate.Errorf(gate.TargetSlow, "slow"), 504, api.TargetSlow, "slow"},
		{gate.Errorf(gate.Unavailable, "later"), 503, api.Unavailable, "later"},
		{gate.Errorf(gate.Forbidden, "not yours"), 403, api.Forbidden, "not yours"},
		{gate.Errorf(gate.Internal, "do not show this"), 500, api.Internal, "internal error"},
		{fmt.Errorf("wrapped: %w", gate.Errorf(gate.Conflict, "changed")), 409, api.Conflict, "changed"},
		{errors.New("do not show this"), 500, api.Internal, "internal error"},
		{gate.ErrDenied, 403, api.Denied, "permission denied"},
		{&identity.Refusal{Reason: "do not show this"}, 403, api.Unauthenticated, "permission denied"},
		{gate.ErrNoRecord, 503, api.Unavailable, gate.ErrNoRecord.Error()},
		{context.DeadlineExceeded, 504, api.TargetSlow, "it took too long"},
	} {
		t.Run(fmt.Sprintf("%d %s", c.code, c.kind), func(t *testing.T) {
			e := newEstate(t, func(*gate.Request) (*gate.Response, error) { return nil, c.err })
			resp, body := e.send("ann", "GET", "/api/v1/status", "")
			got := said(t, body)
			if resp.StatusCode != c.code || got.Kind != c.kind || got.Message != c.message {
				t.Errorf("got %d %s %q, want %d %s %q", resp.StatusCode, got.Kind, got.Message, c.code, c.kind, c.message)
			}
			if got.RequestID == "" || got.RequestID != resp.Header.Get("X-Request-Id") {
				t.Errorf("request id %q in the body and %q in the header", got.RequestID, resp.Header.Get("X-Request-Id"))
			}
			if strings.Contains(body, "do not show") {
				t.Errorf("shown: %s", body)
			}
		})
	}
	e := newEstate(t, func(*gate.Request) (*gate.Response, error) {
		return nil, &gate.Error{Kind: gate.TooMany, Msg: "m", Hint: "h", After: 1500 * time.Millisecond}
	})
	resp, body := e.send("ann", "GET", "/api/v1/status", "")
	if got := said(t, body); got.Hint != "h" || resp.Header.Get("Retry-After") != "2" {
		t.Errorf("hint %q, Retry-After %q, want h and 2", got.Hint, resp.Header.Get("Retry-After"))
	}
}

func TestAnswers(t *testing.T) {
	for _, c := range []struct {
		sentence string
		resp     gate.Response
		code     int
		body     string
	}{
		{"data", gate.Response{Data: map[string]any{"a": "<&>"}}, 200, `{"a":"<&>"}`},
		{"no data", gate.Response{}, 200, `{}`},
		{"nothing to say", gate.Response{Status: gate.NoContent}, 204, ``},
		{"promised", gate.Response{Status: gate.Accepted}, 202, `{}`},
		{"warnings", gate.Response{Status: gate.NoContent, Warnings: []string{"w"}}, 200, `{"warnings":["w"]}`},
		{"a lease", gate.Response{Lease: &gate.Lease{ID: "l", Renewable: true, Duration: time.Minute}}, 200,
			`{"lease_duration":60,"lease_id":"l","renewable":true}`},
	} {
		e := newEstate(t, func(*gate.Request) (*gate.Response, error) { return &c.resp, nil })
		resp, body := e.send("ann", "GET", "/api/v1/status", "")
		if resp.StatusCode != c.code || strings.TrimSpace(body) != c.body {
			t.Errorf("%s: got %d %q, want %d %q", c.sentence, resp.StatusCode, body, c.code, c.body)
		}
		if resp.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: may be cached", c.sentence)
		}
	}
	e := newEstate(t, func(*gate.Request) (*gate.Response, error) { return &gate.Response{Status: gate.Missing}, nil })
	if resp, body := e.send("ann", "GET", "/api/v1/status", ""); resp.StatusCode != http.StatusNotFound || said(t, body).Kind != api.NotFound {
		t.Errorf("missing: got %d %s", resp.StatusCode, body)
	}
}

func TestWhatIsRefused(t *testing.T) {
	for _, c := range []struct {
		sentence, method, path, body string
		code                         int
		kind                         api.Kind
		message                      string
	}{
		{"an unknown field", "POST", "identities/x", `{"admin":true}`, 400, api.Invalid, `the body: unknown field "admin"`},
		{"a second value", "POST", "identities/x", `{} {}`, 400, api.Invalid, "the body: there is something behind the JSON value"},
		{"no body", "POST", "identities/x", ``, 400, api.Invalid, "the body is missing or incomplete"},
		{"half a body", "POST", "identities/x", `{"description":"a`, 400, api.Invalid, "the body is missing or incomplete"},
		{"no JSON", "POST", "identities/x", `a=b`, 400, api.Invalid, "the body is not JSON: byte 1"},
		{"a wrong type, whose value is not repeated", "POST", "leases/renew", `{"lease_id":"a","increment":12345.5}`, 400, api.Invalid,
			`the body's field "increment" can't be a number`},
		{"a body that is too large", "POST", "plan", `{"objects":[{"name":"` + strings.Repeat("x", 70<<10) + `"}]}`, 413, api.TooLarge,
			"the body is larger than 65536 bytes"},
		{"an odd lease id", "POST", "leases/revoke", `{"lease_id":"a/../b"}`, 400, api.Invalid, ""},
		{"an odd lease id to retry", "POST", "leases/retry", `{"lease_id":"a/../b"}`, 400, api.Invalid, ""},
		{"an odd lease id to force", "POST", "leases/force", `{"lease_id":"a//b","reason":"x"}`, 400, api.Invalid, ""},
		{"a selector that is unknown", "POST", "revocations", `{"colour":"red"}`, 400, api.Invalid, ""},
		{"no lease id", "POST", "leases/renew", `{}`, 400, api.Invalid, ""},
		{"an unknown name in the query", "GET", "audit?token=s3cr3t", "", 400, api.Invalid, `the query has an unknown name "token"`},
		{"a name twice in the query", "GET", "audit?limit=1&limit=2", "", 400, api.Invalid, `the query names "limit" more than once`},
		{"a query that can't be read", "GET", "audit?path=%zz", "", 400, api.Invalid, "the query can't be read"},
		{"a query where there is none", "GET", "status?a=b", "", 400, api.Invalid, `the query has an unknown name "a"`},
		{"an unknown route", "GET", "nothing", "", 404, api.NotFound, "no such route"},
		{"a route and a slash", "GET", "status/", "", 404, api.NotFound, "no such route"},
		{"a route and more", "GET", "status/more", "", 404, api.NotFound, "no such route"},
		{"half a route", "GET", "objects", "", 404, api.NotFound, "no such route"},
		{"an identity with a slash", "POST", "identities/a/b", "{}", 404, api.NotFound, "no such route"},
		{"a wrong method", "PUT", "status", "", 405, api.Unsupported, `this route has no "PUT"`},
		{"HEAD", "DELETE", "identities/x/keys", "", 405, api.Unsupported, `this route has no "DELETE"`},
		{"a value that is none", "POST", "usc/create", `{"usc-name":"kv","secret-name":"a","value":"hunter2"}`, 400, api.Invalid,
			"value must be a JSON object, the base64 form of one, or key=value"},
		{"no value", "POST", "usc/update", `{"usc-name":"kv","secret-id":"a"}`, 400, api.Invalid, ""},
		{"a version that is none", "POST", "usc/get", `{"usc-name":"kv","secret-id":"a","version-id":"-1"}`, 400, api.Invalid, "version-id: not a number above 0"},
		{"an odd secret id", "POST", "usc/get", `{"usc-name":"kv","secret-id":"a//b"}`, 400, api.Invalid, ""},
		{"an unknown connector", "POST", "usc/get", `{"usc-name":"vk","secret-id":"a"}`, 404, api.NotFound, "no such connector"},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			e := newEstate(t, nothing)
			resp, body := e.send("ann", c.method, "/api/v1/"+c.path, c.body)
			got := said(t, body)
			if resp.StatusCode != c.code || got.Kind != c.kind || c.message != "" && got.Message != c.message {
				t.Errorf("got %d %s %q, want %d %s %q", resp.StatusCode, got.Kind, got.Message, c.code, c.kind, c.message)
			}
			if len(e.requests()) != 0 {
				t.Errorf("served: %q", e.requests())
			}
			if rec := e.records(); len(rec) != 1 || !strings.HasPrefix(rec[0], "ann ") || !strings.Contains(rec[0], " refused ") {
				t.Errorf("records %q, want one refusal", rec)
			}
			if strings.Contains(body+strings.Join(e.records(), ""), "hunter2") || strings.Contains(body, "s3cr3t") {
				t.Error("a value is repeated")
			}
			if allow := resp.Header.Get("Allow"); (c.code == 405) != (allow != "") {
				t.Errorf("Allow: %q", allow)
			}
		})
	}
}

func TestAStrangerLearnsNothing(t *testing.T) {
	for _, c := range []struct{ method, path, body string }{
		{"GET", "status", ""}, {"GET", "nothing", ""}, {"PUT", "status", ""}, {"GET", "objects/role/none", ""},
		{"POST", "usc/get", `{"usc-name":"kv","secret-id":"a"}`}, {"POST", "usc/get", `{"usc-name":"none","secret-id":"a"}`},
		{"POST", "usc/list", `{"usc-name":"none"}`},
	} {
		e := newEstate(t, nothing)
		resp, body := e.send("eve", c.method, "/api/v1/"+c.path, c.body)
		if got := said(t, body); resp.StatusCode != http.StatusForbidden || got.Kind != api.Unauthenticated || got.Message != "permission denied" {
			t.Errorf("%s %s: got %d %+v", c.method, c.path, resp.StatusCode, got)
		}
		if len(e.requests()) != 0 || len(e.records()) != 1 {
			t.Errorf("%s %s: %d requests, %d records", c.method, c.path, len(e.requests()), len(e.records()))
		}
	}
}

func TestTheTokenComesInAHeader(t *testing.T) {
	e := newEstate(t, nothing)
	for _, c := range []struct {
		name, value string
		code        int
	}{
		{"X-Vault-Token", "ann", 200}, {"Authorization", "Bearer ann", 200}, {"Authorization", "bearer ann", 200},
		{"Authorization", "Basic ann", 403}, {"Authorization", "ann", 403}, {"Cookie", "token=ann", 403},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, e.url+"/api/v1/status", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(c.name, c.value)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != c.code {
			t.Errorf("%s: %s: got %d, want %d", c.name, c.value, resp.StatusCode, c.code)
		}
	}
}

// exchange writes a request target into a connection as it is.
func exchange(t *testing.T, url, target string) int {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(conn, "GET "+target+" HTTP/1.1\r\nHost: x\r\nX-Vault-Token: ann\r\nConnection: close\r\n\r\n")
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		t.Fatalf("%.80q: %v", target, err)
	}
	code, err := strconv.Atoi(strings.Fields(line)[1])
	if err != nil {
		t.Fatalf("%.80q: %q", target, line)
	}
	return code
}

func TestOddPathsAreRefused(t *testing.T) {
	e := newEstate(t, nothing)
	for _, odd := range vpathtest.Odd {
		// Behind a lease route everything that isn't odd would be served.
		target := "/api/v1/leases/" + odd.Escaped
		if odd.Escaped == "" || odd.Escaped == "%2F" {
			continue // the route itself with a slash: 404
		}
		if code := exchange(t, e.url, target); code != 400 && (code != 404 || !strings.HasSuffix(odd.Escaped, "/")) {
			t.Errorf("%s: got %d, want 400", odd.Why, code)
		}
	}
	if got := e.requests(); len(got) != 0 {
		t.Errorf("served: %.200q", got)
	}
	for _, good := range vpathtest.Good {
		if len(good.Path) > 2000 {
			continue // with the route before it the path is too long
		}
		if code := exchange(t, e.url, "/api/v1/leases/"+good.Escaped); code != 200 {
			t.Errorf("%q: got %d, want 200", good.Path, code)
			continue
		}
		got := e.requests()
		if last := got[len(got)-1]; last != "read sys/bailiff/leases/"+good.Path {
			t.Errorf("%q: served as %q", good.Path, last)
		}
	}
}

func TestAnAnswerForNobodyIsAbandoned(t *testing.T) {
	reached, abandoned := make(chan struct{}), make(chan struct{})
	e := newEstate(t, func(*gate.Request) (*gate.Response, error) {
		return &gate.Response{Abandon: func() { close(abandoned) }}, nil
	})
	e.hold = func(ctx context.Context) {
		close(reached)
		<-ctx.Done() // the client has gone
	}
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.url+"/api/v1/status", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Vault-Token", "ann")
	done := make(chan error, 1)
	go func() {
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			resp.Body.Close()
		}
		done <- err
	}()
	<-reached
	cancel()
	if err := <-done; err == nil {
		t.Fatal("the request was answered")
	}
	select {
	case <-abandoned:
	case <-time.After(10 * time.Second):
		t.Fatal("the answer was not abandoned")
	}
}
