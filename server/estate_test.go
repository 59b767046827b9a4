package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/config"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/internal/testenv"
	"github.com/bailiff-secrets/bailiff/policy"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// newServer opens every part in a directory of the test's own.
func newServer(t *testing.T) *server {
	t.Helper()
	return openServer(t, t.TempDir())
}

func openServer(t *testing.T, dir string) *server {
	t.Helper()
	cfg := config.Default(dir)
	cfg.Listener.Address, cfg.Metrics.Address = "127.0.0.1:0", ""
	cfg.Audit.Reserve = 1 << 20
	s, err := open(t.Context(), cfg, Options{Stdout: t.Output(), Stderr: t.Output(), Env: func(string) (string, bool) { return "", false }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// encode makes records of objects.
func encode(t *testing.T, list ...any) []object.Record {
	t.Helper()
	var out []object.Record
	for _, v := range list {
		r, err := object.Encode(v)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

func apply(t *testing.T, s *server, list ...any) object.Plan {
	t.Helper()
	p, err := s.estate.Apply(t.Context(), "test", encode(t, list...), false, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// words says a plan in one line.
func words(p object.Plan) string {
	var out []string
	for _, s := range p.Steps {
		out = append(out, fmt.Sprintf("%s %s/%s@%d", s.Action, s.Kind, s.Name, s.Version))
	}
	return strings.Join(out, ", ")
}

func vaultTarget(t *testing.T) *object.Target {
	t.Helper()
	v := testenv.Vault(t)
	return &object.Target{Name: "vault-a", Type: "vault", Address: v.Addr, Auth: &object.VaultAuth{Method: "token", Token: secret.New(v.RootToken)}}
}

var (
	appPolicy = &object.Policy{Name: "app", Rules: `path "secret/data/app/*" { capabilities = ["read"] }`}
	appRole   = &object.Role{Name: "app", Policies: []string{"app"}, Identities: []string{"ci"}}
	ci        = &object.Identity{Name: "ci"}
)

func TestApplyTakesEffectAtOnceAndOutlivesTheProcess(t *testing.T) {
	dir := t.TempDir()
	s := openServer(t, dir)
	if got := words(apply(t, s, appPolicy, appRole, ci)); got != "create policy/app@0, create role/app@0, create identity/ci@0" {
		t.Errorf("plan: got %s", got)
	}
	key, err := identities{s.estate}.AddKey(t.Context(), "test", "ci", "", 0)
	if err != nil {
		t.Fatal(err)
	}
	token := secret.New(key.AccessID + ".." + key.Key.Reveal())
	may := func(s *server) bool {
		c, err := s.estate.manager.Authenticate(t.Context(), token, addrNone)
		return err == nil && s.estate.ACL(&c).Decide(policy.Read, "secret/data/app/x").Allowed
	}
	if !may(s) {
		t.Error("the identity may not read what the policy allows")
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	s.db, s.trail, s.estate = nil, nil, nil // closed

	again := openServer(t, dir)
	if !may(again) {
		t.Error("after a restart the identity may not read what the policy allows")
	}
	if got := words(apply(t, again, appPolicy, appRole, ci)); strings.Contains(got, "create") || strings.Contains(got, "update") {
		t.Errorf("the same objects again: got %s, want nothing to do", got)
	}
	rec, err := again.estate.Object(t.Context(), object.KindPolicy, "app")
	if err != nil || rec.UpdatedBy != "test" || time.Since(rec.UpdatedAt).Abs() > time.Minute || rec.Source != "apply" {
		t.Errorf("got %+v, %v: want who changed it, when and how", rec, err)
	}
	apply(t, again, &object.Policy{Name: "app", Rules: `path "other/*" { capabilities = ["read"] }`})
	if may(again) {
		t.Error("the identity may still read what the policy no longer allows")
	}
}

func TestApplyWithStaleVersionsChangesNothing(t *testing.T) {
	s := newServer(t)
	apply(t, s, appPolicy)
	changed := &object.Policy{Name: "app", Rules: `path "b" { capabilities = ["read"] }`}
	for name, expect := range map[string]map[string]int64{
		"an old version":         {"policy/app": 7},
		"a step that was unseen": {},
	} {
		_, err := s.estate.Apply(t.Context(), "test", encode(t, changed), false, expect)
		var said *gate.Error
		if !errors.As(err, &said) || said.Kind != gate.Conflict {
			t.Errorf("%s: got %v, want a conflict", name, err)
		}
	}
	if _, err := s.estate.Apply(t.Context(), "test", encode(t, changed), false, map[string]int64{"policy/app": 1}); err != nil {
		t.Errorf("the right version: got %v", err)
	}
}

func TestApplyRefusesWhatCannotWork(t *testing.T) {
	s := newServer(t)
	target := vaultTarget(t)
	apply(t, s, target)
	for name, c := range map[string]struct {
		objects []any
		want    string // in the message or the hint
	}{
		"a policy that can't be parsed":     {[]any{&object.Policy{Name: "bad", Rules: `path "x" { capabilities = ["fly"] }`}}, "fly"},
		"a role of a policy that isn't":     {[]any{&object.Role{Name: "r", Policies: []string{"nope"}}}, "nope"},
		"a mount of a target that isn't":    {[]any{&object.Mount{Path: "x", Type: "vault", Target: "nope"}}, "nope"},
		"a mount that the Vault lacks":      {[]any{&object.Mount{Path: "missing", Type: "vault", Target: "vault-a"}}, "secret"},
		"a connector past a mount":          {[]any{&object.Connector{Name: "c", Target: "vault-a"}}, `mount "secret" { type = "vault"  target = "vault-a" }`},
		"a mount in our own paths":          {[]any{&object.Mount{Path: "sys/x", Type: "broker"}}, "sys"},
		"a producer of a mount that isn't":  {[]any{&object.Producer{Mount: "db", Name: "ro", Target: "vault-a"}}, "db"},
		"a target that can't be reached":    {[]any{&object.Target{Name: "down", Type: "vault", Address: "http://127.0.0.1:1", Auth: target.Auth}, &object.Mount{Path: "kv-down", Type: "vault", Target: "down"}}, "reachable"},
		"a mount inside a mount":            {[]any{&object.Mount{Path: "secret", Type: "vault", Target: "vault-a"}, &object.Mount{Path: "secret/in", Type: "broker"}}, "secret"},
		"a target of a type that isn't one": {[]any{&object.Target{Name: "t", Type: "abacus", Address: "http://127.0.0.1:1"}}, "abacus"},
	} {
		_, err := s.estate.Apply(t.Context(), "test", encode(t, c.objects...), false, nil)
		var said *gate.Error
		switch {
		case !errors.As(err, &said) || said.Kind != gate.Invalid:
			t.Errorf("%s: got %v, want it refused as invalid", name, err)
		case !strings.Contains(said.Msg+" "+said.Hint, c.want):
			t.Errorf("%s: got %q, hint %q, want a word of %q", name, said.Msg, said.Hint, c.want)
		case strings.Contains(said.Msg, target.Auth.Token.Reveal()+"\""):
			t.Errorf("%s: the token is in %q", name, said.Msg)
		}
	}
	if n := len(s.estate.live.Load().set.records); n != 1 {
		t.Errorf("%d objects stand, want the target alone", n)
	}
}

func TestApplyFindsWhatAMountIs(t *testing.T) {
	s := newServer(t)
	apply(t, s, vaultTarget(t), &object.Mount{Path: "secret", Type: "vault", Target: "vault-a"}, &object.Connector{Name: "c", Target: "vault-a"},
		&object.Mount{Path: "team-kv", Type: "vault", Target: "vault-a", RemotePath: "secret"})
	m, rest, ok := s.estate.mounts().Route("secret/data/x")
	if !ok || rest != "data/x" || m.KVVersion() != 2 || m.Target != "vault-a" {
		t.Errorf("got %+v, rest %q", m, rest)
	}
	c, ok := s.estate.connector("c")
	if !ok || len(c.Mounts) != 2 || c.Mounts[0].Prefix != "secret/" {
		t.Errorf("connector: got %+v", c)
	}
}

func TestTargetWithOpenLeasesStays(t *testing.T) {
	s := newServer(t)
	pg := &object.Target{Name: "pg", Type: "postgres", Address: "postgres://127.0.0.1:1/app", Username: "a", Password: secret.New("b")}
	apply(t, s, pg)
	l := &broker.Lease{ID: "database/creds/ro/x", Mount: "database/", Role: "ro", Producer: "postgres", Target: "pg", Principal: "bl-x", State: broker.Active, ExpiresAt: time.Now().Add(time.Hour)}
	if err := s.db.Insert(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	err := s.estate.DeleteObject(t.Context(), "test", object.KindTarget, "pg", 0)
	var said *gate.Error
	if !errors.As(err, &said) || said.Kind != gate.Conflict || !strings.Contains(said.Hint, "lease list --target pg") {
		t.Errorf("got %v, want a conflict with a hint", err)
	}
	l.State = broker.Revoked
	if err := s.db.Move(t.Context(), l, broker.Active); err != nil {
		t.Fatal(err)
	}
	if err := s.estate.DeleteObject(t.Context(), "test", object.KindTarget, "pg", 0); err != nil {
		t.Errorf("without leases: got %v", err)
	}
	if err := s.estate.DeleteObject(t.Context(), "test", object.KindTarget, "pg", 0); !errors.Is(err, object.ErrNotFound) {
		t.Errorf("a second time: got %v, want not found", err)
	}
}

func TestDeletedIdentityIsForgotten(t *testing.T) {
	s := newServer(t)
	key, err := identities{s.estate}.Create(t.Context(), "test", object.Identity{Name: "ci"}, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (identities{s.estate}).Create(t.Context(), "test", object.Identity{Name: "ci"}, ""); err == nil {
		t.Error("the same name again: got no error")
	}
	token := secret.New(key.AccessID + ".." + key.Key.Reveal())
	if _, err := s.estate.manager.Authenticate(t.Context(), token, addrNone); err != nil {
		t.Errorf("the new key: got %v", err)
	}
	if err := (identities{s.estate}).SetDisabled(t.Context(), "test", "ci", true); err != nil {
		t.Fatal(err)
	}
	if _, err := s.estate.manager.Authenticate(t.Context(), token, addrNone); !errors.Is(err, identity.ErrUnauthenticated) {
		t.Errorf("a disabled identity: got %v", err)
	}
	apply(t, s, ci) // a file that doesn't say so doesn't switch it on again
	if _, err := s.estate.manager.Authenticate(t.Context(), token, addrNone); !errors.Is(err, identity.ErrUnauthenticated) {
		t.Errorf("a disabled identity, applied again: got %v", err)
	}
	if err := s.estate.DeleteObject(t.Context(), "test", object.KindIdentity, "ci", 0); err != nil {
		t.Fatal(err)
	}
	if left := s.estate.manager.Keys(key.AccessID); len(left) != 0 {
		t.Errorf("%d keys are left", len(left))
	}
}

func TestRootPolicyAllowsEverything(t *testing.T) {
	s := newServer(t)
	apply(t, s, &object.Role{Name: "chief", Policies: []string{"root"}}, &object.Identity{Name: "boss", Roles: []string{"chief"}})
	if d := s.estate.ACL(&identity.Caller{Policies: []string{"default", "root"}}).Decide(policy.Delete, "sys/bailiff/anything"); !d.Allowed || !d.Sudo {
		t.Errorf("got %+v, want everything allowed", d)
	}
}

func TestBootstrapOnce(t *testing.T) {
	dir := t.TempDir()
	s := openServer(t, dir)
	key, err := s.boot.first(t.Context(), "root-of-all")
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.estate.manager.Authenticate(t.Context(), secret.New(key.AccessID+".."+key.Key.Reveal()), addrNone)
	if err != nil || !s.estate.ACL(&c).Decide(policy.Delete, "anything/at/all").Sudo {
		t.Errorf("the administrator: got %v, %+v", err, c)
	}
	if _, err := s.boot.first(t.Context(), "another"); !errors.Is(err, errBootstrapped) {
		t.Errorf("a second time: got %v", err)
	}
	var seen []string
	if err := s.trail.Query(t.Context(), audit.Query{}, func(r *audit.Record) error { seen = append(seen, r.Detail); return nil }); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(strings.Join(seen, ";"), "made the first administrator") {
		t.Errorf("the trail says only %q", seen)
	}
}

func TestRootKeyThatIsGoneIsSaidSo(t *testing.T) {
	dir := t.TempDir()
	s := openServer(t, dir)
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	s.db, s.trail, s.estate = nil, nil, nil // closed
	cfg := config.Default(dir)
	cfg.RootKeyFile = filepath.Join(t.TempDir(), "other.key")
	_, err := open(context.Background(), cfg, Options{Stderr: t.Output(), Env: func(string) (string, bool) { return "", false }})
	if err == nil || !strings.Contains(err.Error(), "put it back") {
		t.Errorf("got %v, want words about the missing key", err)
	}
}

var discard = slog.New(slog.DiscardHandler)
