package broker

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
)

// KindVault is Lease.Producer of a lease that was issued by a Vault behind. Its Principal is the Vault's own name of it; where
// that is empty, it stands for a request whose answer was never seen. The Vault ends such a lease by itself too.
const KindVault = "vault"

// ForeignRenewer is a Producer of a target that decides by itself how long a lease is kept.
type ForeignRenewer interface {
	// RenewForeign asks for increment (the target's default where it is zero) and returns what the target has granted from now.
	RenewForeign(ctx context.Context, ref Ref, increment time.Duration) (granted time.Duration, warnings []string, err error)
}

// foreign is what is kept in Lease.Data of a lease that a target issued.
type foreign struct {
	Renewable bool      `json:"renewable,omitempty"`
	Until     time.Time `json:"until,omitzero"` // of a note: when what it stands for has ended in any case
}

// vaultMaxTTL is how long a Vault keeps a lease at most where nobody has said otherwise.
const vaultMaxTTL = 768 * time.Hour

// expectFor is how long an answer may take, before the note of it is taken for one that will not come.
const expectFor = 5 * time.Minute

// CanRenew says whether l can be renewed at all.
func (l *Lease) CanRenew() bool {
	if l.Producer != KindVault {
		return true
	}
	var f foreign
	return json.Unmarshal(l.Data, &f) == nil && f.Renewable
}

// ForeignUntil is when whatever a note stands for has ended in any case; zero for what is not a note's Data.
func ForeignUntil(data []byte) time.Time {
	var f foreign
	if json.Unmarshal(data, &f) != nil {
		return time.Time{}
	}
	return f.Until
}

// Expect notes that a Vault may issue something for r; see gate.Adopter. A crash after it leaves the note: a pending lease
// whose deadline makes it a revoking one, then a stuck one, that says what is not known, until the Vault's own longest time
// is over.
func (b *Broker) Expect(ctx context.Context, r *gate.Request) (intent string, err error) {
	t := now()
	keep := r.Mount.MaxTTL
	if keep <= 0 {
		keep = vaultMaxTTL
	}
	l, err := b.foreign(r, r.Path+"/unseen-"+randomBase62(24), foreign{Until: t.Add(keep)})
	if err != nil {
		return "", err
	}
	l.State, l.ExpiresAt, l.MaxExpiresAt = Pending, t.Add(keep), t.Add(keep)
	l.IntentDeadline = t.Add(expectFor)
	l.NextAt = l.IntentDeadline
	if err := b.cfg.Store.Insert(ctx, l); err != nil {
		return "", notStored(err)
	}
	b.cfg.Fault("expect-durable") // a crash here leaves the note, and the Vault was not asked
	b.alarm.at(l.NextAt)
	return l.ID, nil
}

// Adopt keeps a lease that a Vault has issued for r; see gate.Adopter. A crash before it leaves the note of Expect, where
// there is one; a crash after it leaves a lease whose answer nobody has, which ends when it expires.
func (b *Broker) Adopt(ctx context.Context, r *gate.Request, intent string, issued *gate.TargetLease) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	if issued != nil {
		if err := b.adopt(ctx, r, issued); err != nil {
			return err
		}
	}
	if intent != "" {
		b.seen(ctx, intent)
	}
	return nil
}

func (b *Broker) adopt(ctx context.Context, r *gate.Request, issued *gate.TargetLease) error {
	l, err := b.foreign(r, issued.ID, foreign{Renewable: issued.Renewable})
	if err != nil {
		return err
	}
	t := now()
	l.Principal, l.State, l.IssuedAt = issued.Remote, Active, t
	l.ExpiresAt = t.Add(issued.Duration)
	l.MaxExpiresAt, l.NextAt, l.IntentDeadline = l.ExpiresAt, l.ExpiresAt, t
	b.cfg.Fault("adopt-before") // a crash here leaves the note of Expect
	if err := b.cfg.Store.Insert(ctx, l); err != nil {
		return notStored(err)
	}
	b.cfg.Fault("adopt-durable") // a crash here leaves a lease that nobody has: it ends when it expires
	if err := b.stands(l); err != nil {
		b.giveUp(ctx, l)
		return err
	}
	b.counts.add(l.Target, func(c *Counts) { c.Issued++ })
	b.alarm.at(l.NextAt)
	return nil
}

// foreign is a lease for r's caller without its times.
func (b *Broker) foreign(r *gate.Request, id string, f foreign) (*Lease, error) {
	data, err := json.Marshal(f)
	if err != nil {
		return nil, &gate.Error{Kind: gate.Internal, Msg: "the lease can't be kept", Err: err}
	}
	role := r.Rest[strings.LastIndexByte(r.Rest, '/')+1:]
	return &Lease{
		ID: id, Mount: r.Mount.Path, Role: role, Producer: KindVault, Target: r.Mount.Target,
		Identity: r.Caller.Name, AccessID: r.Caller.AccessID, RequestID: r.ID,
		Token: r.Caller.Accessor, Claims: r.Caller.Claims, Outlives: r.Mount.Outlive, Data: data,
	}, nil
}

// seen ends a note: what it stood for is known now. Where that can't be written the note stays, and says less than is known.
func (b *Broker) seen(ctx context.Context, intent string) {
	for range 3 { // the due loop may have taken it for one that will not come
		l, err := b.cfg.Store.Lease(ctx, intent)
		if err == nil && l.State == Revoked {
			return
		}
		if err == nil {
			from := l.State
			l.State, l.NextAt, l.Cause, l.Error = Revoked, time.Time{}, "", ""
			err = b.cfg.Store.Move(ctx, l, from)
		}
		if err == nil {
			return
		}
		if !errors.Is(err, ErrStale) {
			b.log.Error("the note of an answer that was seen can't be ended; it ends by itself later", "lease_id", intent, "error", err)
			return
		}
	}
}

// Abandon ends a lease whose answer nobody got; see gate.Adopter.
func (b *Broker) Abandon(ctx context.Context, id string) { b.abandon(ctx, id) }

// moveForeign renews a lease that its target keeps: the target decides for how long, and that is what is written.
func (b *Broker) moveForeign(ctx context.Context, l *Lease, increment time.Duration) (warnings []string, err error) {
	if !l.CanRenew() {
		return nil, gate.Errorf(gate.Invalid, "lease is not renewable")
	}
	p, _, err := b.cfg.Catalog.Producer(l.Target)
	if err != nil {
		return nil, &gate.Error{Kind: gate.Unavailable, Msg: "the lease's target is not configured", Err: err}
	}
	n, ok := p.(ForeignRenewer)
	if !ok {
		return nil, gate.Errorf(gate.Invalid, "lease is not renewable")
	}
	var granted time.Duration
	rctx, cancel := context.WithTimeout(ctx, b.cfg.RenewTimeout)
	defer cancel()
	asked := now()
	err = b.onTarget(rctx, l.Target, func() (err error) {
		defer b.recovered(&err, l.ID)
		granted, warnings, err = n.RenewForeign(rctx, Ref{LeaseID: l.ID, Principal: l.Principal, Data: l.Data}, increment)
		return err
	})
	if err != nil {
		return nil, targetError("the lease was not renewed", err)
	}
	moved := *l
	moved.ExpiresAt = asked.Add(granted)
	moved.NextAt = moved.ExpiresAt
	wctx, stop := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer stop()
	if err := b.cfg.Store.Move(wctx, &moved, Active); err != nil {
		return nil, notStored(err)
	}
	*l = moved
	b.counts.add(l.Target, func(c *Counts) { c.Renewed++ })
	b.alarm.at(l.NextAt)
	return warnings, nil
}
