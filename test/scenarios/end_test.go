package scenarios_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/internal/testenv"
	"github.com/bailiff-secrets/bailiff/notify"
)

// TestWhatIsLeftOfAForbiddenRevocationIsFound: a role that was not tried can't be revoked; when its lease is given up, its
// login is found as an orphan by the next reconcile, and removed when the target allows it.
func TestWhatIsLeftOfAForbiddenRevocationIsFound(t *testing.T) {
	s := only(t)
	s.sql("pg", "CREATE ROLE keeper LOGIN CREATEROLE PASSWORD 'keeper'")
	s.apply(target("pg", "keeper", "keeper", s.pg["pg"]))
	dir := t.TempDir()
	forbidden := producer("login", "pg", "1h", `  revocation_statements = ["DELETE FROM pg_authid WHERE rolname = '{{name}}'"]`)
	if err := os.WriteFile(filepath.Join(dir, "role.hcl"), []byte(forbidden), 0o600); err != nil {
		t.Fatal(err)
	}
	s.run("apply", "-f", dir, "--yes", "--skip-preflight")
	token := s.identity("app")
	l := s.issue(token, "login")
	if a := s.revoke(token, l.ID); a.code == http.StatusNoContent {
		t.Fatal("a revocation that did not happen is said to have")
	}
	if got := decode[struct{ Cause string }](t, s.run("lease", "show", l.ID, "--format", "json")); got.Cause != "forbidden" {
		t.Errorf("got cause %q, want forbidden", got.Cause)
	}
	if r := s.reconcile(); len(r.Orphans) != 0 || r.Stuck+r.Leases == 0 {
		t.Errorf("while its lease is open it is no orphan: got %+v", r)
	}
	s.run("lease", "force", l.ID, "--reason", "the database's owner drops it")
	r := s.reconcile()
	if len(r.Orphans) != 1 || r.Orphans[0].Principal != l.Data.Username || r.Orphans[0].LeaseID != l.ID || r.Orphans[0].Done {
		t.Fatalf("got %+v, want the one orphan %s", r, l.Data.Username)
	}
	if there := s.roles("pg"); len(there) != 1 {
		t.Errorf("a report changed something: %v", there)
	}
	s.apply(target("pg", s.pg["pg"].AdminUser, s.pg["pg"].AdminPassword, s.pg["pg"]) + producer("login", "pg", "1h", ""))
	if r := s.reconcile("--remove"); len(r.Orphans) != 1 || !r.Orphans[0].Done {
		t.Errorf("remove: got %+v", r)
	}
	if left := s.roles("pg"); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func (s *stage) reconcile(flags ...string) broker.Report {
	s.t.Helper()
	return decode[broker.Report](s.t, s.run(append([]string{"reconcile", "pg", "--format", "json"}, flags...)...))
}

// TestWhatIsRemovedLeavesNobodyBehind: whatever is removed above a lease, the lease is ended with it, or the removal is
// refused.
func TestWhatIsRemovedLeavesNobodyBehind(t *testing.T) {
	for _, tt := range []struct {
		name    string
		remove  []string // objects, in this order
		refused string   // the first of them, in these words
	}{
		{"a role", []string{"producer/database/login"}, ""},
		{"an identity", []string{"identity/app"}, ""},
		{"a mount with its roles", []string{"producer/database/login", "mount/database"}, ""},
		{"a mount before its roles", []string{"mount/database"}, "there is no mount"},
		{"a target before its roles", []string{"target/pg"}, "there is no target"},
		{"the policy that let it be issued", []string{"policy/lend"}, "there is no policy"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := only(t)
			s.apply(producer("login", "pg", "1h", ""))
			l := s.issue(s.identity("app"), "login")
			for _, name := range tt.remove {
				a := s.do(http.MethodDelete, "/api/v1/objects/"+name, s.b.Token, "")
				if tt.refused == "" && a.code >= 300 || tt.refused != "" && (a.code != http.StatusBadRequest || !strings.Contains(a.body, tt.refused)) {
					t.Fatalf("removing %s: got %d %s", name, a.code, a.body)
				}
			}
			if tt.refused != "" {
				if err := s.login("pg", l); err != nil {
					t.Errorf("the removal was refused, and the login is gone: %v", err)
				}
				return
			}
			within(t, 15*time.Second, s.noRoles("pg"))
			within(t, 5*time.Second, func() error { return atMost(len(s.leases()), 0) })
		})
	}
}

// TestATargetWithOpenLeasesStays: its role is gone, so that nothing refers to it but a lease that can't be ended.
func TestATargetWithOpenLeasesStays(t *testing.T) {
	t.Parallel()
	s := newStage(t, map[string]*testenv.PostgresServer{"pg": testenv.NewPostgres(t)})
	s.apply(producer("login", "pg", "1h", ""))
	s.issue(s.identity("app"), "login")
	if err := s.pg["pg"].Kill(); err != nil {
		t.Fatal(err)
	}
	if a := s.do(http.MethodDelete, "/api/v1/objects/producer/database/login", s.b.Token, ""); a.code >= 300 {
		t.Fatalf("removing the role: got %d %s", a.code, a.body)
	}
	a := s.do(http.MethodDelete, "/api/v1/objects/target/pg", s.b.Token, "")
	if a.code < 400 || !strings.Contains(a.body, "has open leases") {
		t.Errorf("removing the target: got %d %s", a.code, a.body)
	}
	if err := s.pg["pg"].Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	within(t, 30*time.Second, s.noRoles("pg"))
	within(t, 10*time.Second, func() error {
		if a := s.do(http.MethodDelete, "/api/v1/objects/target/pg", s.b.Token, ""); a.code >= 300 {
			return fmt.Errorf("removing the target: got %d %s", a.code, a.body)
		}
		return nil
	})
}

// TestWhatOneLoginHoldsEndsByItsClaim: as a CI job's does when the job ends.
func TestWhatOneLoginHoldsEndsByItsClaim(t *testing.T) {
	s := only(t)
	s.apply(producer("login", "pg", "1h", ""))
	s.identity("somebody") // brings the policy
	if a := s.do(http.MethodPost, "/v1/sys/auth/userpass", s.b.Token, `{"type":"userpass"}`); a.code >= 300 {
		t.Fatalf("enable userpass: got %d %s", a.code, a.body)
	}
	hold := func(name string) loan {
		if a := s.do(http.MethodPost, "/v1/auth/userpass/users/"+name, s.b.Token, `{"password":"s3cret-`+name+`","token_policies":["lend"]}`); a.code >= 300 {
			t.Fatalf("add %s: got %d %s", name, a.code, a.body)
		}
		a := s.do(http.MethodPost, "/v1/auth/userpass/login/"+name, "", `{"password":"s3cret-`+name+`"}`)
		in := decode[struct {
			Auth struct {
				Token string `json:"client_token"`
			}
		}](t, a.body)
		return s.issue(in.Auth.Token, "login")
	}
	one, other := hold("job-1"), hold("job-2")
	if dry := s.run("revoke", "--claim", "username=job-1", "--dry-run"); !strings.Contains(dry, one.Data.Username) || !strings.Contains(dry, "1 lease would") {
		t.Errorf("the dry run shows:\n%s", dry)
	}
	out := s.run("revoke", "--claim", "username=job-1", "--yes", "--sync")
	if !strings.Contains(out, "claim username=job-1") {
		t.Errorf("got %s", out)
	}
	if err := s.login("pg", one); err == nil {
		t.Error("the job's login is let in")
	}
	if err := s.login("pg", other); err != nil {
		t.Errorf("the other job's login: %v", err)
	}
}

// TestOthersAreToldBeforeTheEndAndAtIt: a webhook gets what becomes of a lease, signed, and status shows how it is.
func TestOthersAreToldBeforeTheEndAndAtIt(t *testing.T) {
	s := only(t)
	const key = "sixteen-bytes-or-more"
	var mu sync.Mutex
	var got []string
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var e struct{ Type, Subject string }
		if err != nil || json.Unmarshal(body, &e) != nil || notify.Verify(key, r.Header.Get(notify.SignatureHeader), body, time.Now(), time.Minute) != nil {
			t.Errorf("got %q, signed %q", body, r.Header.Get(notify.SignatureHeader))
		}
		mu.Lock()
		defer mu.Unlock()
		if len(got) == 0 {
			got = append(got, "refused")
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		got = append(got, e.Type+" "+e.Subject)
	}))
	defer hook.Close()
	s.apply(producer("login", "pg", "4s", "") + fmt.Sprintf("notify \"ops\" {\n  url = %q\n  secret = %q\n  events = [\"lease.expiring\", \"lease.revoked\"]\n  before = \"2s\"\n}\n", hook.URL, key))
	l := s.issue(s.identity("app"), "login")
	within(t, 20*time.Second, func() error { mu.Lock(); defer mu.Unlock(); return atLeast(len(got), 3) })
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"refused", "lease.expiring " + l.ID, "lease.revoked " + l.ID}; strings.Join(got, ",") != strings.Join(want, ",") {
		t.Errorf("got %q, want %q", got, want)
	}
	within(t, 5*time.Second, func() error {
		if out := s.run("status"); !strings.Contains(out, "webhooks.ops.state") || !strings.Contains(out, "ok") {
			return fmt.Errorf("status does not show the webhook:\n%s", out)
		}
		return nil
	})
}

func atLeast(n, want int) error {
	if n < want {
		return fmt.Errorf("%d, want %d", n, want)
	}
	return nil
}

func atMost(n, want int) error {
	if n > want {
		return fmt.Errorf("%d, want at most %d", n, want)
	}
	return nil
}
