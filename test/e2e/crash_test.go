package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/api"
	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

const (
	crashRounds  = 200
	crashClients = 6
	stopWait     = 10 * time.Second
)

// crashPoints are where a server built with the tag faults kills itself. The empty one stands for a SIGKILL at any moment.
var crashPoints = []string{
	"", "request-recorded", "served", "response-recorded",
	"intent-before", "intent-durable", "created", "active-durable", "revoke-before", "revoke-done", "revoked-durable",
}

// TestNoCrashLosesACredential kills the server at every point of a lease's life and at random moments, under load, and
// looks after each restart: a credential that no open lease promises to end must not exist, nor an active lease whose
// credential doesn't, nor may a client hold a credential that is forgotten.
func TestNoCrashLosesACredential(t *testing.T) {
	t.Parallel()
	s := newDatabaseStage(t, testenv.BailiffOptions{Tags: []string{"faults"}}, producer("login", "1h"))
	token := s.identity("app", leaseRules)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	died := map[string]int{}
	for round := range crashRounds {
		point := crashPoints[round%len(crashPoints)]
		if s.crash(token, point, 1+random.IntN(crashClients/2), time.Duration(random.IntN(80))*time.Millisecond) {
			died[point]++
		}
		if err := s.b.Restart(t.Context()); err != nil {
			t.Fatalf("round %d, after %q: %v", round, point, err)
		}
		if err := s.promisesKept(); err != nil {
			t.Fatalf("round %d, after %q: %v", round, point, err)
		}
	}
	t.Logf("died by itself: %v", died)
	for _, point := range crashPoints[1:] {
		if died[point] == 0 {
			t.Errorf("the server never died at %s", point)
		}
	}
	s.settle()
	s.revokeAll()
}

// crash restarts the server with a fault, puts load on it and makes sure that it is dead. It says if it died by the fault.
func (s *stage) crash(token, point string, nth int, after time.Duration) bool {
	s.t.Helper()
	fault := point + ":" + strconv.Itoa(nth)
	if point == "" {
		fault = ""
	}
	if err := s.b.Restart(s.t.Context(), "BAILIFF_FAULT="+fault); err != nil {
		if s.b.ExitCode() == 128+int(syscall.SIGKILL) {
			return true // work that was due killed it before it was ready
		}
		s.t.Fatal(err)
	}
	var wg sync.WaitGroup
	broken := make([]bool, crashClients)
	for i := range crashClients {
		wg.Go(func() { broken[i] = s.borrow(token, i%2 == 1) != nil })
	}
	if point == "" {
		timer := time.AfterFunc(after, func() {
			if err := s.b.Signal(syscall.SIGKILL); err != nil {
				s.t.Logf("kill: %v", err)
			}
		})
		defer timer.Stop()
	}
	wg.Wait()
	if slices.Contains(broken, true) { // every point is reached before somebody's answer
		select {
		case <-s.b.Exited():
		case <-time.After(stopWait):
			s.t.Fatalf("clients lost their server at %q, but it is still running", fault)
		}
		return point != ""
	}
	if err := s.b.Kill(); err != nil {
		s.t.Fatal(err)
	}
	return false
}

// borrow takes a login and, if asked to, gives it back. Its error is what a killed server does to its clients.
func (s *stage) borrow(token string, giveBack bool) error {
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	a, err := s.do(ctx, http.MethodGet, "/v1/database/creds/login", token, "")
	if err != nil {
		return err
	}
	var out struct {
		LeaseID string `json:"lease_id"`
	}
	if err := json.Unmarshal([]byte(a.body), &out); err != nil || a.code != http.StatusOK {
		s.t.Errorf("a server that lives: got %d %s, want a login", a.code, a.body)
		return nil
	}
	if !giveBack {
		return nil
	}
	body, err := json.Marshal(map[string]any{"lease_id": out.LeaseID, "sync": true})
	if err != nil {
		s.t.Error(err)
		return nil
	}
	_, err = s.do(ctx, http.MethodPut, "/v1/sys/leases/revoke", token, string(body))
	return err
}

// leases lists every lease that is not ended.
func (s *stage) leases(c *api.Client) ([]api.Lease, error) {
	var all []api.Lease
	q := url.Values{"limit": {"1000"}}
	for {
		page, err := c.Leases(s.t.Context(), q)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Leases...)
		if page.Next == 0 || len(page.Leases) == 0 {
			return all, nil
		}
		q.Set("after", strconv.FormatInt(page.Next, 10))
	}
}

// promisesKept compares leases and roles while due work may be going on: what is true of two looks with the other side
// between them was true all the time.
func (s *stage) promisesKept() error {
	c := s.client()
	first, err := s.leases(c)
	if err != nil {
		return err
	}
	roles := s.roles()
	second, err := s.leases(c)
	if err != nil {
		return err
	}
	again := s.roles()
	var errs []error
	open, active := map[string]bool{}, map[string]bool{}
	for _, l := range second {
		open[l.Principal] = true
		active[l.Principal] = l.State == string(broker.Active)
	}
	for _, name := range roles {
		if !open[name] && slices.Contains(again, name) {
			errs = append(errs, fmt.Errorf("role %s has no open lease", name))
		}
	}
	for _, l := range first {
		if l.State == string(broker.Active) && active[l.Principal] && !slices.Contains(roles, l.Principal) {
			errs = append(errs, fmt.Errorf("active lease %s has no role %s", l.ID, l.Principal))
		}
	}
	return errors.Join(errs...)
}

// settle waits until no work is due any more. Then there are exactly as many roles as active leases.
func (s *stage) settle() {
	s.t.Helper()
	c := s.client()
	eventually(s.t, 3*time.Minute, func() error {
		all, err := s.leases(c)
		if err != nil {
			return err
		}
		var active []string
		for _, l := range all {
			if l.State != string(broker.Active) {
				return fmt.Errorf("lease %s is still %s: %s", l.ID, l.State, l.Error)
			}
			active = append(active, l.Principal)
		}
		slices.Sort(active)
		if roles := s.roles(); !slices.Equal(roles, active) {
			return fmt.Errorf("roles %v, active leases %v", roles, active)
		}
		return nil
	})
}

// revokeAll ends every lease, and then nothing may be left.
func (s *stage) revokeAll() {
	s.t.Helper()
	a, err := s.do(s.t.Context(), http.MethodPut, "/v1/sys/leases/revoke-prefix/database", s.b.Token, `{"sync":false}`)
	if err != nil || a.code >= 300 {
		s.t.Fatalf("revoke-prefix: got %d %s, %v", a.code, a.body, err)
	}
	eventually(s.t, 3*time.Minute, func() error {
		if left := s.roles(); len(left) != 0 {
			return fmt.Errorf("%d roles are left", len(left))
		}
		return nil
	})
}
