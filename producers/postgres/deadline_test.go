package postgres

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

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
		sentence   string
		left       time.Duration
		statements []string
		ok         bool
	}{
		{"in time", 10 * time.Second, []string{"SELECT 1"}, true},
		{"past it nothing begins", -time.Second, []string{"SELECT pg_sleep(20)"}, false},
		{"a statement is ended", 200 * time.Millisecond, []string{"SELECT pg_sleep(20)"}, false},
		{"each takes less and all take more", 300 * time.Millisecond, []string{"SELECT pg_sleep(0.2)", "SELECT pg_sleep(0.2)"}, false},
	} {
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		deadline := began.Add(x.left)
		list := append([]step{beforeDeadline(ctx, deadline)}, stepsOf("", x.statements, strings.NewReplacer())...)
		err := p.inOneTrip(ctx, append(list, beforeDeadline(ctx, deadline)))
		cancel()
		if (err == nil) != x.ok {
			t.Errorf("%s: got %v", x.sentence, err)
		}
		if d := time.Since(began); d > 5*time.Second {
			t.Errorf("%s: it took %v", x.sentence, d)
		}
	}
}

// TestTripSaysWhichStatementFailed, and the connection is good for the next one.
func TestTripSaysWhichStatementFailed(t *testing.T) {
	server := testenv.Postgres(t)
	p, err := New(Config{Target: object.Target{
		Name: "pg", Type: "postgres", Address: "postgres://" + server.Addr + "/postgres?sslmode=disable",
		Username: server.AdminUser, Password: secret.New(server.AdminPassword), MaxConnections: 1,
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	pid := func(out *int) {
		pool, err := p.connections()
		if err != nil {
			t.Fatal(err)
		}
		if err := pool.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(out); err != nil {
			t.Fatal(err)
		}
	}
	var before, after int
	pid(&before)
	for wrong, statement := range map[string]string{
		"division, found while it runs": "SELECT 1/(x-1) FROM generate_series(1, 3) x",
		"a name, found before":          "SELECT 1 FROM nosuchtable",
		"syntax, found first of all":    "SELEKT",
	} {
		for at := range 3 {
			list := []string{"SELECT 'ä' -- a comment", "CREATE TEMP TABLE IF NOT EXISTS x ()", "SELECT generate_series(1, 9)"}
			list[at] = statement
			err := p.inOneTrip(ctx, stepsOf("creation", list, strings.NewReplacer()))
			want := fmt.Sprintf("creation statement %d:", at+1)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s, at %d: got %v, want %s", wrong, at+1, err, want)
			}
		}
	}
	if pid(&after); after != before {
		t.Error("the connection was given up")
	}
	if err := p.inOneTrip(ctx, stepsOf("", []string{"SELECT 1"}, strings.NewReplacer())); err != nil {
		t.Errorf("after the failures: %v", err)
	}
}
