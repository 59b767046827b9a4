package broker

import (
	"context"
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

// issued is an active lease with its credential.
type issued struct {
	lease *Lease
	cred  *Credential
	term  term
}

// issueNew issues a credential that nobody has.
func (b *Broker) issueNew(ctx context.Context, o *order) (i issued, err error) {
	if err := b.lanes.admits(o.role.Target); err != nil {
		return i, err
	}
	defer b.stats.took("issue", o.kind, time.Now(), &err)
	defer func() {
		if err != nil {
			b.counts.add(o.role.Target, func(c *Counts) { c.IssueFailed++ })
		}
	}()
	t := now()
	tm, err := b.termOf(o.role, o.Request, t)
	if err != nil {
		return i, err
	}
	if i, err = b.fromPool(ctx, o, tm); err == nil && i.lease == nil {
		i, err = b.make(ctx, o, tm, t)
	}
	if err != nil {
		return i, err
	}
	b.counts.add(o.role.Target, func(c *Counts) { c.Issued++ })
	b.alarm.at(i.lease.NextAt)
	return i, nil
}

// make makes a credential from nothing.
func (b *Broker) make(ctx context.Context, o *order, tm term, t time.Time) (i issued, err error) {
	l, err := b.intend(ctx, o, tm, t)
	if err != nil {
		return i, err
	}
	if err := b.stands(l); err != nil {
		b.giveUp(ctx, l)
		return i, err
	}
	cred, err := b.createAndActivate(ctx, o.producer, o.role, l, tm.ttl)
	if err != nil {
		return i, err
	}
	return issued{l, cred, tm}, nil
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
		Token: o.Caller.Accessor, Outlives: o.Mount.Outlive, ShareKey: o.shareKey,
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

// createAndActivate makes the credential of a pending lease and makes the lease active. After any failure the lease is to
// be revoked: the credential may exist.
func (b *Broker) createAndActivate(ctx context.Context, p Producer, role Role, l *Lease, ttl time.Duration) (*Credential, error) {
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
		b.giveUp(ctx, l)
		return nil, targetError("the credential was not made", err)
	case ctx.Err() != nil:
		b.giveUp(ctx, l)
		return nil, &gate.Error{Kind: gate.Unavailable, Msg: "the client is gone, so the credential is ended", Err: ctx.Err()}
	case now().After(l.IntentDeadline.Add(b.cfg.ClockMargin)): // this process stood still: the target's own end would come first
		b.giveUp(ctx, l)
		return nil, gate.Errorf(gate.TargetSlow, "the credential came too late, so it is ended")
	}
	active := *l
	active.State, active.IssuedAt = Active, now()
	active.ExpiresAt = earliest(active.IssuedAt.Add(ttl), l.MaxExpiresAt)
	active.NextAt = active.ExpiresAt
	wctx, done := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer done()
	if err := b.cfg.Store.Move(wctx, &active, Pending); err != nil {
		b.giveUp(ctx, l)
		return nil, notStored(err)
	}
	*l = active
	b.cfg.Fault("active-durable") // a crash here leaves an active lease that nobody has: revoked when it expires
	return cred, nil
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
