package broker

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
)

// issue makes a credential under a lease, or shares one. Its order is what keeps the promise; doc.go has the table.
func (b *Broker) issue(ctx context.Context, r *gate.Request, roleName string) (*gate.Response, error) {
	role, ok := b.cfg.Catalog.Role(r.Mount.Path, roleName)
	if !ok {
		return nil, noRole(roleName)
	}
	p, kind, err := b.cfg.Catalog.Producer(role.Target)
	if err != nil {
		return nil, &gate.Error{Kind: gate.Unavailable, Msg: "the role's target is not configured", Err: err}
	}
	o := &order{Request: r, role: role, producer: p, kind: kind}
	if err := b.pace(o); err != nil {
		return nil, err
	}
	if role.Share == ShareByIdentity && r.Caller.Name != "" {
		return b.issueShared(ctx, o)
	}
	i, err := b.issueNew(ctx, o)
	if err != nil {
		return nil, err
	}
	return b.answer(ctx, i), nil
}

// order is what is asked for, and from whom.
type order struct {
	*gate.Request
	role     Role
	producer Producer
	kind     string // of producer
	shareKey string // empty where the lease is not shared
	ahead    bool   // nobody asks yet: it is for a pool
}

// issued is a lease with its credential. It is active, or will be when it is activated.
type issued struct {
	lease    *Lease
	cred     *Credential
	term     term
	activate func(context.Context) error // durably; nil where it is done
}

// issueNew issues a credential that nobody has. Its lease becomes active beside the record of the answer, or at once where
// the credential is going to be shared.
func (b *Broker) issueNew(ctx context.Context, o *order) (i issued, err error) {
	if err := b.lanes.admits(o.role.Target); err != nil {
		return i, err
	}
	began := time.Now()
	ended := func(err error) {
		b.stats.took("issue", o.kind, began, &err)
		if err != nil {
			b.counts.add(o.role.Target, func(c *Counts) { c.IssueFailed++ })
			return
		}
		b.counts.add(o.role.Target, func(c *Counts) { c.Issued++ })
		b.alarm.at(i.lease.NextAt)
	}
	t := now()
	tm, err := b.termOf(o.role, o.Request, t)
	if err == nil {
		i, err = b.fromPool(ctx, o, tm)
	}
	if err == nil && i.lease == nil {
		i, err = b.make(ctx, o, tm, t)
	}
	if err != nil || i.activate == nil {
		ended(err)
		return i, err
	}
	activate := func(ctx context.Context) error {
		err := i.activate(ctx)
		ended(err)
		return err
	}
	if o.shareKey != "" {
		return i, activate(ctx)
	}
	return i, o.Beside(ctx, activate)
}

// make makes a credential from nothing.
func (b *Broker) make(ctx context.Context, o *order, tm term, t time.Time) (i issued, err error) {
	l, err := b.intend(ctx, o, tm, t)
	if err != nil {
		return i, err
	}
	err = b.stands(l)
	if err == nil {
		err = b.recorded(ctx, o)
	}
	if err != nil {
		b.withdraw(ctx, l)
		return i, err
	}
	cred, err := b.createFor(ctx, o.producer, o.role, l, tm.ttl)
	if err != nil {
		return i, err
	}
	pending := *l
	l.State, l.IssuedAt = Active, now()
	l.ExpiresAt = earliest(l.IssuedAt.Add(tm.ttl), l.MaxExpiresAt)
	l.NextAt = l.ExpiresAt
	return issued{l, cred, tm, func(ctx context.Context) error { return b.activate(ctx, &pending, l) }}, nil
}

// recorded waits until the record of the request is durable: before that no target is touched for it.
func (b *Broker) recorded(ctx context.Context, o *order) error {
	err := o.Recorded(ctx)
	if err != nil && ctx.Err() != nil {
		return &gate.Error{Kind: gate.Unavailable, Msg: "the client is gone, so nothing is made", Err: err}
	}
	return err
}

// withdraw ends a pending lease of which the target has never heard. Where that can't be written its deadline does it.
func (b *Broker) withdraw(ctx context.Context, l *Lease) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	l.State, l.NextAt = Revoked, time.Time{}
	if err := b.cfg.Store.Move(ctx, l, Pending); err != nil && !errors.Is(err, ErrStale) {
		b.log.Error("a lease without a credential could not be ended; its deadline will do it", "lease_id", l.ID, "error", err)
	}
}

// answer is what the client gets.
func (b *Broker) answer(ctx context.Context, i issued) *gate.Response {
	data := make(map[string]any, len(i.cred.Fields))
	for name, v := range i.cred.Fields {
		data[name] = v.Reveal()
	}
	l := i.lease
	return &gate.Response{
		Data:      data,
		Lease:     &gate.Lease{ID: l.ID, Renewable: true, Duration: i.term.duration(l, l.IssuedAt)},
		Warnings:  append(i.term.warnings, i.cred.Warnings...),
		Principal: l.Principal,
		Detail:    "expires " + l.ExpiresAt.Format(time.RFC3339),
		Abandon:   func() { b.abandon(ctx, l.ID) },
	}
}

// intend writes the lease before anything exists on the target.
func (b *Broker) intend(ctx context.Context, o *order, tm term, t time.Time) (*Lease, error) {
	l := &Lease{
		ID:    o.Mount.Path + "creds/" + o.role.Name + "/" + randomBase62(24),
		Mount: o.Mount.Path, Role: o.role.Name, Producer: o.kind, Target: o.role.Target,
		Identity: o.Caller.Name, AccessID: o.Caller.AccessID, RequestID: o.ID,
		Token: o.Caller.Accessor, Claims: o.Caller.Claims, Outlives: o.Mount.Outlive, ShareKey: o.shareKey,
		Principal: b.principal(o.producer, o.role),
		State:     Pending, MaxExpiresAt: tm.until, ExpiresAt: tm.until,
		IntentDeadline: t.Add(b.cfg.IssueTimeout), NextAt: t.Add(b.cfg.IssueTimeout),
	}
	if s, ok := o.producer.(Snapshotter); ok {
		data, err := s.Snapshot(o.role)
		if err != nil {
			return nil, &gate.Error{Kind: gate.Internal, Msg: "the role can't be kept with the lease", Err: err}
		}
		l.Data = data
	}
	inserted, err := b.reserve(ctx, o)
	if err != nil {
		return nil, err
	}
	defer inserted()
	b.cfg.Fault("intent-before") // a crash here leaves nothing
	if err := b.cfg.Store.Insert(ctx, l); err != nil {
		// The row may be there all the same: then its deadline ends it, and there is nothing on the target.
		return nil, notStored(err)
	}
	b.alarm.at(l.NextAt)
	b.cfg.Fault("intent-durable") // a crash here leaves a pending lease: revoked at its deadline, and nothing is there
	return l, nil
}

// createFor makes the credential of a pending lease. After any failure the lease is to be revoked: the credential may exist.
func (b *Broker) createFor(ctx context.Context, p Producer, role Role, l *Lease, ttl time.Duration) (*Credential, error) {
	cctx, cancel := context.WithDeadline(ctx, l.IntentDeadline)
	defer cancel()
	spec := Spec{
		LeaseID: l.ID, Principal: l.Principal, Deadline: l.IntentDeadline, Role: role,
		// The target's own end is a backstop: never before the lease's, which is counted from when it becomes active.
		ExpiresAt: earliest(l.IntentDeadline.Add(ttl), l.MaxExpiresAt).Add(b.cfg.ClockMargin),
	}
	cred, err := b.create(cctx, p, spec)
	b.cfg.Fault("created") // a crash here leaves a pending lease: revoked at its deadline with the credential
	if err == nil {
		b.awaitReady(ctx, p, spec, cred)
	}
	switch {
	case err != nil:
		b.log.Warn("a credential was not made", "lease_id", l.ID, "target", l.Target, "cause", causeOf(err), "error", words(err))
		err = targetError("the credential was not made", err)
	case ctx.Err() != nil:
		err = &gate.Error{Kind: gate.Unavailable, Msg: "the client is gone, so the credential is ended", Err: ctx.Err()}
	default:
		err = b.inTime(l)
	}
	if err != nil {
		b.giveUp(ctx, l)
		return nil, err
	}
	return cred, nil
}

// inTime fails where this process stood still for so long that the target's own end of a pending lease's credential would
// come before that of a lease that begins now.
func (b *Broker) inTime(l *Lease) error {
	if now().After(l.IntentDeadline.Add(b.cfg.ClockMargin)) {
		return gate.Errorf(gate.TargetSlow, "the credential came too late, so it is ended")
	}
	return nil
}

// activate makes a pending lease the active one, durably. After any failure it is to be revoked.
func (b *Broker) activate(ctx context.Context, pending, active *Lease) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	err := b.inTime(pending)
	if err == nil {
		if err = b.cfg.Store.Move(ctx, active, Pending); err != nil {
			err = notStored(err)
		}
	}
	if err != nil {
		b.giveUp(ctx, pending)
		return err
	}
	b.cfg.Fault("active-durable") // a crash here leaves an active lease that nobody has: revoked when it expires
	return nil
}

// create calls the producer, when there is a place at its target, and turns a panic into an error.
func (b *Broker) create(ctx context.Context, p Producer, spec Spec) (cred *Credential, err error) {
	err = b.onTarget(ctx, spec.Role.Target, func() (err error) {
		defer b.recovered(&err, spec.LeaseID)
		cred, err = p.Create(ctx, spec)
		if err == nil && cred == nil {
			err = &RevokeError{Cause: Unknown, Msg: "the producer made no credential"}
		}
		return err
	})
	return cred, err
}

// recovered turns a producer's panic into an error. Its value is not printed: it may hold anything.
func (b *Broker) recovered(err *error, leaseID string) {
	if v := recover(); v != nil {
		b.log.Error("a producer panicked", "lease_id", leaseID, "type", fmt.Sprintf("%T", v), "stack", string(debug.Stack()))
		*err = &RevokeError{Cause: Unknown, Msg: "the producer panicked"}
	}
}

// giveUp marks a lease whose issue failed for revocation at once. Where that can't be written the lease stays pending, and
// its deadline does the same later.
func (b *Broker) giveUp(ctx context.Context, l *Lease) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	if err := b.mark(ctx, l); err != nil {
		b.log.Error("a failed issue could not be marked for revocation; its deadline will do it", "lease_id", l.ID, "error", err)
	}
}

// abandon marks an issued lease for revocation at once, because its answer was not released.
func (b *Broker) abandon(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	if err := b.Release(ctx, id, false); err != nil {
		b.log.Error("an abandoned lease could not be marked for revocation; it ends when it expires", "lease_id", id, "error", err)
	}
}

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
