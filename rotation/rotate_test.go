package rotation_test

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/internal/testenv"
	"github.com/bailiff-secrets/bailiff/producers/postgres"
	"github.com/bailiff-secrets/bailiff/rotation"
)

// wantKind makes sure that an error says something of a kind to the client.
func wantKind(t *testing.T, err error, kind gate.Kind, words string) {
	t.Helper()
	var said *gate.Error
	if !errors.As(err, &said) || said.Kind != kind || !strings.Contains(said.Msg, words) {
		t.Errorf("got %v, want kind %d with %q", err, kind, words)
	}
}

func TestARotationChangesThePasswordAndEndsTheOldOne(t *testing.T) {
	w := newWorld(t, testenv.Postgres(t))
	m := w.manager()
	_, err := m.Credential(t.Context(), "database/", "app")
	wantKind(t, err, gate.Unavailable, "was not set yet")
	w.rotate(m)
	first := w.credential(m)
	if first.NextAt.Sub(first.RotatedAt) != time.Hour || time.Since(first.RotatedAt) > time.Minute {
		t.Errorf("got rotated at %v, next at %v, want now and an hour later", first.RotatedAt, first.NextAt)
	}
	w.rotate(m)
	second := w.credential(m)
	if second.Password.Reveal() == first.Password.Reveal() {
		t.Error("the password is the same as before")
	}
	if w.login(w.app, first.Password) == nil {
		t.Error("the old password still works")
	}
	if got := w.account("database/", "app").Previous.Reveal(); got != first.Password.Reveal() {
		t.Error("the previous password is not kept")
	}
	if d := w.details(w.app); !contains(d, "ok: a new password is about to be set") || !contains(d, "ok: the password was changed") {
		t.Errorf("got the records %q", d)
	}
	if err := m.Ensure(t.Context(), "database/", "app"); err != nil {
		t.Error(err)
	}
	if third := w.credential(m); third.Password.Reveal() != second.Password.Reveal() {
		t.Error("Ensure changed a password that was set already")
	}
}

func TestBailiffsOwnPasswordIsChangedAndHandedOver(t *testing.T) {
	w := newWorld(t, testenv.Postgres(t))
	m := w.manager()
	for range 2 {
		if err := m.RotateTarget(t.Context(), "pg"); err != nil {
			t.Fatal(err)
		}
		w.ownLogin()
	}
	if w.login(w.admin, secret.New(firstPassword)) == nil {
		t.Error("the declared password still works")
	}
	admin, _ := w.Admin("pg")
	kept, ok, err := m.Kept(t.Context(), "pg", w.admin, secret.New(firstPassword))
	if err != nil || !ok || kept.Reveal() != admin.Password.Reveal() {
		t.Errorf("the declared password again: got %v, %v, want the one that took its place", ok, err)
	}
	for name, v := range map[string]secret.Value{"another password": secret.New("another"), "none": {}} {
		if _, ok, err := m.Kept(t.Context(), "pg", w.admin, v); ok || err != nil {
			t.Errorf("%s: got %v, %v, want that it stays", name, ok, err)
		}
	}
	if _, ok, _ := m.Kept(t.Context(), "pg", "other", secret.New(firstPassword)); ok {
		t.Error("another user's password was replaced")
	}
	_, err = w.manager().Credential(t.Context(), "", "pg")
	wantKind(t, err, gate.NotFound, "no static role")
}

func TestAWrongAdminPasswordChangesNothing(t *testing.T) {
	w := newWorld(t, testenv.Postgres(t))
	m := w.manager()
	w.rotate(m)
	before := w.credential(m)
	w.declare(secret.New("wrong"))
	wantKind(t, m.RotateTarget(t.Context(), "pg"), gate.Conflict, "the server refused it")
	if err := w.login(w.admin, secret.New(firstPassword)); err != nil {
		t.Errorf("the right password: %v", err)
	}
	if a := w.account("", "pg"); a.Rotating() || !a.NextAt.IsZero() {
		t.Errorf("a rotation that never began is under way (%v), due at %v", a.Rotating(), a.NextAt)
	}
	wantKind(t, m.Rotate(t.Context(), "database/", "app"), gate.Conflict, "refused Bailiff's user or password")
	if c := w.credential(m); c.Password.Reveal() != before.Password.Reveal() {
		t.Error("a password is given that was never set")
	}
	if a := w.account("database/", "app"); a.Attempt != 1 || a.NextAt.IsZero() || a.Error == "" {
		t.Errorf("got attempt %d, next at %v, error %q", a.Attempt, a.NextAt, a.Error)
	}
	w.declare(secret.New(firstPassword))
	w.run(m)
	w.eventually("the password is changed", func() bool { return w.account("database/", "app").Current.Reveal() != before.Password.Reveal() })
	w.credential(m)
	if d := w.details(w.app); !contains(d, "error: the password is not known to be changed") {
		t.Errorf("got the records %q", d)
	}
}

func TestATargetThatIsDownKeepsItsPasswords(t *testing.T) {
	w := newWorld(t, testenv.NewPostgres(t))
	var failures atomic.Int32
	m := w.manager(func(c *rotation.Config) {
		c.Observe = func(o rotation.Outcome) {
			if o.Attempt > 0 {
				failures.Add(1)
			}
		}
	})
	w.rotate(m)
	before := w.credential(m)
	if err := w.server.Stop(); err != nil {
		t.Fatal(err)
	}
	wantKind(t, m.RotateTarget(t.Context(), "pg"), gate.TargetDown, "can't be reached")
	wantKind(t, m.Rotate(t.Context(), "database/", "app"), gate.TargetDown, "can't be reached")
	w.run(m)
	w.eventually("it is tried again", func() bool { return failures.Load() >= 4 })
	if c, err := m.Credential(t.Context(), "database/", "app"); err != nil || c.Password.Reveal() != before.Password.Reveal() {
		t.Errorf("while the target is down: got %v, want the password that it will take", err)
	}
	if err := w.server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.eventually("the password is changed", func() bool { return w.account("database/", "app").Current.Reveal() != before.Password.Reveal() })
	w.credential(m)
	if err := m.RotateTarget(t.Context(), "pg"); err != nil {
		t.Errorf("the own password once the target is back: %v", err)
	}
	w.ownLogin()
}

func TestRotationsComeByPeriodAndAreMovedWithIt(t *testing.T) {
	w := newWorld(t, testenv.Postgres(t))
	w.set(func() { w.role.Period = 100 * time.Millisecond })
	m := w.manager()
	w.run(m)
	seen := map[string]bool{}
	w.eventually("the password was changed three times", func() bool {
		if c, err := m.Credential(t.Context(), "database/", "app"); err == nil {
			seen[c.Password.Reveal()] = true
		}
		return len(seen) >= 4
	})
	w.set(func() { w.role.Period = 48 * time.Hour })
	m.Changed()
	w.eventually("the next one is in two days", func() bool { return time.Until(w.account("database/", "app").NextAt) > 47*time.Hour })
	w.credential(m)
	w.set(func() { w.role = nil })
	m.Changed()
	w.eventually("the account is forgotten", func() bool {
		_, err := m.Account(t.Context(), "database/", "app")
		return errors.Is(err, rotation.ErrNoAccount)
	})
}

func TestAScheduleSaysWhenInUTC(t *testing.T) {
	w := newWorld(t, testenv.Postgres(t))
	w.set(func() { w.role.Period, w.role.Schedule = 0, "30 3 * * SUN" })
	m := w.manager()
	w.rotate(m)
	next := w.credential(m).NextAt
	if next.Weekday() != time.Sunday || next.UTC().Format("15:04") != "03:30" || time.Until(next) > 7*24*time.Hour || !next.After(time.Now()) {
		t.Errorf("got %v, want the next Sunday at half past three", next)
	}
	if !w.account("database/", "app").NextAt.Equal(next) {
		t.Error("it is not due when it says")
	}
	for text, ok := range map[string]bool{"0 3 * * *": true, "@daily": true, "@every 1h": true, "": false, "3 o'clock": false, "0 0 3 * * *": false} {
		if err := rotation.CheckSchedule(text); (err == nil) != ok {
			t.Errorf("%q: got %v", text, err)
		}
	}
}

// shared is the configuration of several processes on one store.
func shared(c *rotation.Config) { c.Shared = true }

func TestConcurrentRotationsEndInOnePassword(t *testing.T) {
	w := newWorld(t, testenv.Postgres(t))
	nodes := []*rotation.Manager{w.manager(shared), w.manager(shared)}
	for _, m := range nodes {
		w.run(m)
	}
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			m := nodes[i%len(nodes)]
			var said *gate.Error
			if err := m.Rotate(t.Context(), "database/", "app"); err != nil && (!errors.As(err, &said) || said.Kind != gate.Conflict) {
				t.Error(err)
			}
			if _, err := m.Credential(t.Context(), "database/", "app"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	w.eventually("nothing is under way", func() bool { return !w.account("database/", "app").Rotating() })
	a, b := w.credential(nodes[0]), w.credential(nodes[1])
	if a.Password.Reveal() != b.Password.Reveal() {
		t.Error("two processes give two passwords")
	}
}

// late is a producer whose first change of a password waits for goOn.
type late struct {
	*postgres.Producer
	begun        *atomic.Bool
	inside, goOn chan struct{}
}

func (l late) SetPassword(ctx context.Context, username string, password secret.Value) error {
	if l.begun.CompareAndSwap(false, true) {
		close(l.inside)
		<-l.goOn
	}
	return l.Producer.SetPassword(ctx, username, password)
}

// TestASlowProcessDoesNotUndoALaterRotation: while one process is at the target with the next password, another neither
// carries that rotation on nor begins one of its own. Whoever reads meanwhile gets the password that holds.
func TestASlowProcessDoesNotUndoALaterRotation(t *testing.T) {
	w := newWorld(t, testenv.Postgres(t))
	slow, other := w.manager(shared), w.manager(shared)
	w.rotate(slow)
	before := w.credential(other)
	x := late{begun: new(atomic.Bool), inside: make(chan struct{}), goOn: make(chan struct{})}
	w.set(func() { w.wrap = func(p *postgres.Producer) broker.Producer { y := x; y.Producer = p; return y } })
	var both sync.WaitGroup
	both.Go(func() {
		if err := slow.Rotate(t.Context(), "database/", "app"); err != nil {
			t.Error(err)
		}
	})
	<-x.inside
	rotated := make(chan error, 1)
	both.Go(func() { rotated <- other.Rotate(t.Context(), "database/", "app") })
	stop := w.run(other)
	if c := w.credential(w.manager(shared)); c.Password.Reveal() != before.Password.Reveal() {
		t.Error("a password is given that the target was not told")
	}
	select {
	case err := <-rotated:
		t.Errorf("the other process went on while the first one was at the target: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	close(x.goOn)
	both.Wait()
	stop()
	w.credential(slow)
	if d := w.details(w.app); !contains(d, "ok: the password was changed") {
		t.Errorf("got the records %q", d)
	}
}

// TestADeadProcessIsTakenOver when its time is over, and not before.
func TestADeadProcessIsTakenOver(t *testing.T) {
	w := newWorld(t, testenv.Postgres(t))
	w.rotate(w.manager())
	brief := func(c *rotation.Config) { c.Shared, c.Timeout = true, time.Second }
	if !w.crashAt("rotate-next-durable", func(m *rotation.Manager) error { return m.Rotate(context.Background(), "database/", "app") }, brief) {
		t.Fatal("it did not die")
	}
	until := w.account("database/", "app").NextAt
	m := w.manager(brief)
	w.run(m)
	w.credential(m)
	w.eventually("the rotation is ended", func() bool { return !w.account("database/", "app").Rotating() })
	if time.Now().Before(until) {
		t.Errorf("it was taken up %v before the time of the dead process was over", time.Until(until))
	}
	w.credential(m)
}

func TestRequestsGoOnWhileBailiffsOwnPasswordChanges(t *testing.T) {
	w := newWorld(t, testenv.Postgres(t))
	m := w.manager()
	role, err := postgres.NewRole(object.Producer{CreationStatements: []string{`CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}'`}, ScramIterations: 1})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var issued atomic.Int32
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if err := w.issue(role, fmt.Sprint(i, "-", n)); err != nil {
					t.Errorf("a request failed: %v", err)
					return
				}
				issued.Add(1)
			}
		})
	}
	for range 8 {
		before := issued.Load()
		if err := m.RotateTarget(t.Context(), "pg"); err != nil {
			t.Fatal(err)
		}
		w.eventually("requests go on", func() bool { return issued.Load() > before+6 || t.Failed() })
	}
	cancel()
	wg.Wait()
	w.ownLogin()
}

// issue makes and ends a credential through the producer that stands now.
func (w *world) issue(role *postgres.Role, lease string) error {
	var random [10]byte
	rand.Read(random[:])
	name := "bl-app-" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(random[:]))
	w.mu.Lock()
	p := w.producer
	w.mu.Unlock()
	spec := broker.Spec{
		LeaseID: lease, Principal: name, ExpiresAt: time.Now().Add(time.Hour), Deadline: time.Now().Add(20 * time.Second),
		Role: broker.Role{Name: "app", Target: "pg", Config: role},
	}
	if _, err := p.Create(context.Background(), spec); err != nil {
		return err
	}
	return p.Revoke(context.Background(), broker.Ref{LeaseID: lease, Principal: name, Role: &spec.Role})
}

func TestNothingIsChangedThatCannotBeRecorded(t *testing.T) {
	w := newWorld(t, testenv.Postgres(t))
	m := w.manager()
	w.rotate(m)
	before := w.credential(m)
	w.set(func() { w.mute = true })
	if err := m.Rotate(t.Context(), "database/", "app"); !errors.Is(err, gate.ErrNoRecord) {
		t.Errorf("got %v, want ErrNoRecord", err)
	}
	w.set(func() { w.mute = false })
	if c := w.credential(m); c.Password.Reveal() != before.Password.Reveal() {
		t.Error("the password was changed without a record")
	}
}

func TestAnotherAccountIsAnotherRotation(t *testing.T) {
	w := newWorld(t, testenv.Postgres(t))
	m := w.manager()
	w.rotate(m)
	old := w.credential(m)
	other := w.app + "-2"
	w.sql(fmt.Sprintf("CREATE ROLE %q LOGIN", other))
	w.set(func() { w.role.Username = other })
	if _, err := m.Credential(t.Context(), "database/", "app"); err == nil {
		t.Error("the password of another account is given")
	}
	w.run(m)
	m.Changed()
	w.eventually("the other account has a password", func() bool {
		c, err := m.Credential(t.Context(), "database/", "app")
		return err == nil && c.Username == other && w.login(other, c.Password) == nil
	})
	if err := w.login(w.app, old.Password); err != nil {
		t.Errorf("the first account lost its password: %v", err)
	}
	w.set(func() { w.role.Username = "nobody-is-called-so" })
	wantKind(t, m.Rotate(t.Context(), "database/", "app"), gate.Conflict, "is not there")
}

func TestStatementsOfTheOperatorChangeThePassword(t *testing.T) {
	w := newWorld(t, testenv.Postgres(t))
	w.set(func() {
		w.role.Statements = []string{`ALTER USER "{{name}}" WITH PASSWORD '{{password}}'; COMMENT ON ROLE "{{username}}" IS 'rotated'`}
	})
	m := w.manager()
	w.rotate(m)
	w.credential(m)
	w.sql(fmt.Sprintf(`DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '%s' AND shobj_description(oid, 'pg_authid') = 'rotated')
		THEN RAISE 'the statements were not run'; END IF; END $$`, w.app))
	w.set(func() { w.role.Statements = []string{`ALTER USER "{{name}}" WITH PASWORD '{{password}}'`} })
	if err := m.Rotate(t.Context(), "database/", "app"); err == nil || strings.Contains(err.Error(), "SCRAM") {
		t.Errorf("got %v, want an error without the password", err)
	}
	w.credential(m)
}
