package postgres_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/internal/testenv"
	"github.com/bailiff-secrets/bailiff/producers/postgres"
)

func plainRole(t *testing.T) broker.Role {
	return role(t, object.Producer{CreationStatements: []string{creation}})
}

func create(t *testing.T, p *postgres.Producer, s broker.Spec) *broker.Credential {
	t.Helper()
	c, err := p.Create(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func wantCause(t *testing.T, err error, want broker.Cause) {
	t.Helper()
	var e *broker.RevokeError
	if !errors.As(err, &e) || e.Cause != want {
		t.Errorf("got %v, want cause %q", err, want)
	}
}

// TestWhatTheRoleOwnsIsKept: its tables go to the admin user, with what is in them.
func TestWhatTheRoleOwnsIsKept(t *testing.T) {
	e := newEnv(t, testenv.Postgres(t))
	p, s := e.producer(e.target()), spec(plainRole(t))
	c := create(t, p, s)
	if err := e.use(t.Context(), c, "CREATE TABLE mine (id int); INSERT INTO mine VALUES (1); GRANT SELECT ON mine TO public"); err != nil {
		t.Fatal(err)
	}
	if err := p.Revoke(t.Context(), refOf(s)); err != nil {
		t.Fatal(err)
	}
	if got := e.value("SELECT tableowner || ' ' || (SELECT count(*) FROM mine) FROM pg_tables WHERE tablename = 'mine'"); got != e.server.AdminUser+" 1" {
		t.Errorf("got %q, want the table with its row to be %s's", got, e.server.AdminUser)
	}
}

// TestObjectsInAnotherDatabase: they stop the removal; the login is gone all the same.
func TestObjectsInAnotherDatabase(t *testing.T) {
	server := testenv.Postgres(t)
	e, other := newEnv(t, server), newEnv(t, server)
	p, s := e.producer(e.target()), spec(plainRole(t))
	c := create(t, p, s)
	user, password := c.Fields["username"].Reveal(), c.Fields["password"].Reveal()
	if err := other.run(t.Context(), user, password, other.db, "CREATE TABLE far (id int)"); err != nil {
		t.Fatal(err)
	}
	wantCause(t, p.Revoke(t.Context(), refOf(s)), broker.OwnsObjects)
	if err := e.use(t.Context(), c, "SELECT 1"); err == nil {
		t.Error("the credential still works")
	}
	other.admin("DROP TABLE far")
	if err := p.Revoke(t.Context(), refOf(s)); err != nil {
		t.Errorf("revoking again when the objects are gone: %v", err)
	}
}

func TestSessionInAnotherDatabaseEnds(t *testing.T) {
	server := testenv.Postgres(t)
	e, other := newEnv(t, server), newEnv(t, server)
	p, s := e.producer(e.target()), spec(plainRole(t))
	alive, err := other.hold(t.Context(), create(t, p, s))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Revoke(t.Context(), refOf(s)); err != nil {
		t.Fatal(err)
	}
	if alive(t.Context()) == nil {
		t.Error("a session in another database still works")
	}
}

func TestRoleDroppedByHandIsRevoked(t *testing.T) {
	e := newEnv(t, testenv.Postgres(t))
	p, s := e.producer(e.target()), spec(plainRole(t))
	create(t, p, s)
	e.admin(`DROP OWNED BY "` + s.Principal + `"; DROP ROLE "` + s.Principal + `"`)
	if err := p.Revoke(t.Context(), refOf(s)); err != nil {
		t.Error(err)
	}
	if err := p.Renew(t.Context(), refOf(s), time.Now().Add(time.Hour)); err == nil {
		t.Error("renewing a role that is not there: got no error")
	}
}

// TestRenewalsAtATimeLeaveTheLatestEnd, in whatever order they reach the server and with whatever statements.
func TestRenewalsAtATimeLeaveTheLatestEnd(t *testing.T) {
	e := newEnv(t, testenv.Postgres(t))
	p := e.producer(e.target())
	latest := time.Date(2099, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, own := range [][]string{nil, {"SELECT pg_sleep(random() * 0.05)", `ALTER ROLE "{{name}}" VALID UNTIL '{{expiration}}'`}} {
		s := spec(role(t, object.Producer{CreationStatements: []string{creation}, RenewStatements: own}))
		create(t, p, s)
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				if err := p.Renew(t.Context(), refOf(s), latest.Add(-time.Duration(i)*time.Hour)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got := e.value("SELECT (rolvaliduntil AT TIME ZONE 'UTC')::text FROM pg_roles WHERE rolname = $1", s.Principal); got != "2099-01-02 03:04:05" {
			t.Errorf("with the statements %q: got %s, want the latest", own, got)
		}
	}
}

func TestRevocationStatementsThatFailAreNoSuccess(t *testing.T) {
	e := newEnv(t, testenv.Postgres(t))
	p := e.producer(e.target())
	for _, statement := range []string{
		`REVOKE USAGE ON TYPE nosuchtype FROM "{{name}}"`, // "not there", but it isn't the role
		`SELECT 1/0 AS "{{name}}"`,
	} {
		s := spec(role(t, object.Producer{CreationStatements: []string{creation}, RevocationStatements: []string{statement}}))
		create(t, p, s)
		wantCause(t, p.Revoke(t.Context(), refOf(s)), broker.Unknown)
	}
}

// TestStatementsOfOnesOwnMayKeepTheRole as long as it can't log in.
func TestStatementsOfOnesOwnMayKeepTheRole(t *testing.T) {
	e := newEnv(t, testenv.Postgres(t))
	p := e.producer(e.target())
	for statement, ok := range map[string]bool{
		`COMMENT ON ROLE "{{name}}" IS 'kept'`: true,
		`ALTER ROLE "{{name}}" WITH LOGIN`:     false,
	} {
		s := spec(role(t, object.Producer{CreationStatements: []string{creation}, RevocationStatements: []string{statement}}))
		c := create(t, p, s)
		if err := p.Revoke(t.Context(), refOf(s)); (err == nil) != ok {
			t.Errorf("%s: got %v", statement, err)
		}
		if ok && e.use(t.Context(), c, "SELECT 1") == nil {
			t.Errorf("%s: the credential still works", statement)
		}
	}
}

// TestDeadlineOfTheServer: whatever the statements do, nothing is committed past the deadline, by the server's clock.
func TestDeadlineOfTheServer(t *testing.T) {
	e := newEnv(t, testenv.Postgres(t))
	p := e.producer(e.target())
	s := spec(role(t, object.Producer{CreationStatements: []string{creation, "SELECT pg_sleep(30)"}}))
	s.Deadline = time.Now().Add(300 * time.Millisecond)
	began := time.Now()
	_, err := p.Create(t.Context(), s)
	wantCause(t, err, broker.Unreachable)
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("it took %v", d)
	}
	if there, _ := e.exists(t.Context(), s.Principal); there {
		t.Error("a role was made past the deadline")
	}
	stillRunning := func() bool {
		return e.value("SELECT count(*)::text FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND datname = $1 AND state = 'active'", e.db) != "0"
	}
	for ctx := t.Context(); stillRunning(); {
		if time.Since(began) > 5*time.Second || ctx.Err() != nil {
			t.Fatal("the server still runs the statement")
		}
	}
}

func TestPasswordNeverReachesTheServer(t *testing.T) {
	e := newEnv(t, testenv.Postgres(t))
	p := e.producer(e.target())
	for name, x := range map[string]struct {
		o      object.Producer
		rounds string
	}{
		"the default is 4096 rounds": {object.Producer{}, "SCRAM-SHA-256$4096:"},
		"as many as the role says":   {object.Producer{ScramIterations: 5}, "SCRAM-SHA-256$5:"},
	} {
		t.Run(name, func(t *testing.T) {
			x.o.CreationStatements = []string{`CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}'; COMMENT ON TABLE orders IS 'got {{password}} for {{name}}'`}
			s := spec(role(t, x.o))
			c := create(t, p, s)
			got := e.value("SELECT obj_description('orders'::regclass)")
			if !strings.HasPrefix(got, "got "+x.rounds) || strings.Contains(got, c.Fields["password"].Reveal()) {
				t.Errorf("the server got %q, want a verifier with %s", got, x.rounds)
			}
			if err := e.use(t.Context(), c, "SELECT 1"); err != nil {
				t.Errorf("logging in: %v", err)
			}
		})
	}
}

func TestCommentNamesTheLease(t *testing.T) {
	e := newEnv(t, testenv.Postgres(t))
	p, s := e.producer(e.target()), spec(plainRole(t))
	s.LeaseID = `database/creds/it's/"x"`
	create(t, p, s)
	if got := e.value("SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = $1", s.Principal); got != "bailiff lease "+s.LeaseID {
		t.Errorf("got comment %q", got)
	}
}

func TestStatementsThatDoNotCreateTheRole(t *testing.T) {
	e := newEnv(t, testenv.Postgres(t))
	p := e.producer(e.target())
	s := spec(role(t, object.Producer{CreationStatements: []string{`SELECT '{{name}}', '{{password}}'`}}))
	_, err := p.Create(t.Context(), s)
	if err == nil || !strings.Contains(err.Error(), "did not create the role") {
		t.Errorf("got %v", err)
	}
}

// TestOtherRoleOfTheName: a role that an earlier Create of another lease made is not touched.
func TestOtherRoleOfTheName(t *testing.T) {
	e := newEnv(t, testenv.Postgres(t))
	p, s := e.producer(e.target()), spec(plainRole(t))
	c := create(t, p, s)
	other := s
	other.LeaseID += "-other"
	if _, err := p.Create(t.Context(), other); err == nil {
		t.Error("got no error")
	}
	if err := e.use(t.Context(), c, "SELECT id FROM orders"); err != nil {
		t.Errorf("the first credential: %v", err)
	}
}

func TestServerThatGoesAndComesBack(t *testing.T) {
	e := newEnv(t, testenv.NewPostgres(t))
	p, s := e.producer(e.target()), spec(plainRole(t))
	c := create(t, p, s)
	if err := e.server.Stop(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	wantCause(t, p.Revoke(t.Context(), refOf(s)), broker.Unreachable)
	_, err := p.Create(t.Context(), spec(plainRole(t)))
	wantCause(t, err, broker.Unreachable)
	if d := time.Since(began); d > 3*time.Second {
		t.Errorf("it took %v to say so", d)
	}
	if err := e.server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.Revoke(t.Context(), refOf(s)); err != nil {
		t.Errorf("revoking when the server is back: %v", err)
	}
	if e.use(t.Context(), c, "SELECT 1") == nil {
		t.Error("the credential still works")
	}
}

func TestUserWithoutPrivileges(t *testing.T) {
	e := newEnv(t, testenv.Postgres(t))
	e.admin(`CREATE ROLE "weak` + e.db + `" LOGIN PASSWORD 'adminpw'`)
	target := e.target()
	target.Username, target.Password = "weak"+e.db, secret.New("adminpw")
	weak, strong, s := e.producer(target), e.producer(e.target()), spec(plainRole(t))
	_, err := weak.Create(t.Context(), s)
	wantCause(t, err, broker.ForbiddenBy)
	create(t, strong, s)
	wantCause(t, weak.Revoke(t.Context(), refOf(s)), broker.ForbiddenBy)
}

func TestClosedProducer(t *testing.T) {
	e := newEnv(t, testenv.Postgres(t))
	p := e.producer(e.target())
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	wantCause(t, p.Revoke(t.Context(), refOf(spec(plainRole(t)))), broker.Unreachable)
}

// TestConnectionsSayWhoTheyAre and are not more than allowed.
func TestConnectionsSayWhoTheyAre(t *testing.T) {
	e := newEnv(t, testenv.Postgres(t))
	target := e.target()
	target.MaxConnections = 2
	p := e.producer(target)
	results := make(chan error)
	const n = 8
	for range n {
		go func() {
			s := spec(plainRole(t))
			_, err := p.Create(context.WithoutCancel(t.Context()), s)
			results <- errors.Join(err, p.Revoke(context.WithoutCancel(t.Context()), refOf(s)))
		}()
	}
	for range n {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	conn, err := pgx.Connect(t.Context(), e.server.URL(e.server.AdminUser, e.server.AdminPassword, e.db))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var named, all int
	err = conn.QueryRow(t.Context(), `SELECT count(*) FILTER (WHERE application_name = 'bailiff'), count(*)
		FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()`, e.db).Scan(&named, &all)
	if err != nil {
		t.Fatal(err)
	}
	if named < 1 || named > 2 || named != all {
		t.Errorf("got %d connections of bailiff among %d, want 1 or 2, and no other", named, all)
	}
}
