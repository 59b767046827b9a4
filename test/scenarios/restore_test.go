package scenarios_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

// TestAStoreThatIsPutBackUnderARunningServerRevokesNothing: the backup believes that a lease has ended which was renewed
// since. The server runs on, notices it before it does anything, and goes on when it is told to.
func TestAStoreThatIsPutBackUnderARunningServerRevokesNothing(t *testing.T) {
	t.Parallel()
	store, pg := testenv.NewPostgres(t), testenv.NewPostgres(t)
	s := onPostgres(t, store, map[string]*testenv.PostgresServer{"pg": pg})
	s.apply(producer("login", "pg", "3s", ""))
	token := s.identity("app")
	l := s.issue(token, "login")
	if err := s.b.Stop(); err != nil {
		t.Fatal(err)
	}
	admin := func(statement string) {
		t.Helper()
		if _, err := store.SQL(t.Context(), store.AdminUser, store.AdminPassword, "postgres", statement); err != nil {
			t.Fatal(err)
		}
	}
	admin(`CREATE DATABASE backup TEMPLATE bailiff`)
	if err := s.b.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if a := s.do(http.MethodPut, "/v1/sys/leases/renew", token, fmt.Sprintf(`{"lease_id":%q,"increment":3600}`, l.ID)); a.code != http.StatusOK {
		t.Fatalf("renew: got %d %s", a.code, a.body)
	}
	later := s.issue(token, "login") // which the backup doesn't know
	within(t, 20*time.Second, func() error {
		if strings.Contains(strings.Join(s.roles("pg"), " "), later.Data.Username) {
			return fmt.Errorf("%s has not expired", later.Data.Username)
		}
		return nil
	})

	admin(`ALTER DATABASE bailiff ALLOW_CONNECTIONS false`)
	admin(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'bailiff'`)
	admin(`ALTER DATABASE bailiff RENAME TO lost`)
	admin(`ALTER DATABASE backup RENAME TO bailiff`)
	within(t, 30*time.Second, func() error {
		if out := s.run("recover", "plan"); !strings.Contains(out, "put back while this server ran") {
			return fmt.Errorf("nothing is held:\n%s", out)
		}
		return nil
	})
	if err := s.login("pg", l); err != nil {
		t.Errorf("the lease that the backup believes to have ended: %v", err)
	}
	s.run("recover", "confirm", "--yes")
	within(t, 20*time.Second, s.noRoles("pg"))
	if out := s.run("recover", "plan"); strings.Contains(out, "put back") {
		t.Errorf("it is held again:\n%s", out)
	}
}
