package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/policy"
)

// preflightIdentity is whom the lease of a preflight belongs to.
const preflightIdentity = "bailiff"

// Preflight tries a role on its target: it makes a credential, logs in with it, renews it, revokes it, and makes sure that it
// is gone. The role need not be in the catalogue. The credential has a lease as any other, so that a crash leaves nothing,
// and where it can't be ended as the role says, it is ended as the producer does by itself. An error is a *gate.Error: of
// kind TargetDown or TargetSlow where the target did not answer, Invalid where it refused.
func (b *Broker) Preflight(ctx context.Context, role Role) error {
	p, kind, err := b.cfg.Catalog.Producer(role.Target)
	if err != nil {
		return &gate.Error{Kind: gate.Unavailable, Msg: "the role's target is not configured", Err: err}
	}
	return b.PreflightOn(ctx, p, kind, role)
}

// PreflightOn is Preflight with a producer that need not be in the catalogue yet. What it can't end of a target that never
// comes into the catalogue stays a lease that is stuck.
func (b *Broker) PreflightOn(ctx context.Context, p Producer, kind string, role Role) error {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.IssueTimeout)
	defer cancel()
	x := &trial{b: b, producer: p, kind: kind, role: role}
	if h, ok := p.(healther); ok { // nothing is written for a target that isn't there
		if err := h.Health(ctx); err != nil {
			return x.failed("logging in to the target", err)
		}
	}
	if err := x.begin(ctx); err != nil {
		return err
	}
	used := x.use(ctx)
	ended := x.end(context.WithoutCancel(ctx))
	if used != nil {
		return used
	}
	return ended
}

// healther is a Producer that can be asked whether it reaches its target.
type healther interface {
	Health(ctx context.Context) error
}

// trial is one preflight.
type trial struct {
	b        *Broker
	producer Producer
	kind     string
	role     Role

	lease     *Lease
	spec      Spec
	cred      *Credential // nil where none was made
	uncertain bool        // the creation may still be running on the target
}

// begin writes the lease and records what is about to be done. The lease's role has a name that no role can have, so that
// whoever ends it uses what is kept with it, and not a role of the name that stood before.
func (x *trial) begin(ctx context.Context) error {
	b, t := x.b, now()
	l := &Lease{
		ID:    x.role.Mount + "creds/" + x.role.Name + "/preflight/" + randomBase62(24),
		Mount: x.role.Mount, Role: x.role.Name + "/preflight", Producer: x.kind, Target: x.role.Target, Identity: preflightIdentity,
		Principal: b.principal(x.producer, x.role), State: Pending,
		ExpiresAt: t.Add(b.cfg.IssueTimeout), MaxExpiresAt: t.Add(2 * b.cfg.IssueTimeout),
		IntentDeadline: t.Add(b.cfg.IssueTimeout), NextAt: t.Add(b.cfg.IssueTimeout),
	}
	if s, ok := x.producer.(Snapshotter); ok {
		data, err := s.Snapshot(x.role)
		if err != nil {
			return &gate.Error{Kind: gate.Internal, Msg: "the role can't be kept with the lease", Err: err}
		}
		l.Data = data
	}
	x.lease = l
	x.spec = Spec{LeaseID: l.ID, Principal: l.Principal, Role: x.role, Deadline: l.IntentDeadline, ExpiresAt: l.MaxExpiresAt}
	err := b.cfg.Recorder.Append(ctx, &audit.Record{
		Stage: audit.StageEvent, Status: audit.OK, Via: string(gate.System), Node: b.cfg.Node, Op: string(policy.Create),
		Identity: l.Identity, Path: l.Mount + "creds/" + x.role.Name, Mount: l.Mount, Target: l.Target, LeaseID: l.ID,
		Principal: l.Principal, Detail: "preflight: a credential is made to try the role, and ended at once",
	})
	if err != nil {
		return &gate.Error{Kind: gate.Unavailable, Msg: "the trial of a role can't be recorded now", Err: err}
	}
	if err := b.cfg.Store.Insert(ctx, l); err != nil {
		return notStored(err)
	}
	b.alarm.at(l.NextAt)
	return nil
}

// use makes the credential, logs in with it and renews it.
func (x *trial) use(ctx context.Context) error {
	err := x.guarded(func() (err error) {
		x.cred, err = x.producer.Create(ctx, x.spec)
		return err
	})
	if err == nil && x.cred == nil {
		err = &RevokeError{Cause: Unknown, Msg: "the producer made no credential"}
	}
	if err != nil {
		x.uncertain = causeOf(err) == Unreachable
		return x.failed("making a credential", err)
	}
	active := *x.lease
	active.State, active.IssuedAt = Active, now()
	if err := x.b.cfg.Store.Move(ctx, &active, Pending); err != nil {
		return notStored(err)
	}
	*x.lease = active
	if err := x.probe(ctx); err != nil {
		return x.failed("using the credential", err)
	}
	if p, ok := x.producer.(Renewer); ok {
		if err := x.guarded(func() error { return p.Renew(ctx, x.ref(), x.lease.MaxExpiresAt) }); err != nil {
			return x.failed("renewing the credential", err)
		}
	}
	return nil
}

// probe logs in, again where the role says that a credential may take its time.
func (x *trial) probe(ctx context.Context) error {
	p, ok := x.producer.(Prober)
	switch {
	case !ok:
		return nil
	case x.role.ReadyTimeout <= 0:
		return x.b.probeOnce(ctx, p, x.spec, x.cred)
	}
	ctx, cancel := context.WithTimeout(ctx, x.role.ReadyTimeout)
	defer cancel()
	return x.b.probeUntil(ctx, p, x.spec, x.cred)
}

func (x *trial) ref() Ref {
	return Ref{LeaseID: x.lease.ID, Principal: x.lease.Principal, Role: &x.role, Data: x.lease.Data}
}

// end ends the credential as the role says and makes sure of it; where that fails, as the producer does by itself. What can't
// be ended at all is a lease that is tried again.
func (x *trial) end(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, x.b.cfg.RevokeTimeout)
	defer cancel()
	l := x.lease
	l.State, l.NextAt = Revoking, now().Add(x.b.cfg.RevokeTimeout)
	if err := x.b.cfg.Store.Move(ctx, l, Pending, Active); err != nil {
		if errors.Is(err, ErrStale) {
			return x.failed("revoking the credential", &RevokeError{Cause: Unreachable, Msg: "it took too long"})
		}
		return notStored(err)
	}
	err := x.revoke(ctx, x.ref())
	switch {
	case err == nil && x.uncertain:
		return x.lookAgain(ctx)
	case err == nil:
		return x.over(ctx)
	}
	said := x.failed("revoking the credential", err)
	if causeOf(err) != Unreachable && x.revoke(ctx, Ref{LeaseID: l.ID, Principal: l.Principal}) == nil {
		_ = x.over(ctx) // where it isn't written, the lease is ended once more
		return said
	}
	said.Msg += fmt.Sprintf("; %s is still on the target, under lease %s, which is tried again", l.Principal, l.ID)
	_ = x.b.settleFailure(ctx, l, err) // it says the same
	return said
}

// revoke ends the credential and makes sure that it can't be used.
func (x *trial) revoke(ctx context.Context, ref Ref) error {
	if err := x.guarded(func() error { return x.producer.Revoke(ctx, ref) }); err != nil && causeOf(err) != Gone {
		return err
	}
	if p, ok := x.producer.(Prober); ok && x.cred != nil {
		err := x.b.probeOnce(ctx, p, x.spec, x.cred)
		if err == nil {
			return &RevokeError{Cause: Unknown, Msg: "the credential still works after it was revoked"}
		}
		if causeOf(err) == Unreachable {
			return err
		}
	}
	p, ok := x.producer.(Lister)
	if !ok {
		return nil
	}
	return x.guarded(func() error {
		return p.List(ctx, func(f Found) error {
			if f.Name == ref.Principal && f.Enabled {
				return &RevokeError{Cause: Unknown, Msg: "the credential is still listed as enabled after it was revoked"}
			}
			return nil
		})
	})
}

// over writes that the credential is ended.
func (x *trial) over(ctx context.Context) error {
	l := x.lease
	x.b.recordEnd(ctx, l, Ended{})
	l.State, l.NextAt = Revoked, time.Time{}
	if err := x.b.move(ctx, l); err != nil {
		return notStored(err)
	}
	return nil
}

// lookAgain leaves the lease to be ended once more when a creation that gave no answer can no longer be running.
func (x *trial) lookAgain(ctx context.Context) error {
	x.lease.NextAt = x.lease.IntentDeadline.Add(x.b.cfg.ClockMargin)
	if err := x.b.move(ctx, x.lease); err != nil {
		return notStored(err)
	}
	return nil
}

func (x *trial) guarded(f func() error) (err error) {
	defer x.b.recovered(&err, x.lease.ID)
	return f()
}

// failed is what an operator reads.
func (x *trial) failed(doing string, err error) *gate.Error {
	e := &gate.Error{
		Kind: gate.Invalid, Err: err,
		Msg: fmt.Sprintf("role %s%s was tried on target %s and does not work: %s: %s", x.role.Mount, x.role.Name, x.role.Target, doing, words(err)),
	}
	switch causeOf(err) {
	case Unreachable:
		e.Kind, e.Hint = gate.TargetDown, "make the target reachable, or go on without a trial: --skip-preflight, or skip_preflight=true in a role"
	case ForbiddenBy:
		e.Hint = "give Bailiff's user on the target what it lacks, or change the role's statements"
	default:
		e.Hint = "change the role's statements, or go on without a trial: --skip-preflight, or skip_preflight=true in a role"
	}
	return e
}
