package postgres_test

import (
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

// TestParkedRoleCantBeUsedUntilItIsHandedOut: no login and no password; then one statement makes it what Create makes.
func TestParkedRoleCantBeUsedUntilItIsHandedOut(t *testing.T) {
	for name, auth := range map[string]string{"scram": "scram-sha-256", "plain": "password"} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t, testenv.Postgres(t))
			var p broker.Pooler = e.producer(e.target())
			s := spec(role(t, object.Producer{CreationStatements: []string{creation}, PasswordAuth: auth}))
			if err := p.Park(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			about := func() string {
				return e.value("SELECT rolcanlogin::text || ' ' || coalesce(left(rolpassword, 5), 'none') FROM pg_authid WHERE rolname = '" + s.Principal + "'")
			}
			if got := about(); got != "false none" {
				t.Errorf("parked: got %q, want no login and no password", got)
			}
			s.ExpiresAt = s.ExpiresAt.Add(time.Hour)
			c, err := p.Hand(t.Context(), s)
			if err != nil {
				t.Fatal(err)
			}
			if got := about(); got != "true SCRAM" {
				t.Errorf("handed out: got %q, want a login with a hashed password", got)
			}
			if err := e.use(t.Context(), c, "SELECT 1"); err != nil {
				t.Errorf("the credential does not work: %v", err)
			}
			until := e.value("SELECT (abs(extract(epoch FROM rolvaliduntil - '" + s.ExpiresAt.UTC().Format(time.RFC3339) + "')) <= 1)::text FROM pg_roles WHERE rolname = '" + s.Principal + "'")
			if until != "true" {
				t.Errorf("it is not valid until %v", s.ExpiresAt)
			}
			if err := e.producer(e.target()).Revoke(t.Context(), refOf(s)); err != nil {
				t.Fatal(err)
			}
			if err := e.use(t.Context(), c, "SELECT 1"); err == nil {
				t.Error("the credential works after it was revoked")
			}
			if _, err := p.Hand(t.Context(), s); err == nil {
				t.Error("a role that is gone was handed out")
			}
		})
	}
}

// TestParkedRoleIsRevoked: one that was never handed out ends as any other.
func TestParkedRoleIsRevoked(t *testing.T) {
	e := newEnv(t, testenv.Postgres(t))
	p, s := e.producer(e.target()), spec(plainRole(t))
	if err := p.Park(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if err := p.Revoke(t.Context(), refOf(s)); err != nil {
		t.Fatal(err)
	}
	if n := e.value("SELECT count(*)::text FROM pg_roles WHERE rolname = '" + s.Principal + "'"); n != "0" {
		t.Errorf("%s are left", n)
	}
	late := spec(plainRole(t))
	late.Deadline = time.Now().Add(-time.Second)
	if err := p.Park(t.Context(), late); err == nil {
		t.Error("it was parked past the deadline")
	}
}
