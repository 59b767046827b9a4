package engine_test

import (
	"strings"
	"testing"

	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

// TestTheRunbookOfVaultsEngineWorks runs what people run, with the real command, on a real Vault and on Bailiff.
func TestTheRunbookOfVaultsEngineWorks(t *testing.T) {
	for name, start := range map[string]func(*testing.T) *side{
		"vault":   newVault,
		"bailiff": func(t *testing.T) *side { return newBailiff(t, testenv.BailiffOptions{}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			s.byHand = true
			s.must("write", "database/config/pg", writeConfig, configURL, "username=«admin»", "password=«password»", "allowed_roles=ro,app")
			s.must("write", "database/roles/ro", "db_name=pg", creation, "default_ttl=1h", "max_ttl=24h")
			s.must("write", "database/static-roles/app", "db_name=pg", "username=«app»", "rotation_period=24h")
			s.credential("database/creds/ro")
			if got := s.must("list", "database/roles"); !strings.Contains(got, "ro") {
				t.Errorf("list roles: %s", got)
			}
			if got := s.must("list", "database/config"); !strings.Contains(got, "pg") {
				t.Errorf("list config: %s", got)
			}
			_, first := s.credential("database/static-creds/app")
			if out := s.must("write", "-f", "database/rotate-role/app"); !strings.Contains(out, "Success! Data written to: database/rotate-role/app") {
				t.Errorf("rotate-role: %s", out)
			}
			username, second := s.credential("database/static-creds/app")
			if username != s.app || second == first || s.login(s.app, first) == nil {
				t.Error("rotate-role did not change the password, or the old one still works")
			}
			if out := s.must("write", "-f", "database/rotate-root/pg"); !strings.Contains(out, "Success! Data written to: database/rotate-root/pg") {
				t.Errorf("rotate-root: %s", out)
			}
			if s.login(s.admin, adminPassword) == nil {
				t.Error("rotate-root did not change the password")
			}
			s.credential("database/creds/ro")
			s.must("write", "-f", "database/rotate-role/app")
			s.credential("database/static-creds/app")
			s.must("write", "-f", "database/reset/pg")
			s.credential("database/creds/ro")
			s.must("write", "database/roles/ro", "default_ttl=30m")
			if d := s.data("database/roles/ro"); d["default_ttl"] != float64(1800) || d["db_name"] != "pg" {
				t.Errorf("after a change of one field: %v", d)
			}
			s.must("lease", "revoke", "-prefix", "-sync", "database/creds/ro")
			s.must("delete", "database/static-roles/app")
			s.must("delete", "database/roles/ro")
			s.must("delete", "database/config/pg")
			for _, path := range []string{"database/config/pg", "database/roles/ro", "database/static-roles/app"} {
				if out, _, code := s.cli("read", path); code == 0 {
					t.Errorf("%s is there after it was deleted: %s", path, out)
				}
			}
		})
	}
}
