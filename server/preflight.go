package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/object"
)

const (
	trials        = 4               // preflights at a time
	trialsTimeout = 2 * time.Minute // all of one apply
	trialsShown   = 5               // failures in one answer
)

// preflight tries, on its target, each producer that p creates or changes. Targets that p creates or changes too are reached
// as p declares them.
func (e *estate) preflight(ctx context.Context, p prepared) error {
	var names []string
	for _, s := range p.plan.Steps {
		if s.Kind == object.KindProducer && (s.Action == object.Created || s.Action == object.Updated) {
			names = append(names, s.Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	set, err := decodeAll(p.next())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, trialsTimeout)
	defer cancel()
	t := &trialTargets{estate: e, set: set, plan: p.plan, dialled: make(map[string]*target)}
	defer t.close()
	errs := make([]error, len(names))
	var g errgroup.Group
	g.SetLimit(trials)
	for i, name := range names {
		g.Go(func() error {
			errs[i] = t.try(ctx, name)
			return nil
		})
	}
	_ = g.Wait() // no function returns an error
	return oneOf(errs)
}

// oneOf makes one error of those that there are. The first says its kind and gives its hint.
func oneOf(errs []error) error {
	var all *gate.Error
	var words []string
	n := 0
	for _, err := range errs {
		if err == nil {
			continue
		}
		if n++; n > trialsShown {
			continue
		}
		e, ok := errors.AsType[*gate.Error](err)
		if !ok {
			return err
		}
		if all == nil {
			all = &gate.Error{Kind: e.Kind, Hint: e.Hint, Err: err}
		}
		words = append(words, e.Msg)
	}
	if all == nil {
		return nil
	}
	if n > trialsShown {
		words = append(words, fmt.Sprintf("and %d more", n-trialsShown))
	}
	all.Msg = strings.Join(words, "; ")
	return all
}

// trialTargets are the targets of one preflight.
type trialTargets struct {
	estate *estate
	set    *set // as it will be
	plan   object.Plan

	mu      sync.Mutex
	dialled map[string]*target
}

// try tries the producer of a name.
func (t *trialTargets) try(ctx context.Context, name string) error {
	for _, p := range t.set.producers {
		if p.Mount+"/"+p.Name != name {
			continue
		}
		role, err := roleOf(p, t.set.targets)
		if err != nil {
			return invalid(err)
		}
		x, err := t.find(role.Target)
		if err != nil {
			return invalid(err)
		}
		return t.estate.leases.PreflightOn(ctx, x.producer, x.spec.Type, role)
	}
	return nil
}

// find is the target that is in use, where the plan leaves it as it is; otherwise one for the time of the preflight.
func (t *trialTargets) find(name string) (*target, error) {
	changed := false
	for _, s := range t.plan.Steps {
		changed = changed || s.Kind == object.KindTarget && s.Name == name && s.Action != object.Unchanged
	}
	if x := t.estate.targets.find(name); x != nil && x.producer != nil && !changed {
		return x, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if x := t.dialled[name]; x != nil {
		return x, nil
	}
	for _, spec := range t.set.targets {
		if spec.Name != name {
			continue
		}
		x, err := dial(spec.Target, slog.New(slog.DiscardHandler), nil)
		if err != nil {
			return nil, err
		}
		x.spec = spec
		t.dialled[name] = x
		return x, nil
	}
	return nil, fmt.Errorf("target %q is not declared", name)
}

func (t *trialTargets) close() {
	for name, x := range t.dialled {
		if err := x.close(); err != nil {
			t.estate.logger.Warn("a target did not close cleanly", "target", name, "error", err)
		}
	}
}

// schedules says when each target is swept.
func (e *estate) schedules() map[string]string {
	out := make(map[string]string)
	for _, t := range e.live.Load().set.targets {
		if t.Reconcile != "" {
			out[t.Name] = t.Reconcile
		}
	}
	return out
}

// checkSweep judges a target's schedule.
func checkSweep(t object.Target) error {
	if t.Reconcile == "" {
		return nil
	}
	if err := broker.CheckSchedule(t.Reconcile); err != nil {
		return &object.Problem{Kind: object.KindTarget, Name: t.Name, Field: "reconcile", Msg: err.Error()}
	}
	return nil
}
