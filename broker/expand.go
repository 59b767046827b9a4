package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/policy"
)

// refreshEvery is how old what is known of other brokers' revocations may be.
const refreshEvery = time.Second

// runMany carries out revocations of many until ctx ends.
func (b *Broker) runMany(ctx context.Context) {
	if b.many.store == nil {
		return
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for refreshed := (time.Time{}); ; {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-b.many.ring:
		}
		if t := now(); t.Sub(refreshed) >= refreshEvery {
			refreshed = t
			if err := b.many.refresh(ctx, b.alone()); err != nil && ctx.Err() == nil {
				b.log.Error("open revocations cannot be read", "error", err)
			}
		}
		again := b.manyRound(ctx)
		timer.Reset(again)
	}
}

// manyRound does one step of each revocation that is due and says how long to wait before the next round.
func (b *Broker) manyRound(ctx context.Context) time.Duration {
	due, told := b.many.inHand(now())
	for _, m := range due {
		if r, _, _ := b.many.state(m); b.hold.keepsMany(r) {
			b.many.later(m)
			continue
		}
		err := b.advance(ctx, m)
		switch {
		case ctx.Err() != nil:
			return refreshEvery
		case err != nil:
			b.log.Error("a revocation of many can't go on; it is tried again", "revocation", m.ID, "error", err)
			b.many.later(m)
		}
	}
	for _, m := range told {
		if err := b.write(ctx, m, func(*Revocation) {}); err != nil && ctx.Err() == nil {
			b.log.Error("the progress of a revocation can't be written", "revocation", m.ID, "error", err)
		}
	}
	return b.many.next(now(), refreshEvery)
}

// advance marks the next page of a revocation or, where all is marked, counts what is left.
func (b *Broker) advance(ctx context.Context, m *many) error {
	r, _, _ := b.many.state(m)
	if r.Expanded {
		return b.measure(ctx, m, r)
	}
	page, err := b.selected(ctx, r.Selector, r.Cursor)
	if err != nil {
		return err
	}
	last := len(page) < pageOfMany
	cursor := r.UpTo
	if !last {
		cursor = page[len(page)-1].Seq
		last = cursor >= r.UpTo
	}
	mine := slices.DeleteFunc(page, func(l *Lease) bool { return l.Seq > r.UpTo || !r.Selector.Matches(l) })
	b.many.expect(m, len(mine))
	if err := b.markAll(ctx, mine); err != nil {
		b.many.expect(m, -len(mine))
		return err
	}
	err = b.write(ctx, m, func(r *Revocation) {
		r.Cursor = max(r.Cursor, cursor)
		r.Marked += int64(len(mine))
		r.Open, r.Expanded = r.Marked-r.Revoked, last
	})
	if err != nil {
		b.many.expect(m, -len(mine))
		return err
	}
	b.cfg.Fault("many-expanded") // a crash here leaves a page of marked leases, and a cursor from which the next one goes on
	b.alarm.now()
	b.many.again(m)
	return nil
}

// markAll makes the revocation of each durable. What was revoked meanwhile is as good.
func (b *Broker) markAll(ctx context.Context, list []*Lease) error {
	var g errgroup.Group
	g.SetLimit(64) // writes at a time share a commit
	for _, l := range list {
		g.Go(func() error {
			if _, err := b.markDurably(ctx, l); err != nil && !errors.Is(err, ErrNoLease) {
				return err
			}
			return nil
		})
	}
	return g.Wait()
}

// measure counts which of a revocation's leases are still open, and ends it where there are none. A lease whose row was
// written before the revocation's and seen only after its page was marked is marked now.
func (b *Broker) measure(ctx context.Context, m *many, r *Revocation) error {
	var found look
	var late []*Lease
	began := now()
	untried, left := b.many.believed(m)
	err := b.eachSelected(ctx, r.Selector, func(l *Lease) {
		if l.Seq > r.UpTo {
			return
		}
		found.open++
		switch {
		case l.State != Revoking && l.State != Stuck:
			late = append(late, l)
			found.untried++
		case l.Attempt == 0 || !l.NextAt.After(began): // also one that failed before and is due again
			found.untried++
		case found.first == nil:
			found.first = l
		}
	})
	if err != nil {
		return err
	}
	if err := b.markAll(ctx, late); err != nil {
		return err
	}
	found.tried = found.open > 0 && found.untried == 0
	ended := now()
	if found.open == 0 {
		b.recordMany(ctx, b.many.tally(m), fmt.Sprintf("done after %v", ended.Sub(r.CreatedAt)))
	}
	err = b.write(ctx, m, func(r *Revocation) {
		r.Open, r.Revoked = found.open, max(r.Marked-found.open, 0)
		if found.open == 0 {
			r.DoneAt = ended
		}
	})
	if err != nil {
		return err
	}
	b.many.looked(m, found, ended.Sub(began), untried, left)
	if found.open == 0 {
		b.many.drop(m)
	}
	return nil
}

// write reads a revocation's row, changes it, adds the sessions that were closed since the last time, and writes it.
func (b *Broker) write(ctx context.Context, m *many, change func(*Revocation)) error {
	stored, err := b.many.store.Revocation(ctx, m.ID)
	if err != nil {
		return err
	}
	r := b.many.base(m, stored)
	change(r)
	sessions := b.many.takeSessions(m)
	r.Sessions += sessions
	if err := b.many.store.UpdateRevocation(ctx, r); err != nil {
		b.many.addSessions(m, sessions)
		return err
	}
	b.many.written(m, r)
	return nil
}

// recordMany records what happened to a revocation of many. Revoking does not stop when the trail can't be written.
func (b *Broker) recordMany(ctx context.Context, r *Revocation, what string) {
	detail := fmt.Sprintf("revocation %s of every lease with %s: %s", r.ID, r.Selector, what)
	if r.Expanded {
		detail += fmt.Sprintf("; %d credentials are gone, %d sessions were closed", r.Marked, r.Sessions)
	}
	if r.Reason != "" {
		detail += "; reason: " + r.Reason
	}
	err := b.cfg.Recorder.Append(context.WithoutCancel(ctx), &audit.Record{
		Stage: audit.StageEvent, Status: audit.OK, Via: string(gate.System), Node: b.cfg.Node, Op: string(policy.Delete),
		RequestID: r.RequestID, Identity: r.By, Mount: r.Selector.Mount, Target: r.Selector.Target, Detail: detail,
	})
	if err != nil {
		b.log.Error("a revocation could not be recorded", "revocation", r.ID, "detail", detail, "error", err)
	}
}
