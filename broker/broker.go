package broker

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/keyed"
)

// Config is what a Broker needs. The zero value of an optional field is its default.
type Config struct {
	Store    Store         // required
	Catalog  Catalog       // required
	Recorder gate.Recorder // required; *audit.Log is one
	Node     string        // the name of this process in the trail
	Logger   *slog.Logger  // default: discards

	// Claims is the store where several brokers share it; nil where this one is alone.
	Claims Claimer

	// NameKey makes the check in the names of credentials, by which Reconcile tells them from what only looks like one. It
	// must stay the same for the store's life. Optional: without it names have no check, and Reconcile touches nothing.
	NameKey []byte

	// Schedules says when each target is swept: its name to a cron expression. Optional.
	Schedules func() map[string]string

	// Fault is called at the points named in doc.go, for tests that end the process there. Normally nil.
	Fault func(point string)

	IssueTimeout  time.Duration // of one issue from its intent to its answer, and so its intent deadline; default 30 s
	RenewTimeout  time.Duration // of one renewal on the target; default 30 s
	RevokeTimeout time.Duration // of one revocation on the target; default 30 s
	SyncTimeout   time.Duration // how long a synchronous Revoke waits for the result; default 60 s
	ClockMargin   time.Duration // how far the target's clock may be from ours; default 5 s

	RetryMin   time.Duration // first wait after a failed revocation; default 1 s
	RetryMax   time.Duration // longest wait; default 15 min
	StuckAfter int           // failures after which a lease is Stuck; default 8
	StuckRetry time.Duration // wait between tries of a Stuck lease; default 1 h

	Workers int           // work at a time on one target at most; its limit begins at 8 and adapts; default 32
	Budget  int           // revocations at a time on all targets, beyond the one that each always may; default 256
	Queue   int           // revocations of one class that wait for a worker of one target; default 512
	Issues  int           // issues and renewals that wait for one target; default 1024
	Batch   int           // leases that one look at the store brings; default 500
	Poll    time.Duration // longest time between two looks at the store; default 1 s

	BreakAfter int           // silences of a target in a row after which it is not asked any more, apart from probes; default 5
	ProbeMin   time.Duration // wait before the first probe; default RetryMin
	ProbeMax   time.Duration // longest wait between probes; default 1 min, or RetryMax where that is shorter

	DefaultTTL time.Duration // where neither role nor mount has one; default 768 h
	MaxTTL     time.Duration // no lease lives longer; default 768 h
}

// firstLimit is how much is at work on a target at a time before anything is known of it.
const firstLimit = 8

// storeTimeout bounds one write that must be tried although whoever asked for it is gone.
const storeTimeout = 10 * time.Second

// setDefaults fills the zero fields and checks the others.
func (c *Config) setDefaults() error {
	switch {
	case c.Store == nil:
		return errors.New("broker: a store is required")
	case c.Catalog == nil:
		return errors.New("broker: a catalogue is required")
	case c.Recorder == nil:
		return errors.New("broker: a recorder is required")
	case len(c.NameKey) > 0 && len(c.NameKey) < 32:
		return errors.New("broker: the key of names is shorter than 32 bytes")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Fault == nil {
		c.Fault = func(string) {}
	}
	durations := []durationDefault{
		{&c.IssueTimeout, 30 * time.Second}, {&c.RenewTimeout, 30 * time.Second}, {&c.RevokeTimeout, 30 * time.Second},
		{&c.SyncTimeout, time.Minute}, {&c.ClockMargin, 5 * time.Second},
		{&c.RetryMin, time.Second}, {&c.RetryMax, 15 * time.Minute}, {&c.StuckRetry, time.Hour},
		{&c.Poll, time.Second}, {&c.DefaultTTL, 768 * time.Hour}, {&c.MaxTTL, 768 * time.Hour},
	}
	if err := setDurations(durations); err != nil {
		return err
	}
	// Those of probes follow those of retries.
	if err := setDurations([]durationDefault{{&c.ProbeMin, c.RetryMin}, {&c.ProbeMax, min(c.RetryMax, time.Minute)}}); err != nil {
		return err
	}
	for _, n := range []struct {
		field *int
		value int
	}{
		{&c.StuckAfter, 8}, {&c.BreakAfter, 5}, {&c.Workers, 32}, {&c.Budget, 256}, {&c.Queue, 512}, {&c.Issues, 1024}, {&c.Batch, 500},
	} {
		if *n.field == 0 {
			*n.field = n.value
		}
		if *n.field < 0 {
			return errors.New("broker: a count is negative")
		}
	}
	if c.RetryMax < c.RetryMin {
		return errors.New("broker: the longest wait between tries is shorter than the first")
	}
	return nil
}

// durationDefault is a field and the value that it has where it is zero.
type durationDefault struct {
	field *time.Duration
	value time.Duration
}

func setDurations(list []durationDefault) error {
	for _, d := range list {
		if *d.field == 0 {
			*d.field = d.value
		}
		if *d.field < 0 {
			return errors.New("broker: a duration is negative")
		}
	}
	return nil
}

// Broker issues, renews and revokes leases. It is a gate.Backend and safe for concurrent use. Issue, Renew and Revoke
// work without Run, but what is to be revoked is revoked only while Run runs.
type Broker struct {
	cfg   Config
	log   *slog.Logger
	locks keyed.Locks // one at a time for what reads a lease and writes it back

	lanes   *lanes
	many    *openMany
	epoch   string  // names this run of this process to others that share the store
	counter Counter // nil where the store doesn't count
	hold    hold
	tokens  Tokens // nil where the catalogue knows none
	guards  guards
	shares  shares
	pools   pools
	waiters waiters
	alarm   alarm
	counts  counters
	stats   series
	sweeps  keyed.Locks // one Reconcile at a time for a target
	reports reports
}

// New checks cfg and returns a Broker. It starts nothing.
func New(cfg Config) (*Broker, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	b := &Broker{cfg: cfg, log: cfg.Logger}
	b.waiters.byID = make(map[string][]chan error)
	b.alarm.ring = make(chan struct{}, 1)
	b.counts.byTarget = make(map[string]*Counts)
	revocations, _ := cfg.Store.(Revocations)
	b.many = newOpenMany(revocations)
	b.counter, _ = cfg.Store.(Counter)
	b.tokens, _ = cfg.Catalog.(Tokens)
	b.pools = newPools()
	b.stats.by = make(map[Work]*Series)
	b.epoch = cfg.Node + "/" + randomBase32()
	b.lanes = newLanes(laneConfig{
		queue: cfg.Queue, issues: cfg.Issues, start: min(firstLimit, cfg.Workers), most: cfg.Workers, budget: cfg.Budget,
		breakAfter: cfg.BreakAfter, probeLeast: cfg.ProbeMin, probeMost: cfg.ProbeMax, need: cfg.RevokeTimeout,
	}, duties{do: b.work, refuse: b.refuse, probe: b.probe, rejoice: b.rejoice, look: b.alarm.now})
	return b, nil
}

// alone says that no other broker works on this store.
func (b *Broker) alone() bool { return b.cfg.Claims == nil }

// now is the time as it is written to the store: UTC, in milliseconds, without a monotonic reading.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// Run looks for due work and does it until ctx ends; then it waits for what it started. A revocation that ctx cuts off
// stays due. Run returns nil when ctx ended, and must not be called twice at a time.
func (b *Broker) Run(ctx context.Context) error {
	if !b.lanes.open(ctx) {
		return errors.New("broker: it runs already")
	}
	defer func() { b.release(b.lanes.close()) }()
	var others sync.WaitGroup
	defer others.Wait()
	others.Go(func() { b.runMany(ctx) })
	others.Go(func() { b.runPools(ctx) })
	timer := time.NewTimer(0)
	defer timer.Stop()
	for rung := 0; ; {
		wait, err := b.round(ctx)
		if err != nil && ctx.Err() == nil {
			b.log.Error("due leases cannot be read", "error", err)
		}
		looked := time.Now()
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			rung = 0
			continue
		case <-b.alarm.ring:
		}
		if rung++; time.Since(looked) >= leastPoll {
			rung = 0
		}
		if rung < ringsInARow {
			continue
		}
		// Work that comes to nothing and rings again must not keep the loop from resting.
		timer.Reset(leastPoll)
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			rung = 0
		}
	}
}

// ringsInARow is how often the loop looks again at once because it was rung, before it rests for leastPoll.
const ringsInARow = 16

// alarm wakes the due loop before its time.
type alarm struct {
	ring chan struct{}

	mu    sync.Mutex
	until time.Time // when the loop will look again by itself
}

// at wakes the loop where it would sleep past t.
func (a *alarm) at(t time.Time) {
	a.mu.Lock()
	early := t.Before(a.until)
	a.mu.Unlock()
	if early {
		a.now()
	}
}

func (a *alarm) now() {
	select {
	case a.ring <- struct{}{}:
	default:
	}
}

func (a *alarm) sleeping(until time.Time) {
	a.mu.Lock()
	a.until = until
	a.mu.Unlock()
}

// waiters are those who want to know how the next revocation of a lease ends.
type waiters struct {
	mu   sync.Mutex
	byID map[string][]chan error
}

func (w *waiters) add(id string) chan error {
	c := make(chan error, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.byID[id] = append(w.byID[id], c)
	return c
}

// has says that somebody waits for id.
func (w *waiters) has(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.byID[id]) > 0
}

func (w *waiters) remove(id string, c chan error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.byID[id]
	for i, x := range list {
		if x == c {
			list = append(list[:i:i], list[i+1:]...)
			break
		}
	}
	if len(list) == 0 {
		delete(w.byID, id)
		return
	}
	w.byID[id] = list
}

func (w *waiters) tell(id string, err error) {
	w.mu.Lock()
	list := w.byID[id]
	delete(w.byID, id)
	w.mu.Unlock()
	for _, c := range list {
		c <- err
	}
}
