package rotation_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/internal/testenv"
	"github.com/bailiff-secrets/bailiff/producers/postgres"
	"github.com/bailiff-secrets/bailiff/rotation"
)

// crash is what ends a rotation at a point, as the end of the process does: nothing after it is done.
type crash string

var points = []string{"rotate-begin", "rotate-next-durable", "rotate-changed", "rotate-proven", "rotate-handed-over", "rotate-done"}

// crashAt rotates with a manager that dies at point. It says if the point was reached.
func (w *world) crashAt(point string, rotate func(*rotation.Manager) error, with ...func(*rotation.Config)) (died bool) {
	w.t.Helper()
	m := w.manager(append(with, func(c *rotation.Config) {
		c.Fault = func(p string) {
			if p == point {
				panic(crash(p))
			}
		}
	})...)
	defer func() {
		if p := recover(); p != nil {
			if p != crash(point) {
				panic(p)
			}
			died = true
		}
	}()
	if err := rotate(m); err != nil {
		w.t.Errorf("%s: %v", point, err)
	}
	return false
}

func TestACrashAtAnyPointLeavesAStaticRoleAPasswordThatIsKnown(t *testing.T) {
	w := newWorld(t, testenv.Postgres(t))
	w.rotate(w.manager())
	for _, point := range points {
		before := w.credential(w.manager())
		died := w.crashAt(point, func(m *rotation.Manager) error { return m.Rotate(context.Background(), "database/", "app") })
		if want := point != "rotate-handed-over"; died != want {
			t.Fatalf("%s: died: %v, want %v", point, died, want)
		}
		after := w.manager()
		w.credential(after) // before anybody went on with it
		stop := w.run(after)
		w.eventually("the rotation is ended", func() bool { return !w.account("database/", "app").Rotating() })
		stop()
		if c := w.credential(after); point != "rotate-begin" && c.Password.Reveal() == before.Password.Reveal() {
			t.Errorf("%s: the password is the same after the rotation was gone on with", point)
		}
		w.rotate(after)
		w.credential(after)
	}
}

func TestACrashAtAnyPointOfTheFirstRotationIsGoneOnWith(t *testing.T) {
	for _, point := range points[:4] {
		t.Run(point, func(t *testing.T) {
			w := newWorld(t, testenv.Postgres(t))
			if !w.crashAt(point, func(m *rotation.Manager) error { return m.Ensure(context.Background(), "database/", "app") }) {
				t.Fatal("it did not die")
			}
			after := w.manager()
			w.run(after)
			w.eventually("the password is known", func() bool {
				c, err := after.Credential(t.Context(), "database/", "app")
				return err == nil && w.login(w.app, c.Password) == nil
			})
		})
	}
}

func TestACrashAtAnyPointLeavesBailiffAPasswordOfItsOwn(t *testing.T) {
	w := newWorld(t, testenv.Postgres(t))
	for _, point := range points {
		before, _ := w.Admin("pg")
		if !w.crashAt(point, func(m *rotation.Manager) error { return m.RotateTarget(context.Background(), "pg") }) {
			t.Fatalf("%s: it did not die", point)
		}
		stored, _ := w.Admin("pg")
		w.declare(stored.Password) // the restarted process knows what its store says
		if err := w.manager().Recover(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.ownLogin()
		if point != "rotate-begin" && w.account("", "pg").Rotating() {
			t.Errorf("%s: the rotation was not ended", point)
		}
		if after, _ := w.Admin("pg"); point != "rotate-begin" && after.Password.Reveal() == before.Password.Reveal() {
			t.Errorf("%s: the password is the same after the rotation was gone on with", point)
		}
	}
}

// lossy changes the password and then loses the answer, as often as it is told to.
type lossy struct {
	*postgres.Producer
	left *atomic.Int32
}

func (l lossy) SetPassword(ctx context.Context, username string, password secret.Value) error {
	err := l.Producer.SetPassword(ctx, username, password)
	if err == nil && l.left.Add(-1) >= 0 {
		return &broker.RevokeError{Cause: broker.Unreachable, Msg: "the answer was lost"}
	}
	return err
}

func TestAnAnswerThatIsLostLosesNoPassword(t *testing.T) {
	w := newWorld(t, testenv.Postgres(t))
	var left atomic.Int32
	w.set(func() {
		w.wrap = func(p *postgres.Producer) broker.Producer { return lossy{p, &left} }
	})
	m := w.manager()
	w.rotate(m)
	left.Store(1)
	w.rotate(m) // the new one is found to work
	w.credential(m)
}

func TestAStoreThatFailsAtAnyStepLosesNoPassword(t *testing.T) {
	w := newWorld(t, testenv.Postgres(t))
	m := w.manager()
	w.rotate(m)
	// A write has four steps, and a rotation two writes. The last step of one is that its answer is lost.
	const steps = 8
	for step := range steps + 1 {
		n := 0
		w.set(func() {
			w.storeErr = func() bool { n++; return n > step }
		})
		err := m.Rotate(t.Context(), "database/", "app")
		w.set(func() { w.storeErr = nil })
		if (err == nil) != (step == steps) {
			t.Fatalf("with %d steps let through: got %v", step, err)
		}
		w.credential(m)
		w.rotate(m)
		w.credential(m)
	}
}
