package scenarios_test

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/internal/testenv"
	"github.com/bailiff-secrets/bailiff/test/seed"
)

// TestACrowdOfLeases: a server starts with 200,000 leases, of which 15,000 have expired together while their target is down.
// It is ready as fast as with none, answers for its health as always, and goes on with what is due when the target is back.
func TestACrowdOfLeases(t *testing.T) {
	t.Parallel()
	const (
		all   = 200_000
		every = 13                        // so many of them, one has expired
		due   = (all + every - 1) / every // 15,385
	)
	s := newStage(t, map[string]*testenv.PostgresServer{"pg": testenv.NewPostgres(t), "well": testenv.NewPostgres(t)})
	s.apply(producer("login", "pg", "1h", "") + producer("well", "well", "1h", ""))
	token := s.identity("app")
	few := s.restart()
	before := p99(s.health(100))
	if err := s.b.Stop(); err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	err := seed.Leases(t.Context(), s.b.DataDir, all, func(i int, l *broker.Lease) {
		ends := now.Add(24 * time.Hour)
		if i%every == 0 {
			ends = now
		}
		*l = broker.Lease{
			ID: "database/creds/login/" + strconv.Itoa(i), Mount: "database/", Role: "login", Producer: "postgres", Target: "pg",
			Identity: "app", AccessID: "p-1", RequestID: "r-" + strconv.Itoa(i), Principal: "bl-login-" + letters(i),
			State: broker.Active, IssuedAt: now.Add(-time.Hour), IntentDeadline: now.Add(-time.Hour),
			ExpiresAt: ends, MaxExpiresAt: now.Add(48 * time.Hour), NextAt: ends,
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.pg["pg"].Kill(); err != nil {
		t.Fatal(err)
	}
	many := s.restart()
	t.Logf("ready after %v with few leases, after %v with %d", few, many, all)
	if many > 2*few+2*time.Second {
		t.Errorf("ready after %v, which was %v with few leases", many, few)
	}
	during := p99(s.health(400))
	t.Logf("p99 of sys/health %v, and %v while %d leases have expired on a target that is down", before, during, due)
	if during > 20*before+250*time.Millisecond {
		t.Errorf("p99 of sys/health is %v, and was %v", during, before)
	}
	l := s.issue(token, "well")
	if a := s.revoke(token, l.ID); a.code != http.StatusNoContent {
		t.Errorf("revoke on the other target: got %d %s", a.code, a.body)
	}
	if err := s.pg["pg"].Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	within(t, time.Minute, func() error {
		active := s.open("active")
		if active < all-due {
			t.Fatalf("%d leases are active, and %d have not expired", active, all-due)
		}
		return atMost(active+s.open("revoking")+s.open("stuck"), all-1000)
	})
}

// letters is i as the end of a name that Bailiff makes.
func letters(i int) string {
	name := []byte("aaaaaaaaaaaaaaaaaaaa")
	for at := len(name) - 1; i > 0; at, i = at-1, i/26 {
		name[at] = 'a' + byte(i%26)
	}
	return string(name)
}

// restart ends the server, if it runs, and says how long the next one takes to be ready.
func (s *stage) restart() time.Duration {
	s.t.Helper()
	if err := s.b.Stop(); err != nil {
		s.t.Fatal(err)
	}
	began := time.Now()
	if err := s.b.Restart(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	return time.Since(began)
}

// health asks n times how the server is, eight at a time, as load balancers do.
func (s *stage) health(n int) []time.Duration {
	s.t.Helper()
	var mu sync.Mutex
	var times []time.Duration
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range n / 8 {
				a := s.do(http.MethodGet, "/v1/sys/health", "", "")
				if a.code != http.StatusOK {
					s.t.Errorf("sys/health: got %d %s", a.code, a.body)
				}
				mu.Lock()
				times = append(times, a.took)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return times
}

// open counts the leases in a state, as status does.
func (s *stage) open(state string) int {
	s.t.Helper()
	n, _ := decode[struct{ Leases map[string]any }](s.t, s.run("status", "--format", "json")).Leases[state].(float64)
	return int(n)
}

// TestAStoreThatIsDownReleasesNothing: while the store does not answer no login leaves, and when it is back every login that
// was lent has a lease, and none is on the target without one.
func TestAStoreThatIsDownReleasesNothing(t *testing.T) {
	t.Parallel()
	store, pg := testenv.NewPostgres(t), testenv.NewPostgres(t)
	s := onPostgres(t, store, map[string]*testenv.PostgresServer{"pg": pg})
	s.apply(producer("login", "pg", "1h", ""))
	token := s.identity("app")
	var mu sync.Mutex
	lent := map[string]bool{}
	var down, stop atomic.Bool
	var refused, released atomic.Int64
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for !stop.Load() {
				was := down.Load()
				l, err := s.tryIssue(token, "login")
				switch {
				case err != nil && down.Load():
					refused.Add(1)
				case err == nil && was && down.Load():
					released.Add(1)
				}
				if err == nil {
					mu.Lock()
					lent[l.Data.Username] = true
					mu.Unlock()
				}
			}
		})
	}
	count := func() int { mu.Lock(); defer mu.Unlock(); return len(lent) }
	within(t, 20*time.Second, func() error { return atLeast(count(), 20) })
	if err := store.Kill(); err != nil {
		t.Fatal(err)
	}
	down.Store(true)
	within(t, 40*time.Second, func() error { return atLeast(int(refused.Load()), 8) })
	if n := released.Load(); n > 0 {
		t.Errorf("%d logins were released while the store was down", n)
	}
	down.Store(false)
	if err := store.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := count()
	within(t, 30*time.Second, func() error { return atLeast(count(), n+10) })
	stop.Store(true)
	clients.Wait()
	within(t, 60*time.Second, func() error { return s.settled(lent) })
}

// settled says whether the logins on the target are those of the active leases, and all that were lent are among them.
func (s *stage) settled(lent map[string]bool) error {
	s.t.Helper()
	active := map[string]bool{}
	for _, l := range s.leases() {
		if l.State != "active" {
			return fmt.Errorf("lease %s is %s", l.ID, l.State)
		}
		active[l.Principal] = true
	}
	var errs []error
	for name := range lent {
		if !active[name] {
			s.t.Fatalf("%s was lent and has no lease", name)
		}
	}
	there := s.roles("pg")
	for _, name := range there {
		if !active[name] {
			errs = append(errs, fmt.Errorf("%s is on the target without a lease", name))
		}
	}
	if len(there) < len(lent) {
		s.t.Fatalf("%d logins were lent, and %d are there", len(lent), len(there))
	}
	return errors.Join(errs...)
}
