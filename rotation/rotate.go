package rotation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/secret"
)

// Rotate changes the password of a static role now. Errors are *gate.Error where the caller should learn more. What failed
// is tried again by itself.
func (m *Manager) Rotate(ctx context.Context, mount, name string) error {
	return m.rotate(ctx, mount, name, always)
}

// Ensure changes the password of a static role where that was never done.
func (m *Manager) Ensure(ctx context.Context, mount, name string) error {
	return m.rotate(ctx, mount, name, ifNever)
}

// RotateTarget changes the password of a target's own user now. Errors are as those of Rotate.
func (m *Manager) RotateTarget(ctx context.Context, target string) error {
	return m.rotate(ctx, "", target, always)
}

// The conditions of a rotation.
type condition int

const (
	always condition = iota
	ifDue
	ifNever
	ifLeft // in the middle
)

func (c condition) holds(a *Account) bool {
	switch c {
	case ifNever:
		return a.RotatedAt.IsZero()
	case ifDue: // or left in the middle by a process that is gone, which is why it was looked at
		return a.Rotating() || !a.NextAt.IsZero() && !a.NextAt.After(now())
	case ifLeft:
		return a.Rotating()
	}
	return true
}

// rotate brings one account from the password that it has to the next. Once begun, it goes on when ctx ends.
func (m *Manager) rotate(ctx context.Context, mount, name string, when condition) error {
	unlock, err := m.locks.Lock(ctx, mount+name)
	if err != nil {
		return err
	}
	defer unlock()
	waiting, cancel := context.WithTimeout(ctx, readWait)
	defer cancel()
	for try := 0; ; {
		a, err := m.load(ctx, mount, name)
		if err != nil || !when.holds(a) {
			return err
		}
		if m.taken(a) {
			if when == ifDue {
				return nil
			}
			if rest(waiting) != nil {
				return notStored(ErrStale)
			}
			continue
		}
		err = m.once(context.WithoutCancel(ctx), a)
		if errors.Is(err, ErrStale) && try < tries { // another process was quicker: what it left is looked at anew
			try++
			continue
		}
		return said(a, err)
	}
}

// tries is how often a rotation begins anew because of other processes.
const tries = 3

// taken says that another process is at the rotation of a. Until its time is over nobody else touches the target: a change
// that it carries out late would otherwise come after one of a later rotation. What has failed is nobody's.
func (m *Manager) taken(a *Account) bool {
	return m.cfg.Shared && a.Rotating() && a.Error == "" && a.NextAt.After(now())
}

// take makes a rotation that was left in the middle this process's, durably.
func (m *Manager) take(ctx context.Context, a *Account) error {
	if !m.cfg.Shared {
		return nil
	}
	mine := *a
	m.hold(&mine)
	if err := m.cfg.Store.PutAccount(ctx, &mine); err != nil {
		return notStored(err)
	}
	*a = mine
	return nil
}

// hold makes a the one of whoever writes it, for twice as long as a rotation may take.
func (m *Manager) hold(a *Account) {
	a.NextAt, a.Error = now().Add(2*m.cfg.Timeout), ""
}

// rest waits a moment for what another process does.
func rest(ctx context.Context) error {
	timer := time.NewTimer(20 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// once is one try at an account that nobody else is at.
func (m *Manager) once(ctx context.Context, a *Account) error {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.Timeout)
	defer cancel()
	start := time.Now()
	var err error
	if a.Rotating() {
		err = m.take(ctx, a)
	} else {
		err = m.begin(ctx, a)
	}
	if err == nil {
		err = m.settle(ctx, a)
	}
	if errors.Is(err, ErrStale) {
		return err
	}
	if err != nil {
		m.failed(ctx, a, err)
	}
	m.cfg.Observe(Outcome{Mount: a.Mount, Name: a.Name, Target: a.Target, Attempt: a.Attempt, Took: time.Since(start)})
	return err
}

// load finds an account as it is declared now, new where it was never rotated.
func (m *Manager) load(ctx context.Context, mount, name string) (*Account, error) {
	a, err := m.cfg.Store.Account(ctx, mount, name)
	if errors.Is(err, ErrNoAccount) {
		a, err = &Account{Mount: mount, Name: name}, nil
	}
	if err != nil {
		return nil, &gate.Error{Kind: gate.Unavailable, Msg: "the account can't be read now", Err: err}
	}
	if mount == "" {
		return a, m.loadTarget(a)
	}
	role, ok := m.cfg.Catalog.StaticRole(mount, name)
	if !ok {
		return nil, gate.Errorf(gate.NotFound, "there is no static role %q here", name)
	}
	if a.Target != role.Target || a.Username != role.Username { // another account, of whose passwords nothing is known
		*a = Account{Mount: mount, Name: name, Version: a.Version, NextAt: a.NextAt, Target: role.Target, Username: role.Username}
	}
	return a, nil
}

// loadTarget takes over what is declared of a target's own user.
func (m *Manager) loadTarget(a *Account) error {
	admin, ok := m.cfg.Catalog.Admin(a.Name)
	if !ok {
		return gate.Errorf(gate.NotFound, "there is no target %q with a user of its own", a.Name)
	}
	if a.Username != admin.Username {
		*a = Account{Name: a.Name, Version: a.Version, Username: admin.Username, Previous: a.Next}
	}
	a.Target = a.Name
	if !a.Rotating() && a.Current.Reveal() != admin.Password.Reveal() {
		a.Current, a.Declared = admin.Password, admin.Password
	}
	return nil
}

// begin makes the next password durable. Nothing on the target has changed before, and nothing is begun where the target
// doesn't answer: what it takes is then known without asking it.
func (m *Manager) begin(ctx context.Context, a *Account) error {
	p, _, err := m.setter(a)
	if err != nil {
		return err
	}
	if !a.Current.Empty() {
		err := p.TryPassword(ctx, a.Username, a.Current)
		if unreachable(err) || a.Root() && causeOf(err) == broker.ForbiddenBy {
			return err
		}
	}
	if err := m.recordBegin(ctx, a); err != nil {
		return gate.ErrNoRecord
	}
	next := *a
	next.Next = newPassword()
	m.hold(&next)
	m.cfg.Fault("rotate-begin")
	// This write makes the next password durable. Killed after it, both are tried.
	if err := m.cfg.Store.PutAccount(ctx, &next); err != nil {
		return notStored(err)
	}
	*a = next
	m.cfg.Fault("rotate-next-durable")
	return nil
}

// settle makes the target take the next password, which is durable, proves it, and makes it the current one. It may be done
// any number of times.
func (m *Manager) settle(ctx context.Context, a *Account) error {
	p, set, err := m.setter(a)
	if err != nil {
		return err
	}
	failed := set(ctx, a.Username, a.Next)
	m.cfg.Fault("rotate-changed")
	unproven := p.TryPassword(ctx, a.Username, a.Next)
	switch {
	case unproven == nil: // also where the answer was lost, or an earlier try came so far that the password before it ended
	case failed != nil:
		return failed
	case causeOf(unproven) == broker.Unknown: // it can't be tried: the target's word has to do
	default:
		return unproven
	}
	m.cfg.Fault("rotate-proven")
	if a.Root() {
		if err := m.handOver(ctx, a); err != nil {
			return err
		}
	}
	return m.finish(ctx, a, unproven)
}

// handOver makes the next password that of the target's object, where it isn't yet.
func (m *Manager) handOver(ctx context.Context, a *Account) error {
	if admin, ok := m.cfg.Catalog.Admin(a.Target); ok && admin.Password.Reveal() != a.Next.Reveal() {
		if err := m.cfg.Targets.SetPassword(ctx, a.Target, a.Next); err != nil {
			return fmt.Errorf("handing the password over: %w", err)
		}
	}
	m.cfg.Fault("rotate-handed-over")
	return nil
}

// finish makes the next password the current one.
func (m *Manager) finish(ctx context.Context, a *Account, unproven error) error {
	done := *a
	done.Previous, done.Current, done.Next = a.Current, a.Next, secret.Value{}
	done.RotatedAt, done.NextAt, done.Attempt, done.Error = now(), time.Time{}, 0, ""
	if role, ok := m.cfg.Catalog.StaticRole(a.Mount, a.Name); ok && !a.Root() {
		next, err := role.next(done.RotatedAt)
		if err != nil {
			return err
		}
		done.NextAt = next
	}
	if err := m.store(ctx, &done); err != nil {
		return err
	}
	*a = done
	m.cfg.Fault("rotate-done")
	m.recordDone(ctx, a, unproven)
	m.wake()
	return nil
}

// store writes the end of a rotation. Where another process has ended the same one, it is done.
func (m *Manager) store(ctx context.Context, a *Account) error {
	err := m.cfg.Store.PutAccount(ctx, a)
	if !errors.Is(err, ErrStale) {
		return notStored(err)
	}
	there, err := m.cfg.Store.Account(ctx, a.Mount, a.Name)
	if err != nil {
		return notStored(err)
	}
	if there.Rotating() || there.Current.Reveal() != a.Current.Reveal() {
		return notStored(ErrStale)
	}
	*a = *there
	return nil
}

// failed writes down when a rotation is tried again. One that was asked for and has not begun is not.
func (m *Manager) failed(ctx context.Context, a *Account, err error) {
	a.Attempt++
	a.Error = words(err)
	m.recordFailure(ctx, a)
	m.log.Warn("a password could not be changed", "mount", a.Mount, "name", a.Name, "target", a.Target, "attempt", a.Attempt, "error", a.Error)
	if a.Root() && !a.Rotating() {
		a.NextAt = time.Time{}
	} else {
		a.NextAt = now().Add(backoff(a.Attempt, m.cfg.RetryMin, m.cfg.RetryMax))
	}
	m.keep(ctx, a)
}

// putOff is for an account whose target just didn't answer another's rotation.
func (m *Manager) putOff(ctx context.Context, a *Account) {
	a.NextAt = now().Add(backoff(max(1, a.Attempt), m.cfg.RetryMin, m.cfg.RetryMax))
	if a.Error == "" {
		a.Error = "the target does not answer"
	}
	m.keep(ctx, a)
}

// keep writes what is not lost when it can't be written: the account then stays due.
func (m *Manager) keep(ctx context.Context, a *Account) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	if err := notStale(m.cfg.Store.PutAccount(ctx, a)); err != nil {
		m.log.Error("an account can't be stored", "mount", a.Mount, "name", a.Name, "error", err)
	}
}

// setter finds what changes and tries an account's password.
func (m *Manager) setter(a *Account) (broker.PasswordSetter, func(context.Context, string, secret.Value) error, error) {
	producer, kind, err := m.cfg.Catalog.Producer(a.Target)
	if err != nil {
		return nil, nil, err
	}
	p, ok := producer.(broker.PasswordSetter)
	if !ok {
		return nil, nil, gate.Errorf(gate.Unsupported, "passwords on targets of type %q can't be changed", kind)
	}
	statements := m.statements(a)
	if len(statements) == 0 {
		return p, p.SetPassword, nil
	}
	custom, ok := producer.(CustomSetter)
	if !ok {
		return nil, nil, gate.Errorf(gate.Unsupported, "targets of type %q take no rotation statements", kind)
	}
	return p, func(ctx context.Context, username string, password secret.Value) error {
		return custom.SetPasswordWith(ctx, username, password, statements)
	}, nil
}

func (m *Manager) statements(a *Account) []string {
	if a.Root() {
		admin, _ := m.cfg.Catalog.Admin(a.Target)
		return admin.Statements
	}
	role, _ := m.cfg.Catalog.StaticRole(a.Mount, a.Name)
	return role.Statements
}
