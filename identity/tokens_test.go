package identity_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/document"
	"github.com/bailiff-secrets/bailiff/internal/seal"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/store/sqlite"
)

// house is a store with the servers that use it.
type house struct {
	t    testing.TB
	db   *sqlite.DB
	path string

	mu    sync.Mutex
	ended []string // accessors whose leases were ended
	fail  error    // of ending leases
}

// node is one server: what it knows.
type node struct {
	*identity.Tokens
	keys *identity.Manager
}

func newHouse(t testing.TB) *house {
	dir := t.TempDir()
	root, err := seal.CreateRootKey(filepath.Join(dir, "root.key"))
	must(t, err)
	_, sealer, err := seal.NewKeyset(root)
	must(t, err)
	h := &house{t: t, path: filepath.Join(dir, "db")}
	h.db, err = sqlite.Open(t.Context(), sqlite.Config{Path: h.path, Sealer: sealer})
	must(t, err)
	t.Cleanup(func() { must(t, h.db.Close()) })
	return h
}

// node starts a server.
func (h *house) node(with ...func(*identity.TokensConfig)) *node {
	h.t.Helper()
	keys, err := identity.NewManager(h.t.Context(), h.db)
	must(h.t, err)
	keys.Use(identity.NewDirectory(declared(), roles()))
	cfg := identity.TokensConfig{Store: h.db, Keys: keys, Logger: slog.New(slog.DiscardHandler), Ended: h.end}
	for _, f := range with {
		f(&cfg)
	}
	tokens, err := identity.NewTokens(h.t.Context(), cfg)
	must(h.t, err)
	return &node{tokens, keys}
}

const (
	adminID = "p-aaaaaaaaaaaaaaaa"
	appID   = "p-bbbbbbbbbbbbbbbb"
)

func declared() []identity.Identity {
	return []identity.Identity{
		{Name: "admin", AccessID: adminID, Roles: []string{"admin"}},
		{Name: "app", AccessID: appID, Roles: []string{"app"}, Aliases: []identity.DeclaredAlias{{Mount: "userpass", Name: "app"}}},
	}
}

func roles() []identity.Role {
	return []identity.Role{
		{Name: "admin", Policies: []string{"root"}}, {Name: "app", Policies: []string{"app", "read"}},
		{Name: "deploy", Policies: []string{"deploy"}, Binds: []identity.Bind{{Mount: "jwt", Claims: map[string][]string{"repo": {"1", "2"}, "ref": {"main"}}}}},
	}
}

func (h *house) end(_ context.Context, accessor string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fail == nil {
		h.ended = append(h.ended, accessor)
	}
	return h.fail
}

func (h *house) endedOf(accessor string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Contains(h.ended, accessor)
}

func (h *house) failWith(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fail = err
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// key lets somebody in with a new access key.
func (n *node) key(t testing.TB, accessID string) (identity.Caller, secret.Value) {
	t.Helper()
	_, text, err := n.keys.AddKey(t.Context(), accessID, "", 0)
	must(t, err)
	token := secret.New(accessID + identity.Separator + text.Reveal())
	c, err := n.Authenticate(t.Context(), token, netip.Addr{})
	must(t, err)
	return c, token
}

// child makes a token.
func (n *node) child(t testing.TB, by identity.Caller, with ...func(*identity.TokenRequest)) identity.NewToken {
	t.Helper()
	q := identity.TokenRequest{By: by, Path: "auth/token/create"}
	for _, f := range with {
		f(&q)
	}
	made, err := n.Create(t.Context(), q)
	must(t, err)
	return made
}

func (n *node) wantIn(t testing.TB, token secret.Value, policies string) identity.Caller {
	t.Helper()
	c, err := n.Authenticate(t.Context(), token, netip.Addr{})
	if err != nil {
		t.Errorf("got %v, want to be let in", err)
	}
	if got := strings.Join(c.Policies, " "); policies != "" && got != policies {
		t.Errorf("got policies %q, want %q", got, policies)
	}
	return c
}

func (n *node) wantOut(t testing.TB, token secret.Value, reason string) {
	t.Helper()
	_, err := n.Authenticate(t.Context(), token, netip.Addr{})
	var r *identity.Refusal
	if !errors.As(err, &r) || r.Reason != reason || !errors.Is(err, identity.ErrUnauthenticated) {
		t.Errorf("got %v, want a refusal: %s", err, reason)
	}
}

func TestATokenIsItsEntitysChild(t *testing.T) {
	h := newHouse(t)
	n := h.node()
	app, _ := n.key(t, appID)
	made := n.child(t, app, func(q *identity.TokenRequest) {
		q.Policies = []string{"read"}
		q.Metadata = map[string]string{"a": "b"}
	})
	if !identity.LooksLikeToken(made.Token.Reveal()) || identity.LooksLikeToken(made.Token.Reveal()[:60]+"aa") || identity.LooksLikeToken("bt_") {
		t.Errorf("the form of %d letters is not told", len(made.Token.Reveal()))
	}
	c := n.wantIn(t, made.Token, "default read")
	if c.Name != "app" || c.EntityID != app.EntityID || c.AccessID != appID || c.KeyID != "" || c.Method != "token" || c.Metadata["a"] != "b" {
		t.Errorf("got %+v", c)
	}
	if c.Expires.Sub(c.IssuedAt) != 768*time.Hour || made.TTL != 768*time.Hour || made.Orphan {
		t.Errorf("got %v, orphan %v", c.Expires.Sub(c.IssuedAt), made.Orphan)
	}
	orphan := n.child(t, app, func(q *identity.TokenRequest) { q.Orphan = true })
	if c := n.wantIn(t, orphan.Token, "app default read"); c.EntityID != "" || c.Name != "app" || !orphan.Orphan {
		t.Errorf("an orphan: got %+v", c)
	}
	for _, bad := range []string{"", "x", made.Token.Reveal() + "x", strings.Repeat("x", 5000), made.Caller.Accessor} {
		if _, err := n.Authenticate(t.Context(), secret.New(bad), netip.Addr{}); !errors.Is(err, identity.ErrUnauthenticated) {
			t.Errorf("%.20q: got %v", bad, err)
		}
	}
}

func TestTokensAreThereAfterARestart(t *testing.T) {
	h := newHouse(t)
	n := h.node()
	app, _ := n.key(t, appID)
	made := n.child(t, app, func(q *identity.TokenRequest) { q.Policies = []string{"read"} })
	gone := n.child(t, app)
	must(t, n.Revoke(t.Context(), gone.Caller.Accessor))
	must(t, n.PutRole(t.Context(), "r", func(r *identity.TokenRole, _ bool) error { r.Orphan = true; return nil }))
	again := h.node()
	again.wantIn(t, made.Token, "default read")
	again.wantOut(t, gone.Token, "unknown token")
	if r, ok := again.Role("r"); !ok || !r.Orphan {
		t.Errorf("got %+v, %v", r, ok)
	}
}

func TestATreeEndsWithItsRoot(t *testing.T) {
	h := newHouse(t)
	n := h.node()
	app, _ := n.key(t, appID)
	root := n.child(t, app)
	all := []identity.NewToken{root}
	for range 3 {
		c := n.child(t, root.Caller)
		all = append(all, c)
		for range 3 {
			all = append(all, n.child(t, c.Caller))
		}
	}
	other := n.child(t, app)
	must(t, n.Revoke(t.Context(), root.Caller.Accessor))
	for _, x := range all {
		n.wantOut(t, x.Token, "unknown token")
		if !h.endedOf(x.Caller.Accessor) {
			t.Errorf("the leases of %s are not ended", x.Caller.Accessor)
		}
	}
	n.wantIn(t, other.Token, "")
	if left, err := h.db.Documents(t.Context(), document.Query{Space: "token"}); err != nil || len(left) != 1 {
		t.Errorf("%d tokens are kept, %v, want 1", len(left), err)
	}
	must(t, n.Revoke(t.Context(), root.Caller.Accessor))
}

func TestAnAccessKeysEndEndsItsTokens(t *testing.T) {
	h := newHouse(t)
	n := h.node()
	app, _ := n.key(t, appID)
	made := n.child(t, app)
	below := n.child(t, made.Caller)
	orphan := n.child(t, app, func(q *identity.TokenRequest) { q.Orphan = true })
	login, err := n.Login(t.Context(), identity.LoginSpec{
		MountPath: "auth/approle/", MountAccessor: "approle_1", MountType: "approle", Alias: appID, Identity: "app", Metadata: map[string]string{"key_id": app.KeyID},
	})
	must(t, err)
	n.wantIn(t, login.Token, "app default read")
	must(t, n.keys.SetKeyDisabled(t.Context(), appID, app.KeyID, true))
	for _, x := range []identity.NewToken{made, below, login} {
		n.wantOut(t, x.Token, "access key behind the token")
	}
	n.wantIn(t, orphan.Token, "")
	must(t, n.RevokeKey(t.Context(), app.KeyID))
	for _, x := range []identity.NewToken{made, below, login} {
		n.wantOut(t, x.Token, "unknown token")
		if !h.endedOf(x.Caller.Accessor) {
			t.Errorf("the leases of %s are not ended", x.Caller.Accessor)
		}
	}
	n.wantIn(t, orphan.Token, "")
}

func TestOtherServersFollow(t *testing.T) {
	h := newHouse(t)
	a, b := h.node(), h.node()
	app, _ := a.key(t, appID)
	must(t, b.keys.Reload(t.Context()))
	made := a.child(t, app)
	b.wantOut(t, made.Token, "unknown token")
	must(t, b.CatchUp(t.Context()))
	b.wantIn(t, made.Token, "app default read")
	must(t, b.Revoke(t.Context(), made.Caller.Accessor))
	must(t, a.CatchUp(t.Context()))
	a.wantOut(t, made.Token, "unknown token")
	// What a server has done itself is not undone by what it was told before.
	second := a.child(t, app)
	must(t, b.CatchUp(t.Context()))
	must(t, b.Revoke(t.Context(), second.Caller.Accessor))
	must(t, b.CatchUp(t.Context()))
	b.wantOut(t, second.Token, "unknown token")
}

// late is a store whose changes arrive late: something happens after they are read.
type late struct {
	document.Store
	meanwhile func()
	forgets   bool // it has changes no more
}

func (l *late) DocumentChanges(ctx context.Context, seq int64, limit int, spaces ...string) ([]document.Document, int64, error) {
	found, horizon, err := l.Store.DocumentChanges(ctx, seq, limit, spaces...)
	if f := l.meanwhile; f != nil {
		l.meanwhile = nil
		f()
	}
	if l.forgets {
		horizon, err = l.DocumentSeq(ctx)
		return nil, horizon, err
	}
	return found, horizon, err
}

func TestAServerThatWasAwayReadsEverything(t *testing.T) {
	h := newHouse(t)
	slow := &late{Store: h.db}
	a, b := h.node(), h.node(func(c *identity.TokensConfig) { c.Store = slow })
	app, _ := a.key(t, appID)
	must(t, b.keys.Reload(t.Context()))
	gone := a.child(t, app)
	must(t, b.CatchUp(t.Context()))
	must(t, a.Revoke(t.Context(), gone.Caller.Accessor))
	made := a.child(t, app)
	slow.forgets = true
	must(t, b.CatchUp(t.Context()))
	b.wantOut(t, gone.Token, "unknown token")
	b.wantIn(t, made.Token, "")
}

func TestWhatIsToldLateUndoesNothing(t *testing.T) {
	h := newHouse(t)
	slow := &late{Store: h.db}
	a, b := h.node(), h.node(func(c *identity.TokensConfig) { c.Store = slow })
	app, _ := a.key(t, appID)
	must(t, b.keys.Reload(t.Context()))
	made := a.child(t, app)
	must(t, b.CatchUp(t.Context()))
	_, _, err := a.Renew(t.Context(), made.Caller.Accessor, time.Hour)
	must(t, err)
	slow.meanwhile = func() { must(t, b.Revoke(t.Context(), made.Caller.Accessor)) }
	must(t, b.CatchUp(t.Context()))
	b.wantOut(t, made.Token, "unknown token")
}

func TestTidyEndsWhatIsLostAlone(t *testing.T) {
	h := newHouse(t)
	a, b := h.node(), h.node()
	app, _ := a.key(t, appID) // of which b does not know yet
	other, _ := a.key(t, appID)
	made, below := a.child(t, app), a.child(t, other)
	login, err := a.Login(t.Context(), identity.LoginSpec{MountPath: "auth/userpass/", MountAccessor: "userpass_1", MountType: "userpass", Alias: "x"})
	must(t, err)
	must(t, b.Tidy(t.Context()))
	must(t, a.CatchUp(t.Context()))
	for _, x := range []identity.NewToken{made, below, login} {
		a.wantIn(t, x.Token, "")
	}
	must(t, a.keys.DeleteKey(t.Context(), appID, other.KeyID))
	must(t, b.Tidy(t.Context()))
	must(t, a.CatchUp(t.Context()))
	a.wantIn(t, made.Token, "")
	a.wantOut(t, below.Token, "unknown token")
	a.wantIn(t, login.Token, "")
}

func TestAChildOfATokenThatEndsEnds(t *testing.T) {
	h := newHouse(t)
	a, b := h.node(), h.node()
	app, _ := a.key(t, appID)
	must(t, b.keys.Reload(t.Context()))
	parent := a.child(t, app)
	must(t, b.CatchUp(t.Context()))
	must(t, a.Revoke(t.Context(), parent.Caller.Accessor))
	// b does not know yet that the parent has ended.
	_, err := b.Create(t.Context(), identity.TokenRequest{By: parent.Caller, Path: "auth/token/create"})
	if err == nil || !strings.Contains(err.Error(), "no parent found") {
		t.Errorf("got %v, want that there is no parent", err)
	}
	if left, err := h.db.Documents(t.Context(), document.Query{Space: "token"}); err != nil || len(left) != 0 {
		t.Errorf("%d tokens are kept, %v", len(left), err)
	}
}

// TestWhatACrashLeftIsFinished ends a token up to each step, as a kill there would, and sweeps.
func TestWhatACrashLeftIsFinished(t *testing.T) {
	for _, point := range []string{"token-ended", "children-ended", "leases"} {
		t.Run(point, func(t *testing.T) {
			h := newHouse(t)
			n := h.node(func(c *identity.TokensConfig) {
				c.Fault = func(p string) {
					if p == point {
						panic("killed")
					}
				}
			})
			app, _ := n.key(t, appID)
			made := n.child(t, app)
			below := n.child(t, made.Caller)
			if point == "children-ended" { // the child's own end must come through
				must(t, h.node().Revoke(t.Context(), below.Caller.Accessor))
				must(t, n.CatchUp(t.Context()))
			}
			if point == "leases" {
				h.failWith(errors.New("no target"))
			}
			func() {
				defer func() { _ = recover() }()
				if err := n.Revoke(t.Context(), made.Caller.Accessor); err == nil {
					t.Error("the end came through")
				}
			}()
			h.failWith(nil)
			again := h.node()
			again.wantOut(t, made.Token, "token revoked")
			must(t, again.Sweep(t.Context()))
			for _, x := range []identity.NewToken{made, below} {
				again.wantOut(t, x.Token, "unknown token")
				if !h.endedOf(x.Caller.Accessor) {
					t.Errorf("the leases of %s are not ended", x.Caller.Accessor)
				}
			}
		})
	}
}

func TestUsesAreCounted(t *testing.T) {
	h := newHouse(t)
	a, b := h.node(), h.node()
	app, _ := a.key(t, appID)
	must(t, b.keys.Reload(t.Context()))
	const uses = 20
	made := a.child(t, app, func(q *identity.TokenRequest) { q.Uses = uses })
	must(t, b.CatchUp(t.Context()))
	var in, last atomic.Int64
	var wg sync.WaitGroup
	for w := range 8 {
		n := []*node{a, b}[w%2]
		wg.Go(func() {
			for range 5 {
				c, err := n.Authenticate(context.Background(), made.Token, netip.Addr{})
				switch {
				case err == nil:
					in.Add(1)
					if c.LastUse {
						last.Add(1)
					}
				case !errors.Is(err, identity.ErrUnauthenticated):
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if in.Load() != uses || last.Load() != 1 {
		t.Errorf("%d were let in, of them %d as the last, want %d and 1", in.Load(), last.Load(), uses)
	}
	a.Finish(t.Context(), &identity.Caller{Accessor: made.Caller.Accessor})
	if h.endedOf(made.Caller.Accessor) {
		t.Error("a use that is not the last ended the token")
	}
	a.Finish(t.Context(), &identity.Caller{Accessor: made.Caller.Accessor, LastUse: true})
	if !h.endedOf(made.Caller.Accessor) {
		t.Error("the last use did not end the token")
	}
	if err := errors.Join(a.CatchUp(t.Context()), b.CatchUp(t.Context())); err != nil {
		t.Fatal(err)
	}
	b.wantOut(t, made.Token, "unknown token")
}

func TestAddressesAreBound(t *testing.T) {
	h := newHouse(t)
	n := h.node()
	app, _ := n.key(t, appID)
	cidrs, err := identity.ParseCIDRs([]string{"10.1.0.0/16", "::1", "192.0.2.7"})
	must(t, err)
	must(t, n.PutRole(t.Context(), "r", func(r *identity.TokenRole, _ bool) error { r.BoundCIDRs = cidrs; r.Renewable = true; return nil }))
	made := n.child(t, app, func(q *identity.TokenRequest) { q.Role = "r" })
	for addr, in := range map[string]bool{"10.1.2.3": true, "::ffff:10.1.2.3": true, "10.2.0.1": false, "::1": true, "192.0.2.7": true, "192.0.2.8": false} {
		_, err := n.Authenticate(t.Context(), made.Token, netip.MustParseAddr(addr))
		if (err == nil) != in {
			t.Errorf("%s: got %v", addr, err)
		}
	}
	n.wantOut(t, made.Token, "the address is none that the token is bound to")
	if below := n.child(t, made.Caller); below.Params.BoundCIDRs == nil {
		t.Error("a child is not bound")
	}
}

func TestPoliciesOfGroupsAndClaims(t *testing.T) {
	h := newHouse(t)
	n := h.node()
	spec := identity.LoginSpec{
		MountPath: "auth/jwt/", MountAccessor: "jwt_1", MountType: "jwt", Alias: "build", DisplayName: "jwt-build", Params: identity.TokenParams{Policies: []string{"read"}},
		Claims: map[string]string{"repo": "2", "ref": "main"},
	}
	login := func(change func(s *identity.LoginSpec)) identity.NewToken {
		s := spec
		change(&s)
		made, err := n.Login(t.Context(), s)
		must(t, err)
		return made
	}
	made := login(func(*identity.LoginSpec) {})
	c := n.wantIn(t, made.Token, "default deploy read")
	if c.Name != "jwt-build" || !made.Orphan || strings.Join(c.TokenPolicies, " ") != "default read" {
		t.Errorf("got %+v", c)
	}
	n.wantIn(t, login(func(s *identity.LoginSpec) { s.Claims = map[string]string{"repo": "3", "ref": "main"} }).Token, "default read")
	n.wantIn(t, login(func(s *identity.LoginSpec) { s.Claims = map[string]string{"repo": "1"} }).Token, "default read")
	n.wantIn(t, login(func(s *identity.LoginSpec) { s.MountPath, s.MountAccessor = "auth/other/", "jwt_2" }).Token, "default read")

	p := n.People()
	inner, _, err := p.PutGroup(t.Context(), identity.GroupChange{Name: "inner", Policies: &[]string{"g-inner"}, Entities: &[]string{c.EntityID}})
	must(t, err)
	outer, _, err := p.PutGroup(t.Context(), identity.GroupChange{Name: "outer", Policies: &[]string{"g-outer"}, Groups: &[]string{inner.ID}})
	must(t, err)
	c = n.wantIn(t, made.Token, "default deploy g-inner g-outer read")
	if !slices.Equal(c.GroupIDs, slices.Sorted(slices.Values([]string{inner.ID, outer.ID}))) {
		t.Errorf("got groups %v", c.GroupIDs)
	}
	external, _, err := p.PutGroup(t.Context(), identity.GroupChange{Name: "ops", Type: "external", Policies: &[]string{"g-ops"}})
	must(t, err)
	_, _, err = p.PutGroupAlias(t.Context(), identity.AliasChange{Of: external.ID, Name: "Ops", Accessor: "jwt_1", Path: "auth/jwt/", Type: "jwt"})
	must(t, err)
	n.wantIn(t, made.Token, "default deploy g-inner g-outer read")
	_, _, err = p.PutGroup(t.Context(), identity.GroupChange{Name: "outermost", Policies: &[]string{"g-most"}, Groups: &[]string{outer.ID}})
	must(t, err)
	n.wantIn(t, made.Token, "default deploy g-inner g-most g-outer read")
	most, _ := p.GroupNamed("Outermost")
	must(t, p.DeleteGroup(t.Context(), most.ID))
	again := login(func(s *identity.LoginSpec) { s.Groups = []string{"ops", "unknown"} })
	n.wantIn(t, again.Token, "default deploy g-inner g-ops g-outer read")
	n.wantIn(t, made.Token, "default deploy g-inner g-ops g-outer read")
	login(func(*identity.LoginSpec) {}) // the outside says no more that it is in ops
	n.wantIn(t, again.Token, "default deploy g-inner g-outer read")

	e, _ := p.Entity(c.EntityID)
	_, _, err = p.PutEntity(t.Context(), identity.EntityChange{ID: e.ID, Policies: &[]string{"own"}, Disabled: new(bool)})
	must(t, err)
	n.wantIn(t, made.Token, "default deploy g-inner g-outer own read")
	off := true
	_, _, err = p.PutEntity(t.Context(), identity.EntityChange{ID: e.ID, Disabled: &off})
	must(t, err)
	n.wantOut(t, made.Token, "identity disabled")
	if _, err := n.Login(t.Context(), spec); err == nil {
		t.Error("a disabled entity is let log in")
	}
}

func TestOneAliasIsOneEntity(t *testing.T) {
	h := newHouse(t)
	nodes := []*node{h.node(), h.node(), h.node()}
	var mu sync.Mutex
	entities := map[string]bool{}
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() {
			made, err := nodes[i%3].Login(context.Background(), identity.LoginSpec{
				MountPath: "auth/approle/", MountAccessor: "approle_1", MountType: "approle", Alias: []string{"ci", "CI"}[i%2], DisplayName: "approle-ci",
			})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			entities[made.Caller.EntityID+" "+made.Caller.Name] = true
		})
	}
	wg.Wait()
	if len(entities) != 1 {
		t.Errorf("got %d entities, want one: %v", len(entities), entities)
	}
	// Another alias of the same name is another entity, by another name.
	made, err := nodes[0].Login(t.Context(), identity.LoginSpec{MountPath: "auth/b/", MountAccessor: "approle_2", MountType: "approle", Alias: "ci", DisplayName: "approle-ci"})
	must(t, err)
	if !strings.HasPrefix(made.Caller.Name, "approle-ci-") {
		t.Errorf("got the name %q", made.Caller.Name)
	}
	// A declared identity has its alias.
	made, err = nodes[1].Login(t.Context(), identity.LoginSpec{MountPath: "auth/userpass/", MountAccessor: "userpass_1", MountType: "userpass", Alias: "App", DisplayName: "userpass-app"})
	must(t, err)
	if made.Caller.Name != "app" || made.Caller.EntityID != identity.EntityIDOf(appID) || strings.Join(made.Caller.Policies, " ") != "app default read" {
		t.Errorf("got %+v", made.Caller)
	}
}

func TestATokenIsRenewedUpToItsEnd(t *testing.T) {
	h := newHouse(t)
	n := h.node(func(c *identity.TokensConfig) { c.MaxTTL, c.DefaultTTL = 2*time.Hour, time.Hour })
	app, _ := n.key(t, appID)
	made := n.child(t, app, func(q *identity.TokenRequest) { q.TTL = time.Minute })
	for _, tt := range []struct{ increment, want time.Duration }{{0, time.Minute}, {time.Hour, time.Hour}, {0, time.Hour}, {5 * time.Hour, 2 * time.Hour}} {
		i, _, err := n.Renew(t.Context(), made.Caller.Accessor, tt.increment)
		if err != nil || i.Left.Round(10*time.Second) != tt.want {
			t.Errorf("by %v: got %v, %v, want %v", tt.increment, i.Left, err, tt.want)
		}
	}
	short, _, err := n.keys.AddKey(t.Context(), appID, "", 30*time.Minute)
	must(t, err)
	bound := n.child(t, identity.Caller{Name: "app", KeyID: short.ID, Accessor: short.ID, AccessID: appID, Expires: short.ExpiresAt, TokenPolicies: []string{"app"}})
	i, _, err := n.Renew(t.Context(), bound.Caller.Accessor, time.Hour)
	if err != nil || i.Left > 30*time.Minute {
		t.Errorf("a token of a key with %v left lives %v, %v", 30*time.Minute, i.Left, err)
	}
	must(t, n.Revoke(t.Context(), made.Caller.Accessor))
	if _, _, err := n.Renew(t.Context(), made.Caller.Accessor, 0); err == nil {
		t.Error("a token that has ended is renewed")
	}
}

func TestNothingOfATokenIsKept(t *testing.T) {
	h := newHouse(t)
	n := h.node()
	app, _ := n.key(t, appID)
	made := n.child(t, app)
	found, err := h.db.Documents(t.Context(), document.Query{Space: "token"})
	must(t, err)
	all := fmt.Sprintf("%q %+v", found[0].Body, found)
	if !strings.Contains(all, made.Caller.Accessor) {
		t.Fatal("the token's document is not there, so that the test can't see anything")
	}
	text := made.Token.Reveal()
	for _, part := range []string{text, text[3:], text[3:30], text[30:]} {
		if strings.Contains(all, part) {
			t.Error("a part of the token is kept")
		}
	}
}

func BenchmarkLettingIn(b *testing.B) {
	h := newHouse(b)
	n := h.node()
	app, key := n.key(b, appID)
	made := n.child(b, app)
	for name, token := range map[string]secret.Value{"key": key, "token": made.Token, "unknown": secret.New(made.Token.Reveal()[:61] + "a")} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = n.Authenticate(b.Context(), token, netip.Addr{})
			}
		})
	}
}

func TestLettingInAllocatesNothing(t *testing.T) {
	h := newHouse(t)
	n := h.node()
	app, _ := n.key(t, appID)
	made := n.child(t, app)
	if got := testing.AllocsPerRun(100, func() { _, _ = n.Authenticate(context.Background(), made.Token, netip.Addr{}) }); got > 0 {
		t.Errorf("got %v allocations", got)
	}
}
