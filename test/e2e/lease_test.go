package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

// loan is a login that was lent.
type loan struct {
	lease, username, password string
	duration                  int
}

// issue reads a login with the vault command.
func (s *stage) issue(token, role string) loan {
	s.t.Helper()
	return readLoan(s.t, s.vault(token, "read", "-format=json", "database/creds/"+role))
}

func readLoan(t *testing.T, text string) loan {
	t.Helper()
	var out struct {
		LeaseID  string `json:"lease_id"`
		Duration int    `json:"lease_duration"`
		Data     struct{ Username, Password string }
	}
	if err := json.Unmarshal([]byte(text), &out); err != nil || out.LeaseID == "" || out.Data.Password == "" {
		t.Fatalf("no login in %q: %v", text, err)
	}
	return loan{out.LeaseID, out.Data.Username, out.Data.Password, out.Duration}
}

// login tries a login on the database.
func (s *stage) login(l loan) error {
	out, err := s.pg.SQL(s.t.Context(), l.username, l.password, "postgres", "select 40 + 2")
	if err == nil && out != "42" {
		return fmt.Errorf("the database says %q", out)
	}
	return err
}

// roles lists the roles in the database that Bailiff made.
func (s *stage) roles() []string {
	s.t.Helper()
	out, err := s.pg.SQL(s.t.Context(), s.pg.AdminUser, s.pg.AdminPassword, "postgres", `select rolname from pg_roles where rolname like 'bl-%' order by 1`)
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.Fields(out)
}

func TestADatabaseLoginFromIssueToRevocation(t *testing.T) {
	s := newDatabaseStage(t, testenv.BailiffOptions{}, producer("login", "1h"))
	token := s.identity("app", leaseRules)
	lent := s.issue(token, "login")
	if lent.duration != 3600 || !strings.HasPrefix(lent.lease, "database/creds/login/") || !strings.HasPrefix(lent.username, "bl-") {
		t.Errorf("issued: got %s as %s for %d s, want database/creds/login/… as bl-… for 3600 s", lent.lease, lent.username, lent.duration)
	}
	if err := s.login(lent); err != nil {
		t.Errorf("log in: %v", err)
	}
	lookup := s.vault(token, "lease", "lookup", lent.lease)
	if !strings.Contains(lookup, "renewable") || !strings.Contains(lookup, lent.lease) {
		t.Errorf("lease lookup: got\n%s", lookup)
	}
	renewed := s.vault(token, "lease", "renew", "-increment=7200", "-format=json", lent.lease)
	if !strings.Contains(renewed, `"lease_duration": 7200`) {
		t.Errorf("lease renew: got %s, want 7200 s", renewed)
	}
	until, err := s.pg.SQL(t.Context(), s.pg.AdminUser, s.pg.AdminPassword, "postgres",
		"select extract(epoch from rolvaliduntil - now()) > 7000 from pg_roles where rolname = '"+lent.username+"'")
	if err != nil || until != "t" {
		t.Errorf("the database's own expiry is not past two hours: %q, %v", until, err)
	}
	s.vault(token, "lease", "revoke", "-sync", lent.lease)
	if err := s.login(lent); err == nil {
		t.Error("a revoked login is let in")
	}
	if left := s.roles(); len(left) != 0 {
		t.Errorf("left in the database: %v", left)
	}
	stdout, _, code := testenv.VaultCLI(t, vaultEnv(s.b.Addr, token), "lease", "renew", lent.lease)
	if code != 2 {
		t.Errorf("lease renew of a revoked lease: status %d, want 2\n%s", code, stdout)
	}
}

// leaseRules let somebody take logins, and renew and give back their own.
const leaseRules = `path "database/creds/*" {
  capabilities = ["read"]
}
path "sys/leases/lookup" {
  capabilities = ["update"]
}
path "sys/leases/renew" {
  capabilities = ["update"]
}
path "sys/leases/revoke" {
  capabilities = ["update"]
}
path "sys/leases/revoke/*" {
  capabilities = ["update"]
}
`

func TestALeaseBelongsToWhoTookIt(t *testing.T) {
	s := newDatabaseStage(t, testenv.BailiffOptions{}, producer("login", "1h"))
	owner, other := s.identity("owner", leaseRules), s.identity("other", leaseRules)
	lent := s.issue(owner, "login")
	for _, args := range [][]string{
		{"lease", "lookup", lent.lease}, {"lease", "renew", lent.lease}, {"lease", "revoke", "-sync", lent.lease}, {"lease", "revoke", lent.lease},
	} {
		stdout, stderr, code := testenv.VaultCLI(t, vaultEnv(s.b.Addr, other), args...)
		if code != 2 || !strings.Contains(stderr, "403") {
			t.Errorf("vault %s by another: status %d\n%s%s", strings.Join(args[:2], " "), code, stdout, stderr)
		}
	}
	if err := s.login(lent); err != nil {
		t.Errorf("after all that: %v", err)
	}
	s.vault(owner, "lease", "revoke", "-sync", lent.lease)
}

func TestALoginEndsWhenItsTimeIsOver(t *testing.T) {
	t.Parallel() // most of it is waiting
	s := newDatabaseStage(t, testenv.BailiffOptions{}, producer("brief", "3s"))
	token := s.identity("app", leaseRules)
	lent := s.issue(token, "brief")
	if err := s.login(lent); err != nil {
		t.Fatal(err)
	}
	issued := time.Now()
	eventually(t, 20*time.Second, func() error {
		if left := s.roles(); len(left) != 0 {
			return fmt.Errorf("still in the database: %v", left)
		}
		return nil
	})
	if early := time.Since(issued); early < 2*time.Second {
		t.Errorf("it was gone after %s, want not before its 3 s", early)
	}
	recs := s.records("--lease", lent.lease, "--via", "system")
	if len(recs) == 0 {
		t.Error("nothing in the trail says that the lease ended")
	}
}

func TestAClientThatLeavesWhileItsLoginIsMade(t *testing.T) {
	t.Parallel() // most of it is waiting
	s := newDatabaseStage(t, testenv.BailiffOptions{}, producer("slow", "1h", `SELECT pg_sleep(2)`))
	token := s.identity("app", leaseRules)
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() {
		_, err := s.do(ctx, http.MethodGet, "/v1/database/creds/slow", token, "")
		gone <- err
	}()
	eventually(t, 20*time.Second, func() error {
		n, err := s.pg.SQL(t.Context(), s.pg.AdminUser, s.pg.AdminPassword, "postgres",
			"select count(*) from pg_stat_activity where query like '%pg_sleep%' and pid <> pg_backend_pid() and state = 'active'")
		if err != nil || n == "0" {
			return fmt.Errorf("the database is not at it yet: %q, %w", n, err)
		}
		return nil
	})
	cancel()
	if err := <-gone; err == nil {
		t.Fatal("the client had its answer before it left")
	}
	c := s.client()
	eventually(t, 90*time.Second, func() error {
		page, err := c.Leases(t.Context(), nil)
		if err != nil {
			return err
		}
		if left := s.roles(); len(left) != 0 || len(page.Leases) != 0 {
			return fmt.Errorf("left: roles %v, leases %+v", left, page.Leases)
		}
		return nil
	})
}

func TestADatabaseThatIsDown(t *testing.T) {
	t.Parallel() // most of it is waiting
	s := newDatabaseStage(t, testenv.BailiffOptions{}, producer("login", "1h"))
	token := s.identity("app", leaseRules)
	lent := s.issue(token, "login")
	if err := s.pg.Kill(); err != nil {
		t.Fatal(err)
	}
	a := s.get(token, "database/creds/login")
	if a.code != http.StatusBadGateway && a.code != http.StatusServiceUnavailable {
		t.Errorf("issue: got %d %s, want 502 or 503", a.code, a.body)
	}
	// The promise to revoke is kept when the database is back.
	s.vault(token, "lease", "revoke", lent.lease)
	if err := s.pg.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, 2*time.Minute, func() error {
		if left := s.roles(); len(left) != 0 {
			return fmt.Errorf("still in the database: %v", left)
		}
		return nil
	})
}
