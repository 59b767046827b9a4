package broker

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
)

// issue makes a credential under a lease. Its order is what keeps the promise; doc.go has the table.
func (b *Broker) issue(ctx context.Context, r *gate.Request, roleName string) (resp *gate.Response, err error) {
	role, ok := b.cfg.Catalog.Role(r.Mount.Path, roleName)
	if !ok {
		return nil, noRole(roleName)
	}
	p, kind, err := b.cfg.Catalog.Producer(role.Target)
	if err != nil {
		return nil, &gate.Error{Kind: gate.Unavailable, Msg: "the role's target is not configured", Err: err}
	}
	if err := b.lanes.admits(role.Target); err != nil {
		return nil, err
	}
	defer b.stats.took("issue", kind, time.Now(), &err)
	ttl, maxTTL, warnings := b.ttls(role, r.Mount)
	l, err := b.intend(ctx, r, p, kind, role, maxTTL)
	if err != nil {
		b.counts.add(role.Target, func(c *Counts) { c.IssueFailed++ })
		return nil, err
	}
	cred, err := b.createAndActivate(ctx, p, role, l, ttl)
	if err != nil {
		b.counts.add(role.Target, func(c *Counts) { c.IssueFailed++ })
		return nil, err
	}
	b.counts.add(role.Target, func(c *Counts) { c.Issued++ })
	b.alarm.at(l.NextAt)
	data := make(map[string]any, len(cred.Fields))
	for name, v := range cred.Fields {
		data[name] = v.Reveal()
	}
	return &gate.Response{
		Data:      data,
		Lease:     &gate.Lease{ID: l.ID, Renewable: true, Duration: shown(l.ExpiresAt.Sub(l.IssuedAt))},
		Warnings:  warnings,
		Principal: l.Principal,
		Detail:    "expires " + l.ExpiresAt.Format(time.RFC3339),
		Abandon:   func() { b.abandon(ctx, l.ID) },
	}, nil
}

// shown is a TTL as clients see it: in whole seconds where it is longer than one.
func shown(d time.Duration) time.Duration {
	if d > time.Second {
		return d.Round(time.Second)
	}
	return d
}

// intend writes the lease before anything exists on the target.
func (b *Broker) intend(ctx context.Context, r *gate.Request, p Producer, kind string, role Role, maxTTL time.Duration) (*Lease, error) {
	t := now()
	l := &Lease{
		ID:    r.Mount.Path + "creds/" + role.Name + "/" + randomBase62(24),
		Mount: r.Mount.Path, Role: role.Name, Producer: kind, Target: role.Target,
		Identity: r.Caller.Name, AccessID: r.Caller.AccessID, RequestID: r.ID,
		Principal: principal(p, role),
		State:     Pending, MaxExpiresAt: t.Add(maxTTL), ExpiresAt: t.Add(maxTTL),
		IntentDeadline: t.Add(b.cfg.IssueTimeout), NextAt: t.Add(b.cfg.IssueTimeout),
	}
	if s, ok := p.(Snapshotter); ok {
		data, err := s.Snapshot(role)
		if err != nil {
			return nil, &gate.Error{Kind: gate.Internal, Msg: "the role can't be kept with the lease", Err: err}
		}
		l.Data = data
	}
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
	switch {
	case err != nil:
		b.log.Warn("a credential was not made", "lease_id", l.ID, "target", l.Target, "cause", causeOf(err), "error", words(err))
		b.giveUp(ctx, l)
		return nil, targetError("the credential was not made", err)
	case ctx.Err() != nil:
		b.giveUp(ctx, l)
		return nil, &gate.Error{Kind: gate.Unavailable, Msg: "the client is gone, so the credential is ended", Err: ctx.Err()}
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
	if err := b.Revoke(ctx, id, false); err != nil {
		b.log.Error("an abandoned lease could not be marked for revocation; it ends when it expires", "lease_id", id, "error", err)
	}
}

// ttls works out the TTL and the most a lease may live, and says which cap cut the TTL.
func (b *Broker) ttls(role Role, m *gate.Mount) (ttl, maxTTL time.Duration, warnings []string) {
	ttl = b.cfg.DefaultTTL
	for _, d := range []time.Duration{role.DefaultTTL, m.DefaultTTL} {
		if d > 0 {
			ttl = d
			break
		}
	}
	maxTTL = b.cfg.MaxTTL
	who := "the system's"
	for _, c := range []struct {
		who string
		max time.Duration
	}{{"the mount's", m.MaxTTL}, {"the role's", role.MaxTTL}} {
		if c.max > 0 && c.max < maxTTL {
			maxTTL, who = c.max, c.who
		}
	}
	if ttl > maxTTL {
		// A default that nobody chose and that the cap cuts is not worth a warning.
		if role.DefaultTTL > 0 || m.DefaultTTL > 0 {
			warnings = append(warnings, fmt.Sprintf("TTL of %q exceeded %s max_ttl of %q; it was cut to that", ttl, who, maxTTL))
		}
		ttl = maxTTL
	}
	return ttl, maxTTL, warnings
}

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
