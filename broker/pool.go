package broker

import (
	"context"
	"errors"
	"reflect"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/bailiff-secrets/bailiff/gate"
)

const (
	poolAge   = 10 * time.Minute // Role.PoolMaxAge where it is zero
	poolTick  = time.Second      // longest time between two looks at the pools
	poolAtOne = 4                // credentials that are parked at a time for one role
	poolRest  = 5 * time.Second  // after parking has failed
)

// pools are the credentials that wait, made and disabled on their targets, to be handed out: each is a lease in state
// Pooled. What waits is known to the process that made it alone; what a process leaves is revoked when its age is over.
type pools struct {
	mu   sync.Mutex
	all  map[string]*pool // by role path
	wake chan struct{}
}

// pool is what waits for one role. pools.mu guards it.
type pool struct {
	mount  *gate.Mount // as it stood when it was last asked
	role   Role        // as the waiting ones were made
	ready  []parked    // oldest first
	asked  int         // issues since the window began
	before int         // in the window before
	since  time.Time
	rests  time.Time // until when nothing is parked
}

// parked is one credential that waits.
type parked struct {
	id    string
	until time.Time
}

func newPools() pools { return pools{all: make(map[string]*pool), wake: make(chan struct{}, 1)} }

// age is how long credentials of a role wait at most.
func (r Role) age() time.Duration {
	if r.PoolMaxAge > 0 {
		return r.PoolMaxAge
	}
	return poolAge
}

// take notes that o was asked for, and gives a credential that waits for it.
func (p *pools) take(o *order) (parked, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	x := p.all[o.role.Mount+o.role.Name]
	if x == nil {
		x = &pool{role: o.role, since: now()}
		p.all[o.role.Mount+o.role.Name] = x
	}
	x.mount = o.Mount
	x.asked++
	select {
	case p.wake <- struct{}{}:
	default:
	}
	if !reflect.DeepEqual(x.role, o.role) { // what waits was made as the role was before: the next look drains it
		return parked{}, false
	}
	return x.next()
}

// next takes the oldest that is not too old.
func (x *pool) next() (parked, bool) {
	t := now()
	for len(x.ready) > 0 {
		one := x.ready[0]
		x.ready = x.ready[1:]
		if one.until.After(t) {
			return one, true
		}
	}
	return parked{}, false
}

// wanted is how many should wait: as many as were asked for in a lifetime of a waiting one, and no more than the role says.
func (x *pool) wanted(t time.Time) int {
	switch over := t.Sub(x.since); {
	case over >= 2*x.role.age():
		x.before, x.asked, x.since = 0, 0, t
	case over >= x.role.age():
		x.before, x.asked, x.since = x.asked, 0, t
	}
	return min(x.role.PoolSize, max(x.asked, x.before))
}

// fromPool hands out a credential that waits; i.lease is nil where none does.
func (b *Broker) fromPool(ctx context.Context, o *order, tm term) (i issued, err error) {
	pooler, ok := o.producer.(Pooler)
	if !ok || o.role.PoolSize <= 0 {
		return i, nil
	}
	inserted, err := b.reserveOf(ctx, o, func(g guard) bool { return g.scope == "identity" }) // of the others it has its place
	if err != nil {
		return i, err
	}
	defer inserted()
	for {
		one, ok := b.pools.take(o)
		if !ok {
			return i, nil
		}
		l, err := b.assign(ctx, o, one, tm)
		if err != nil {
			return i, err
		}
		if l == nil { // it is not there any more
			continue
		}
		cred, err := b.handOut(ctx, pooler, o, l)
		if err != nil {
			return i, err
		}
		return issued{lease: l, cred: cred, term: tm}, nil
	}
}

// assign makes a waiting lease the caller's, durably, before its credential works; nil where it waits no more.
func (b *Broker) assign(ctx context.Context, o *order, one parked, tm term) (*Lease, error) {
	l, err := b.Lookup(ctx, one.id)
	if errors.Is(err, ErrNoLease) || err == nil && l.State != Pooled {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	l.State, l.IssuedAt = Active, now()
	l.Identity, l.AccessID, l.RequestID = o.Caller.Name, o.Caller.AccessID, o.ID
	l.Token, l.Claims, l.Outlives, l.ShareKey = o.Caller.Accessor, o.Caller.Claims, o.Mount.Outlive, o.shareKey
	l.MaxExpiresAt = tm.until
	l.ExpiresAt = earliest(l.IssuedAt.Add(tm.ttl), tm.until)
	l.NextAt = l.ExpiresAt
	err = b.cfg.Store.Move(ctx, l, Pooled)
	if errors.Is(err, ErrStale) {
		return nil, nil
	}
	if err != nil {
		return nil, notStored(err)
	}
	b.alarm.at(l.NextAt)
	b.cfg.Fault("active-durable") // a crash here leaves an active lease that nobody has: revoked when it expires
	return l, nil
}

// handOut makes the credential of an assigned lease work. After any failure the lease is to be revoked.
func (b *Broker) handOut(ctx context.Context, p Pooler, o *order, l *Lease) (cred *Credential, err error) {
	err = b.stands(l)
	if err == nil {
		err = b.recorded(ctx, o)
	}
	if err != nil {
		b.giveUp(ctx, l)
		return nil, err
	}
	hctx, cancel := context.WithTimeout(ctx, b.cfg.IssueTimeout)
	defer cancel()
	spec := Spec{
		LeaseID: l.ID, Principal: l.Principal, ExpiresAt: l.ExpiresAt.Add(b.cfg.ClockMargin),
		Deadline: l.IssuedAt.Add(b.cfg.IssueTimeout), Role: o.role,
	}
	err = b.onTarget(hctx, l.Target, func() (err error) {
		defer b.recovered(&err, l.ID)
		cred, err = p.Hand(hctx, spec)
		if err == nil && cred == nil {
			err = &RevokeError{Cause: Unknown, Msg: "the producer handed nothing out"}
		}
		return err
	})
	switch {
	case err != nil:
		b.giveUp(ctx, l)
		return nil, targetError("the credential was not handed out", err)
	case ctx.Err() != nil:
		b.giveUp(ctx, l)
		return nil, &gate.Error{Kind: gate.Unavailable, Msg: "the client is gone, so the credential is ended", Err: ctx.Err()}
	}
	return cred, nil
}

// runPools fills and drains pools until ctx ends.
func (b *Broker) runPools(ctx context.Context) {
	for {
		roles := b.pools.roles()
		for _, role := range roles {
			b.drain(ctx, role)
			b.fill(ctx, role)
		}
		var tick <-chan time.Time // never, where there are no pools
		if len(roles) > 0 {
			tick = time.After(poolTick)
		}
		select {
		case <-ctx.Done():
			return
		case <-b.pools.wake:
		case <-tick:
		}
	}
}

// roles lists the roles that have a pool, as what waits in it was made.
func (p *pools) roles() []Role {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]Role, 0, len(p.all))
	for _, x := range p.all {
		out = append(out, x.role)
	}
	return out
}

// drain revokes what waits for a role that has changed or is gone.
func (b *Broker) drain(ctx context.Context, was Role) {
	role, there := b.cfg.Catalog.Role(was.Mount, was.Name)
	if there && reflect.DeepEqual(role, was) {
		return
	}
	b.pools.mu.Lock()
	x := b.pools.all[was.Mount+was.Name]
	old := x.ready
	x.ready, x.role = nil, role
	if !there || role.PoolSize == 0 {
		delete(b.pools.all, was.Mount+was.Name)
	}
	b.pools.mu.Unlock()
	for _, one := range old {
		b.dismiss(ctx, one.id)
	}
}

// dismiss revokes a lease that waits, and not one that has been handed out meanwhile.
func (b *Broker) dismiss(ctx context.Context, id string) {
	l, err := b.find(ctx, id)
	if err == nil && l.State == Pooled {
		l.State, l.NextAt = Revoking, now()
		if err = b.cfg.Store.Move(ctx, l, Pooled); err == nil {
			b.hurry(l, l)
		}
	}
	if err != nil && !errors.Is(err, ErrStale) && !errors.Is(err, ErrNoLease) && ctx.Err() == nil {
		b.log.Warn("a pooled lease could not be dismissed; it ends when its age is over", "lease_id", id, "error", err)
	}
}

// fill parks as many credentials as a role's demand asks for.
func (b *Broker) fill(ctx context.Context, was Role) {
	b.pools.mu.Lock()
	x := b.pools.all[was.Mount+was.Name]
	if x == nil || now().Before(x.rests) {
		b.pools.mu.Unlock()
		return
	}
	role, mount, missing := x.role, x.mount, x.wanted(now())-len(x.ready)
	b.pools.mu.Unlock()
	p, kind, err := b.cfg.Catalog.Producer(role.Target)
	if err != nil {
		return
	}
	pooler, ok := p.(Pooler)
	if !ok {
		return
	}
	var g errgroup.Group
	g.SetLimit(poolAtOne)
	for range missing {
		g.Go(func() error {
			o := &order{Request: &gate.Request{Mount: mount}, role: role, producer: p, kind: kind, ahead: true}
			one, err := b.park(ctx, pooler, o)
			if err == nil {
				b.pools.add(role, one)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil && ctx.Err() == nil {
		b.pools.rest(role)
		b.log.Warn("a pool could not be filled", "role", role.Mount+role.Name, "target", role.Target, "error", words(err))
	}
}

// add puts a credential into its pool. Where the pool is gone or has changed, its age ends it.
func (p *pools) add(role Role, one parked) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if x := p.all[role.Mount+role.Name]; x != nil && reflect.DeepEqual(x.role, role) {
		x.ready = append(x.ready, one)
	}
}

// sizes says how many wait, by the path of their role.
func (p *pools) sizes() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make(map[string]int, len(p.all))
	for path, x := range p.all {
		out[path] = len(x.ready)
	}
	return out
}

func (p *pools) rest(role Role) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if x := p.all[role.Mount+role.Name]; x != nil {
		x.rests = now().Add(poolRest)
	}
}

// park makes one credential that waits, under a lease that is durable before it. After any failure the lease is to be
// revoked, as after a failed issue.
func (b *Broker) park(ctx context.Context, p Pooler, o *order) (one parked, err error) {
	t := now()
	until := t.Add(o.role.age())
	l, err := b.intend(ctx, o, term{until: until}, t)
	if err != nil {
		return one, err
	}
	if err = b.stands(l); err != nil {
		b.giveUp(ctx, l)
		return one, err
	}
	pctx, cancel := context.WithDeadline(ctx, l.IntentDeadline)
	defer cancel()
	spec := Spec{LeaseID: l.ID, Principal: l.Principal, ExpiresAt: until.Add(b.cfg.ClockMargin), Deadline: l.IntentDeadline, Role: o.role}
	err = b.sweepTarget(pctx, l.Target, func() (err error) {
		defer b.recovered(&err, l.ID)
		return p.Park(pctx, spec)
	})
	b.cfg.Fault("created") // a crash here leaves a pending lease: revoked at its deadline with the credential
	if err != nil {
		b.giveUp(ctx, l)
		return one, err
	}
	waiting := *l
	waiting.State, waiting.NextAt = Pooled, until
	wctx, done := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer done()
	if err := b.cfg.Store.Move(wctx, &waiting, Pending); err != nil {
		b.giveUp(ctx, l)
		return one, notStored(err)
	}
	return parked{l.ID, until}, nil
}
