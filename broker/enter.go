package broker

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
)

// entrant is somebody who wants to reach a target now: an issue, a renewal or a sweep.
type entrant struct {
	sweep bool
	ready chan error // gets nil when it may begin
	probe bool       // set before ready: its result decides about the breaker
}

// pass is the right to reach a target, until it is given back with what was learnt.
type pass struct {
	l     *lanes
	x     *lane
	sweep bool
	probe bool
	began time.Time
}

// enter waits for a place at a target. Where the target is known not to answer it fails at once. Errors are *gate.Error, or
// ctx's.
func (l *lanes) enter(ctx context.Context, target string, sweep bool) (*pass, error) {
	e := &entrant{sweep: sweep, ready: make(chan error, 1)}
	l.mu.Lock()
	x := l.lane(target)
	if err := l.queueUp(x, e); err != nil {
		l.mu.Unlock()
		return nil, err
	}
	l.mu.Unlock()
	select {
	case err := <-e.ready:
		if err != nil {
			return nil, err
		}
	case <-ctx.Done():
		if !l.leave(x, e) {
			return nil, ctx.Err()
		}
	}
	return &pass{l: l, x: x, sweep: sweep, probe: e.probe, began: time.Now()}, nil
}

// queueUp lets e wait for a place, or begin. The caller holds l.mu.
func (l *lanes) queueUp(x *lane, e *entrant) error {
	if x.breaker.may(time.Now(), false) == refused {
		return downError(x)
	}
	if e.sweep {
		x.sweeps = append(x.sweeps, e)
	} else {
		if err := l.roomFor(x); err != nil {
			return err
		}
		x.issues = append(x.issues, e)
	}
	l.admit(x)
	return nil
}

// leave takes e out of the queue. It returns true where e was let in meanwhile.
func (l *lanes) leave(x *lane, e *entrant) (in bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case err := <-e.ready:
		return err == nil
	default:
	}
	x.issues = slices.DeleteFunc(x.issues, func(o *entrant) bool { return o == e })
	x.sweeps = slices.DeleteFunc(x.sweeps, func(o *entrant) bool { return o == e })
	return false
}

// admit lets in those for whom there is a place. The caller holds l.mu.
func (l *lanes) admit(x *lane) {
	for len(x.issues) > 0 && x.mayIssue() {
		if !x.let(&x.issues, &x.issuing) {
			return
		}
	}
	for len(x.sweeps) > 0 && x.maySweep() {
		if !x.let(&x.sweeps, &x.sweeping) {
			return
		}
	}
}

// let lets the first of a queue in, where the breaker does.
func (x *lane) let(queue *[]*entrant, n *int) bool {
	e := (*queue)[0]
	switch x.breaker.may(time.Now(), false) {
	case refused:
		x.refuseEntrants()
		return false
	case probing:
		x.breaker.probe()
		e.probe = true
	}
	*queue = (*queue)[1:]
	*n++
	e.ready <- nil
	return true
}

// refuseEntrants tells everybody who waits that the target does not answer.
func (x *lane) refuseEntrants() {
	for _, e := range append(x.issues, x.sweeps...) {
		e.ready <- downError(x)
	}
	x.issues, x.sweeps = nil, nil
}

// done gives the place back with what was learnt of the target.
func (p *pass) done(v verdict, why string) {
	p.l.mu.Lock()
	defer p.l.mu.Unlock()
	change := p.x.finished(time.Now(), p.began, result{verdict: v, why: why}, p.probe)
	if p.sweep {
		p.x.sweeping--
	} else {
		p.x.issuing--
	}
	p.l.turned(p.l.ctx, p.x, change)
	p.l.dispatch(p.x)
}

// downError is the answer for what needs a target that does not answer.
func downError(x *lane) error {
	why := x.breaker.refusal()
	return &gate.Error{Kind: gate.TargetDown, Msg: fmt.Sprintf("target %s: %s", x.target, why.Msg), Err: why}
}

// onTarget calls f with a place at the target, which counts against its limit; f's error tells of the target.
func (b *Broker) onTarget(ctx context.Context, target string, f func() error) error {
	return b.reach(ctx, target, false, f)
}

// sweepTarget is onTarget for work that comes after all other.
func (b *Broker) sweepTarget(ctx context.Context, target string, f func() error) error {
	return b.reach(ctx, target, true, f)
}

func (b *Broker) reach(ctx context.Context, target string, sweep bool, f func() error) error {
	p, err := b.lanes.enter(ctx, target, sweep)
	if err != nil {
		return err
	}
	v, why := unasked, "" // where f does not return
	defer func() { p.done(v, why) }()
	if err = f(); err != nil {
		why = words(err)
	}
	v = judge(ctx, err)
	return err
}

// roomFor says whether one more may wait for a place. The caller holds l.mu.
func (l *lanes) roomFor(x *lane) error {
	if len(x.issues) < l.cfg.issues {
		return nil
	}
	return &gate.Error{Kind: gate.TooMany, After: time.Second,
		Msg: fmt.Sprintf("%d requests wait for target %s already", len(x.issues), x.target)}
}

// admits says at once where a target is known not to answer, or to have too much to do, before anything is written for it.
func (l *lanes) admits(target string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	x := l.byTarget[target]
	switch {
	case x == nil:
		return nil
	case x.breaker.may(time.Now(), false) == refused:
		return downError(x)
	}
	return l.roomFor(x)
}
