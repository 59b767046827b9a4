package e2e_test

import (
	"strings"
	"testing"

	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

// TestTheVaultCommandRevokesMany does what runbooks do: revoke below a path, in every way that the vault command has.
func TestTheVaultCommandRevokesMany(t *testing.T) {
	t.Parallel()
	s := newDatabaseStage(t, testenv.BailiffOptions{}, producer("login", "1h"), producer("other", "1h"))
	token := s.b.Token
	_, kept := s.loan("other")
	for _, flags := range [][]string{{"-prefix", "-sync"}, {"-prefix"}, {"-force", "-prefix"}} {
		lease, user := s.loan("login")
		_, user2 := s.loan("login")
		if got := s.vault(token, "list", "-format=json", "sys/leases/lookup/database/creds/login"); !strings.Contains(got, strings.TrimPrefix(lease, "database/creds/login/")) {
			t.Errorf("list: got\n%s", got)
		}
		args := append(append([]string{"lease", "revoke"}, flags...), "database/creds/login")
		s.vault(token, args...)
		if strings.Contains(strings.Join(flags, " "), "-sync") && (s.alive(user) || s.alive(user2)) {
			t.Errorf("vault %s returned before the credentials were gone", strings.Join(args, " "))
		}
		s.gone(user)
		s.gone(user2)
	}
	if !s.alive(kept) {
		t.Error("a credential of another role is gone")
	}
	s.vault(token, "secrets", "tune", "-default-lease-ttl=30m", "-max-lease-ttl=2h", "database/")
	if got := s.vault(token, "read", "sys/mounts/database/tune"); !strings.Contains(got, "2h") || !strings.Contains(got, "30m") {
		t.Errorf("tune: got\n%s", got)
	}
	s.vault(token, "write", "-f", "sys/leases/tidy")
	stdout, stderr, code := s.bailiff(nil, "revocation", "list")
	if code != 0 || strings.Count(stdout, "done") != 3 || !strings.Contains(stdout, "prefix database/creds/login/") {
		t.Errorf("revocation list: %d\n%s%s", code, stdout, stderr)
	}
}
