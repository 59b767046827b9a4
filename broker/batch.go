package broker

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// most is how many leases a BatchRevoker ends at a time.
const most = 64

// BatchTeller is a BatchRevoker that tells what it did, as a Teller does for one. Of a producer that is a Teller and no
// BatchTeller, leases that somebody asked for are ended one by one.
type BatchTeller interface {
	RevokeBatchTold(ctx context.Context, refs []Ref) ([]Ended, []error)
}

// batchSizes says for each class how many leases of a target one worker takes at a time.
func (b *Broker) batchSizes(target string) (n [classes]int) {
	n = [classes]int{asked: 1, marked: 1, expired: 1}
	p, _, err := b.cfg.Catalog.Producer(target)
	if err != nil {
		return n
	}
	_, tells := p.(Teller)
	_, tellsAll := p.(BatchTeller)
	if _, ok := p.(BatchRevoker); ok || tellsAll {
		n[expired] = most
		if !tells || tellsAll {
			n[marked] = most
		}
	}
	return n
}

// endTogether tries to end the leases of a unit with one call of the producer, and settles each by itself. What somebody
// else works on now is done after the others.
func (b *Broker) endTogether(ctx context.Context, u unit) (result, func()) {
	list, busy, unlock := b.holdAll(ctx, u.items)
	var settle func()
	defer func() {
		if settle == nil {
			unlock()
		}
	}()
	r, write := b.endBatch(ctx, u.target, list)
	if len(busy) == 0 {
		settle = func() {
			defer unlock()
			write()
		}
		return r, settle
	}
	write()
	unlock()
	for _, i := range busy {
		t, settleOne := b.end(ctx, i)
		if settleOne != nil {
			t.err = settleOne()
		}
		one := b.finishUp(ctx, i.id, t)
		r = result{verdict: max(r.verdict, one.verdict), why: r.why, ended: r.ended + one.ended}
	}
	return r, nil
}

// holdAll locks the leases that nobody works on and makes them Revoking. unlock may be called twice.
func (b *Broker) holdAll(ctx context.Context, items []item) (list []*Lease, busy []item, unlock func()) {
	var locks []func()
	unlock = sync.OnceFunc(func() {
		for _, f := range locks {
			f()
		}
	})
	found := make([]*Lease, len(items))
	var g errgroup.Group
	for i, x := range items {
		one, ok := b.locks.TryLock(x.id)
		if !ok {
			busy = append(busy, x)
			continue
		}
		locks = append(locks, one)
		g.Go(func() error { // writes at a time share a commit
			l, err := b.toEnd(ctx, x)
			if l == nil || err != nil {
				b.finishUp(ctx, x.id, tried{err: err})
				return nil //nolint:nilerr // who waits for this lease is told; the others go on
			}
			found[i] = l
			return nil
		})
	}
	_ = g.Wait() // no function returns an error
	for _, l := range found {
		if l != nil {
			list = append(list, l)
		}
	}
	return list, busy, unlock
}

// endBatch ends leases that are held and Revoking. write settles each.
func (b *Broker) endBatch(ctx context.Context, target string, list []*Lease) (all result, write func()) {
	if len(list) == 0 {
		return result{}, func() {}
	}
	b.cfg.Fault("revoke-before") // a crash here leaves revoking leases that are due
	began := now()
	told, answers := b.revokeBatchOnTarget(ctx, target, list)
	b.cfg.Fault("revoke-done") // a crash here leaves the same: they are revoked once more, which finds nothing
	for _, answer := range answers {
		r := tried{asked: answer == nil || ctx.Err() == nil, answer: answer}.result(ctx)
		all.ended += r.ended
		all.verdict = max(all.verdict, r.verdict)
		if r.why != "" {
			all.why = r.why
		}
	}
	return all, func() {
		var g errgroup.Group
		for i, l := range list { // writes at a time share a commit
			g.Go(func() error {
				t := tried{asked: true, answer: answers[i], err: errNotDue}
				if !b.cutOff(ctx, l, answers[i]) {
					t.err = b.settle(ctx, l, began, told[i], answers[i])
				}
				b.finishUp(ctx, l.ID, t)
				return nil
			})
		}
		_ = g.Wait() // no function returns an error
	}
}

// revokeBatchOnTarget asks the producer to end the credentials of all in list. Both results have as many entries.
func (b *Broker) revokeBatchOnTarget(ctx context.Context, target string, list []*Lease) (told []Ended, answers []error) {
	p, kind, err := b.cfg.Catalog.Producer(target)
	refs := make([]Ref, len(list))
	for i, l := range list {
		refs[i] = b.ref(l)
	}
	if err == nil {
		told, answers, err = b.callBatch(ctx, p, kind, refs)
	} else {
		err = notConfigured(err)
	}
	if err == nil && len(answers) != len(list) {
		err = &RevokeError{Cause: Unknown, Msg: "the producer did not say what became of each"}
	}
	if err != nil {
		answers = make([]error, len(list))
		for i := range answers {
			answers[i] = err
		}
	}
	for i, e := range answers {
		if e != nil && causeOf(e) == Gone {
			answers[i] = nil
		}
	}
	if len(told) != len(list) {
		told = make([]Ended, len(list))
	}
	return told, answers
}

func (b *Broker) callBatch(ctx context.Context, p Producer, kind string, refs []Ref) (told []Ended, answers []error, err error) {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.RevokeTimeout)
	defer cancel()
	defer b.stats.took("revoke-batch", kind, time.Now(), &err)
	defer b.recovered(&err, refs[0].LeaseID)
	switch p := p.(type) {
	case BatchTeller:
		told, answers = p.RevokeBatchTold(ctx, refs)
	case BatchRevoker:
		answers = p.RevokeBatch(ctx, refs)
	default:
		err = &RevokeError{Cause: Unknown, Msg: "the producer has changed; it is tried again"}
	}
	return told, answers, err
}
