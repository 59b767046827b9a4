package broker

import (
	"context"
	"errors"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
)

// noLease is ErrNoLease for clients.
func noLease() error {
	return &gate.Error{Kind: gate.NotFound, Msg: ErrNoLease.Error(), Err: ErrNoLease}
}

// noRole is the answer for a role that isn't there.
func noRole(name string) error { return gate.Errorf(gate.NotFound, "there is no role %q here", name) }

// notStored is the answer when the store did not take a write.
func notStored(err error) error {
	switch {
	case errors.Is(err, ErrNoLease):
		return noLease()
	case errors.Is(err, ErrStale):
		return &gate.Error{Kind: gate.Conflict, Msg: "the lease is being revoked", Err: err}
	}
	return &gate.Error{Kind: gate.Unavailable, Msg: "the lease can't be stored now", Err: err}
}

// causeOf classes what a producer returned.
func causeOf(err error) Cause {
	if e, ok := errors.AsType[*RevokeError](err); ok {
		return e.Cause
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return Unreachable
	}
	return Unknown
}

// words is what may be said of an error. The text of one that nobody classed is not shown: it may hold values.
func words(err error) string {
	if e, ok := errors.AsType[*RevokeError](err); ok {
		return e.Msg
	}
	if e, ok := errors.AsType[*gate.Error](err); ok {
		return e.Msg
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return "the target did not answer in time"
	}
	return "the producer did not say why"
}

// targetError is the answer when a target did not do what it was asked.
func targetError(what string, err error) error {
	kind, after := gate.TargetDown, time.Duration(0)
	e, classed := errors.AsType[*gate.Error](err)
	switch {
	case classed:
		kind, after = e.Kind, e.After
	case causeOf(err) == OwnsObjects:
		kind = gate.Conflict
	case errors.Is(err, context.DeadlineExceeded):
		kind = gate.TargetSlow
	}
	return &gate.Error{Kind: kind, Msg: what + ": " + words(err), After: after, Err: err}
}
