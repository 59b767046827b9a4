// Package authtest has a Bailiff for the tests of auth methods: a gate with the Vault dialect before it, on a real store and
// trail, and helpers that send the same to it and to a real Vault.
package authtest

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/auth"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/hvp"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/document"
	"github.com/bailiff-secrets/bailiff/internal/seal"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/policy"
	"github.com/bailiff-secrets/bailiff/store/sqlite"
)

// World is a Bailiff with auth methods and nothing else.
type World struct {
	Server               // as root
	AccessID, Key string // of a declared identity, "app"
	Backend       *auth.Backend
	DB            *sqlite.DB
	Trail         *audit.Log
	Manager       *identity.Manager
	Handler       http.Handler
	t             testing.TB
	mounts        atomic.Pointer[gate.Mounts]
	mu            sync.Mutex
	issued        map[string]identity.Caller // by token
	specs         []identity.LoginSpec
	ended         []string // the paths of mounts whose tokens were ended
	own           []*gate.Mount
	failEnd       atomic.Bool
	Logger        *slog.Logger
}

// Options are what differs between worlds.
type Options struct {
	Limits auth.Limits
	Front  func(http.Handler) *httptest.Server // default httptest.NewServer
}

// New makes a World with the methods that build returns.
func New(t testing.TB, o Options, build func(keys auth.AccessKeys) map[string]auth.Method) *World {
	t.Helper()
	logger := slog.New(slog.DiscardHandler)
	w := &World{t: t, issued: map[string]identity.Caller{}, Logger: logger}
	dir := t.TempDir()
	root, err := seal.CreateRootKey(filepath.Join(dir, "root.key"))
	w.must(err)
	_, keys, err := seal.NewKeyset(root)
	w.must(err)
	w.DB, err = sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(dir, "db"), Sealer: keys, Logger: logger})
	w.must(err)
	t.Cleanup(func() { w.must(w.DB.Close()) })
	w.Trail, err = audit.Open(audit.Config{Dir: filepath.Join(dir, "audit"), Node: "n", ReserveBytes: -1, Logger: logger})
	w.must(err)
	t.Cleanup(func() { w.must(w.Trail.Close()) })
	w.Manager, err = identity.NewManager(t.Context(), w.DB)
	w.must(err)
	token := w.declare()
	w.own = []*gate.Mount{
		{Path: "auth/token/", Type: "token", Description: "token based credentials", Internal: true, Accessor: "auth_token_1", UUID: "u-token", Backend: sysAuth{w}},
		{Path: "sys/", Type: "system", Internal: true, Backend: sysAuth{w}},
	}
	w.Backend, err = auth.New(t.Context(), auth.Config{
		Store: w.DB, Methods: build(w.Manager), Tokens: w, Logger: logger, Own: w.own[:1], Limits: o.Limits, Changed: w.remount, End: w.end,
	})
	w.must(err)
	w.must(w.remount())
	g, err := gate.New(gate.Config{Authenticator: w, Policies: w, Mounts: w.mounts.Load, Recorder: w.Trail, Logger: logger})
	w.must(err)
	w.Handler, err = hvp.New(hvp.Config{Gate: g, Info: func(context.Context) hvp.Info { return hvp.Info{} }, Logger: logger})
	w.must(err)
	if o.Front == nil {
		o.Front = httptest.NewServer
	}
	front := o.Front(w.Handler)
	t.Cleanup(front.Close)
	w.Server = Server{T: t, Addr: front.URL, Token: token, Client: front.Client()}
	return w
}

func (w *World) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// declare makes the identities root and app.
func (w *World) declare() (token string) {
	root, app := identity.NewAccessID(), identity.NewAccessID()
	w.Manager.Use(identity.NewDirectory(
		[]identity.Identity{{Name: "root", AccessID: root, Roles: []string{"root"}}, {Name: "app", AccessID: app}},
		[]identity.Role{{Name: "root", Policies: []string{"root"}}}))
	_, key, err := w.Manager.AddKey(w.t.Context(), root, "", 0)
	w.must(err)
	_, appKey, err := w.Manager.AddKey(w.t.Context(), app, "", 0)
	w.must(err)
	w.AccessID, w.Key = app, appKey.Reveal()
	return root + identity.Separator + key.Reveal()
}

func (w *World) remount() error {
	var list []*gate.Mount
	if w.Backend != nil {
		list = w.Backend.Mounts()
	}
	m, err := gate.NewMounts(append(list, w.own...))
	if err == nil {
		w.mounts.Store(m)
	}
	return err
}

func (w *World) end(_ context.Context, m *auth.Mount) error {
	if w.failEnd.Load() {
		return errors.New("the store is away")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = append(w.ended, m.FullPath())
	return nil
}

// FailEnd makes the end of a mount's tokens fail, or not.
func (w *World) FailEnd(fail bool) { w.failEnd.Store(fail) }

// Ended lists the mounts whose tokens were ended.
func (w *World) Ended() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.ended)
}

// Login makes the World what makes tokens; the last spec is kept for the test.
func (w *World) Login(_ context.Context, spec identity.LoginSpec) (identity.NewToken, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.specs = append(w.specs, spec)
	policies := slices.Clone(spec.Params.Policies)
	if !spec.Params.NoDefaultPolicy {
		policies = append(policies, "default")
	}
	slices.Sort(policies)
	policies = slices.Compact(policies)
	ttl := spec.Params.TTL
	if ttl == 0 {
		ttl = auth.SystemTTL
	}
	if p := spec.Params.Period; p > 0 {
		ttl = p
	}
	c := identity.Caller{
		Name: spec.DisplayName, DisplayName: spec.DisplayName, Method: spec.MountType, Accessor: strings.ToLower(rand.Text()[:24]), Policies: policies, TokenPolicies: policies,
		Metadata: spec.Metadata, IssuedAt: time.Now(), Expires: time.Now().Add(ttl), EntityID: auth.UUID(), MountPath: spec.MountPath, AliasName: spec.Alias,
	}
	token := "bt_" + strings.ToLower(rand.Text())
	w.issued[token] = c
	return identity.NewToken{Token: secret.New(token), Caller: c, TTL: ttl, Params: spec.Params, Orphan: true}, nil
}

// Revoke ends a token.
func (w *World) Revoke(_ context.Context, accessor string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for token, c := range w.issued {
		if c.Accessor == accessor {
			delete(w.issued, token)
		}
	}
	return nil
}

// Spec is what the last login asked for.
func (w *World) Spec() identity.LoginSpec {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.specs) == 0 {
		w.t.Fatal("nobody has logged in")
	}
	return w.specs[len(w.specs)-1]
}

// Logins counts the tokens that were made.
func (w *World) Logins() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.specs)
}

// Authenticate knows the tokens that were made, and access keys.
func (w *World) Authenticate(ctx context.Context, token secret.Value, from netip.Addr) (identity.Caller, error) {
	w.mu.Lock()
	c, ok := w.issued[token.Reveal()]
	w.mu.Unlock()
	if ok {
		return c, nil
	}
	return w.Manager.Authenticate(ctx, token, from)
}

// ACL knows root and default.
func (w *World) ACL(who *identity.Caller) *policy.ACL {
	var list []*policy.Policy
	for _, name := range who.Policies {
		text := ""
		if name == "default" {
			text = policy.Default
		}
		p, err := policy.Parse(name, 1, text)
		w.must(err)
		list = append(list, p)
	}
	return policy.Compile(list...)
}

// sysAuth serves sys/auth as sys does.
type sysAuth struct{ w *World }

func (s sysAuth) Serve(ctx context.Context, r *gate.Request) (*gate.Response, error) {
	path, ok := strings.CutPrefix(r.Path, "sys/auth")
	if !ok {
		return nil, &gate.Error{Kind: gate.NotFound, Msg: "unsupported path"}
	}
	return s.w.Backend.ServeMounts(ctx, r, strings.TrimPrefix(path, "/"))
}

// Records are the records of a path, newest first.
func (w *World) Records(path string) []audit.Record {
	w.t.Helper()
	var out []audit.Record
	w.must(w.Trail.Query(w.t.Context(), audit.Query{Path: path}, func(r *audit.Record) error {
		out = append(out, *r)
		return nil
	}))
	return out
}

// Kept names the document or record that holds text, among all that the World keeps; empty where none does.
func (w *World) Kept(text string) string {
	w.t.Helper()
	docs, err := w.DB.Documents(w.t.Context(), document.Query{Space: "auth"})
	w.must(err)
	for _, d := range docs {
		if strings.Contains(string(d.Body), text) || strings.Contains(d.Key, text) {
			return d.Key
		}
	}
	for _, r := range w.Records("") {
		if strings.Contains(r.Error+r.Detail+r.Path+r.Principal, text) {
			return "the record of " + r.Path
		}
	}
	return ""
}
