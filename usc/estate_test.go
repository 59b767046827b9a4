package usc_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/internal/testenv"
	"github.com/bailiff-secrets/bailiff/policy"
	"github.com/bailiff-secrets/bailiff/upstream"
	"github.com/bailiff-secrets/bailiff/usc"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// rules are policies by name. Each is that of the caller of the same name, whose token is the name.
type rules map[string]string

func (r rules) Authenticate(_ context.Context, token secret.Value, _ netip.Addr) (identity.Caller, error) {
	if _, ok := r[token.Reveal()]; !ok {
		return identity.Caller{}, &identity.Refusal{Reason: "wrong key"}
	}
	return identity.Caller{Name: token.Reveal(), Policies: []string{token.Reveal()}}, nil
}

func (r rules) ACL(who *identity.Caller) *policy.ACL {
	var list []*policy.Policy
	for _, n := range who.Policies {
		p, err := policy.Parse(n, 1, r[n])
		if err != nil {
			panic(err)
		}
		list = append(list, p)
	}
	return policy.Compile(list...)
}

// everything is the policy of a caller who may do everything.
const everything = `path "*" { capabilities = ["create", "read", "update", "delete", "list"] }`

// estate is USC with a real gate and a real trail before a target, which counts what reaches it.
type estate struct {
	*usc.Service
	t     *testing.T
	trail *audit.Log
	hits  atomic.Int64
}

// newEstate governs three mounts of the Vault at addr: secret (KV v2), team/kv (KV v2) and old (KV v1). The connector "all"
// stands for the target, "one" for secret, and "kv1" for old.
func newEstate(t *testing.T, addr, token string, who rules, limits usc.Config) *estate {
	t.Helper()
	e := &estate{t: t}
	logger := slog.New(slog.DiscardHandler)
	var err error
	if e.trail, err = audit.Open(audit.Config{Dir: t.TempDir(), ReserveBytes: -1, Logger: logger}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.trail.Close() })
	v, err := upstream.New(upstream.Config{Logger: logger, Target: object.Target{
		Name: "vault-a", Type: "vault", Address: addr, Auth: &object.VaultAuth{Method: "token", Token: secret.New(token)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	mounts, err := gate.NewMounts([]*gate.Mount{
		{Path: "secret/", Type: "kv", Target: "vault-a", Options: map[string]string{"version": "2"}, Backend: e.counting(v.Mount("secret", 2))},
		{Path: "team/kv/", Type: "kv", Target: "vault-a", Options: map[string]string{"version": "2"}, Backend: e.counting(v.Mount("team/kv", 2))},
		{Path: "old/", Type: "kv", Target: "vault-a", Options: map[string]string{"version": "1"}, Backend: e.counting(v.Mount("old", 1))},
	})
	if err != nil {
		t.Fatal(err)
	}
	g, err := gate.New(gate.Config{Authenticator: who, Policies: who, Mounts: func() *gate.Mounts { return mounts }, Recorder: e.trail, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	connectors := map[string]usc.Connector{
		"all": {Name: "all", Target: "vault-a", Mounts: []usc.Mount{
			{Path: "secret", Prefix: "secret/", KVVersion: 2},
			{Path: "team/kv", Prefix: "team/kv/", KVVersion: 2},
			{Path: "old", Prefix: "old/", KVVersion: 1},
		}},
		"one":   {Name: "one", Mounts: []usc.Mount{{Path: "secret", KVVersion: 2}}},
		"kv1":   {Name: "kv1", Mounts: []usc.Mount{{Path: "old", KVVersion: 1}}},
		"blank": {Name: "blank", Mounts: []usc.Mount{{Path: "secret"}}},
	}
	limits.Gate = g
	limits.Connectors = func(name string) (usc.Connector, bool) { c, ok := connectors[name]; return c, ok }
	e.Service = usc.New(limits)
	return e
}

// counted counts what gets past the gate.
type counted struct {
	gate.Backend
	gate.Exister
	gate.Changer
	e *estate
}

func (e *estate) counting(b gate.Backend) gate.Backend {
	return counted{b, b.(gate.Exister), b.(gate.Changer), e}
}

func (c counted) Serve(ctx context.Context, r *gate.Request) (*gate.Response, error) {
	c.e.hits.Add(1)
	return c.Backend.Serve(ctx, r)
}

// by is a call of the one whose token is given.
func by(token string) usc.Call {
	return usc.Call{Token: secret.New(token), ClientAddr: netip.MustParseAddr("192.0.2.7"), UserAgent: "test"}
}

// records are those of the trail since it was opened, as "identity status op path".
func (e *estate) records() []string {
	e.t.Helper()
	var out []string
	err := e.trail.Query(e.t.Context(), audit.Query{Forward: true, Via: "usc"}, func(r *audit.Record) error {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %s %s", r.Identity, r.Status, r.Op, r.Path)))
		return nil
	})
	if err != nil {
		e.t.Fatal(err)
	}
	return out
}

// realVault is a Vault of the test's own, with mounts team/kv and old beside secret.
func realVault(t *testing.T) *testenv.VaultServer {
	t.Helper()
	v := testenv.NewVault(t)
	for path, body := range map[string]string{
		"sys/mounts/team/kv": `{"type":"kv","options":{"version":"2"}}`,
		"sys/mounts/old":     `{"type":"kv","options":{"version":"1"}}`,
	} {
		direct(t, v, http.MethodPost, path, body)
	}
	return v
}

// direct asks the Vault itself, past Bailiff.
func direct(t *testing.T, v *testenv.VaultServer, method, path, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, v.Addr+"/v1/"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Vault-Token", v.RootToken)
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

// fake is a target that gives one answer to everything but the look at its own token.
func fake(t *testing.T, code int, body string) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if strings.HasPrefix(r.URL.Path, "/v1/auth/") {
			io.WriteString(w, `{"data":{"ttl":0,"renewable":false}}`)
			return
		}
		w.WriteHeader(code)
		io.WriteString(w, body)
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

// kindOf names an error as callers tell them apart.
func kindOf(err error) string {
	var said *gate.Error
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, identity.ErrUnauthenticated):
		return "unauthenticated"
	case errors.Is(err, gate.ErrDenied):
		return "denied"
	case errors.Is(err, gate.ErrNoRecord):
		return "no record"
	case errors.As(err, &said):
		return map[gate.Kind]string{gate.Invalid: "invalid", gate.NotFound: "not found", gate.Conflict: "conflict",
			gate.TargetDown: "target down", gate.TooLarge: "too large", gate.TooMany: "too many", gate.Forbidden: "forbidden",
			gate.Unsupported: "unsupported", gate.Unavailable: "unavailable"}[said.Kind]
	}
	return "internal: " + err.Error()
}

func want(t *testing.T, what string, err error, kind string) {
	t.Helper()
	if got := kindOf(err); got != kind {
		t.Errorf("%s: got %s (%v), want %s", what, got, err, kind)
	}
}

func object1(key, value string) secret.Value {
	b, err := json.Marshal(map[string]string{key: value})
	if err != nil {
		panic(err)
	}
	return secret.New(string(b))
}
