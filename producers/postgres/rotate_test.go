package postgres_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/internal/testenv"
	"github.com/bailiff-secrets/bailiff/producers/postgres"
)

// causes of an error as a word; "" for none.
func causeWord(err error) broker.Cause {
	var e *broker.RevokeError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return e.Cause
	}
	return "unclassed: " + broker.Cause(err.Error())
}

func account(prefix string) string { return prefix + strings.ToLower(rand.Text())[:10] }

func TestAPasswordIsSetAndTried(t *testing.T) {
	e := newEnv(t, testenv.Postgres(t))
	p, dead := e.producer(e.target()), e.target()
	dead.Address = "postgres://" + closedPort(t) + "/x?sslmode=disable"
	name, locked, elsewhere := account("app-\"quoted'"), account("locked"), account("away")
	for _, sql := range []string{
		fmt.Sprintf(`CREATE ROLE "%s" LOGIN`, strings.ReplaceAll(name, `"`, `""`)), "CREATE ROLE " + locked + " NOLOGIN",
		"CREATE ROLE " + elsewhere + " LOGIN; REVOKE CONNECT ON DATABASE " + e.db + " FROM public",
	} {
		e.admin(sql)
	}
	first, second := secret.New("First123First123First123"), secret.New("Second12Second12Second12")
	set := func(name string, v secret.Value) error { return p.SetPassword(t.Context(), name, v) }
	try := func(name string, v secret.Value) error { return p.TryPassword(t.Context(), name, v) }
	for _, x := range []struct {
		sentence string
		do       func() error
		want     broker.Cause
	}{
		{"a password that was never set is refused", func() error { return try(name, first) }, broker.ForbiddenBy},
		{"it is set", func() error { return set(name, first) }, ""},
		{"it works", func() error { return try(name, first) }, ""},
		{"setting it again is as good", func() error { return set(name, first) }, ""},
		{"another is refused", func() error { return try(name, second) }, broker.ForbiddenBy},
		{"another is set", func() error { return set(name, second) }, ""},
		{"the first is refused then", func() error { return try(name, first) }, broker.ForbiddenBy},
		{"an account that is not there has none to set", func() error { return set("nobody-here", first) }, broker.Gone},
		{"an account of a lease keeps its own", func() error { return set(newName(), first) }, broker.Unknown},
		{"one that may not log in gets its password", func() error { return set(locked, first) }, ""},
		{"and can't be tried", func() error { return try(locked, first) }, broker.Unknown},
		{"one that may not use the database gets its password", func() error { return set(elsewhere, first) }, ""},
		{"and the right one is known", func() error { return try(elsewhere, first) }, ""},
		{"from the wrong one", func() error { return try(elsewhere, second) }, broker.ForbiddenBy},
		{"a target that is down is unreachable", func() error { return e.producer(dead).SetPassword(t.Context(), name, first) }, broker.Unreachable},
		{"also for a try", func() error { return e.producer(dead).TryPassword(t.Context(), name, first) }, broker.Unreachable},
	} {
		err := x.do()
		if got := causeWord(err); got != x.want {
			t.Errorf("%s: got %q (%v), want %q", x.sentence, got, err, x.want)
		}
		if err != nil && (strings.Contains(err.Error(), first.Reveal()) || strings.Contains(err.Error(), "SCRAM-SHA-256$")) {
			t.Errorf("%s: the error holds a password: %v", x.sentence, err)
		}
	}
	if got := e.value("SELECT rolpassword FROM pg_authid WHERE rolname = $1", name); !strings.HasPrefix(got, "SCRAM-SHA-256$4096:") {
		t.Errorf("the server keeps %.20q…, want a verifier of 4096 rounds", got)
	}
}

func TestStatementsOfOnesOwnSetAPassword(t *testing.T) {
	e := newEnv(t, testenv.Postgres(t))
	p, name := e.producer(e.target()), account("app")
	e.admin("CREATE ROLE " + name + " LOGIN")
	password := secret.New("First123First123First123")
	for _, x := range []struct {
		name       string
		statements []string
		want       broker.Cause
	}{
		{name, []string{`ALTER USER "{{name}}" PASSWORD '{{password}}'; COMMENT ON ROLE "{{username}}" IS 'set'`}, ""},
		{name, []string{`ALTER USER "{{name}}" PASSWORD '{{password}}'`, `SELECT 1 FROM nosuchtable`}, broker.Unknown},
		{name, []string{`ALTER USER "{{name}}" PASSWORD '{{password}}`}, broker.Unknown},
		{`x"; DROP ROLE y; --`, []string{`ALTER USER "{{name}}" PASSWORD '{{password}}'`}, broker.Unknown},
	} {
		if err := p.SetPasswordWith(t.Context(), x.name, password, x.statements); causeWord(err) != x.want {
			t.Errorf("%q: got %v, want %q", x.statements, err, x.want)
		}
	}
	if err := p.TryPassword(t.Context(), name, password); err != nil {
		t.Error(err)
	}
}

// Every round begins without a connection, so that logins and the change come at the same time.
func TestTheOwnPasswordChangesWhileOthersLogIn(t *testing.T) {
	e := newEnv(t, testenv.Postgres(t))
	boss, password := account("boss"), secret.New("first")
	e.admin("CREATE ROLE " + boss + " LOGIN SUPERUSER PASSWORD 'first'")
	r := role(t, object.Producer{CreationStatements: []string{creation}, ScramIterations: 1})
	for i := range 8 {
		target := e.target()
		target.Username, target.Password = boss, password
		p := e.producer(target)
		password = secret.New(fmt.Sprintf("Own%dOwn%dOwn%dOwn%dOwn%dOwn%d", i, i, i, i, i, i))
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				s := spec(r)
				if _, err := p.Create(context.Background(), s); err != nil {
					t.Errorf("Create: %v", err)
				} else if err := p.Revoke(context.Background(), refOf(s)); err != nil {
					t.Errorf("Revoke: %v", err)
				}
			})
		}
		if err := p.SetPassword(t.Context(), boss, password); err != nil {
			t.Error(err)
		}
		if err := p.TryPassword(t.Context(), boss, password); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if err := p.Health(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestTheOwnPasswordIsNotChangedUnderALoginThatBegan(t *testing.T) {
	e := newEnv(t, testenv.Postgres(t))
	boss := account("boss")
	e.admin("CREATE ROLE " + boss + " LOGIN SUPERUSER PASSWORD 'first'")
	door := newDoor(t, e.server.Addr)
	target := e.target()
	target.Username, target.Password, target.Address = boss, secret.New("first"), "postgres://"+door.addr+"/"+e.db+"?sslmode=disable"
	p := e.producer(target)
	if err := p.Health(t.Context()); err != nil { // one connection, through which the change goes
		t.Fatal(err)
	}
	held := p.Hold(t) // it is in use: what comes now has to log in
	door.shut()
	r := role(t, object.Producer{CreationStatements: []string{creation}, ScramIterations: 1})
	logins := make(chan error, 1)
	go func() {
		_, err := p.Create(context.Background(), spec(r))
		logins <- err
	}()
	door.waits()
	held()
	changed := make(chan error, 1)
	go func() { changed <- p.SetPassword(context.Background(), boss, secret.New("Second12Second12Second12")) }()
	select {
	case err := <-changed:
		t.Errorf("the password was changed while a login was under way: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	door.open()
	for what, c := range map[string]chan error{"the login": logins, "the change": changed} {
		select {
		case err := <-c:
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
		case <-time.After(20 * time.Second):
			t.Errorf("%s did not end", what)
		}
	}
	for range 4 { // more than there are connections, so that there is a login with the new password
		defer p.Hold(t)()
	}
}

// door stands before a server and lets connections in, or has them wait.
type door struct {
	addr    string
	waiting chan struct{}

	mu       sync.Mutex
	shutTill chan struct{} // not nil while it is shut
}

func newDoor(t *testing.T, server string) *door {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &door{addr: l.Addr().String(), waiting: make(chan struct{}, 16)}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { d.let(client, server) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		d.open()
		wg.Wait()
	})
	return d
}

// let joins a client with the server.
func (d *door) let(client net.Conn, server string) {
	defer client.Close()
	d.mu.Lock()
	till := d.shutTill
	d.mu.Unlock()
	if till != nil {
		d.waiting <- struct{}{}
		<-till
	}
	conn, err := net.Dial("tcp", server)
	if err != nil {
		return
	}
	defer conn.Close()
	go func() {
		_, _ = io.Copy(conn, client)
		conn.Close()
	}()
	_, _ = io.Copy(client, conn)
}

func (d *door) shut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shutTill = make(chan struct{})
}

func (d *door) open() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shutTill != nil {
		close(d.shutTill)
		d.shutTill = nil
	}
}

// waits returns when somebody stands before the door.
func (d *door) waits() { <-d.waiting }

func TestAChangeOfTheOwnPasswordThatIsCutOffKeepsTheOldOne(t *testing.T) {
	e := newEnv(t, testenv.Postgres(t))
	boss := account("boss")
	e.admin("CREATE ROLE " + boss + " LOGIN SUPERUSER PASSWORD 'first'")
	target := e.target()
	target.Username, target.Password = boss, secret.New("first")
	p := e.producer(target)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err := p.SetPasswordWith(ctx, boss, secret.New("Second12Second12Second12"), []string{
		`ALTER ROLE "{{name}}" PASSWORD '{{password}}'`, `SELECT pg_sleep(30)`,
	})
	if causeWord(err) != broker.Unreachable {
		t.Errorf("got %v, want unreachable", err)
	}
	if err := p.Health(t.Context()); err != nil {
		t.Errorf("the producer can't go on: %v", err)
	}
	if err := p.TryPassword(t.Context(), boss, secret.New("first")); err != nil {
		t.Error(err)
	}
}

var _ broker.PasswordSetter = (*postgres.Producer)(nil)
