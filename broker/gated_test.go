package broker_test

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/policy"
)

// anybody is a gate.Authenticator and a gate.Policies that let everybody do everything.
type anybody struct{ acl *policy.ACL }

func newAnybody(t testing.TB) anybody {
	p, err := policy.Parse("all", 1, `path "*" { capabilities = ["read"] }`)
	if err != nil {
		t.Fatal(err)
	}
	return anybody{policy.Compile(p)}
}

func (anybody) Authenticate(context.Context, secret.Value, netip.Addr) (identity.Caller, error) {
	return identity.Caller{Name: "app", AccessID: "p-1"}, nil
}
func (a anybody) ACL(*identity.Caller) *policy.ACL { return a.acl }

// mortalTrail is the trail of a process, which writes nothing once it is dead. before is called before a record is kept.
type mortalTrail struct {
	*trail
	p      *process
	before func(stage audit.Stage)
}

func (x mortalTrail) Append(ctx context.Context, records ...*audit.Record) error {
	if x.before != nil {
		x.before(records[0].Stage)
	}
	if x.p.dead.Load() {
		return errDead
	}
	return x.trail.Append(ctx, records...)
}

func (x *trail) has(stage audit.Stage) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.ContainsFunc(x.records, func(r audit.Record) bool { return r.Stage == stage })
}

// gated is the broker behind a gate whose faults are those of p.
func (w *world) gated(p *process, before func(audit.Stage)) *gate.Gate {
	w.t.Helper()
	mounts, err := gate.NewMounts([]*gate.Mount{{Path: "database/", Type: "broker", Backend: w.b}})
	if err != nil {
		w.t.Fatal(err)
	}
	who := newAnybody(w.t)
	g, err := gate.New(gate.Config{
		Authenticator: who, Policies: who, Mounts: func() *gate.Mounts { return mounts }, Fault: p.fault,
		Recorder: mortalTrail{w.trail, p, before}, Logger: slog.New(slog.NewTextHandler(w.logs, nil)),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return g
}

// read asks the gate for a credential in a goroutine of its own, which a fault may end. released says that there was an answer.
func read(g *gate.Gate, role string) (released bool, err error) {
	done := make(chan struct{})
	err = errDead
	go func() {
		defer close(done)
		var resp *gate.Response
		resp, err = g.Do(context.Background(), &gate.Request{Op: policy.Read, Path: "database/creds/" + role})
		released = resp != nil
	}()
	<-done
	return released, err
}

// all are the leases in any state.
func (w *world) all() []*broker.Lease {
	w.t.Helper()
	all, err := w.store.List(context.Background(), broker.Filter{States: []broker.State{
		broker.Pending, broker.Active, broker.Revoking, broker.Stuck, broker.Revoked}})
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

// TestCrashBesideTheRecords ends the process when one of two things that become durable side by side is, and the other isn't,
// and at each point on the way. No answer may have left; what is on the target has a record and a lease, which ends it.
func TestCrashBesideTheRecords(t *testing.T) {
	for _, x := range []struct {
		sentence string
		point    string                                             // a fault; empty: one of the next two kills
		store    func(w *world, p *process) func(write string) bool // before a write
		trail    func(w *world, p *process) func(stage audit.Stage) // before a record is kept
		state    broker.State                                       // of the lease after the crash; "": either there or not
		request  bool                                               // its record is there
		response bool
		alive    bool // the credential
	}{
		{sentence: "the request's record is durable, the pending row isn't", state: "none", request: true,
			store: func(w *world, p *process) func(string) bool {
				return func(write string) bool {
					if write == "insert" {
						w.within(time.Second, "the record", func() bool { return w.trail.has(audit.StageRequest) })
						p.kill()
					}
					return p.dead.Load()
				}
			}},
		{sentence: "the pending row is durable, the request's record isn't", state: broker.Pending,
			trail: func(w *world, p *process) func(audit.Stage) {
				return func(stage audit.Stage) {
					w.within(time.Second, "the row", func() bool { return len(w.all()) == 1 })
					p.kill()
				}
			}},
		{sentence: "the record of the answer is durable, the active row isn't", state: broker.Pending, request: true, response: true, alive: true,
			store: func(w *world, p *process) func(string) bool {
				return func(write string) bool {
					if write == "move" {
						w.within(time.Second, "the record", func() bool { return w.trail.has(audit.StageResponse) })
						p.kill()
					}
					return p.dead.Load()
				}
			}},
		{sentence: "the active row is durable, the record of the answer isn't", state: broker.Active, request: true, alive: true,
			trail: func(w *world, p *process) func(audit.Stage) {
				return func(stage audit.Stage) {
					if stage == audit.StageResponse {
						w.within(time.Second, "the row", func() bool { return w.only().State == broker.Active })
						p.kill()
					}
				}
			}},
		{sentence: "the request's record is durable", point: "request-recorded", request: true},
		{sentence: "the target has answered", point: "created", state: broker.Pending, request: true, alive: true},
		{sentence: "the broker has answered", point: "served", state: broker.Pending, request: true, alive: true},
		{sentence: "the record of the answer is durable", point: "response-recorded", request: true, response: true, alive: true},
		{sentence: "the lease is active", point: "active-durable", state: broker.Active, request: true, alive: true},
	} {
		t.Run(x.sentence, func(t *testing.T) {
			test(t, func(w *world) {
				w.stop()
				p := newProcess()
				store := p.store(w.store)
				if x.store != nil {
					store = &gatedStore{Store: w.store, refuse: x.store(w, p)}
				}
				w.cfg.Store, w.cfg.Catalog, w.cfg.Fault = store, mortalCatalog{w.catalog, p}, p.fault
				w.start()
				p.point.Store(x.point)
				var before func(audit.Stage)
				if x.trail != nil {
					before = x.trail(w, p)
				}
				if released, err := read(w.gated(p, before), "good"); released || err == nil {
					w.t.Errorf("an answer left: %t, %v", released, err)
				}
				<-p.died
				if got := w.trail.has(audit.StageRequest); got != x.request {
					w.t.Errorf("the request's record is there: %t, want %t", got, x.request)
				}
				if got := w.trail.has(audit.StageResponse); got && !x.response && x.point == "" {
					w.t.Error("the record of the answer is there")
				}
				all := w.all()
				state := broker.State("none")
				if len(all) == 1 {
					state = all[0].State
				}
				if x.state != "" && state != x.state {
					w.t.Errorf("the lease is %s, want %s", state, x.state)
				}
				if got := w.good.size() == 1; got != x.alive {
					w.t.Errorf("the credential is there: %t, want %t", got, x.alive)
				}
				if w.good.size() > 0 && len(all) == 0 {
					w.t.Error("a credential without a lease")
				}
				w.reincarnate()
				for _, l := range all {
					w.revoked(time.Second, l.ID)
				}
				if w.good.size() != 0 {
					w.t.Error("the credential is alive")
				}
			})
		})
	}
}

// TestStoreFailsBesideTheRecord: the answer's record is there and the lease can't become active. Nothing is released, the
// trail takes it back, and the credential is ended.
func TestStoreFailsBesideTheRecord(t *testing.T) {
	test(t, func(w *world) {
		w.stop()
		failing := true
		w.cfg.Store = &gatedStore{Store: w.store, refuse: func(write string) bool {
			fails := failing && write == "move" && w.trail.has(audit.StageResponse)
			failing = failing && !fails
			return fails
		}}
		w.start()
		released, err := read(w.gated(newProcess(), nil), "good")
		if e, ok := errors.AsType[*gate.Error](err); released || !ok || e.Kind != gate.Unavailable {
			w.t.Fatalf("got %t, %v", released, err)
		}
		l := w.only()
		w.revoked(2*time.Second, l.ID)
		var said []audit.Status
		for _, r := range w.trail.of(l.ID) {
			if r.Stage == audit.StageResponse {
				said = append(said, r.Status)
			}
		}
		if !slices.Equal(said, []audit.Status{audit.OK, audit.Failed}) {
			w.t.Errorf("the trail says %v, want that the answer was taken back", said)
		}
	})
}

// TestTrailFailsBesideTheRow: without a record of the request no target hears of it, and the lease is no more.
func TestTrailFailsBesideTheRow(t *testing.T) {
	test(t, func(w *world) {
		w.trail.err = errors.New("disk full")
		released, err := read(w.gated(newProcess(), nil), "good")
		if released || !errors.Is(err, gate.ErrNoRecord) {
			w.t.Errorf("got %t, %v, want no record", released, err)
		}
		w.good.mu.Lock()
		defer w.good.mu.Unlock()
		if l := w.only(); l.State != broker.Revoked || w.good.creates+w.good.revokes != 0 {
			w.t.Errorf("the lease is %s, the target was asked %d times; want revoked, and never", l.State, w.good.creates+w.good.revokes)
		}
	})
}
