package broker_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
)

// process is a broker that can be killed: from then on it writes nothing and reaches no target.
type process struct {
	dead  atomic.Bool
	point atomic.Value // string: where to die; "" nowhere
	died  chan struct{}
	once  sync.Once
	moves atomic.Int64 // how many it makes before it dies; 0: any number
}

func newProcess() *process {
	p := &process{died: make(chan struct{})}
	p.point.Store("")
	return p
}

// fault is a Config.Fault: it ends the goroutine as SIGKILL would, without a word to anybody.
func (p *process) fault(point string) {
	if p.dead.Load() || p.point.Load() == point {
		p.kill()
		runtime.Goexit()
	}
}

func (p *process) kill() {
	p.dead.Store(true)
	p.once.Do(func() { close(p.died) })
}

var errDead = errors.New("the process is dead")

// store and catalog are those of the process: dead with it.
func (p *process) store(s broker.Store) broker.Store {
	return &gatedStore{Store: s, refuse: func(write string) bool {
		if write == "move" && p.moves.Load() > 0 && p.moves.Add(-1) == 0 {
			p.kill()
		}
		return p.dead.Load()
	}}
}

type mortalCatalog struct {
	broker.Catalog
	p *process
}

func (c mortalCatalog) Producer(name string) (broker.Producer, string, error) {
	if c.p.dead.Load() {
		return nil, "", errDead
	}
	return c.Catalog.Producer(name)
}

// reincarnate ends the broker and starts another on the same store.
func (w *world) reincarnate() *process {
	if w.stop != nil {
		w.stop()
	}
	p := newProcess()
	w.cfg.Store, w.cfg.Catalog, w.cfg.Fault = p.store(w.store), mortalCatalog{w.catalog, p}, p.fault
	w.start()
	return p
}

// TestCrash ends the process at each point, starts another on the same store, and wants the credential ended in time.
func TestCrash(t *testing.T) {
	for _, x := range []struct {
		point string
		state broker.State // right after the crash; empty: there is no lease
		alive bool         // the credential
		ends  time.Duration
	}{
		{"intent-before", "", false, 0},
		{"intent-durable", broker.Pending, false, time.Second},
		{"created", broker.Pending, true, time.Second},
		{"active-durable", broker.Active, true, time.Second},
		{"revoke-before", broker.Revoking, true, 300 * time.Millisecond},
		{"revoke-done", broker.Revoking, false, 300 * time.Millisecond},
		{"revoked-durable", broker.Revoked, false, 300 * time.Millisecond},
	} {
		t.Run(x.point, func(t *testing.T) {
			test(t, func(w *world) {
				p := w.reincarnate()
				p.point.Store(x.point)
				done := make(chan struct{})
				go func() {
					defer close(done)
					_, _ = w.b.Serve(context.Background(), request("good"))
				}()
				<-done
				<-p.died // at the issue, or when the lease ends
				all, err := w.store.List(context.Background(), broker.Filter{States: []broker.State{
					broker.Pending, broker.Active, broker.Revoking, broker.Revoked}})
				if err != nil {
					w.t.Fatal(err)
				}
				if x.state == "" {
					if len(all) != 0 || w.good.size() != 0 {
						w.t.Errorf("got %d leases and %d credentials, want none", len(all), w.good.size())
					}
					return
				}
				l := all[0]
				if l.State != x.state || w.good.has(l.Principal) != x.alive {
					w.t.Errorf("after the crash: got %s, alive %t; want %s, %t", l.State, w.good.has(l.Principal), x.state, x.alive)
				}
				w.reincarnate()
				w.revoked(x.ends, l.ID)
				if events := w.trail.of(l.ID); len(events) == 0 {
					w.t.Error("its end is not in the trail")
				}
			})
		})
	}
}

// TestRunWaitsForItsWork: a revocation that is cut off stays due and is not counted as a failure.
func TestRunWaitsForItsWork(t *testing.T) {
	test(t, func(w *world) {
		_, l := w.issue("good")
		inside := make(chan struct{})
		var finished atomic.Bool
		w.good.set(func() {
			w.good.revoke = func(ctx context.Context, _ broker.Ref) error {
				close(inside)
				err := hang(ctx)
				<-time.After(50 * time.Millisecond)
				finished.Store(true)
				return err
			}
		})
		if err := w.b.Revoke(context.Background(), l.ID, false); err != nil {
			w.t.Fatal(err)
		}
		<-inside
		w.stop()
		if !finished.Load() {
			w.t.Error("Run returned before its work did")
		}
		if got := w.lease(l.ID); got.State != broker.Revoking || got.Attempt != 0 {
			w.t.Errorf("got %s after %d attempts, want revoking after none", got.State, got.Attempt)
		}
		w.good.set(func() { w.good.revoke = nil })
		w.start()
		w.revoked(300*time.Millisecond, l.ID)
	})
}

func TestRevokeWithoutRunIsDurable(t *testing.T) {
	test(t, func(w *world) {
		_, l := w.issue("good")
		w.stop()
		if err := w.b.Revoke(context.Background(), l.ID, false); err != nil {
			w.t.Fatal(err)
		}
		w.start()
		w.revoked(300*time.Millisecond, l.ID)
	})
}
