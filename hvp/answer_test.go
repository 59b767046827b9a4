package hvp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/identity"
)

func dial(t *testing.T, s *httptest.Server) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return c.(*net.TCPConn)
}

func answers(resp *gate.Response, err error) *doer {
	return &doer{serve: func(context.Context, *gate.Request) (*gate.Response, error) { return resp, err }}
}

func raw(code int, length int64, body io.Reader, fields ...gate.Field) *gate.Response {
	return &gate.Response{Raw: &gate.Raw{Code: code, Header: fields, Body: io.NopCloser(body), Length: length}}
}

func TestAnswersOfOurOwn(t *testing.T) {
	const id = `{"request_id":"` + requestID + `",`
	data := map[string]any{"b": "<v>", "a": 1}
	tests := []struct {
		what string
		path string
		resp *gate.Response
		code int
		body string
	}{
		{"data", "secret/a", &gate.Response{Data: data}, 200,
			id + `"lease_id":"","renewable":false,"lease_duration":0,"data":{"a":1,"b":"\u003cv\u003e"},"wrap_info":null,"warnings":null,"auth":null}` + "\n"},
		{"data with a lease and a warning", "database/creds/ro", &gate.Response{
			Data: data, Lease: &gate.Lease{ID: "database/creds/ro/x", Renewable: true, Duration: 90*time.Second + 900*time.Millisecond}, Warnings: []string{"w"},
		}, 200, id + `"lease_id":"database/creds/ro/x","renewable":true,"lease_duration":90,"data":{"a":1,"b":"\u003cv\u003e"},"wrap_info":null,"warnings":["w"],"auth":null}` + "\n"},
		{"a lease without data", "sys/leases/renew", &gate.Response{Lease: &gate.Lease{ID: "l"}}, 200,
			id + `"lease_id":"l","renewable":false,"lease_duration":0,"data":null,"wrap_info":null,"warnings":null,"auth":null}` + "\n"},
		{"data that is the whole body", "sys/x", &gate.Response{Data: data, Bare: true}, 200, `{"a":1,"b":"\u003cv\u003e"}` + "\n"},
		{"data that old clients look for on top", "sys/mounts", &gate.Response{Data: map[string]any{"secret/": map[string]any{"type": "kv"}}}, 200,
			`{"secret/":{"type":"kv"},"request_id":"` + requestID + `","lease_id":"","renewable":false,"lease_duration":0,"data":{"secret/":{"type":"kv"}},"wrap_info":null,"warnings":null,"auth":null}` + "\n"},
		{"nothing to say", "secret/a", &gate.Response{Status: gate.NoContent}, 204, ""},
		{"nothing at all", "secret/a", &gate.Response{}, 204, ""},
		{"no answer", "secret/a", nil, 204, ""},
		{"a promise", "sys/leases/revoke/x", &gate.Response{Status: gate.Accepted}, 202, ""},
		{"nothing there", "secret/a", &gate.Response{Status: gate.Missing}, 404, `{"errors":[]}` + "\n"},
	}
	for _, tt := range tests {
		got := send(t, newServer(t, answers(tt.resp, nil)), request("GET /v1/"+tt.path))
		if got.code != tt.code || got.body != tt.body {
			t.Errorf("%s: got %d %s, want %d %s", tt.what, got.code, got.body, tt.code, tt.body)
		}
		for name, want := range map[string]string{
			"Cache-Control": "no-store", "Strict-Transport-Security": "max-age=31536000; includeSubDomains", "X-Content-Type-Options": "nosniff",
		} {
			if got.header.Get(name) != want {
				t.Errorf("%s: got %s: %q, want %q", tt.what, name, got.header.Get(name), want)
			}
		}
	}
}

func TestErrors(t *testing.T) {
	tests := []struct {
		err  error
		code int
		body string
	}{
		{identity.ErrUnauthenticated, 403, `{"errors":["permission denied"]}`},
		{&identity.Refusal{Reason: "wrong key"}, 403, `{"errors":["permission denied"]}`},
		{gate.ErrDenied, 403, `{"errors":["1 error occurred:\n\t* permission denied\n\n"]}`},
		{fmt.Errorf("x: %w", gate.ErrNoRecord), 503, `{"errors":["no record could be kept, so nothing is released"]}`},
		{gate.Errorf(gate.Invalid, "m"), 400, `{"errors":["m"]}`},
		{&gate.Error{Kind: gate.Invalid, Msg: "m", Hint: "h"}, 400, `{"errors":["m","h"]}`},
		{gate.Errorf(gate.NotFound, "m"), 404, `{"errors":["m"]}`},
		{gate.Errorf(gate.Unsupported, "m"), 405, `{"errors":["m"]}`},
		{gate.Errorf(gate.Conflict, "m"), 400, `{"errors":["m"]}`},
		{gate.Errorf(gate.TooLarge, "m"), 413, `{"errors":["m"]}`},
		{&gate.Error{Kind: gate.TooMany, Msg: "m", After: 1500 * time.Millisecond}, 429, `{"errors":["m"]}`},
		{gate.Errorf(gate.TargetDown, "m"), 502, `{"errors":["m"]}`},
		{gate.Errorf(gate.TargetSlow, "m"), 504, `{"errors":["m"]}`},
		{gate.Errorf(gate.Unavailable, "m"), 503, `{"errors":["m"]}`},
		{gate.Errorf(gate.Forbidden, "m"), 403, `{"errors":["m"]}`},
		{gate.Errorf(gate.Internal, "s3cr3t"), 500, `{"errors":["internal error; request id ` + requestID + `"]}`},
		{errors.New("s3cr3t"), 500, `{"errors":["internal error; request id ` + requestID + `"]}`},
		{context.DeadlineExceeded, 504, `{"errors":["the request took too long"]}`},
	}
	for _, tt := range tests {
		got := send(t, newServer(t, answers(nil, tt.err)), request("GET /v1/secret/a"))
		if got.code != tt.code || got.body != tt.body+"\n" {
			t.Errorf("%v: got %d %s, want %d %s", tt.err, got.code, got.body, tt.code, tt.body)
		}
		if after := got.header.Get("Retry-After"); (after == "2") != (tt.code == 429) {
			t.Errorf("%v: got Retry-After %q", tt.err, after)
		}
	}
}

func TestTargetsAnswersAreStreamed(t *testing.T) {
	json := gate.Field{Name: "Content-Type", Value: "application/json"}
	tests := []struct {
		what   string
		resp   *gate.Response
		code   int
		body   string
		header map[string]string
	}{
		{"with a length", raw(200, 3, strings.NewReader("abc"), json), 200, "abc", map[string]string{"Content-Length": "3", "Content-Type": "application/json"}},
		{"without one", raw(200, -1, strings.NewReader("abc"), json), 200, "abc", map[string]string{"Content-Type": "application/json"}},
		{"a 404 as it came", raw(404, 13, strings.NewReader(`{"errors":[]}`), json), 404, `{"errors":[]}`, nil},
		{"a 500 as it came", raw(500, 3, strings.NewReader("abc"), json), 500, "abc", nil},
		{"a 204", raw(204, 0, strings.NewReader("")), 204, "", map[string]string{"Content-Type": ""}},
		{"no guess of its type", raw(200, 6, strings.NewReader("<html>")), 200, "<html>", map[string]string{"Content-Type": "application/octet-stream"}},
		{"only headers that clients know", raw(200, 1, strings.NewReader("x"), json, gate.Field{Name: "set-cookie", Value: "a"}, gate.Field{Name: "X-Vault-Index", Value: "i"},
			gate.Field{Name: "Cache-Control", Value: "public"}, gate.Field{Name: "Warning", Value: "a\r\nSet-Cookie: b"}), 200, "x",
			map[string]string{"Set-Cookie": "", "X-Vault-Index": "i", "Cache-Control": "no-store"}},
		{"a status that makes no sense", raw(199, 1, strings.NewReader("x")), 502, `{"errors":["the target answered with a status that makes no sense"]}` + "\n", nil},
		{"a body that breaks before its first byte", raw(200, 5, failing{gate.Errorf(gate.TargetSlow, "slow")}), 504, `{"errors":["slow"]}` + "\n", nil},
	}
	for _, tt := range tests {
		got := send(t, newServer(t, answers(tt.resp, nil)), request("GET /v1/secret/a"))
		if got.code != tt.code || got.body != tt.body || got.err != nil {
			t.Errorf("%s: got %d %q %v, want %d %q", tt.what, got.code, got.body, got.err, tt.code, tt.body)
		}
		for name, want := range tt.header {
			if have := got.header.Get(name); have != want {
				t.Errorf("%s: got %s: %q, want %q", tt.what, name, have, want)
			}
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestPartIsNeverTakenForTheWhole(t *testing.T) {
	broken := func() io.Reader {
		return io.MultiReader(strings.NewReader("abc"), failing{gate.Errorf(gate.TargetDown, "broke off")})
	}
	large := strings.Repeat("x", 100<<10)
	tests := []struct {
		what string
		resp *gate.Response
	}{
		{"a body with a length that breaks", raw(200, 10, broken())},
		{"a body without a length that breaks", raw(200, -1, broken())},
		{"a large body without a length that breaks", raw(200, -1, io.MultiReader(strings.NewReader(large), broken()))},
		{"a body shorter than its length", raw(200, 10, strings.NewReader("abc"))},
	}
	for _, tt := range tests {
		got := send(t, newServer(t, answers(tt.resp, nil)), request("GET /v1/secret/a"))
		if got.err == nil {
			t.Errorf("%s: got %d with %d bytes and a clean end, want a broken connection", tt.what, got.code, len(got.body))
		}
	}
}

func TestLargeAnswerIsNotKeptInMemory(t *testing.T) {
	const size = 20 << 20
	d := &doer{serve: func(context.Context, *gate.Request) (*gate.Response, error) {
		return raw(200, size, io.LimitReader(zeros{}, size)), nil
	}}
	s := newServer(t, d)
	get := func() int64 {
		resp, err := s.Client().Get(s.URL + "/v1/secret/a")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		n, err := io.Copy(io.Discard, resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	get()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if n := get(); n != size {
		t.Fatalf("got %d bytes, want %d", n, size)
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<20 {
		t.Errorf("a 20 MiB answer took %d bytes of memory, want less than 1 MiB", grown)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestAnswerThatNobodyGetsIsAbandoned(t *testing.T) {
	var closed atomic.Bool
	for _, streamed := range []bool{false, true} {
		abandoned := make(chan struct{})
		arrived := make(chan struct{})
		d := &doer{serve: func(ctx context.Context, _ *gate.Request) (*gate.Response, error) {
			close(arrived)
			<-ctx.Done() // the client has gone
			resp := &gate.Response{Data: map[string]any{"password": "p"}}
			if streamed {
				resp = raw(200, 1, strings.NewReader("x"))
				resp.Raw.Body = closer{resp.Raw.Body, &closed}
			}
			resp.Abandon = func() { close(abandoned) }
			return resp, nil
		}}
		c := dial(t, newServer(t, d))
		io.WriteString(c, request("GET /v1/database/creds/ro"))
		<-arrived
		c.Close()
		select {
		case <-abandoned:
		case <-time.After(10 * time.Second):
			t.Fatal("the answer was not abandoned")
		}
	}
	if !closed.Load() {
		t.Error("the body of the streamed answer was not closed")
	}
}

type closer struct {
	io.Reader
	closed *atomic.Bool
}

func (c closer) Close() error { c.closed.Store(true); return nil }

func TestAnswerThatArrivedIsNotAbandoned(t *testing.T) {
	var abandoned atomic.Bool
	resp := &gate.Response{Data: map[string]any{"password": "p"}, Abandon: func() { abandoned.Store(true) }}
	s := newServer(t, answers(resp, nil))
	for range 50 {
		if got := send(t, s, request("GET /v1/database/creds/ro")); got.code != 200 || !strings.Contains(got.body, `"password":"p"`) {
			t.Fatalf("got %d %s", got.code, got.body)
		}
	}
	s.Close()
	if abandoned.Load() {
		t.Error("an answer was abandoned though its client got it")
	}
}
