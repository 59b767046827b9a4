package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/secret"
)

// sql runs SQL as the superuser and returns one text, where there is one.
func (f *family) sql(sql string) string {
	f.t.Helper()
	conn, err := pgx.Connect(f.t.Context(), f.pg.URL(f.pg.AdminUser, f.pg.AdminPassword, "postgres"))
	if err != nil {
		f.t.Fatal(err)
	}
	defer conn.Close(f.t.Context())
	rows, err := conn.Query(f.t.Context(), sql, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		f.t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		f.t.Fatalf("%s: %v", sql, err)
	}
	return strings.Join(list, " ")
}

func (f *family) lease(id string) *broker.Lease {
	f.t.Helper()
	l, err := f.db.Lease(f.t.Context(), id)
	if err != nil {
		f.t.Fatal(err)
	}
	return l
}

// of are the roles of a producer that are on the server.
func (f *family) of(producer string) string {
	return f.sql("SELECT count(*)::text FROM pg_roles WHERE rolname LIKE 'bl-" + producer + "-%'")
}

// limited makes a user that may make roles, and a target of it.
func (f *family) limited(privileges string) *object.Target {
	f.t.Helper()
	name := "limited" + strings.ToLower(rand.Text())[:8]
	f.sql(fmt.Sprintf("CREATE ROLE %s LOGIN CREATEROLE PASSWORD 'limited-password'; %s", name, strings.ReplaceAll(privileges, "{{user}}", name)))
	_, rest, _ := strings.Cut(f.pg.URL("", "", "postgres"), "@")
	return &object.Target{Name: name, Type: "postgres", Address: "postgres://" + rest, Username: name, Password: secret.New("limited-password")}
}

// unpermitted is a role whose revocation its target's user may not do.
func unpermitted(name, target string) *object.Producer {
	p := role(name)
	p.Target = target
	p.RevocationStatements = []string{`SELECT pg_read_file('postgresql.conf') || '{{name}}'`}
	return p
}

func TestAnApplyTriesWhatItMakes(t *testing.T) {
	f := newFamily(t, "revoke", 0)
	target := f.limited("")
	wrong := role("wrong")
	wrong.CreationStatements = append(wrong.CreationStatements, "GRANT SELECT ON nosuchtable TO \"{{name}}\"")
	noLogin := role("nologin")
	noLogin.CreationStatements = []string{`CREATE ROLE "{{name}}" PASSWORD '{{password}}'`}
	dead := &object.Target{Name: "dead", Type: "postgres", Address: "postgres://127.0.0.1:1/x?sslmode=disable", Username: "x", Password: secret.New("x")}
	for sentence, x := range map[string]struct {
		list []any
		kind gate.Kind
		want []string
	}{
		"creation statements that fail":      {[]any{wrong}, gate.Invalid, []string{"creation statement 2", "SQLSTATE 42P01"}},
		"a credential that can't log in":     {[]any{noLogin}, gate.Invalid, []string{"logging in with the credential", "SQLSTATE 28000"}},
		"a revocation that is not permitted": {[]any{target, unpermitted("unperm", target.Name)}, gate.Invalid, []string{"revoking", "revocation statement 1", "SQLSTATE 42501", "needs"}},
		"a target that nobody listens for":   {[]any{dead, func() any { p := role("far"); p.Target = "dead"; return p }()}, gate.TargetDown, []string{"connection refused"}},
		"two that fail are both told":        {[]any{wrong, noLogin}, gate.Invalid, []string{"database/wrong", "database/nologin"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			before := f.estate.live.Load()
			_, err := f.estate.Apply(t.Context(), "test", encode(t, x.list...), false, nil)
			e, ok := errors.AsType[*gate.Error](err)
			if !ok || e.Kind != x.kind || e.Hint == "" {
				t.Fatalf("got %v, want an error of kind %d with a hint", err, x.kind)
			}
			for _, w := range x.want {
				if !strings.Contains(e.Msg, w) {
					t.Errorf("got %q, want it to say %q", e.Msg, w)
				}
			}
			if f.estate.live.Load() != before {
				t.Error("it counts all the same")
			}
		})
	}
	for _, name := range []string{"wrong", "nologin", "unperm", "far"} {
		if n := f.of(name); n != "0" {
			t.Errorf("%s roles of %s are left", n, name)
		}
	}
	open, err := f.leases.List(t.Context(), broker.Filter{Identity: "bailiff"})
	if err != nil || len(open) > 0 {
		t.Errorf("%d leases are open (%v), want none", len(open), err)
	}
	if _, err := f.estate.Plan(t.Context(), encode(t, wrong), false); err != nil {
		t.Errorf("a plan tries nothing, got %v", err)
	}
	if _, err := f.estate.ApplyUntried(t.Context(), "test", encode(t, wrong, dead), false, nil); err != nil {
		t.Errorf("without trying: %v", err)
	}
}

// TestRoleDroppedByHand: with one lease, whose revocation ends at once, and another, which is unaffected.
func TestRoleDroppedByHand(t *testing.T) {
	f := newFamily(t, "revoke", 0)
	gone, stays := f.issue("app"), f.issue("app")
	f.sql(`DROP ROLE "` + gone.Principal + `"`)
	r, err := f.leases.Reconcile(t.Context(), "pg", broker.ReconcileReport)
	if err != nil || len(r.Missing) != 1 || r.Missing[0].LeaseID != gone.Lease.ID {
		t.Errorf("got %+v, %v, want one missing", r, err)
	}
	began := time.Now()
	if err := f.leases.Revoke(t.Context(), gone.Lease.ID, true); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("it took %v", d)
	}
	if l := f.lease(gone.Lease.ID); l.State != broker.Revoked || l.Attempt != 0 {
		t.Errorf("got %s after %d failures, want it revoked at once", l.State, l.Attempt)
	}
	if l := f.lease(stays.Lease.ID); l.State != broker.Active {
		t.Errorf("the other is %s", l.State)
	}
}

// TestRevocationThatIsNotPermitted is refused by the preflight; where that is skipped, one reconcile shows what is stuck, and
// what is left behind when the lease is given up.
func TestRevocationThatIsNotPermitted(t *testing.T) {
	f := newFamily(t, "revoke", 0)
	target := f.limited("")
	p := unpermitted("unperm", target.Name)
	if _, err := f.estate.Apply(t.Context(), "test", encode(t, target, p), false, nil); err == nil || !strings.Contains(err.Error(), "42501") {
		t.Fatalf("got %v, want it refused with the server's code", err)
	}
	if _, err := f.estate.ApplyUntried(t.Context(), "test", encode(t, target, p), false, nil); err != nil {
		t.Fatal(err)
	}
	resp := f.issue("unperm")
	if err := f.leases.Revoke(t.Context(), resp.Lease.ID, true); err == nil {
		t.Fatal("the revocation worked")
	}
	r, err := f.leases.Reconcile(t.Context(), target.Name, broker.ReconcileReport)
	if err != nil || r.Stuck != 1 {
		t.Errorf("got %+v, %v, want one stuck", r, err)
	}
	if err := f.leases.Force(t.Context(), resp.Lease.ID, "test", "it is given up"); err != nil {
		t.Fatal(err)
	}
	r, err = f.leases.Reconcile(t.Context(), target.Name, broker.ReconcileReport)
	if err != nil || len(r.Orphans) != 1 || r.Orphans[0].Principal != resp.Principal || r.Stuck != 0 {
		t.Errorf("got %+v, %v, want one orphan", r, err)
	}
	if n := f.of("unperm"); n != "1" {
		t.Errorf("got %s roles, want that a report removes none", n)
	}
}

// TestForeignAccountsStay: only what has the right check is removed.
func TestForeignAccountsStay(t *testing.T) {
	f := newFamily(t, "revoke", 0)
	resp := f.issue("app")
	orphan := resp.Principal
	if err := f.leases.Revoke(t.Context(), resp.Lease.ID, true); err != nil {
		t.Fatal(err)
	}
	last := "a"
	if strings.HasSuffix(orphan, last) {
		last = "b"
	}
	foreign := orphan[:len(orphan)-1] + last
	f.sql(fmt.Sprintf(`CREATE ROLE %q LOGIN; CREATE ROLE %q LOGIN`, orphan, foreign))
	t.Cleanup(func() { f.drop(foreign) })
	r, err := f.leases.Reconcile(context.Background(), "pg", broker.ReconcileRemove)
	if err != nil {
		t.Fatal(err)
	}
	if got := f.sql(fmt.Sprintf("SELECT rolname FROM pg_roles WHERE rolname IN ('%s', '%s')", orphan, foreign)); got != foreign {
		t.Errorf("got %q, want %s alone", got, foreign)
	}
	if !strings.Contains(strings.Join(r.Foreign, " "), foreign) {
		t.Errorf("got foreign %q, want %s among them", r.Foreign, foreign)
	}
}

// drop removes a role after a test.
func (f *family) drop(name string) {
	conn, err := pgx.Connect(context.Background(), f.pg.URL(f.pg.AdminUser, f.pg.AdminPassword, "postgres"))
	if err != nil {
		f.t.Error(err)
		return
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(context.Background(), fmt.Sprintf("DROP ROLE %q", name)); err != nil {
		f.t.Error(err)
	}
}
