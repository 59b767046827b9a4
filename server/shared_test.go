package server

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/config"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

// sharing is a database that servers share, and their root key.
type sharing struct {
	pg           *testenv.PostgresServer
	dir, urlFile string
}

func newSharing(t *testing.T) *sharing {
	t.Helper()
	x := &sharing{pg: testenv.Postgres(t), dir: t.TempDir()}
	name := "shared_" + strings.ToLower(filepath.Base(filepath.Dir(x.dir)))
	x.sql(t, "postgres", `CREATE DATABASE "`+name+`"`)
	x.urlFile = filepath.Join(x.dir, "store.url")
	if err := os.WriteFile(x.urlFile, []byte(x.pg.URL(x.pg.AdminUser, x.pg.AdminPassword, name)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return x
}

func (x *sharing) sql(t *testing.T, db, statement string) string {
	t.Helper()
	out, err := x.pg.SQL(t.Context(), x.pg.AdminUser, x.pg.AdminPassword, db, statement)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// node is one running server.
type node struct {
	*server
	t       *testing.T
	address string
}

// start runs a server on the shared store until the test ends.
func (x *sharing) start(t *testing.T, name string) *node {
	t.Helper()
	cfg := config.Default(t.TempDir())
	cfg.Node, cfg.RootKeyFile, cfg.Store.Postgres = name, filepath.Join(x.dir, "root.key"), &config.Postgres{URLFile: x.urlFile}
	cfg.Listener.Address, cfg.Metrics.Address, cfg.Audit.Reserve = "127.0.0.1:0", "", 1<<20
	opts := Options{Stdout: t.Output(), Stderr: t.Output(), Env: func(string) (string, bool) { return "", false }}
	s, err := open(t.Context(), cfg, opts)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{server: s, t: t}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ready, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- s.run(ctx, opts, func(_ context.Context, address string) error { ready <- address; return nil })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("%s: %v", name, err)
		}
	})
	select {
	case n.address = <-ready:
	case err := <-ended:
		ended <- nil
		t.Fatal(err)
	}
	return n
}

// call sends a request and returns its status and body.
func (n *node) call(token, method, path string, body any) (int, map[string]any) {
	n.t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		n.t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(n.t.Context(), method, "http://"+n.address+"/v1/"+path, bytes.NewReader(b))
	if err != nil {
		n.t.Fatal(err)
	}
	r.Header.Set("X-Vault-Token", token)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	out := map[string]any{}
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &out); err != nil {
			n.t.Fatalf("%s: %v", raw, err)
		}
	}
	return resp.StatusCode, out
}

// soon waits for what another server has to see.
func soon(t *testing.T, what string, is func() bool) {
	t.Helper()
	limit := time.Now().Add(10 * time.Second)
	for began := time.Now(); !is(); {
		if time.Now().After(limit) {
			t.Fatalf("%s: not within %s", what, time.Since(began).Round(time.Second))
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-t.Context().Done():
		}
	}
}

// TestTwoServersShareAStore makes things on one server and uses them on the other.
func TestTwoServersShareAStore(t *testing.T) {
	x := newSharing(t)
	a := x.start(t, "a")
	b := x.start(t, "b")
	if a.clusterID != b.clusterID {
		t.Errorf("the servers are of two clusters, %s and %s", a.clusterID, b.clusterID)
	}
	key, err := identities{a.estate}.Create(t.Context(), "test", object.Identity{Name: "ops"}, "")
	if err != nil {
		t.Fatal(err)
	}
	token := key.AccessID + ".." + key.Key.Reveal()
	made := time.Now()
	soon(t, "the identity logs in on the other", func() bool {
		code, _ := b.call(token, http.MethodGet, "auth/token/lookup-self", nil)
		return code == http.StatusOK
	})
	if took := time.Since(made); took > time.Second {
		t.Logf("the other server took %s to see the identity", took)
	}

	target := &object.Target{Name: "pg", Type: "postgres", Address: "postgres://" + x.pg.Addr + "/postgres?sslmode=disable", Username: x.pg.AdminUser,
		Password: secret.New(x.pg.AdminPassword)}
	if _, err := b.estate.Apply(t.Context(), "test", encode(t, target, &object.Mount{Path: "database", Type: "broker"},
		&object.Producer{Mount: "database", Name: "ro", Target: "pg", CreationStatements: []string{
			`CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'`}},
		&object.Policy{Name: "ops", Rules: `path "database/creds/*" { capabilities = ["read"] }
path "sys/leases/*" { capabilities = ["create", "update", "sudo"] }`},
		&object.Role{Name: "ops", Policies: []string{"ops"}, Identities: []string{"ops"}}), false, nil); err != nil {
		t.Fatal(err)
	}
	var id, user string
	soon(t, "a role that was declared on the other gives a credential", func() bool {
		code, out := a.call(token, http.MethodGet, "database/creds/ro", nil)
		if code != http.StatusOK {
			return false
		}
		id, user = out["lease_id"].(string), out["data"].(map[string]any)["username"].(string)
		return true
	})
	there := func() string { return x.sql(t, "postgres", "SELECT count(*) FROM pg_roles WHERE rolname = '"+user+"'") }
	if there() != "1" {
		t.Fatalf("the user %s is not on the target", user)
	}
	code, out := b.call(token, http.MethodPut, "sys/leases/renew", map[string]any{"lease_id": id, "increment": 1800})
	if code != http.StatusOK || out["lease_duration"] != 1800.0 {
		t.Errorf("renewed on the other: got %d, %v", code, out)
	}
	if l, err := a.leases.Lookup(t.Context(), id); err != nil || time.Until(l.ExpiresAt) > 31*time.Minute {
		t.Errorf("the first server sees the lease end at %v, %v, want in half an hour", l, err)
	}
	if code, out := b.call(token, http.MethodPut, "sys/leases/revoke", map[string]any{"lease_id": id, "sync": true}); code != http.StatusNoContent {
		t.Errorf("revoked on the other: got %d, %v", code, out)
	}
	if there() != "0" {
		t.Errorf("the user %s is still on the target", user)
	}
	if code, out := a.call(token, http.MethodPut, "sys/leases/renew", map[string]any{"lease_id": id}); code != http.StatusBadRequest {
		t.Errorf("renewed after that on the first: got %d, %v, want 400", code, out)
	}
	if err := (identities{a.estate}).SetDisabled(t.Context(), "test", "ops", true); err != nil {
		t.Fatal(err)
	}
	soon(t, "the identity that was disabled on the one is refused by the other", func() bool {
		code, _ := b.call(token, http.MethodGet, "auth/token/lookup-self", nil)
		return code == http.StatusForbidden
	})
}

func TestServerIsNotReadyWithoutItsDatabase(t *testing.T) {
	x := newSharing(t)
	x.pg = testenv.NewPostgres(t)
	if err := os.WriteFile(x.urlFile, []byte(x.pg.URL(x.pg.AdminUser, x.pg.AdminPassword, "postgres")), 0o600); err != nil {
		t.Fatal(err)
	}
	n := x.start(t, "a")
	if got := get(t, n.address, "/readyz"); got != "200" {
		t.Errorf("got %s, want 200", got)
	}
	if err := x.pg.Stop(); err != nil {
		t.Fatal(err)
	}
	if got := get(t, n.address, "/readyz"); got != "503" {
		t.Errorf("without the database: got %s, want 503", got)
	}
	if err := x.pg.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	soon(t, "ready again", func() bool { return get(t, n.address, "/readyz") == "200" })
	if _, err := (identities{n.estate}).Create(t.Context(), "test", object.Identity{Name: "late"}, ""); err != nil {
		t.Errorf("after the database is back: %v", err)
	}
}
