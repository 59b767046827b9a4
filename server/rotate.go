package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/bailiff-secrets/bailiff/engine"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/rotation"
)

// rotate builds what changes passwords, and the engine, which shows them.
func (s *server) rotate(fault func(string)) error {
	m := newRotationMetrics()
	var err error
	if s.rotations, err = rotation.New(rotation.Config{
		Store: s.db, Catalog: s.estate, Targets: s.estate, Recorder: s.trail, Node: s.cfg.Node, Logger: s.logger,
		Observe: m.observe, Fault: fault, Shared: claims(s.db) != nil,
	}); err != nil {
		return err
	}
	m.health = s.rotations.Health
	s.metrics.registry.MustRegister(m)
	s.estate.rotations = s.rotations
	s.estate.engine, err = engine.New(engine.Config{
		Issuer: s.leases, Estate: s.estate, Catalog: s.estate, Connections: s.estate, Rotations: s.rotations,
	})
	return err
}

// StaticRole, StaticRoles, Admin and Producer make the estate a rotation.Catalog.
func (e *estate) StaticRole(mount, name string) (rotation.Role, bool) {
	r, ok := e.live.Load().statics[mount+name]
	return r, ok
}

// StaticRoles lists the static roles of every mount.
func (e *estate) StaticRoles() []rotation.Role {
	var out []rotation.Role
	for _, r := range e.live.Load().statics {
		out = append(out, r)
	}
	return out
}

// Admin finds the user as which Bailiff works on a target.
func (e *estate) Admin(target string) (rotation.Admin, bool) {
	t, ok := e.Target(target)
	if !ok || t.Username == "" {
		return rotation.Admin{}, false
	}
	return rotation.Admin{Username: t.Username, Password: t.Password, Statements: t.RotationStatements}, true
}

// Target finds a target as it is declared.
func (e *estate) Target(name string) (object.Target, bool) {
	for _, t := range e.live.Load().set.targets {
		if t.Name == name {
			return t.Target, true
		}
	}
	return object.Target{}, false
}

// SetPassword makes password the one that a target's object holds, whatever its source. It makes the estate a
// rotation.Targets.
func (e *estate) SetPassword(ctx context.Context, target string, password secret.Value) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	rec, ok := find(e.live.Load().set.records, object.KindTarget, target)
	if !ok {
		return fmt.Errorf("target %q: %w", target, object.ErrNotFound)
	}
	rec.Secrets = maps.Clone(rec.Secrets)
	if rec.Secrets == nil {
		rec.Secrets = map[string]secret.Value{}
	}
	rec.Secrets[object.SecretPassword] = password
	rec.UpdatedAt = time.Now().UTC()
	if err := e.store.Apply(ctx, []object.Change{{Record: rec, Expect: rec.Version}}); err != nil {
		return storeError(err)
	}
	records, err := e.store.Objects(ctx)
	if err != nil {
		return fmt.Errorf("read objects back: %w", err)
	}
	return e.swap(ctx, records)
}

// Put makes want what stands, where what stands has that version; 0: where there is none. It is an engine.Estate's.
func (e *estate) Put(ctx context.Context, by string, want object.Record, version int64) (object.Plan, error) {
	return e.put(ctx, by, want, version, tried)
}

// PutUntried is Put without trying a producer on its target.
func (e *estate) PutUntried(ctx context.Context, by string, want object.Record, version int64) (object.Plan, error) {
	return e.put(ctx, by, want, version, untried)
}

func (e *estate) put(ctx context.Context, by string, want object.Record, version int64, try trying) (object.Plan, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	stands, _ := find(e.live.Load().set.records, want.Kind, want.Name)
	if stands.Version != version {
		return object.Plan{}, storeError(object.ErrConflict)
	}
	want.Source = object.SourceAPI
	return e.apply(ctx, by, object.SourceAPI, []object.Record{want}, false, nil, try)
}

// Verify logs in to a target that need not be declared yet.
func (e *estate) Verify(ctx context.Context, spec object.Target) error {
	t, err := dial(spec, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	c, ok := t.producer.(checker)
	if !ok {
		return errors.Join(errors.New("the target can't be asked"), t.close())
	}
	if err := c.Health(ctx); err != nil {
		return errors.Join(errors.New(brief(err)), t.close())
	}
	return t.close()
}

// Reset ends the connections to a target and begins anew.
func (e *estate) Reset(_ context.Context, target string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.targets.restart(target)
}

// restart puts a new connection in the place of a target's.
func (ts *targets) restart(name string) error {
	old := ts.find(name)
	if old == nil {
		return fmt.Errorf("target %q: %w", name, object.ErrNotFound)
	}
	t, err := ts.start(old.spec)
	if err != nil {
		return fmt.Errorf("target %q: %w", name, err)
	}
	ts.mu.Lock()
	ts.byName[name] = t
	ts.mu.Unlock()
	ts.retire(old)
	return nil
}

// keptPassword puts the password that Bailiff has set in the place of the one that a file still declares.
func (e *estate) keptPassword(ctx context.Context, t *object.Target) error {
	kept, ok, err := e.rotations.Kept(ctx, t.Name, t.Username, t.Password)
	if err != nil {
		return fmt.Errorf("target %q: %w", t.Name, err)
	}
	if ok {
		t.Password = kept
	}
	return nil
}

// staticRole is a declared static role as package rotation knows it.
func staticRole(s object.StaticRole) rotation.Role {
	return rotation.Role{
		Mount: s.Mount + "/", Name: s.Name, Target: s.Target, Username: s.Username, Period: time.Duration(s.RotationPeriod),
		Schedule: s.RotationSchedule, Statements: s.RotationStatements,
	}
}

// checkStatic judges what only package rotation knows of a static role.
func checkStatic(s object.StaticRole) error {
	if s.RotationSchedule == "" {
		return nil
	}
	if err := rotation.CheckSchedule(s.RotationSchedule); err != nil {
		return &object.Problem{Kind: object.KindStaticRole, Name: s.Mount + "/" + s.Name, Field: "rotation_schedule", Msg: err.Error()}
	}
	return nil
}

// rotationMetrics counts rotations as they end and reads the rest from the store when it is scraped.
type rotationMetrics struct {
	ended   *prometheus.CounterVec
	health  func(ctx context.Context) (rotation.Health, error)
	failing *prometheus.Desc
	overdue *prometheus.Desc
}

func newRotationMetrics() *rotationMetrics {
	return &rotationMetrics{
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bailiff_rotations_total", Help: "Rotations of passwords by target, sort of account (static, root) and how they ended.",
		}, []string{"target", "account", "outcome"}),
		failing: prometheus.NewDesc("bailiff_rotations_failing", "Accounts whose last rotation failed, by target.", []string{"target"}, nil),
		overdue: prometheus.NewDesc("bailiff_oldest_overdue_rotation_seconds", "Age of the oldest rotation that is due and not done.", nil, nil),
	}
}

// observe counts a rotation; it is the rotations' observer.
func (r *rotationMetrics) observe(o rotation.Outcome) {
	account, outcome := "static", "ok"
	if o.Mount == "" {
		account = "root"
	}
	if o.Attempt > 0 {
		outcome = "error"
	}
	r.ended.WithLabelValues(o.Target, account, outcome).Inc()
}

// Describe is part of prometheus.Collector.
func (r *rotationMetrics) Describe(ch chan<- *prometheus.Desc) {
	r.ended.Describe(ch)
	ch <- r.failing
	ch <- r.overdue
}

// Collect is part of prometheus.Collector.
func (r *rotationMetrics) Collect(ch chan<- prometheus.Metric) {
	r.ended.Collect(ch)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	h, err := r.health(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(r.failing, err)
		return
	}
	for target, n := range h.Failing {
		ch <- prometheus.MustNewConstMetric(r.failing, prometheus.GaugeValue, float64(n), target)
	}
	age := 0.0
	if !h.Overdue.IsZero() {
		age = max(0, time.Since(h.Overdue).Seconds())
	}
	ch <- prometheus.MustNewConstMetric(r.overdue, prometheus.GaugeValue, age)
}
