package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/bailiff-secrets/bailiff/api"
	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/policy"
	"github.com/bailiff-secrets/bailiff/usc"
)

// callers are policies by token.
type callers map[string]string

func (c callers) Authenticate(_ context.Context, token secret.Value, _ netip.Addr) (identity.Caller, error) {
	if _, ok := c[token.Reveal()]; !ok {
		return identity.Caller{}, &identity.Refusal{Reason: "wrong key"}
	}
	return identity.Caller{Name: token.Reveal(), Policies: []string{token.Reveal()}}, nil
}

func (c callers) ACL(who *identity.Caller) *policy.ACL {
	var list []*policy.Policy
	for _, n := range who.Policies {
		p, err := policy.Parse(n, 1, c[n])
		if err != nil {
			panic(err)
		}
		list = append(list, p)
	}
	return policy.Compile(list...)
}

const everything = `path "*" { capabilities = ["create", "read", "update", "delete", "list", "sudo"] }`

// backend answers what the test says, and writes down what reached it.
type backend struct {
	mu    sync.Mutex
	seen  []string // "op path?query body"
	reply func(r *gate.Request) (*gate.Response, error)
	hold  func(context.Context) // called before reply; may be nil
}

func (b *backend) Serve(ctx context.Context, r *gate.Request) (*gate.Response, error) {
	line := string(r.Op) + " " + r.Path
	if q := r.Query.Encode(); q != "" {
		line += "?" + q
	}
	if r.Body != nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		if int64(len(body)) != r.BodyLen || r.ContentType != "application/json" {
			return nil, errors.New("the request's body is not as it says")
		}
		line += " " + string(body)
	}
	b.mu.Lock()
	b.seen = append(b.seen, line)
	b.mu.Unlock()
	if b.hold != nil {
		b.hold(ctx)
	}
	return b.reply(r)
}

func (b *backend) requests() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.seen...)
}

// estate is an API server with a real gate and a real trail before backends that answer what a test says.
type estate struct {
	*backend
	t     *testing.T
	url   string
	trail *audit.Log
	log   *bytes.Buffer // of the server; read it only when no request is under way
}

// newEstate serves sys/, auth/token/ and the KV v2 mount secret/, to "ann", who may do everything, and "ben", who may do nothing.
func newEstate(t *testing.T, reply func(*gate.Request) (*gate.Response, error)) *estate {
	t.Helper()
	e := &estate{backend: &backend{reply: reply}, t: t, log: &bytes.Buffer{}}
	logger := slog.New(slog.NewTextHandler(e.log, nil))
	var err error
	if e.trail, err = audit.Open(audit.Config{Dir: t.TempDir(), ReserveBytes: -1, Logger: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.trail.Close() })
	mounts, err := gate.NewMounts([]*gate.Mount{
		{Path: "sys/", Type: "system", Internal: true, Backend: e.backend},
		{Path: "secret/", Type: "kv", Options: map[string]string{"version": "2"}, Backend: e.backend},
	})
	if err != nil {
		t.Fatal(err)
	}
	who := callers{"ann": everything, "ben": ""}
	g, err := gate.New(gate.Config{Authenticator: who, Policies: who, Mounts: func() *gate.Mounts { return mounts }, Recorder: e.trail,
		Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	kv := usc.Connector{Name: "kv", Mounts: []usc.Mount{{Path: "secret", KVVersion: 2}}}
	h := api.NewServer(api.Config{Gate: g, Logger: logger, MaxBody: 64 << 10, USC: usc.New(usc.Config{Gate: g,
		Connectors: func(name string) (usc.Connector, bool) { return kv, name == "kv" }})})
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	e.url = srv.URL
	return e
}

// records are those of the trail, as "identity via status op path".
func (e *estate) records() []string {
	e.t.Helper()
	var out []string
	err := e.trail.Query(e.t.Context(), audit.Query{Forward: true}, func(r *audit.Record) error {
		if r.Stage == audit.StageResponse {
			out = append(out, strings.Join([]string{r.Identity, r.Via, string(r.Status), r.Op, r.Path}, " "))
		}
		return nil
	})
	if err != nil {
		e.t.Fatal(err)
	}
	return out
}

// send makes one request as the one whose token is given.
func (e *estate) send(token, method, path, body string) (*http.Response, string) {
	e.t.Helper()
	req, err := http.NewRequestWithContext(e.t.Context(), method, e.url+path, strings.NewReader(body))
	if err != nil {
		e.t.Fatal(err)
	}
	req.Header.Set("X-Vault-Token", token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		e.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		e.t.Fatal(err)
	}
	return resp, string(b)
}

// said is the error in a body.
func said(t *testing.T, body string) api.Error {
	t.Helper()
	var e struct{ Error api.Error }
	if err := json.Unmarshal([]byte(body), &e); err != nil {
		t.Fatalf("the body is not an error: %q", body)
	}
	return e.Error
}

func nothing(*gate.Request) (*gate.Response, error) {
	return &gate.Response{Data: map[string]any{}}, nil
}

// raw answers as a Vault does.
func raw(code int, body string) (*gate.Response, error) {
	return &gate.Response{Raw: &gate.Raw{Code: code, Body: io.NopCloser(strings.NewReader(body)), Length: int64(len(body))}}, nil
}
