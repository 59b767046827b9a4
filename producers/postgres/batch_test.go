package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

// TestLockedTableKeepsNobodyElse: of many roles, one owns a table that somebody holds a lock on.
func TestLockedTableKeepsNobodyElse(t *testing.T) {
	e := newEnv(t, testenv.Postgres(t))
	p := e.producer(e.target())
	var refs []broker.Ref
	for i := range 8 {
		s := spec(plainRole(t))
		c := create(t, p, s)
		refs = append(refs, refOf(s))
		if i != 3 {
			continue
		}
		if err := e.use(t.Context(), c, "CREATE TABLE held (id int)"); err != nil {
			t.Fatal(err)
		}
	}
	conn, err := pgx.Connect(t.Context(), e.server.URL(e.server.AdminUser, e.server.AdminPassword, e.db))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "LOCK TABLE held IN ACCESS SHARE MODE"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	for i, err := range p.RevokeBatch(ctx, refs) {
		if (err != nil) != (i == 3) {
			t.Errorf("ref %d: got %v", i, err)
		}
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.Revoke(t.Context(), refs[3]); err != nil {
		t.Errorf("when the lock is gone: %v", err)
	}
}

// TestManyWithStatementsOfTheirOwn: one whose statements fail does not keep the others.
func TestManyWithStatementsOfTheirOwn(t *testing.T) {
	e := newEnv(t, testenv.Postgres(t))
	p := e.producer(e.target())
	own := role(t, object.Producer{CreationStatements: []string{creation}, RevocationStatements: []string{`DROP OWNED BY "{{name}}"; DROP ROLE "{{name}}"`}})
	wrong := role(t, object.Producer{CreationStatements: []string{creation}, RevocationStatements: []string{`SELECT 1/0 AS "{{name}}"`}})
	var refs []broker.Ref
	for _, r := range []broker.Role{own, plainRole(t), wrong, own, plainRole(t)} {
		s := spec(r)
		create(t, p, s)
		refs = append(refs, refOf(s))
	}
	for i, err := range p.RevokeBatch(t.Context(), refs) {
		if i == 2 {
			wantCause(t, err, broker.Unknown)
		} else if err != nil {
			t.Errorf("ref %d: %v", i, err)
		}
		if there, _ := e.exists(t.Context(), refs[i].Principal); there != (i == 2) {
			t.Errorf("ref %d: still there: %v", i, there)
		}
	}
}
