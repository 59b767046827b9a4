package postgres

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

// TestServerKeepsTheDeadlineByItself, also where nobody on our side does: the process may hang or be cut off.
func TestServerKeepsTheDeadlineByItself(t *testing.T) {
	server := testenv.Postgres(t)
	p, err := New(Config{Target: object.Target{
		Name: "pg", Type: "postgres", Address: "postgres://" + server.Addr + "/postgres?sslmode=disable",
		Username: server.AdminUser, Password: secret.New(server.AdminPassword),
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, x := range []struct {
		sentence string
		left     time.Duration
		after    func(ctx context.Context, tx pgx.Tx) error // the deadline was asked for
		ok       bool
	}{
		{"in time", 10 * time.Second, func(context.Context, pgx.Tx) error { return nil }, true},
		{"past it nothing begins", -time.Second, func(context.Context, pgx.Tx) error { return nil }, false},
		{"a statement is ended", 200 * time.Millisecond, func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "SELECT pg_sleep(20)")
			return err
		}, false},
		{"a late commit is refused", 100 * time.Millisecond, func(ctx context.Context, _ pgx.Tx) error {
			return wait(ctx, 500*time.Millisecond)
		}, false},
	} {
		began := time.Now()
		err := p.inTx(t.Context(), false, func(tx pgx.Tx) error {
			return errors.Join(beforeDeadline(t.Context(), tx, time.Now().Add(x.left)), x.after(t.Context(), tx))
		})
		if (err == nil) != x.ok {
			t.Errorf("%s: got %v", x.sentence, err)
		}
		if d := time.Since(began); d > 5*time.Second {
			t.Errorf("%s: it took %v", x.sentence, d)
		}
	}
}
