package scenarios_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

func TestARoleThatWasDroppedByHandIsGoneAtOnce(t *testing.T) {
	s := only(t)
	s.apply(producer("login", "pg", "1h", ""))
	token := s.identity("app")
	dropped, other := s.issue(token, "login"), s.issue(token, "login")
	s.sql("pg", fmt.Sprintf("DROP ROLE %q", dropped.Data.Username))
	if a := s.revoke(token, dropped.ID); a.code != http.StatusNoContent {
		t.Errorf("revoke: got %d %s after %v, want 204 at the first try", a.code, a.body, a.took)
	}
	if err := s.login("pg", other); err != nil {
		t.Errorf("the other login: %v", err)
	}
	if open := s.leases(); len(open) != 1 || open[0].ID != other.ID {
		t.Errorf("open leases: got %v, want the other one alone", open)
	}
}

func TestATargetThatIsGoneForEverHoldsUpNobody(t *testing.T) {
	t.Parallel()
	s := newStage(t, map[string]*testenv.PostgresServer{"gone": testenv.NewPostgres(t), "well": testenv.NewPostgres(t)})
	s.apply(producer("gone", "gone", "1h", "") + producer("well", "well", "1h", ""))
	token := s.identity("app")
	for range 30 {
		s.issue(token, "gone")
	}
	round := func() time.Duration {
		var times []time.Duration
		for range 30 {
			l := s.issue(token, "well")
			a := s.revoke(token, l.ID)
			if a.code != http.StatusNoContent {
				t.Errorf("revoke on the healthy target: got %d %s", a.code, a.body)
			}
			times = append(times, a.took)
		}
		return p99(times)
	}
	before := round()
	if err := s.pg["gone"].Kill(); err != nil {
		t.Fatal(err)
	}
	s.run("revoke", "--target", "gone", "--yes")
	within(t, 20*time.Second, func() error {
		for _, l := range s.leases() {
			if l.Cause == "unreachable" {
				return nil
			}
		}
		return fmt.Errorf("no lease of the dead target has failed yet")
	})
	if after := round(); after > 10*before+500*time.Millisecond {
		t.Errorf("revoking on the healthy target: p99 %v, was %v", after, before)
	}
	within(t, 20*time.Second, s.noRoles("well"))
	if open := s.leases(); len(open) != 30 {
		t.Errorf("%d leases are open, want the 30 of the dead target: none is forgotten", len(open))
	}
}

func TestARevocationThatIsForbiddenIsRefusedBeforeAnythingIsLent(t *testing.T) {
	s := only(t)
	s.sql("pg", "CREATE ROLE lender LOGIN CREATEROLE PASSWORD 'lender'")
	s.apply(target("pg", "lender", "lender", s.pg["pg"]))
	forbidden := producer("login", "pg", "1h", `  revocation_statements = ["DELETE FROM pg_authid WHERE rolname = '{{name}}'"]`)
	err := s.b.Apply(t.Context(), forbidden)
	if err == nil || !strings.Contains(err.Error(), "lacks a privilege") {
		t.Fatalf("declaring a role whose revocation is forbidden: got %v, want the target's words", err)
	}
	within(t, 10*time.Second, func() error {
		if a := s.do(http.MethodGet, "/v1/database/creds/login", s.b.Token, ""); a.code == http.StatusOK {
			return fmt.Errorf("the refused role lends")
		}
		return nil
	})
}

func TestACrashLoopIsStoppedByItsQuota(t *testing.T) {
	s := only(t)
	s.apply(producer("login", "pg", "1h", "  max_leases = 5"))
	token := s.identity("crashloop")
	var lent, stopped int
	for range 12 {
		switch a := s.do(http.MethodGet, "/v1/database/creds/login", token, ""); {
		case a.code == http.StatusOK:
			lent++
		case a.code == http.StatusTooManyRequests && a.header.Get("Retry-After") != "":
			stopped++
		default:
			t.Errorf("got %d %s", a.code, a.body)
		}
	}
	if n := len(s.roles("pg")); lent != 5 || stopped != 7 || n != 5 {
		t.Errorf("got %d lent, %d stopped, %d roles; want 5, 7, 5", lent, stopped, n)
	}
	named := 0
	for _, r := range s.records("--identity", "crashloop") {
		if strings.Contains(r.Error, "max_leases") || strings.Contains(r.Error, "live leases") {
			named++
		}
	}
	if named < 7 {
		t.Errorf("%d records name the client and the quota, want 7", named)
	}
}

func TestAStatementThatFailsLeavesNoUser(t *testing.T) {
	s := only(t)
	hcl := producer("broken", "pg", "1h", fmt.Sprintf("  creation_statements = [%q, \"GRANT no_such_role TO \\\"{{name}}\\\"\"]", create))
	if err := s.b.Apply(t.Context(), hcl); err == nil {
		t.Error("a role that can't lend was declared, want preflight to refuse it")
	}
	s.noRolesAfter(10 * time.Second)
}

func (s *stage) noRolesAfter(d time.Duration) {
	s.t.Helper()
	within(s.t, d, s.noRoles("pg"))
}

func TestAClientThatLeavesOwnsNothing(t *testing.T) {
	s := only(t)
	s.apply(producer("slow", "pg", "1h", fmt.Sprintf("  creation_statements = [%q, \"SELECT pg_sleep(1)\"]", create)))
	token := s.identity("app")
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.b.Addr+"/v1/database/creds/slow", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Vault-Token", token)
	if resp, err := httpClient.Do(req); err == nil {
		resp.Body.Close()
		t.Fatal("the client had its answer before it left")
	}
	within(t, 15*time.Second, func() error {
		all := s.leases()
		for _, l := range all {
			if l.State == "pending" || l.State == "active" {
				return fmt.Errorf("lease %s is %s", l.ID, l.State)
			}
		}
		return s.noRoles("pg")()
	})
}

func TestALeaseIsNoLongerThanItsToken(t *testing.T) {
	s := only(t)
	s.apply(producer("login", "pg", "30m", ""))
	s.identity("job")
	key := decode[struct {
		AccessID  string `json:"access_id"`
		AccessKey string `json:"access_key"`
	}](t, s.run("identity", "key", "create", "job", "--ttl", "2m", "--format", "json"))
	l := s.issue(key.AccessID+".."+key.AccessKey, "login")
	if l.Duration > 120 || l.Duration < 100 {
		t.Errorf("lease_duration: got %d s, want the two minutes that the key has left", l.Duration)
	}
	if said := strings.Join(l.Warnings, "\n"); !strings.Contains(said, "token") {
		t.Errorf("warnings: got %q, want one that names the token", said)
	}
}

func TestALoginIsTracedToItsPersonAfterItsEnd(t *testing.T) {
	s := only(t)
	s.apply(producer("login", "pg", "1h", ""))
	token := s.identity("alice")
	l := s.issue(token, "login")
	if a := s.revoke(token, l.ID); a.code != http.StatusNoContent {
		t.Fatalf("revoke: got %d %s", a.code, a.body)
	}
	found := s.records("--principal", l.Data.Username)
	for _, r := range found {
		if r.Identity == "alice" && r.RequestID != "" && r.LeaseID == l.ID {
			return
		}
	}
	t.Errorf("who %s was: got %d records, none names person, request and lease", l.Data.Username, len(found))
}

func TestLeasesOfADeletedRoleAreNotStranded(t *testing.T) {
	s := only(t)
	s.apply(producer("login", "pg", "1h", ""))
	token := s.identity("app")
	l := s.issue(token, "login")
	a := s.do(http.MethodDelete, "/api/v1/objects/producer/database/login", s.b.Token, "")
	t.Logf("deleting the role: %d %s", a.code, a.body)
	if a := s.revoke(token, l.ID); a.code != http.StatusNoContent {
		t.Errorf("revoke: got %d %s", a.code, a.body)
	}
	s.noRolesAfter(10 * time.Second)
}

func TestEverythingOfOnePersonEndsAndIsCounted(t *testing.T) {
	t.Parallel()
	pg := testenv.NewPostgres(t)
	s := newStage(t, map[string]*testenv.PostgresServer{"one": pg, "two": pg, "three": pg})
	var lent []loan
	s.apply(producer("one", "one", "1h", "") + producer("two", "two", "1h", "") + producer("three", "three", "1h", ""))
	alice, bob := s.identity("alice"), s.identity("bob")
	for _, role := range []string{"one", "two", "three"} {
		lent = append(lent, s.issue(alice, role), s.issue(alice, role))
	}
	kept := s.issue(bob, "one")
	session := make(chan error, 1)
	go func() {
		_, err := pg.SQL(t.Context(), lent[0].Data.Username, lent[0].Data.Password, "postgres", "select pg_sleep(50)")
		session <- err
	}()
	within(t, 10*time.Second, func() error {
		if n := s.sql("one", fmt.Sprintf("select count(*) from pg_stat_activity where usename = '%s'", lent[0].Data.Username)); n != "1" {
			return fmt.Errorf("%s sessions", n)
		}
		return nil
	})
	if dry := s.run("revoke", "--identity", "alice", "--dry-run"); !strings.Contains(dry, "two") || !strings.Contains(dry, "6") {
		t.Errorf("the dry run does not show 6 leases by target:\n%s", dry)
	}
	began := time.Now()
	out := s.run("revoke", "--identity", "alice", "--reason", "laptop lost", "--yes", "--sync", "--format", "json")
	t.Logf("after %v: %s", time.Since(began), out)
	if err := <-session; err == nil {
		t.Error("the open session was not closed")
	}
	for _, l := range lent {
		if err := s.login("one", l); err == nil {
			t.Errorf("%s is let in", l.Data.Username)
		}
	}
	if err := s.login("one", kept); err != nil {
		t.Errorf("somebody else's login: %v", err)
	}
	if !strings.Contains(out, "6") {
		t.Errorf("the answer does not count 6: %s", out)
	}
}
