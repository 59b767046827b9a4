package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
)

// RevokeMany promises durably to revoke every lease that sel picks and that exists now. From its return on lookup and renew
// refuse those leases, however many they are, here at once and on other nodes within a second; Run marks them in the
// background and ends them. Leases issued later are not touched. With sync it waits until all have ended, each has failed
// at least once, or Config.SyncTimeout is over; it then returns the revocation as it stands beside an error, and goes on.
func (b *Broker) RevokeMany(ctx context.Context, sel Selector, by, reason, requestID string, sync bool) (*Revocation, error) {
	switch {
	case sel.Empty():
		return nil, gate.Errorf(gate.Invalid, "nothing is selected")
	case b.many.store == nil:
		return nil, gate.Errorf(gate.Unsupported, "this store keeps no revocations of many")
	}
	r := &Revocation{
		ID: "rv-" + randomBase32(), Selector: sel, By: by, Reason: reason, RequestID: requestID, CreatedAt: now(),
	}
	if err := b.many.store.PutRevocation(ctx, r); err != nil {
		// The row may be there all the same: then it is found within a second and carried out.
		return nil, notStored(err)
	}
	m := b.many.add(*r, true)
	b.cfg.Fault("many-durable") // a crash here leaves the row, which is expanded after the restart
	b.recordMany(ctx, r, "begun")
	b.many.wake()
	if !sync {
		return r, nil
	}
	return b.awaitMany(ctx, m)
}

// RevokeToken revokes what was issued to a token that has ended, apart from leases that were promised to outlive it. It
// costs one look where there is nothing.
func (b *Broker) RevokeToken(ctx context.Context, accessor string) error {
	if accessor == "" {
		return gate.Errorf(gate.Invalid, "the accessor is empty")
	}
	sel := Selector{Token: accessor, Children: true}
	page, err := b.selected(ctx, sel, 0)
	if err != nil {
		return err
	}
	if len(page) < pageOfMany && !slices.ContainsFunc(page, sel.Matches) {
		return nil
	}
	_, err = b.RevokeMany(ctx, sel, "system", "its token has ended", "", false)
	return err
}

// RevokePrefix is RevokeMany by the beginning of the id. It says how many leases there were.
func (b *Broker) RevokePrefix(ctx context.Context, prefix string, sync bool) (n int, err error) {
	sel := Selector{Prefix: prefix}
	if prefix == "" {
		return 0, gate.Errorf(gate.Invalid, "the prefix is empty")
	}
	if !sync {
		if n, err = b.count(ctx, sel); err != nil {
			return 0, err
		}
	}
	r, err := b.RevokeMany(ctx, sel, "system", "revoke-prefix", "", sync)
	if sync && r != nil {
		n = int(r.Marked)
	}
	return n, err
}

// awaitMany waits for the end of a revocation, or for each of its leases to have failed once.
func (b *Broker) awaitMany(ctx context.Context, m *many) (*Revocation, error) {
	timer := time.NewTimer(b.cfg.SyncTimeout)
	defer timer.Stop()
	for {
		r, look, seen := b.many.state(m)
		switch {
		case !r.DoneAt.IsZero():
			return r, nil
		case look.tried && r.Expanded:
			return r, notAllRevoked(r, look.first)
		}
		select {
		case <-seen:
			continue
		case <-ctx.Done():
		case <-timer.C:
		}
		r, look, _ = b.many.state(m)
		if !r.DoneAt.IsZero() {
			return r, nil
		}
		return r, notAllRevoked(r, look.first)
	}
}

// notAllRevoked says how many of a revocation's leases are alive, with the words of one of them that failed.
func notAllRevoked(r *Revocation, first *Lease) error {
	if !r.Expanded || first == nil || first.Cause == "" {
		return gate.Errorf(gate.TargetSlow, "not all of the leases are revoked yet; revocation %s goes on", r.ID)
	}
	kind := gate.TargetDown
	if first.Cause == OwnsObjects {
		kind = gate.Conflict
	}
	return gate.Errorf(kind, "%d of %d leases are not revoked yet (%s: %s); revocation %s goes on", r.Open, r.Marked,
		first.Cause, first.Error, r.ID)
}

// RevocationOf finds a revocation of many; ErrNoRevocation is wrapped where there is none.
func (b *Broker) RevocationOf(ctx context.Context, id string) (*Revocation, error) {
	if b.many.store == nil {
		return nil, noRevocation()
	}
	r, err := b.many.store.Revocation(ctx, id)
	switch {
	case errors.Is(err, ErrNoRevocation):
		return nil, noRevocation()
	case err != nil:
		return nil, &gate.Error{Kind: gate.Unavailable, Msg: "the revocation can't be read now", Err: err}
	}
	return r, nil
}

// RecentRevocations lists the open revocations of many, oldest first, and the newest that are done: up to limit in all.
func (b *Broker) RecentRevocations(ctx context.Context, limit int) ([]*Revocation, error) {
	if b.many.store == nil {
		return nil, nil
	}
	list, err := b.many.store.OpenRevocations(ctx, max(limit, 1))
	if err != nil {
		return nil, &gate.Error{Kind: gate.Unavailable, Msg: "revocations can't be read now", Err: err}
	}
	return list, nil
}

func noRevocation() error {
	return &gate.Error{Kind: gate.NotFound, Msg: ErrNoRevocation.Error(), Err: ErrNoRevocation}
}

// Preview is what a Selector would revoke.
type Preview struct {
	Leases  int             `json:"leases"`
	Targets []PreviewTarget `json:"targets"` // by name
}

// PreviewTarget is the part of a Preview on one target.
type PreviewTarget struct {
	Target     string   `json:"target"`
	Leases     int      `json:"leases"`
	Principals []string `json:"principals"` // a few of them
}

// sample is how many principals a Preview names for each target.
const sample = 5

// Preview counts the open leases that sel picks, by target. It changes nothing.
func (b *Broker) Preview(ctx context.Context, sel Selector) (Preview, error) {
	if sel.Empty() {
		return Preview{}, gate.Errorf(gate.Invalid, "nothing is selected")
	}
	var p Preview
	at := make(map[string]int)
	err := b.eachSelected(ctx, sel, func(l *Lease) {
		p.add(at, l)
	})
	if err != nil {
		return Preview{}, err
	}
	slices.SortFunc(p.Targets, func(a, b PreviewTarget) int { return strings.Compare(a.Target, b.Target) })
	return p, nil
}

// add counts l. at is where each target stands.
func (p *Preview) add(at map[string]int, l *Lease) {
	i, known := at[l.Target]
	if !known {
		i = len(p.Targets)
		at[l.Target] = i
		p.Targets = append(p.Targets, PreviewTarget{Target: l.Target})
	}
	x := &p.Targets[i]
	x.Leases++
	p.Leases++
	if len(x.Principals) < sample {
		x.Principals = append(x.Principals, l.Principal)
	}
}

// count says how many open leases sel picks.
func (b *Broker) count(ctx context.Context, sel Selector) (int, error) {
	if b.counter != nil {
		n, err := b.counter.Open(ctx, sel, 0)
		if err != nil {
			return 0, &gate.Error{Kind: gate.Unavailable, Msg: "leases can't be counted now", Err: err}
		}
		return n, nil
	}
	n := 0
	err := b.eachSelected(ctx, sel, func(*Lease) { n++ })
	return n, err
}

// eachSelected calls f for each open lease that sel picks, by Seq.
func (b *Broker) eachSelected(ctx context.Context, sel Selector, f func(*Lease)) error {
	for after := int64(0); ; {
		page, err := b.selected(ctx, sel, after)
		if err != nil {
			return err
		}
		for _, l := range page {
			if after = l.Seq; sel.Matches(l) {
				f(l)
			}
		}
		if len(page) < pageOfMany {
			return nil
		}
	}
}

// pageOfMany is how many leases are marked between two writes of a revocation's cursor.
const pageOfMany = 1000

// selected is a page of open leases by index; the caller checks Matches for what no index holds.
func (b *Broker) selected(ctx context.Context, sel Selector, after int64) ([]*Lease, error) {
	return b.List(ctx, Filter{
		Prefix: sel.Prefix, Identity: sel.Identity, Mount: sel.Mount, Role: sel.Role, Producer: sel.Producer,
		Target: sel.Target, Token: sel.Token, Claims: sel.Claims, AfterSeq: after, Limit: pageOfMany,
	})
}

// String says what s picks, for people.
func (s Selector) String() string {
	var parts []string
	for _, x := range []struct{ name, value string }{
		{"prefix", s.Prefix}, {"identity", s.Identity}, {"mount", s.Mount}, {"role", s.Role},
		{"producer", s.Producer}, {"target", s.Target}, {"token", s.Token},
	} {
		if x.value != "" {
			parts = append(parts, fmt.Sprintf("%s %s", x.name, x.value))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Claims)) {
		parts = append(parts, fmt.Sprintf("claim %s=%s", name, s.Claims[name]))
	}
	return strings.Join(parts, ", ")
}
