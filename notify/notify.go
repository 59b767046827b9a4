package notify

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/document"
	"github.com/bailiff-secrets/bailiff/internal/object"
)

// Trail is what webhooks follow; *audit.Log is one.
type Trail interface {
	gate.Recorder
	Head() audit.Head
	Query(ctx context.Context, q audit.Query, fn func(*audit.Record) error) error
}

// Cursors is the part of document.Store that keeps how far webhooks are.
type Cursors interface {
	Document(ctx context.Context, space, key string) (document.Document, error)
	Documents(ctx context.Context, q document.Query) ([]document.Document, error)
	WriteDocuments(ctx context.Context, changes ...*document.Change) error
}

// Config is what a Manager needs. The zero value of an optional field is its default.
type Config struct {
	Trail   Trail          // required
	Cursors Cursors        // required
	Leases  broker.Expirer // required
	Node    string         // required: the name of this process, which stays the same over restarts
	Source  string         // required: of the events, as CloudEvents wants it: "/bailiff/<id of the store>"
	Version string         // of Bailiff, for User-Agent
	Logger  *slog.Logger   // default: discards

	// Fault is called at "sent", between an answer and what is written of it, for tests that end the process there.
	// Normally nil.
	Fault func(point string)

	Timeout  time.Duration // of one try; default 10 s
	RetryMin time.Duration // shortest wait after a failure; default 1 s
	RetryMax time.Duration // longest wait; default 5 min
	Refusals int           // answers 4xx after which one event is given up; default 10
	Poll     time.Duration // between looks at the trail; default 250 ms
	Look     time.Duration // between looks for leases that expire; default 1 s
	Claim    time.Duration // how long a node that stands still keeps others from that; default 30 s
	Save     time.Duration // longest time that answers are not noted; default 1 s
}

func (c *Config) setDefaults() error {
	if c.Trail == nil || c.Cursors == nil || c.Leases == nil || c.Node == "" || c.Source == "" {
		return errors.New("notify: a trail, cursors, leases, a node and a source are required")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Fault == nil {
		c.Fault = func(string) {}
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&c.Timeout, 10 * time.Second}, {&c.RetryMin, time.Second}, {&c.RetryMax, 5 * time.Minute},
		{&c.Poll, 250 * time.Millisecond}, {&c.Look, time.Second}, {&c.Claim, 30 * time.Second}, {&c.Save, time.Second},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if c.Refusals == 0 {
		c.Refusals = 10
	}
	return nil
}

// Manager sends the events of leases to the webhooks that are declared. It is safe for concurrent use.
type Manager struct {
	cfg Config
	log *slog.Logger

	changed chan struct{} // the webhooks are others

	mu    sync.Mutex
	used  bool             // Use was called
	hooks map[string]*hook // by name
}

// hook is a webhook as it is declared, and how it is.
type hook struct {
	object.Notify
	from   uint64 // where the trail was when it was declared
	since  time.Time
	health health
}

// New checks cfg and returns a Manager without webhooks. It starts nothing.
func New(cfg Config) (*Manager, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	return &Manager{cfg: cfg, log: cfg.Logger, changed: make(chan struct{}, 1), hooks: make(map[string]*hook)}, nil
}

// Use makes list the webhooks that count. One that was there goes on where it was; a new one begins with what happens from
// now on.
func (m *Manager) Use(list []object.Notify) {
	head, now := m.cfg.Trail.Head().Seq, time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	next := make(map[string]*hook, len(list))
	for _, n := range list {
		h := m.hooks[n.Name]
		switch {
		case h == nil:
			h = &hook{Notify: n, from: head, since: now}
		case !same(h.Notify, n):
			h = &hook{Notify: n, from: h.from, since: h.since, health: h.health.copied()}
		}
		next[n.Name] = h
	}
	m.hooks, m.used = next, true
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

func same(a, b object.Notify) bool {
	if a.Secret.Reveal() != b.Secret.Reveal() {
		return false
	}
	a.Secret = b.Secret
	return reflect.DeepEqual(a, b)
}

// Run sends until ctx ends, and then waits for what it started. It returns nil.
func (m *Manager) Run(ctx context.Context) error {
	running := make(map[string]*worker)
	var announcing sync.WaitGroup
	announcing.Go(func() { m.announce(ctx) })
	defer announcing.Wait()
	for {
		m.keep(ctx, running)
		select {
		case <-m.changed:
		case <-ctx.Done():
			for _, w := range running {
				<-w.done
			}
			return nil
		}
	}
}

// keep starts and ends workers, so that each webhook as it is declared has one.
func (m *Manager) keep(ctx context.Context, running map[string]*worker) {
	hooks, used := m.declared()
	for name, w := range running {
		if hooks[name] != w.hook {
			w.stop()
			<-w.done
			delete(running, name)
		}
	}
	if !used {
		return
	}
	if err := m.forget(ctx, hooks); err != nil && ctx.Err() == nil {
		m.log.Warn("the cursors of webhooks that are gone can't be removed", "error", err)
	}
	for name, h := range hooks {
		if running[name] == nil {
			running[name] = m.start(ctx, h)
		}
	}
}

func (m *Manager) declared() (hooks map[string]*hook, used bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.hooks), m.used
}

// forget removes the cursors of webhooks that are gone, so that one which is declared again under the same name begins anew.
func (m *Manager) forget(ctx context.Context, hooks map[string]*hook) error {
	docs, err := m.cfg.Cursors.Documents(ctx, document.Query{Space: space})
	if err != nil {
		return err
	}
	for _, d := range docs {
		name, what, _ := strings.Cut(d.Key, "/")
		if hooks[name] != nil || what != expiring && what != m.cfg.Node {
			continue
		}
		err := m.cfg.Cursors.WriteDocuments(ctx, &document.Change{Document: document.Document{Space: space, Key: d.Key, Version: d.Version}, Remove: true})
		if err != nil && !errors.Is(err, document.ErrConflict) {
			return err
		}
	}
	return nil
}

// Health says how each webhook is, by name.
func (m *Manager) Health() []Health {
	hooks, _ := m.declared()
	head := m.cfg.Trail.Head().Seq
	out := make([]Health, 0, len(hooks))
	for _, name := range slices.Sorted(maps.Keys(hooks)) {
		out = append(out, hooks[name].health.now(name, head))
	}
	return out
}
