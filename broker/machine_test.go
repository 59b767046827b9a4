package broker_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
)

// unbounded hides a test's deadline from rapid: inside of synctest it must not be asked for.
type unbounded struct{ testing.TB }

// TestAnySequence issues, renews and revokes in any order while targets fail and processes die, and checks after each step
// that no credential is alive without an open lease, that what was promised is kept, and in the end that nothing is lost.
func TestAnySequence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(unbounded{t}, func(rt *rapid.T) {
			m := newMachine(t, rt)
			defer func() { m.w.stop() }()
			rt.Repeat(map[string]func(*rapid.T){
				"":        m.check,
				"issue":   m.issue,
				"renew":   m.renew,
				"revoke":  m.revoke,
				"prefix":  m.revokePrefix,
				"target":  m.changeTarget,
				"die":     m.die,
				"restart": m.restart,
				"time":    m.pass,
			})
			m.settle(rt)
		})
	})
}

// machine is a world and what its clients know.
type machine struct {
	w    *world
	p    *process
	mood string // of the target

	held map[string]time.Time // leases that a client was given → when it was told they end
}

var moods = []string{"well", "well", "dead", "silent", "made but says no", "late"}

func newMachine(t *testing.T, rt *rapid.T) *machine {
	m := &machine{w: newWorld(t, newMemory()), held: make(map[string]time.Time)}
	m.w.t = fataler{TB: t, rt: rt}
	m.p = m.w.reincarnate()
	m.setMood("well")
	return m
}

// fataler gives what a world reports to rapid.
type fataler struct {
	testing.TB
	rt *rapid.T
}

func (f fataler) Fatalf(format string, args ...any) { f.rt.Fatalf(format, args...) }
func (f fataler) Fatal(args ...any)                 { f.rt.Fatal(args...) }
func (f fataler) Errorf(format string, args ...any) { f.rt.Errorf(format, args...) }
func (f fataler) Error(args ...any)                 { f.rt.Error(args...) }

func (m *machine) setMood(mood string) {
	x := m.w.good
	x.set(func() {
		m.mood = mood
		x.create, x.revoke, x.renew = nil, nil, nil
		switch mood {
		case "dead":
			x.create = func(context.Context, broker.Spec) error { return unreachable() }
			x.revoke = func(context.Context, broker.Ref) error { return unreachable() }
			x.renew = func(context.Context, time.Time) error { return unreachable() }
		case "silent":
			x.create = func(ctx context.Context, _ broker.Spec) error { return hang(ctx) }
			x.revoke = func(ctx context.Context, _ broker.Ref) error { return hang(ctx) }
			x.renew = func(ctx context.Context, _ time.Time) error { return hang(ctx) }
		case "made but says no":
			x.create = func(_ context.Context, s broker.Spec) error {
				_, err := x.make(s)
				return errors.Join(err, unreachable())
			}
		case "late": // the statement is on its way when the caller gives up; the target refuses it past the deadline
			x.create = func(_ context.Context, s broker.Spec) error {
				time.AfterFunc(time.Until(s.Deadline)*9/10, func() { _, _ = x.make(s) })
				return unreachable()
			}
		}
	})
}

// within runs f as a client would call it, in a goroutine that dies with the process.
func (m *machine) call(f func()) (returned bool) {
	ok := false
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
		ok = true
	}()
	<-done
	return ok && !m.p.dead.Load()
}

func (m *machine) issue(rt *rapid.T) {
	abandon := rapid.Bool().Draw(rt, "abandon")
	var resp *gate.Response
	var err error
	if !m.call(func() { resp, err = m.w.b.Serve(context.Background(), request("good")) }) || err != nil {
		return
	}
	if abandon {
		m.call(resp.Abandon)
		return
	}
	m.held[resp.Lease.ID] = time.Now().Add(resp.Lease.Duration)
}

func (m *machine) renew(rt *rapid.T) {
	id := m.pick(rt)
	increment := time.Duration(rapid.IntRange(0, 3000).Draw(rt, "increment")) * time.Millisecond
	var l *broker.Lease
	var err error
	if m.call(func() { l, _, err = m.w.b.Renew(context.Background(), id, increment) }) && err == nil {
		m.held[id] = l.ExpiresAt
		return
	}
	// Nobody knows whether it was moved; it may be shorter.
	if end := time.Now().Add(increment); end.Before(m.held[id]) {
		delete(m.held, id)
	}
}

func (m *machine) revoke(rt *rapid.T) {
	id := m.pick(rt)
	sync, twice := rapid.Bool().Draw(rt, "sync"), rapid.Bool().Draw(rt, "twice")
	delete(m.held, id)
	other := make(chan struct{})
	go func() {
		defer close(other)
		if twice {
			_ = m.w.b.Revoke(context.Background(), id, sync)
		}
	}()
	var err error
	returned := m.call(func() { err = m.w.b.Revoke(context.Background(), id, sync) })
	<-other
	if returned && err == nil && sync {
		if l := m.w.lease(id); l.State != broker.Revoked || m.w.good.has(l.Principal) {
			rt.Fatalf("a synchronous revocation was called done: the lease is %s, alive %t", l.State, m.w.good.has(l.Principal))
		}
	}
	if returned && err == nil {
		if s := m.w.lease(id).State; s == broker.Active || s == broker.Pending {
			rt.Fatalf("a revocation was accepted and the lease is %s", s)
		}
	}
}

func (m *machine) revokePrefix(rt *rapid.T) {
	sync := rapid.Bool().Draw(rt, "sync")
	clear(m.held)
	m.call(func() { _, _ = m.w.b.RevokePrefix(context.Background(), "database/creds/good/", sync) })
}

// pick draws a lease that a client holds, or none that there is.
func (m *machine) pick(rt *rapid.T) string {
	ids := []string{}
	for _, l := range m.w.store.(*memory).all(func(*broker.Lease) bool { return true }) {
		ids = append(ids, l.ID)
	}
	if len(ids) == 0 {
		rt.Skip("no lease")
	}
	return rapid.SampledFrom(ids).Draw(rt, "lease")
}

func (m *machine) changeTarget(rt *rapid.T) { m.setMood(rapid.SampledFrom(moods).Draw(rt, "mood")) }

// die arms a point at which the process will die.
func (m *machine) die(rt *rapid.T) {
	m.p.point.Store(rapid.SampledFrom([]string{
		"intent-before", "intent-durable", "created", "active-durable", "revoke-before", "revoke-done", "revoked-durable",
	}).Draw(rt, "point"))
}

func (m *machine) restart(*rapid.T) {
	m.p.kill()
	m.p = m.w.reincarnate()
}

func (m *machine) pass(rt *rapid.T) {
	<-time.After(time.Duration(rapid.IntRange(1, 1500).Draw(rt, "ms")) * time.Millisecond)
}

// check is what holds at every moment.
func (m *machine) check(rt *rapid.T) {
	synctest.Wait()
	open := make(map[string]*broker.Lease)
	for _, l := range m.w.store.(*memory).all(func(l *broker.Lease) bool { return l.State != broker.Revoked }) {
		open[l.Principal] = l
		if l.NextAt.IsZero() {
			rt.Fatalf("an open lease will never be looked at: %+v", l)
		}
		if l.ExpiresAt.After(l.MaxExpiresAt) {
			rt.Fatalf("a lease ends after its maximum: %+v", l)
		}
	}
	m.w.good.mu.Lock()
	defer m.w.good.mu.Unlock()
	for principal := range m.w.good.alive {
		if open[principal] == nil {
			rt.Fatalf("%s is alive without an open lease", principal)
		}
	}
	for id, end := range m.held {
		l := m.w.lease(id)
		if left := time.Until(end); left <= 0 {
			continue
		}
		native, alive := m.w.good.alive[l.Principal]
		if l.State != broker.Active || !alive || native.Before(end) {
			rt.Fatalf("%s was promised until %v: it is %s, alive %t until %v", id, end, l.State, alive, native)
		}
	}
}

// settle lets the target be well and no process die, and wants everything ended within the time that is promised.
func (m *machine) settle(rt *rapid.T) {
	m.setMood("well")
	m.restart(rt)
	<-time.After(maxTTL + m.w.cfg.IssueTimeout + m.w.cfg.ClockMargin + 2*m.w.cfg.StuckRetry)
	m.check(rt)
	if n := m.w.good.size(); n != 0 {
		rt.Fatalf("%d credentials are alive past their end", n)
	}
	for _, l := range m.w.store.(*memory).all(func(*broker.Lease) bool { return true }) {
		if l.State != broker.Revoked {
			rt.Fatalf("a lease is open past its end: %+v", l)
		}
		if len(m.w.trail.of(l.ID)) == 0 {
			rt.Fatalf("the end of %s is not in the trail", l.ID)
		}
	}
	if got := fmt.Sprint(m.w.b.Counts()["good"].Waiting); got != "0" {
		rt.Fatalf("%s revocations still wait", got)
	}
}
