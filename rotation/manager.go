package rotation

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/keyed"
)

// Config is what a Manager needs. The zero value of an optional field is its default.
type Config struct {
	Store    Store         // required
	Catalog  Catalog       // required
	Targets  Targets       // required
	Recorder gate.Recorder // required; *audit.Log is one
	Node     string        // the name of this process in the trail
	Logger   *slog.Logger  // default: discards

	// Shared says that other processes rotate the accounts of this store too: what one is at, the others leave alone.
	Shared bool

	// Observe is called at the end of each rotation that was tried, for metrics and alarms. It must not block. May be nil.
	Observe func(Outcome)
	// Fault is called at the points named in doc.go, for tests that end the process there. Normally nil.
	Fault func(point string)

	Timeout  time.Duration // of one rotation; default 30 s
	RetryMin time.Duration // longest first wait after a failure; default 1 s
	RetryMax time.Duration // longest wait; default 15 min
	Poll     time.Duration // longest time between two looks at the store; default 1 s
	Batch    int           // accounts that one look at the store brings; default 500
}

// Outcome is how a rotation that was tried ended.
type Outcome struct {
	Mount, Name string // of a target's own user: no mount, and the target
	Target      string
	Attempt     int // failures in a row, this one included; 0: it succeeded
	Took        time.Duration
}

// storeTimeout bounds one write that must be tried although whoever asked for it is gone.
const storeTimeout = 10 * time.Second

// Manager changes passwords when they are due or when it is asked, and knows the ones that hold. It is safe for concurrent
// use. Rotate, RotateTarget and Credential work without Run, but what failed is tried again only while Run runs.
type Manager struct {
	cfg   Config
	log   *slog.Logger
	locks keyed.Locks   // held by whoever rotates an account
	ring  chan struct{} // wakes the loop before its time

	mu      sync.Mutex
	changed bool            // the declared roles have to be compared with the accounts
	busy    map[string]bool // targets that somebody works through
	workers sync.WaitGroup
}

// New checks cfg and returns a Manager. It starts nothing.
func New(cfg Config) (*Manager, error) {
	if cfg.Store == nil || cfg.Catalog == nil || cfg.Targets == nil || cfg.Recorder == nil {
		return nil, errors.New("rotation: a part is missing from the configuration")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Observe == nil {
		cfg.Observe = func(Outcome) {}
	}
	if cfg.Fault == nil {
		cfg.Fault = func(string) {}
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&cfg.Timeout, 30 * time.Second}, {&cfg.RetryMin, time.Second}, {&cfg.RetryMax, 15 * time.Minute}, {&cfg.Poll, time.Second}} {
		if *d.field == 0 {
			*d.field = d.value
		}
		if *d.field < 0 {
			return nil, errors.New("rotation: a duration is negative")
		}
	}
	if cfg.Batch <= 0 {
		cfg.Batch = 500
	}
	return &Manager{
		cfg: cfg, log: cfg.Logger, ring: make(chan struct{}, 1),
		changed: true, busy: map[string]bool{},
	}, nil
}

// now is the time as it is written to the store: UTC, in milliseconds, without a monotonic reading.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// Changed tells that other roles or targets are declared than before.
func (m *Manager) Changed() {
	m.later()
	m.wake()
}

// later has the next round compare what is declared with what is kept.
func (m *Manager) later() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changed = true
}

func (m *Manager) wake() {
	select {
	case m.ring <- struct{}{}:
	default:
	}
}

// Run changes what is due until ctx ends; then it waits for what it started. A rotation that ctx cuts off is gone on with
// at the next start. Run returns nil when ctx ended, and must not be called twice at a time.
func (m *Manager) Run(ctx context.Context) error {
	defer m.workers.Wait()
	if err := m.resume(ctx); err != nil && ctx.Err() == nil {
		m.log.Error("rotations that were under way can't be read", "error", err)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-m.ring:
		}
		if err := m.round(ctx); err != nil && ctx.Err() == nil {
			m.log.Error("due rotations can't be read", "error", err)
		}
		timer.Reset(m.cfg.Poll)
	}
}

// Recover goes on with the changes of targets' own passwords that an earlier process left in the middle, and waits for that,
// or until ctx ends: before it is done, Bailiff may not get in there. It is for the time before requests are served.
func (m *Manager) Recover(ctx context.Context) error {
	all, err := m.cfg.Store.Accounts(ctx)
	if err != nil {
		return err
	}
	var left sync.WaitGroup
	for _, a := range all {
		if !a.Root() || !a.Rotating() {
			continue
		}
		left.Add(1)
		m.workers.Go(func() {
			defer left.Done()
			_ = m.rotate(ctx, a.Mount, a.Name, ifLeft) // it is logged, recorded and tried again
		})
	}
	done := make(chan struct{})
	go func() { left.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done(): // those that are under way go on
	}
	return nil
}

// resume makes due what an earlier process left in the middle.
func (m *Manager) resume(ctx context.Context) error {
	all, err := m.cfg.Store.Accounts(ctx)
	if err != nil {
		return err
	}
	m.start(ctx, all, func(a *Account) bool { return a.Rotating() })
	return nil
}

// round compares what is declared with what is kept, where that may have changed, and starts what is due.
func (m *Manager) round(ctx context.Context) error {
	m.mu.Lock()
	changed := m.changed
	m.changed = false
	m.mu.Unlock()
	if changed {
		if err := m.follow(ctx); err != nil {
			m.later()
			return err
		}
	}
	due, err := m.cfg.Store.DueAccounts(ctx, now(), m.cfg.Batch)
	if err != nil {
		return err
	}
	m.start(ctx, due, func(*Account) bool { return true })
	return nil
}

// start gives each target's accounts to a worker of its own, where there is none yet.
func (m *Manager) start(ctx context.Context, accounts []*Account, wanted func(*Account) bool) {
	byTarget := map[string][]*Account{}
	for _, a := range accounts {
		if wanted(a) {
			byTarget[a.Target] = append(byTarget[a.Target], a)
		}
	}
	for target, list := range byTarget {
		m.mu.Lock()
		free := !m.busy[target]
		m.busy[target] = true
		m.mu.Unlock()
		if free {
			m.workers.Go(func() {
				m.work(ctx, list)
				m.mu.Lock()
				delete(m.busy, target)
				m.mu.Unlock()
			})
		}
	}
}

// work rotates one after another. Once the target doesn't answer, the rest is put off untried, so that the accounts of a
// dead target neither wait for it one by one nor hide those of others.
func (m *Manager) work(ctx context.Context, list []*Account) {
	down := false
	for _, a := range list {
		switch {
		case ctx.Err() != nil:
			return
		case down:
			m.putOff(ctx, a)
		default:
			err := m.rotate(ctx, a.Mount, a.Name, ifDue)
			down = unreachable(err)
			if said, ok := errors.AsType[*gate.Error](err); ok && said.Kind == gate.NotFound {
				a.NextAt = now().Add(undeclaredWait)
				m.keep(ctx, a)
			}
		}
	}
}

// undeclaredWait is until an account is looked at again whose role or target is gone. A change of what is declared ends it.
const undeclaredWait = time.Hour

// follow makes the accounts be those that are declared.
func (m *Manager) follow(ctx context.Context) error {
	all, err := m.cfg.Store.Accounts(ctx)
	if err != nil {
		return err
	}
	known := make(map[[2]string]*Account, len(all))
	for _, a := range all {
		known[[2]string{a.Mount, a.Name}] = a
	}
	var errs []error
	for _, role := range m.cfg.Catalog.StaticRoles() {
		key := [2]string{role.Mount, role.Name}
		errs = append(errs, m.followRole(ctx, role, known[key]))
		delete(known, key)
	}
	for _, a := range known {
		switch {
		case !a.Root():
			errs = append(errs, m.drop(ctx, a))
		case a.Rotating() && !m.taken(a): // its target may be there again
			a.NextAt = now()
			errs = append(errs, notStale(m.cfg.Store.PutAccount(ctx, a)))
		default: // only Bailiff knows that password: it is kept, also for the day the target is declared again
		}
	}
	return errors.Join(errs...)
}

// followRole makes a role's account, or moves its next rotation to where the role puts it now.
func (m *Manager) followRole(ctx context.Context, role Role, a *Account) error {
	unlock, ok := m.locks.TryLock(role.Mount + role.Name)
	if !ok {
		m.later() // somebody rotates it just now
		return nil
	}
	defer unlock()
	switch {
	case a == nil:
		a = &Account{Mount: role.Mount, Name: role.Name, Target: role.Target, Username: role.Username, NextAt: now()}
	case a.Target != role.Target || a.Username != role.Username:
		a.NextAt = now() // what it is now is found when it is rotated
	case a.Rotating() || a.Attempt > 0 || a.RotatedAt.IsZero():
		return nil
	default:
		next, err := role.next(a.RotatedAt)
		if err != nil || next.Equal(a.NextAt) {
			return err
		}
		a.NextAt = next
	}
	return notStale(m.cfg.Store.PutAccount(ctx, a))
}

// drop forgets the account of a role that is gone.
func (m *Manager) drop(ctx context.Context, a *Account) error {
	unlock, ok := m.locks.TryLock(a.Mount + a.Name)
	if !ok {
		m.later() // somebody rotates it just now
		return nil
	}
	defer unlock()
	return notStale(m.cfg.Store.DropAccount(ctx, a))
}

// notStale is err, but nil where somebody else was quicker: what they did is seen in the next round.
func notStale(err error) error {
	if errors.Is(err, ErrStale) {
		return nil
	}
	return err
}
