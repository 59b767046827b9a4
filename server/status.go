package server

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
)

// checker is a connection to a target that can tell whether the target is there.
type checker interface {
	Health(ctx context.Context) error
}

// statusWait bounds how long a status waits for targets.
const statusWait = 3 * time.Second

// status is the answer of sys/bailiff/status.
func (s *server) status(ctx context.Context) map[string]any {
	out := map[string]any{
		"node": s.cfg.Node, "version": s.version, "started_at": s.started.UTC().Format(time.RFC3339), "targets": s.estate.targets.health(ctx),
		"audit": map[string]any{"records": s.trail.Head().Seq, "writable": s.trail.Err() == nil, "changed": s.changed.Load(), "damaged": s.trail.Damage()},
	}
	if h, held := s.recovery.Held(); held {
		out["held"] = map[string]any{"since": h.Since.Format(time.RFC3339), "why": h.Why}
	}
	if hooks := s.webhookStatus(); len(hooks) > 0 {
		out["webhooks"] = hooks
	}
	if leases, err := s.leaseStatus(ctx); err == nil {
		out["leases"] = leases
	}
	return out
}

// leaseStatus counts the open leases by state.
func (s *server) leaseStatus(ctx context.Context) (map[string]any, error) {
	tally, err := s.db.Tally(ctx)
	if err != nil {
		return nil, err
	}
	counts := make(map[broker.State]int)
	for _, t := range tally {
		counts[t.State] += t.N
	}
	leases := make(map[string]any)
	for _, state := range []broker.State{broker.Pending, broker.Active, broker.Pooled, broker.Revoking, broker.Stuck} {
		leases[string(state)] = counts[state]
	}
	oldest, err := s.db.Overdue(ctx, time.Now())
	if err == nil && !oldest.IsZero() {
		leases["oldest_overdue"] = oldest.UTC().Format(time.RFC3339)
	}
	return leases, err
}

// health asks every target at once whether it is there.
func (ts *targets) health(ctx context.Context) map[string]any {
	ctx, cancel := context.WithTimeout(ctx, statusWait)
	defer cancel()
	ts.mu.RLock()
	all := make([]*target, 0, len(ts.byName))
	for _, t := range ts.byName {
		all = append(all, t)
	}
	ts.mu.RUnlock()
	var (
		mu  sync.Mutex
		out = make(map[string]any, len(all))
		wg  sync.WaitGroup
	)
	for _, t := range all {
		wg.Go(func() {
			state := t.health(ctx)
			mu.Lock()
			defer mu.Unlock()
			out[t.spec.Name] = state
		})
	}
	wg.Wait()
	return out
}

func (t *target) health(ctx context.Context) map[string]any {
	out := map[string]any{"type": t.spec.Type, "address": t.spec.Address, "state": "reachable"}
	c, ok := t.producer.(checker)
	if t.vault != nil {
		c, ok = t.vault, true
	}
	if !ok {
		out["state"] = "unknown"
		return out
	}
	if err := c.Health(ctx); err != nil {
		out["state"] = "unreachable"
		out["error"] = brief(err)
	}
	return out
}

// brief is an error in words that are meant for clients.
func brief(err error) string {
	if said, ok := errors.AsType[*gate.Error](err); ok {
		return said.Msg
	}
	if said, ok := errors.AsType[*broker.RevokeError](err); ok {
		return said.Msg
	}
	return "no answer"
}
