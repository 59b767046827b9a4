package soak_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/api"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

const (
	nodes   = 3
	clients = 6
	brief   = 20 * time.Second // how long it goes on where SOAK says nothing

	// Within which everything must have ended once nobody dies any more: an intent has 30 s and the margin, what a dead
	// server held is held for a minute, and a lease lives 20 s at most.
	calm = 150 * time.Second
)

func TestMain(m *testing.M) { testenv.Main(m) }

// arena is servers that share a store, the target that they lend logins of, and what clients were given.
type arena struct {
	t     *testing.T
	node  [nodes]*testenv.BailiffServer
	addr  [nodes]string
	pg    *testenv.PostgresServer
	token string

	mu    sync.Mutex
	lent  map[string]string // principal by lease
	twice []string          // what was lent a second time

	issued, renewed, revoked, refused atomic.Int64
}

// TestThreeServersOnOneStoreLoseNothing kills servers with SIGKILL and restarts the target at random, with clients that
// take, renew and give back logins through any of them. In the end there may be no login without an open lease, none lent
// to two, and no lease that is overdue.
func TestThreeServersOnOneStoreLoseNothing(t *testing.T) {
	d := brief
	if text := os.Getenv("SOAK"); text != "" {
		var err error
		if d, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	a := newArena(t)
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() { a.client(ctx) })
	}
	kills, outages := a.trouble(ctx)
	wg.Wait()
	t.Logf("%v: %d servers killed, %d outages of the target; %d logins lent, %d renewed, %d given back, %d requests failed",
		d, kills, outages, a.issued.Load(), a.renewed.Load(), a.revoked.Load(), a.refused.Load())
	if a.issued.Load() == 0 || a.revoked.Load() == 0 || kills == 0 {
		t.Error("nothing was put to the test")
	}
	if len(a.twice) > 0 {
		t.Errorf("lent twice: %v", a.twice)
	}
	a.settle()
}

func newArena(t *testing.T) *arena {
	t.Helper()
	a := &arena{t: t, pg: testenv.NewPostgres(t), lent: map[string]string{}}
	store := testenv.NewPostgres(t)
	if _, err := store.SQL(t.Context(), store.AdminUser, store.AdminPassword, "postgres", "create database bailiff encoding 'UTF8' template template0"); err != nil {
		t.Fatal(err)
	}
	shared := t.TempDir()
	passwordFile, keyFile := filepath.Join(shared, "password"), filepath.Join(shared, "root.key")
	if err := os.WriteFile(passwordFile, []byte(store.AdminPassword+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range nodes {
		a.node[i] = testenv.NewBailiff(t, testenv.BailiffOptions{
			NoAdministrator: i > 0,
			Config: fmt.Sprintf("node = \"node-%d\"\nroot_key_file = %q\nstore {\n  postgres {\n    url = %q\n    password_file = %q\n  }\n}\n",
				i, keyFile, "postgres://"+store.AdminUser+"@"+store.Addr+"/bailiff?sslmode=disable", passwordFile),
		})
		a.addr[i] = a.node[i].Addr
	}
	objects := fmt.Sprintf(`
target "pg" {
  type     = "postgres"
  address  = "postgres://%s/postgres?sslmode=disable"
  username = %q
  password = %q
  timeout  = "3s"
}
mount "database" {
  type = "broker"
}
producer "database/login" {
  target              = "pg"
  default_ttl         = "5s"
  max_ttl             = "20s"
  creation_statements = ["CREATE ROLE \"{{name}}\" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'"]
}
policy "lend" {
  rules = <<EOT
path "database/creds/*" { capabilities = ["read"] }
path "sys/leases/*" { capabilities = ["update"] }
EOT
}
role "lend" {
  policies = ["lend"]
}
`, a.pg.Addr, a.pg.AdminUser, a.pg.AdminPassword)
	if err := a.node[0].Apply(t.Context(), objects); err != nil {
		t.Fatal(err)
	}
	var err error
	if a.token, err = a.node[0].NewIdentity(t.Context(), "app", "lend"); err != nil {
		t.Fatal(err)
	}
	return a
}

var httpClient = &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// ask sends a request to any of the servers. What a killed server does to its clients is an error.
func (a *arena) ask(method, path, body string, out any) error {
	req, err := http.NewRequestWithContext(a.t.Context(), method, a.addr[rand.IntN(nodes)]+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("X-Vault-Token", a.token)
	resp, err := httpClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		return errors.Join(fmt.Errorf("%s %s: %d %s", method, path, resp.StatusCode, b), err)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(b, out)
}

// client takes logins until ctx ends; some it renews or gives back, the others it lets expire.
func (a *arena) client(ctx context.Context) {
	for ctx.Err() == nil {
		var l struct {
			ID   string `json:"lease_id"`
			Data struct{ Username string }
		}
		if err := a.ask(http.MethodGet, "/v1/database/creds/login", "", &l); err != nil {
			a.refused.Add(1)
			pause(ctx, 20*time.Millisecond)
			continue
		}
		a.issued.Add(1)
		a.lend(l.ID, l.Data.Username)
		switch rand.IntN(3) {
		case 0:
			if a.ask(http.MethodPut, "/v1/sys/leases/renew", fmt.Sprintf(`{"lease_id":%q,"increment":8}`, l.ID), nil) == nil {
				a.renewed.Add(1)
			}
		case 1:
			if a.ask(http.MethodPut, "/v1/sys/leases/revoke", fmt.Sprintf(`{"lease_id":%q,"sync":%t}`, l.ID, rand.IntN(2) == 0), nil) == nil {
				a.revoked.Add(1)
			}
		}
	}
}

func (a *arena) lend(lease, principal string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for l, p := range a.lent {
		if l == lease || p == principal {
			a.twice = append(a.twice, lease+" as "+principal)
		}
	}
	a.lent[lease] = principal
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// trouble kills a server, or now and then the target, and starts it again, until ctx ends.
func (a *arena) trouble(ctx context.Context) (kills, outages int) {
	for ctx.Err() == nil {
		pause(ctx, time.Duration(200+rand.IntN(1500))*time.Millisecond)
		if ctx.Err() != nil {
			break
		}
		if rand.IntN(5) == 0 {
			outages++
			if err := errors.Join(a.pg.Kill(), a.pg.Restart(a.t.Context())); err != nil {
				a.t.Fatal(err)
			}
			continue
		}
		kills++
		n := a.node[rand.IntN(nodes)]
		if err := errors.Join(n.Kill(), n.Restart(a.t.Context())); err != nil {
			a.t.Fatal(err)
		}
	}
	return kills, outages
}

// settle waits until every lease has ended, which each must within its life and the time that is promised, and nothing is
// left on the target.
func (a *arena) settle() {
	a.t.Helper()
	c, err := api.NewClient(api.ClientConfig{Addr: a.addr[0], Token: secret.New(a.node[0].Token)})
	if err != nil {
		a.t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(a.t.Context(), calm)
	defer cancel()
	for {
		err := a.ended(ctx, c)
		if err == nil {
			return
		}
		pause(ctx, 200*time.Millisecond)
		if ctx.Err() != nil {
			a.t.Fatalf("after %v: %v", calm, err)
		}
	}
}

func (a *arena) ended(ctx context.Context, c *api.Client) error {
	before, err := a.roles(ctx)
	if err != nil {
		return err
	}
	page, err := c.Leases(ctx, url.Values{"limit": {"1000"}})
	if err != nil {
		return err
	}
	after, err := a.roles(ctx)
	if err != nil {
		return err
	}
	open := map[string]bool{}
	for _, l := range page.Leases {
		open[l.Principal] = true
	}
	for _, r := range after {
		if page.Next == 0 && !open[r] && slices.Contains(before, r) {
			a.t.Errorf("%s is on the target without an open lease", r)
		}
	}
	if len(page.Leases) > 0 || len(after) > 0 {
		l := api.Lease{}
		if len(page.Leases) > 0 {
			l = page.Leases[0]
		}
		return fmt.Errorf("%d leases are open and %d logins there; one is %s after %d tries: %s", len(page.Leases), len(after), l.State, l.Attempt, l.Error)
	}
	return nil
}

// roles are the logins on the target.
func (a *arena) roles(ctx context.Context) ([]string, error) {
	out, err := a.pg.SQL(ctx, a.pg.AdminUser, a.pg.AdminPassword, "postgres", "select rolname from pg_roles where rolname like 'bl-%'")
	return strings.Fields(out), err
}
