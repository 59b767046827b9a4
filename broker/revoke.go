package broker

import (
	"context"
	"errors"

	"github.com/bailiff-secrets/bailiff/gate"
)

// Lookup finds a lease in any state, also Revoked. One that an open revocation of many is meant for is shown as Revoking
// before its turn has come. An error is a *gate.Error; of a lease that isn't there it wraps ErrNoLease.
func (b *Broker) Lookup(ctx context.Context, id string) (*Lease, error) {
	l, err := b.find(ctx, id)
	if err != nil || l.State != Active && l.State != Pending && l.State != Pooled {
		return l, err
	}
	r, err := b.many.covering(ctx, l, b.alone())
	if err != nil {
		return nil, err
	}
	if r != nil {
		l.State = Revoking
	}
	return l, nil
}

// find is the lease as it is stored.
func (b *Broker) find(ctx context.Context, id string) (*Lease, error) {
	l, err := b.cfg.Store.Lease(ctx, id)
	if errors.Is(err, ErrNoLease) {
		return nil, noLease()
	}
	if err != nil {
		return nil, &gate.Error{Kind: gate.Unavailable, Msg: "the lease can't be read now", Err: err}
	}
	return l, nil
}

// List pages through leases by Seq.
func (b *Broker) List(ctx context.Context, f Filter) ([]*Lease, error) {
	list, err := b.cfg.Store.List(ctx, f)
	if err != nil {
		return nil, &gate.Error{Kind: gate.Unavailable, Msg: "leases can't be read now", Err: err}
	}
	return list, nil
}

// Revoke marks a lease for revocation at once and returns when that is durable: from then on it will be ended, whatever
// happens. With sync it also waits for the result and returns an error where the credential is not ended yet; the
// revocation then goes on. A lease that is revoked already is no error; one that isn't there wraps ErrNoLease.
func (b *Broker) Revoke(ctx context.Context, id string, sync bool) error {
	l, err := b.find(ctx, id)
	if err != nil {
		return err
	}
	return b.revoke(ctx, l, sync)
}

// Retry makes the next try of a revocation due now. A lease that is not being revoked is left alone: gate.Invalid.
func (b *Broker) Retry(ctx context.Context, id string) error {
	l, err := b.find(ctx, id)
	if err != nil {
		return err
	}
	if l.State != Revoking && l.State != Stuck {
		return gate.Errorf(gate.Invalid, "the lease is not being revoked")
	}
	return b.mark(ctx, l)
}

// revoke makes l's revocation durable and, with sync, waits for the result. Where a try was under way already, which may
// have begun before the target was well, its failure is followed by another.
func (b *Broker) revoke(ctx context.Context, l *Lease, sync bool) error {
	if l.State == Revoked {
		return nil
	}
	if !sync {
		return b.mark(ctx, l)
	}
	ctx, cancel := context.WithTimeout(ctx, b.cfg.SyncTimeout)
	defer cancel()
	underWay, err := b.tryNow(ctx, l)
	if err != nil && underWay && ctx.Err() == nil {
		if l, err = b.find(ctx, l.ID); err == nil && l.State != Revoked {
			_, err = b.tryNow(ctx, l)
		}
	}
	return err
}

// tryNow makes l's revocation durable and waits for the result of the next try, or of one that is underWay.
func (b *Broker) tryNow(ctx context.Context, l *Lease) (underWay bool, err error) {
	result := b.waiters.add(l.ID) // before the write, so that no result is missed
	defer b.waiters.remove(l.ID, result)
	marked, err := b.markDurably(ctx, l)
	if err != nil {
		return false, err
	}
	underWay = b.hurry(l, marked) == already
	if marked == nil && b.isRevoked(ctx, l.ID) { // just before the waiter was added
		return underWay, nil
	}
	select {
	case err := <-result:
		return underWay, err
	case <-ctx.Done():
	}
	if b.isRevoked(context.WithoutCancel(ctx), l.ID) {
		return underWay, nil
	}
	return underWay, gate.Errorf(gate.TargetSlow, "the lease is not revoked yet; the revocation goes on")
}

func (b *Broker) isRevoked(ctx context.Context, id string) bool {
	l, err := b.cfg.Store.Lease(ctx, id)
	return err == nil && l.State == Revoked
}

// mark writes that l is to be revoked now, and hurries.
func (b *Broker) mark(ctx context.Context, l *Lease) error {
	marked, err := b.markDurably(ctx, l)
	if err != nil {
		return err
	}
	b.hurry(l, marked)
	return nil
}

// markDurably writes that l is to be revoked now. After it the due loop does it, also in another process. A write that came
// between is read again. It returns the lease as it was written; nil where it was being revoked, or was, already.
func (b *Broker) markDurably(ctx context.Context, l *Lease) (marked *Lease, err error) {
	b.hold.ask(l.ID)
	for {
		marked, err := b.markOnce(ctx, l)
		if !errors.Is(err, ErrStale) {
			if err != nil {
				return nil, notStored(err)
			}
			return marked, nil
		}
		if l, err = b.find(ctx, l.ID); err != nil {
			return nil, err
		}
	}
}

// markOnce is markDurably for a lease as it was read.
func (b *Broker) markOnce(ctx context.Context, l *Lease) (*Lease, error) {
	switch l.State {
	case Revoked:
		return nil, nil
	case Revoking, Stuck: // only the time of the next try is to be moved; where somebody holds it, that is the next try
		err := b.update(ctx, l.ID, func(l *Lease) bool {
			l.NextAt = now()
			return l.State == Revoking || l.State == Stuck
		})
		if errors.Is(err, errInWork) {
			err = nil
		}
		return nil, err
	default:
		marked := *l
		marked.State, marked.NextAt = Revoking, now()
		if err := b.cfg.Store.Move(ctx, &marked, l.State); err != nil {
			return nil, err
		}
		return &marked, nil
	}
}

// hurry puts a lease that is to be revoked into its lane; where there is no room, the due loop will. marked is l as it was
// just written; nil where it is to be read.
func (b *Broker) hurry(l, marked *Lease) taken {
	t := b.lanes.offer(l.Target, asked, item{id: l.ID, lease: marked, seen: now()}, 1)
	if t != queued {
		b.alarm.now()
	}
	return t
}
