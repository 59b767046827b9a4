package broker

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"
)

// Hold is a stop on revocations that nobody asked for: the store has gone back in time, and what it believes to be due may
// have been renewed since. Leases with a Seq up to UpTo are not ended when they expire, and what was being ended is not
// tried again, until Resume. What a person revokes after Since is ended, and so is what was issued after it.
//
// A lease that was asked to be ended is known in memory alone: where the process ends before the target has answered, it
// waits for Resume like the others.
type Hold struct {
	Since time.Time `json:"since"`
	Why   string    `json:"why"`
	UpTo  int64     `json:"up_to"`
}

// hold guards the Hold of a Broker.
type hold struct {
	mu    sync.Mutex
	now   *Hold
	asked map[string]bool // leases that somebody asked to be ended since
}

// keeps reports whether l waits for Resume.
func (h *hold) keeps(l *Lease) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now != nil && l.Seq <= h.now.UpTo && !h.asked[l.ID]
}

// keepsMany reports whether a revocation of many waits for Resume.
func (h *hold) keepsMany(r *Revocation) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now != nil && r.CreatedAt.Before(h.now.Since)
}

// ask says that somebody wants the lease ended.
func (h *hold) ask(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.now != nil {
		h.asked[id] = true
	}
}

// NewHold makes a Hold over every lease that there is now.
func (b *Broker) NewHold(ctx context.Context, why string) (Hold, error) {
	h := Hold{Since: now(), Why: why}
	err := b.eachOpen(ctx, func(l *Lease) { h.UpTo = max(h.UpTo, l.Seq) })
	return h, err
}

// Hold begins h. It must be called before Run.
func (b *Broker) Hold(h Hold) {
	b.hold.mu.Lock()
	defer b.hold.mu.Unlock()
	b.hold.now, b.hold.asked = &h, make(map[string]bool)
}

// Held is the Hold that lasts, if one does.
func (b *Broker) Held() (h Hold, held bool) {
	b.hold.mu.Lock()
	defer b.hold.mu.Unlock()
	if b.hold.now == nil {
		return Hold{}, false
	}
	return *b.hold.now, true
}

// HeldLeases counts, by target, what is due and waits for Resume, and lists up to limit of it, by Seq.
func (b *Broker) HeldLeases(ctx context.Context, limit int) (Preview, []*Lease, error) {
	var p Preview
	var list []*Lease
	at := make(map[string]int)
	t := now()
	err := b.eachOpen(ctx, func(l *Lease) {
		if !b.hold.keeps(l) || !dueBy(l, t) {
			return
		}
		if len(list) < limit {
			list = append(list, l)
		}
		p.add(at, l)
	})
	slices.SortFunc(p.Targets, func(a, b PreviewTarget) int { return strings.Compare(a.Target, b.Target) })
	return p, list, err
}

// dueBy reports whether l should have ended by t, wherever its next try was put off to.
func dueBy(l *Lease, t time.Time) bool {
	switch l.State {
	case Active:
		return !l.ExpiresAt.After(t)
	case Pending:
		return !l.IntentDeadline.After(t)
	case Revoking, Stuck:
		return true
	}
	return !l.NextAt.IsZero() && !l.NextAt.After(t)
}

// Resume ends the Hold: what waited is due now.
func (b *Broker) Resume(ctx context.Context) error {
	b.hold.mu.Lock()
	h := b.hold.now
	b.hold.now, b.hold.asked = nil, nil
	b.hold.mu.Unlock()
	if h == nil {
		return nil
	}
	t := now()
	var late []string
	err := b.eachOpen(ctx, func(l *Lease) {
		if l.Seq <= h.UpTo && l.Attempt == 0 && dueBy(l, t) && l.NextAt.After(t) {
			late = append(late, l.ID)
		}
	})
	if err == nil {
		err = eachAside(late, func(id string) error { return b.dueNow(ctx, id) })
	}
	b.many.wake()
	b.alarm.now()
	return err
}

// dueNow takes back that a lease was put off.
func (b *Broker) dueNow(ctx context.Context, id string) error {
	err := b.update(ctx, id, func(l *Lease) bool {
		t := now()
		if !dueBy(l, t) || !l.NextAt.After(t) {
			return false
		}
		l.NextAt = t
		return true
	})
	if errors.Is(err, errInWork) || errors.Is(err, ErrStale) || errors.Is(err, ErrNoLease) {
		return nil
	}
	return err
}

// eachOpen calls f for every lease that is not revoked, by Seq.
func (b *Broker) eachOpen(ctx context.Context, f func(*Lease)) error {
	filter := Filter{Limit: 1000}
	for {
		page, err := b.List(ctx, filter)
		if err != nil {
			return err
		}
		for _, l := range page {
			f(l)
		}
		if len(page) < filter.Limit {
			return nil
		}
		filter.AfterSeq = page[len(page)-1].Seq
	}
}
