package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/api"
	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

// backup copies the store; putBack makes the copy what stands. Neither is done while something is written.
func (s *stage) backup() (putBack func()) {
	s.t.Helper()
	copies := map[string][]byte{}
	files, err := filepath.Glob(filepath.Join(s.b.DataDir, "bailiff.db*"))
	if err != nil || len(files) == 0 {
		s.t.Fatalf("the store's files: %v, %v", files, err)
	}
	for _, f := range files {
		if !strings.HasSuffix(f, "-shm") && !strings.HasSuffix(f, ".lock") {
			if copies[f], err = os.ReadFile(f); err != nil {
				s.t.Fatal(err)
			}
		}
	}
	return func() {
		s.t.Helper()
		for _, f := range []string{"bailiff.db", "bailiff.db-wal", "bailiff.db-shm"} {
			if err := os.Remove(filepath.Join(s.b.DataDir, f)); err != nil && !os.IsNotExist(err) {
				s.t.Fatal(err)
			}
		}
		for f, text := range copies {
			if err := os.WriteFile(f, text, 0o600); err != nil {
				s.t.Fatal(err)
			}
		}
	}
}

// loan issues a credential and returns its lease and its name on the target.
func (s *stage) loan(role string) (lease, user string) {
	s.t.Helper()
	a := s.get(s.b.Token, "database/creds/"+role)
	var lent struct {
		LeaseID string `json:"lease_id"`
		Data    struct{ Username string }
	}
	if err := json.Unmarshal([]byte(a.body), &lent); err != nil || lent.LeaseID == "" {
		s.t.Fatalf("issuing %s: %d %s", role, a.code, a.body)
	}
	return lent.LeaseID, lent.Data.Username
}

// alive asks the database itself.
func (s *stage) alive(user string) bool {
	s.t.Helper()
	out, err := s.pg.SQL(s.t.Context(), s.pg.AdminUser, s.pg.AdminPassword, "postgres", "SELECT count(*) FROM pg_roles WHERE rolname = '"+user+"'")
	if err != nil {
		s.t.Fatal(err)
	}
	return out == "1"
}

func (s *stage) gone(user string) {
	s.t.Helper()
	eventually(s.t, 20*time.Second, func() error {
		if s.alive(user) {
			return fmt.Errorf("%s is alive", user)
		}
		return nil
	})
}

// held waits for what the server says of revocations that it holds.
func (s *stage) held() api.RecoverPlan {
	s.t.Helper()
	p, err := s.client().RecoverPlan(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

// metric is the value of one that has no labels.
func (s *stage) metric(name string) string {
	for line := range strings.Lines(s.metrics()) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// TestARestoredStoreRevokesNothingUntilConfirmed puts yesterday's store back. A lease that it believes to have ended was
// renewed since: its credential stays until somebody has looked at the plan.
func TestARestoredStoreRevokesNothingUntilConfirmed(t *testing.T) {
	t.Parallel()
	s := newDatabaseStage(t, testenv.BailiffOptions{}, producer("login", "3s"), producer("short", "1s"))
	lease, user := s.loan("login")
	s.stop()
	putBack := s.backup()
	s.start()
	if p := s.held(); p.Held {
		t.Fatalf("held after an orderly restart: %s", p.Why)
	}
	if _, err := s.client().RenewLease(t.Context(), lease, 3600); err != nil {
		t.Fatal(err)
	}
	s.stop()
	putBack()
	s.start()

	p := s.held()
	if !p.Held || !strings.Contains(p.Why, "from before a start of this server") {
		t.Fatalf("got %+v", p)
	}
	eventually(t, 10*time.Second, func() error {
		if p = s.held(); p.Count != 1 || p.Leases[0].ID != lease || p.Leases[0].Principal != user || p.Targets[0].Target != "pg" {
			return fmt.Errorf("the plan: %+v", p)
		}
		return nil
	})
	// The due loop goes on: what is issued now ends on time, and the renewed credential stays.
	_, brief := s.loan("short")
	s.gone(brief)
	if !s.alive(user) {
		t.Fatal("a credential was revoked that its owner had renewed")
	}
	if got := s.metric("bailiff_revocations_held"); got != "1" {
		t.Errorf("the metric is %q", got)
	}
	if stdout, stderr, _ := s.bailiff(nil, "status"); !strings.Contains(stdout, "from before a start") {
		t.Errorf("status does not tell:\n%s%s", stdout, stderr)
	}
	stdout, stderr, code := s.bailiff(nil, "recover", "plan")
	if code != 0 || !strings.Contains(stdout, lease) || !strings.Contains(stdout, "1 lease would be revoked") {
		t.Errorf("recover plan: %d\n%s%s", code, stdout, stderr)
	}

	s.stop() // it outlasts a restart
	s.start()
	if p := s.held(); !p.Held || p.Count != 1 || !s.alive(user) {
		t.Fatalf("after a restart: %+v", p)
	}
	stdout, stderr, code = s.bailiff(nil, "recover", "confirm", "--yes", "--reason", "checked")
	if code != 0 || !strings.Contains(stdout, "1 lease") {
		t.Errorf("recover confirm: %d\n%s%s", code, stdout, stderr)
	}
	s.gone(user)
	if got := s.metric("bailiff_revocations_held"); got != "0" {
		t.Errorf("the metric is %q", got)
	}
	s.stop()
	s.start()
	if p := s.held(); p.Held {
		t.Errorf("it is held again: %s", p.Why)
	}
	told := map[string]bool{}
	for _, r := range s.records("--via", "system") {
		told[r.Op] = true
	}
	if !told["hold"] {
		t.Error("the trail does not tell that revocations were held")
	}
}

// TestAStoreBehindTheTrailIsHeld puts a store back that was copied while the server ran, so that no start tells them apart.
func TestAStoreBehindTheTrailIsHeld(t *testing.T) {
	t.Parallel()
	s := newDatabaseStage(t, testenv.BailiffOptions{}, producer("login", "1h"))
	s.loan("login")
	s.stop()
	s.start()
	eventually(t, 10*time.Second, func() error { // until the trail's head is noted, and nothing is written
		a, b := s.storeBytes(), s.storeBytes()
		if a != b {
			return fmt.Errorf("it is written to")
		}
		return nil
	})
	putBack := s.backup()
	lease, user := s.loan("login")
	s.stop()
	putBack()
	s.start()
	if p := s.held(); !p.Held || !strings.Contains(p.Why, lease) {
		t.Errorf("got %+v", p)
	}
	if !s.alive(user) {
		t.Error("a credential is gone that the store does not know")
	}
}

func (s *stage) storeBytes() (n int64) {
	s.t.Helper()
	for _, name := range []string{"bailiff.db", "bailiff.db-wal"} {
		info, err := os.Stat(filepath.Join(s.b.DataDir, name))
		if err != nil {
			s.t.Fatal(err)
		}
		n += info.Size() + info.ModTime().UnixNano()
	}
	return n
}

// TestAKillHoldsNothing kills the server while leases are made: that is not a store that went back.
func TestAKillHoldsNothing(t *testing.T) {
	t.Parallel()
	s := newDatabaseStage(t, testenv.BailiffOptions{}, producer("login", "1h"))
	for range 3 {
		s.loan("login")
		if err := s.b.Kill(); err != nil {
			t.Fatal(err)
		}
		s.start()
		if p := s.held(); p.Held {
			t.Fatalf("held after a kill: %s", p.Why)
		}
	}
}

func (s *stage) stop() {
	s.t.Helper()
	if err := s.b.Stop(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stage) start() {
	s.t.Helper()
	if err := s.b.Restart(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}
