package rotation

import (
	"context"
	"errors"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/secret"
)

// Credential is what a client of a static role gets.
type Credential struct {
	Username  string
	Password  secret.Value
	RotatedAt time.Time
	NextAt    time.Time // when it is due to be changed; in the past where that is late
}

// readWait is how long whoever asks for a password waits for a rotation that is under way.
const readWait = 10 * time.Second

// Credential gives the password that the target takes. Where a rotation was cut off in the middle, it asks the target which
// of the two that is. Errors are *gate.Error.
func (m *Manager) Credential(ctx context.Context, mount, name string) (Credential, error) {
	role, ok := m.cfg.Catalog.StaticRole(mount, name)
	if !ok {
		return Credential{}, gate.Errorf(gate.NotFound, "there is no static role %q here", name)
	}
	a, err := m.cfg.Store.Account(ctx, mount, name)
	if err == nil && a.Rotating() {
		a, err = m.settled(ctx, mount, name)
	}
	switch {
	case errors.Is(err, ErrNoAccount), err == nil && (a.Target != role.Target || a.Username != role.Username || a.Current.Empty()):
		return Credential{}, gate.Errorf(gate.Unavailable, "the password of static role %q was not set yet: Bailiff goes on trying", name)
	case err != nil:
		if said, ok := errors.AsType[*gate.Error](err); ok {
			return Credential{}, said
		}
		return Credential{}, &gate.Error{Kind: gate.Unavailable, Msg: "the account can't be read now", Err: err}
	}
	out := Credential{Username: a.Username, Password: a.Current, RotatedAt: a.RotatedAt, NextAt: a.NextAt}
	if next, err := role.next(a.RotatedAt); err == nil {
		out.NextAt = next
	}
	return out, nil
}

// settled waits for the rotation that is under way. Of one that nobody is at, it finds out which password holds; Current is
// then that one.
func (m *Manager) settled(ctx context.Context, mount, name string) (*Account, error) {
	ctx, cancel := context.WithTimeout(ctx, readWait)
	defer cancel()
	unlock, err := m.locks.Lock(ctx, mount+name)
	if err != nil {
		return nil, &gate.Error{Kind: gate.TargetSlow, Msg: "the password is being changed, which takes long", Err: err}
	}
	defer unlock()
	for {
		a, err := m.cfg.Store.Account(ctx, mount, name)
		if err != nil || !a.Rotating() {
			return a, err
		}
		found, refusal := m.tryBoth(ctx, a)
		if refusal == nil {
			return found, nil
		}
		// Another process on the same store may have gone on meanwhile: then what was tried is of the past. Or it is in the middle.
		b, err := m.cfg.Store.Account(ctx, mount, name)
		if err != nil || b.Version == a.Version && !m.taken(b) || rest(ctx) != nil {
			return nil, refusal
		}
	}
}

// tryBoth asks the target which of the two passwords of a rotation holds; Current is then that one.
func (m *Manager) tryBoth(ctx context.Context, a *Account) (*Account, error) {
	p, _, err := m.setter(a)
	if err != nil {
		return nil, err
	}
	var failures []error
	for _, password := range []secret.Value{a.Next, a.Current} {
		if password.Empty() {
			continue
		}
		err := p.TryPassword(ctx, a.Username, password)
		if err == nil {
			a.Current = password
			return a, nil
		}
		failures = append(failures, err)
	}
	kind, msg := gate.TargetDown, "the password is being changed, and the target takes neither the old nor the new: Bailiff goes on trying"
	if err := errors.Join(failures...); unreachable(err) || causeOf(err) == broker.Unknown {
		msg = "the password is being changed, and the target can't be asked which one holds: " + words(err)
	}
	return nil, &gate.Error{Kind: kind, Msg: msg, Err: errors.Join(failures...)}
}

// Account shows what is known of a static role's account; ErrNoAccount where it was never looked at.
func (m *Manager) Account(ctx context.Context, mount, name string) (*Account, error) {
	return m.cfg.Store.Account(ctx, mount, name)
}

// Accounts lists every account, for metrics and status.
func (m *Manager) Accounts(ctx context.Context) ([]*Account, error) { return m.cfg.Store.Accounts(ctx) }

// Kept finds the password that took the place of one that is declared for a target's own user: a file that is applied
// again still holds the one from before the rotation. ok is false where that is not so.
func (m *Manager) Kept(ctx context.Context, target, username string, declared secret.Value) (password secret.Value, ok bool, err error) {
	a, err := m.cfg.Store.Account(ctx, "", target)
	if errors.Is(err, ErrNoAccount) {
		return secret.Value{}, false, nil
	}
	if err != nil {
		return secret.Value{}, false, err
	}
	if a.Username != username || a.RotatedAt.IsZero() || a.Declared.Reveal() != declared.Reveal() {
		return secret.Value{}, false, nil
	}
	return a.Current, true, nil
}

// Health is what an alarm wants to know of all accounts.
type Health struct {
	Failing map[string]int // accounts whose last rotation failed, or is not ended, by target
	Overdue time.Time      // when the oldest rotation of a static role should have happened that didn't; zero: none
}

// Health reads every account.
func (m *Manager) Health(ctx context.Context) (Health, error) {
	h := Health{Failing: map[string]int{}}
	all, err := m.cfg.Store.Accounts(ctx)
	if err != nil {
		return h, err
	}
	for _, a := range all {
		if a.Attempt > 0 {
			h.Failing[a.Target]++
		}
		role, ok := m.cfg.Catalog.StaticRole(a.Mount, a.Name)
		if !ok || a.RotatedAt.IsZero() {
			continue
		}
		due, err := role.next(a.RotatedAt)
		if err == nil && due.Before(now()) && (h.Overdue.IsZero() || due.Before(h.Overdue)) {
			h.Overdue = due
		}
	}
	return h, nil
}
