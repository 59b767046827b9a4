package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/producers"
	"github.com/bailiff-secrets/bailiff/upstream"
)

// target is a live connection to an outside system: a Vault, or what a producer makes credentials on.
type target struct {
	spec     versioned
	vault    *upstream.Vault
	producer producers.Closer
	stop     func()
}

// targets keeps one target for each that is declared. A target whose declaration did not change stays as it is, with its
// login and its connections.
type targets struct {
	logger  *slog.Logger
	adopter gate.Adopter // of the leases that Vaults issue; set before the first ensure

	mu     sync.RWMutex
	byName map[string]*target
	wg     sync.WaitGroup
}

func newTargets(logger *slog.Logger) *targets {
	return &targets{logger: logger, byName: make(map[string]*target)}
}

func (ts *targets) find(name string) *target {
	ts.mu.RLock()
	defer ts.mu.RUnlock()
	return ts.byName[name]
}

// ensure starts what is new or changed.
func (ts *targets) ensure(list []versioned) error {
	for _, spec := range list {
		old := ts.find(spec.Name)
		if old != nil && old.spec.version == spec.version {
			continue
		}
		t, err := ts.start(spec)
		if err != nil {
			return fmt.Errorf("target %q: %w", spec.Name, err)
		}
		ts.mu.Lock()
		ts.byName[spec.Name] = t
		ts.mu.Unlock()
		if old != nil {
			ts.retire(old)
		}
	}
	return nil
}

func (ts *targets) start(spec versioned) (*target, error) {
	t, err := dial(spec.Target, ts.logger, ts.adopter)
	if err != nil {
		return nil, err
	}
	t.spec = spec
	ctx, cancel := context.WithCancel(context.Background())
	t.stop = cancel
	if t.vault != nil {
		ts.wg.Go(func() {
			if err := t.vault.Run(ctx); err != nil && ctx.Err() == nil {
				ts.logger.Error("the session with a Vault ended", "target", spec.Name, "error", err)
			}
		})
	}
	return t, nil
}

// dial makes a target that has connected to nothing yet.
func dial(spec object.Target, logger *slog.Logger, adopter gate.Adopter) (*target, error) {
	t := &target{stop: func() {}}
	var err error
	if spec.Type == "vault" {
		t.vault, err = upstream.New(upstream.Config{Target: spec, Logger: logger, Adopter: adopter})
		return t, err
	}
	factory, ok := producers.Types[spec.Type]
	if !ok {
		return nil, fmt.Errorf("type %q is not known", spec.Type)
	}
	t.producer, err = factory.New(producers.Config{Target: spec, Logger: logger})
	return t, err
}

// tryTarget checks that a declaration can be opened.
func tryTarget(spec object.Target) error {
	t, err := dial(spec, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		return err
	}
	return t.close()
}

func (t *target) close() error {
	t.stop()
	if t.vault != nil {
		t.vault.Close()
	}
	if t.producer != nil {
		return t.producer.Close()
	}
	return nil
}

// retire closes a target that is no longer declared, after requests that still hold it have had time to end.
func (ts *targets) retire(t *target) {
	t.stop()
	time.AfterFunc(retireAfter, func() {
		if err := t.close(); err != nil {
			ts.logger.Warn("a target did not close cleanly", "target", t.spec.Name, "error", err)
		}
	})
}

// retireAfter is longer than a request to a target may take.
const retireAfter = time.Minute

// keepOnly retires what list lacks.
func (ts *targets) keepOnly(list []versioned) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for name, t := range ts.byName {
		if !slices.ContainsFunc(list, func(v versioned) bool { return v.Name == name }) {
			delete(ts.byName, name)
			ts.retire(t)
		}
	}
}

// close ends everything at once: nothing is served any more.
func (ts *targets) close() error {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	var errs []error
	for _, t := range ts.byName {
		errs = append(errs, t.close())
	}
	clear(ts.byName)
	return errors.Join(errs...)
}

// mountInfo is a mount as a Vault has it.
type mountInfo struct {
	engine      string
	kvVersion   int
	description string
}

// asker asks Vaults for their mounts, each once.
type asker struct {
	logger *slog.Logger
	specs  map[string]object.Target
	known  map[string]map[string]mountInfo
	opened []*target
}

// newAsker knows the targets that want declares, and those that stand.
func (e *estate) newAsker(want []object.Record) *asker {
	a := &asker{logger: e.logger, specs: make(map[string]object.Target), known: make(map[string]map[string]mountInfo)}
	for _, t := range e.live.Load().set.targets {
		a.specs[t.Name] = t.Target
	}
	for _, rec := range want {
		if v, err := object.Decode(rec); err == nil {
			if t, ok := v.(*object.Target); ok {
				a.specs[t.Name] = *t
			}
		}
	}
	return a
}

func (a *asker) mounts(ctx context.Context, name string) (map[string]mountInfo, error) {
	if found, ok := a.known[name]; ok {
		return found, nil
	}
	spec, ok := a.specs[name]
	if !ok || spec.Type != "vault" {
		return nil, errors.New("it is not a declared Vault")
	}
	t, err := dial(spec, a.logger, nil)
	if err != nil {
		return nil, err
	}
	a.opened = append(a.opened, t)
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	list, err := t.vault.Mounts(ctx)
	if err != nil {
		return nil, err
	}
	found := make(map[string]mountInfo, len(list))
	for _, m := range list {
		found[strings.TrimSuffix(m.Path, "/")] = mountInfo{engine: m.Type, kvVersion: kvVersion(m.Type, m.Options), description: m.Description}
	}
	a.known[name] = found
	return found, nil
}

func (a *asker) close() {
	for _, t := range a.opened {
		if err := t.close(); err != nil {
			a.logger.Warn("a session with a Vault did not close cleanly", "error", err)
		}
	}
}

func kvVersion(engine string, options map[string]string) int {
	switch {
	case engine != "kv" && engine != "generic":
		return 0
	case options["version"] == "2":
		return 2
	default:
		return 1
	}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// stableID is an accessor that stays the same for a path.
func stableID(prefix, path string) string {
	sum := sha256.Sum256([]byte("mount accessor\x00" + path))
	return prefix + hex.EncodeToString(sum[:4])
}

// stableUUID is in the form of a UUID and stays the same for a path.
func stableUUID(path string) string {
	sum := sha256.Sum256([]byte("mount uuid\x00" + path))
	h := hex.EncodeToString(sum[:16])
	return h[0:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:32]
}
