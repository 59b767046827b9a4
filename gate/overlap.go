package gate

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/bailiff-secrets/bailiff/audit"
)

// Overlapper is a Backend that has something of its own to make durable before it reaches a target, and before its answer
// leaves. For a request of which Overlaps says so, Serve is called while the request's record is being written: it must call
// Request.Recorded before anything on a target is touched. What must be durable when the answer leaves it can give to
// Request.Beside, to be done while the answer's record is written.
type Overlapper interface {
	Overlaps(r *Request) bool
}

// overlap is what is done beside the records of a request.
type overlap struct {
	recorded chan struct{} // closed when err is set
	err      error
	step     func(context.Context) error // from Beside
}

// Recorded waits until the record that comes before the change of r is durable, and fails with ErrNoRecord where it can't be
// kept: then no target may be touched. For a request that doesn't overlap it is there already.
func (r *Request) Recorded(ctx context.Context) error {
	if r.overlap == nil {
		return nil
	}
	select {
	case <-r.overlap.recorded:
		return r.overlap.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Beside has step done once Serve has returned without an error: beside the record of the answer, and before the answer is
// released. Where step fails nothing is released, its error is answered and recorded, and Abandon is called. One step can be
// given for a request. Where r doesn't overlap, step is done at once and its error returned.
func (r *Request) Beside(ctx context.Context, step func(context.Context) error) error {
	if r.overlap == nil {
		return step(ctx)
	}
	r.overlap.step = step
	return nil
}

// wait waits until the record that comes before a change is durable.
func (o *overlap) wait() error {
	if o == nil {
		return nil
	}
	<-o.recorded
	return o.err
}

func overlaps(r *Request) bool {
	o, ok := r.Mount.Backend.(Overlapper)
	return ok && o.Overlaps(r)
}

// begun keeps the record that a change begins. Where r overlaps it is being kept when begun returns.
//
// A kill from here on leaves a record that something was begun: whoever reads the trail knows to look.
func (g *Gate) begun(ctx context.Context, r *Request) error {
	rec := g.recordOf(r, audit.StageRequest, audit.Begun, nil, nil)
	if !overlaps(r) {
		if err := g.keep(ctx, r, rec); err != nil {
			return err
		}
		g.cfg.Fault("request-recorded")
		return nil
	}
	o := &overlap{recorded: make(chan struct{}), err: ErrNoRecord}
	r.overlap = o
	go func() {
		defer close(o.recorded)
		err := g.keep(ctx, r, rec)
		if err == nil {
			g.cfg.Fault("request-recorded")
		}
		o.err = err
	}()
	return nil
}

// beside begins what Serve gave to Beside, and returns what waits for it. It is called when Serve has returned without an
// error.
func (g *Gate) beside(ctx context.Context, r *Request) (wait func() error) {
	if r.overlap == nil || r.overlap.step == nil {
		return func() error { return nil }
	}
	done := make(chan error, 1)
	go func() {
		err := errors.New("the step beside the record did not end")
		defer func() { done <- err }()
		defer func() {
			if p := recover(); p != nil {
				g.cfg.Logger.Error("a backend panicked", "request_id", r.ID, "mount", r.Mount.Path, "type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
				err = errors.New("the backend panicked")
			}
		}()
		err = r.overlap.step(ctx)
	}()
	return func() error { return <-done }
}
