package broker_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/policy"
)

// world is a broker with a store, two targets "good" and "bad" with roles of the same names, and a trail.
type world struct {
	t         testing.TB
	store     broker.Store
	good, bad *target
	catalog   *catalog
	trail     *trail
	logs      *logBuffer
	cfg       broker.Config
	b         *broker.Broker
	stop      func() // ends Run and waits for it
}

type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

const (
	ttl    = 400 * time.Millisecond
	maxTTL = 2 * time.Second
)

func newWorld(t testing.TB, store broker.Store) *world {
	w := &world{t: t, store: store, good: newTarget(), bad: newTarget(), trail: new(trail), logs: new(logBuffer)}
	w.catalog = &catalog{
		roles: map[string]broker.Role{
			"database/good": {Mount: "database/", Name: "good", Target: "good", DefaultTTL: ttl, MaxTTL: maxTTL},
			"database/bad":  {Mount: "database/", Name: "bad", Target: "bad", DefaultTTL: ttl, MaxTTL: maxTTL},
		},
		targets: map[string]*target{"good": w.good, "bad": w.bad},
	}
	w.cfg = broker.Config{
		Store: store, Catalog: w.catalog, Recorder: w.trail, Node: "node-1",
		Logger:       slog.New(slog.NewTextHandler(w.logs, nil)),
		IssueTimeout: 300 * time.Millisecond, RenewTimeout: 300 * time.Millisecond, RevokeTimeout: 300 * time.Millisecond,
		SyncTimeout: time.Second, ClockMargin: 100 * time.Millisecond,
		RetryMin: 10 * time.Millisecond, RetryMax: 100 * time.Millisecond, StuckRetry: 200 * time.Millisecond,
		Workers: 4, Queue: 8, Batch: 50, Poll: 100 * time.Millisecond,
	}
	return w
}

// start makes a broker of w.cfg and runs it until the test's end.
func (w *world) start() *world {
	w.t.Helper()
	b, err := broker.New(w.cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.run(b)
}

// run runs b until the test's end.
func (w *world) run(b *broker.Broker) *world {
	w.b = b
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("Run: %v", err)
		}
	})
	return w
}

// test runs f with a broker on a store in memory, in time that isn't real, and again on a real store in real time.
func test(t *testing.T, f func(w *world)) {
	t.Helper()
	t.Run("memory", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, newMemory()).start()
			defer func() { w.stop() }()
			f(w)
		})
	})
	t.Run("sqlite", func(t *testing.T) {
		w := newWorld(t, openSQLite(t)).start()
		defer func() { w.stop() }()
		f(w)
	})
}

// request is a read of role's credentials by a caller.
func request(role string) *gate.Request {
	return &gate.Request{
		ID: "request-1", Op: policy.Read, Path: "database/creds/" + role, Rest: "creds/" + role,
		Mount:  &gate.Mount{Path: "database/"},
		Caller: identity.Caller{Name: "app", AccessID: "p-1"},
	}
}

// issue gets a credential and returns its lease.
func (w *world) issue(role string) (*gate.Response, *broker.Lease) {
	w.t.Helper()
	resp, err := w.b.Serve(context.Background(), request(role))
	if err != nil {
		w.t.Fatalf("issuing: %v", err)
	}
	return resp, w.lease(resp.Lease.ID)
}

// lasting makes what is issued from now on outlive the test, however slow it is.
func (w *world) lasting() {
	w.catalog.set(func() {
		for name, role := range w.catalog.roles {
			role.DefaultTTL, role.MaxTTL = time.Hour, 2*time.Hour
			w.catalog.roles[name] = role
		}
	})
}

func (w *world) lease(id string) *broker.Lease {
	w.t.Helper()
	l, err := w.store.Lease(context.Background(), id)
	if err != nil {
		w.t.Fatalf("lease %s: %v", id, err)
	}
	return l
}

// only finds the one lease that there is.
func (w *world) only() *broker.Lease {
	w.t.Helper()
	all, err := w.store.List(context.Background(), broker.Filter{States: []broker.State{
		broker.Pending, broker.Active, broker.Revoking, broker.Stuck, broker.Revoked}})
	if err != nil || len(all) != 1 {
		w.t.Fatalf("got %d leases (%v), want 1", len(all), err)
	}
	return all[0]
}

// within waits until ok is true and fails after d.
func (w *world) within(d time.Duration, what string, ok func() bool) {
	w.t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-timer.C:
			w.t.Fatalf("not within %v: %s\n%s", d, what, tail(w.logs.String()))
		case <-tick.C:
		}
	}
}

func tail(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-10):], "\n")
}

// revoked waits until a lease is revoked and its credential is not alive.
func (w *world) revoked(d time.Duration, id string) {
	w.t.Helper()
	w.within(d, "the lease is revoked", func() bool { return w.lease(id).State == broker.Revoked })
	l := w.lease(id)
	if w.good.has(l.Principal) || w.bad.has(l.Principal) {
		w.t.Error("the lease is revoked and the credential is alive")
	}
}

// wantKind checks that err is a *gate.Error of a kind whose text holds no value.
func (w *world) wantKind(err error, want gate.Kind) {
	w.t.Helper()
	e, ok := err.(*gate.Error)
	switch {
	case !ok:
		w.t.Errorf("got %T %v, want a *gate.Error", err, err)
	case e.Kind != want:
		w.t.Errorf("got kind %d (%v), want %d", e.Kind, err, want)
	}
	if err != nil && strings.Contains(err.Error(), canary) {
		w.t.Errorf("a value is in the error: %v", err)
	}
}
