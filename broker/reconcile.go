package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/gate"
)

// ReconcileAction is what Reconcile does with an orphan.
type ReconcileAction string

// The actions.
const (
	ReconcileReport     ReconcileAction = "report"     // nothing
	ReconcileQuarantine ReconcileAction = "quarantine" // it is shut out, and stays
	ReconcileRemove     ReconcileAction = "remove"     // it is revoked
)

// Report is what Reconcile found.
type Report struct {
	Target     string          `json:"target"`
	Action     ReconcileAction `json:"action"`
	At         time.Time       `json:"at"`
	Principals int             `json:"principals"` // on the target, proven to be ours or with an open lease
	Leases     int             `json:"leases"`     // open, of the target
	Stuck      int             `json:"stuck"`      // of those, whose revocation failed and is tried again
	Orphans    []Orphan        `json:"orphans"`
	Missing    []Missing       `json:"missing"`
	Foreign    []string        `json:"foreign"` // names in our form that are not proven to be ours: never touched
	Error      string          `json:"error,omitempty"`
}

// Orphan is a principal of ours without an open lease.
type Orphan struct {
	Principal string `json:"principal"`
	LeaseID   string `json:"lease_id,omitempty"` // as the principal's comment names it
	Known     bool   `json:"known"`              // that lease is in the store
	Enabled   bool   `json:"enabled"`            // it could log in
	Done      bool   `json:"done"`               // the action was done
	Error     string `json:"error,omitempty"`    // why it wasn't

	data []byte // of the lease
}

// Missing is an active lease whose principal is not on the target.
type Missing struct {
	LeaseID   string `json:"lease_id"`
	Principal string `json:"principal"`
	Identity  string `json:"identity"`
}

// Reconcile compares what is on a target with the leases, and does act with each orphan. Names of our form whose check is
// wrong are somebody else's and never touched, nor are those without a check that no open lease names. An error is a
// *gate.Error; Unsupported where the target can't be listed or can't do act.
//
// A lease is durable before its credential, so a principal without an open lease is never one that is being made. It may be
// one whose lease has just ended: an orphan is only what a second list shows too. One whose lease never became active is
// left to that lease until its creation can no longer be running.
func (b *Broker) Reconcile(ctx context.Context, target string, act ReconcileAction) (Report, error) {
	r := Report{Target: target, Action: act, At: now(), Orphans: []Orphan{}, Missing: []Missing{}, Foreign: []string{}}
	p, _, err := b.cfg.Catalog.Producer(target)
	if err != nil {
		return r, &gate.Error{Kind: gate.NotFound, Msg: fmt.Sprintf("target %s is not configured", target), Err: err}
	}
	if err := b.may(p, act); err != nil {
		return r, err
	}
	unlock, free := b.sweeps.TryLock(target)
	if !free {
		return r, gate.Errorf(gate.Conflict, "target %s is being reconciled already", target)
	}
	defer unlock()
	err = b.compare(ctx, p, &r)
	if err == nil && act != ReconcileReport {
		err = b.actOn(ctx, p, &r)
	}
	if err != nil {
		r.Error = words(err)
	}
	b.reports.keep(r)
	b.recordSweep(ctx, &r)
	return r, err
}

// may says whether the producer can do it.
func (b *Broker) may(p Producer, act ReconcileAction) error {
	if _, ok := p.(Lister); !ok {
		return gate.Errorf(gate.Unsupported, "what is on this target can't be listed")
	}
	switch act {
	case ReconcileReport:
		return nil
	case ReconcileQuarantine:
		if _, ok := p.(Quarantiner); !ok {
			return gate.Errorf(gate.Unsupported, "nothing can be quarantined on this target")
		}
	case ReconcileRemove:
	default:
		return gate.Errorf(gate.Invalid, "the action is %q: it can be report, quarantine or remove", act)
	}
	if len(b.cfg.NameKey) == 0 {
		return gate.Errorf(gate.Unsupported, "names have no check, so nothing is touched")
	}
	if _, held := b.Held(); held { // what a store that went back in time doesn't know looks like an orphan
		return gate.Errorf(gate.Conflict, "revocations are held because the store went back in time, so nothing is touched")
	}
	return nil
}

// compare fills r. The principals are listed before the leases are read: what is active then was there.
func (b *Broker) compare(ctx context.Context, p Producer, r *Report) error {
	began := now()
	found, err := b.list(ctx, p, r.Target)
	if err != nil {
		return targetError("the target can't be listed", err)
	}
	err = b.openLeases(ctx, r.Target, func(l *Lease) {
		r.Leases++
		_, there := found[l.Principal]
		switch {
		case there:
			r.Principals++
			delete(found, l.Principal)
		case l.State == Active && l.IssuedAt.Before(began):
			r.Missing = append(r.Missing, Missing{LeaseID: l.ID, Principal: l.Principal, Identity: l.Identity})
		}
		if l.State == Stuck || l.State == Revoking && l.Attempt > 0 {
			r.Stuck++
		}
	})
	if err != nil {
		return err
	}
	for name, f := range found {
		if !b.proven(name) {
			delete(found, name)
			r.Foreign = append(r.Foreign, f.Name)
		}
	}
	slices.Sort(r.Foreign)
	if len(found) == 0 {
		return nil
	}
	again, err := b.list(ctx, p, r.Target)
	if err != nil {
		return targetError("the target can't be listed", err)
	}
	for name := range found {
		f, still := again[name]
		if !still {
			continue
		}
		r.Principals++
		o, orphan, err := b.orphan(ctx, f)
		if err != nil {
			return err
		}
		if orphan {
			r.Orphans = append(r.Orphans, o)
		}
	}
	slices.SortFunc(r.Orphans, func(a, b Orphan) int { return cmp.Compare(a.Principal, b.Principal) })
	return nil
}

// list is what the target lists, by name.
func (b *Broker) list(ctx context.Context, p Producer, target string) (map[string]Found, error) {
	found := make(map[string]Found)
	err := b.sweepTarget(ctx, target, func() (err error) {
		defer b.recovered(&err, "")
		l, ok := p.(Lister)
		if !ok {
			return gate.Errorf(gate.Unsupported, "what is on this target can't be listed")
		}
		return l.List(ctx, func(f Found) error {
			found[f.Name] = f
			return nil
		})
	})
	return found, err
}

// openLeases calls each for every lease of a target that is not revoked.
func (b *Broker) openLeases(ctx context.Context, target string, each func(*Lease)) error {
	f := Filter{Target: target, Limit: 1000}
	for {
		page, err := b.List(ctx, f)
		if err != nil {
			return err
		}
		for _, l := range page {
			each(l)
		}
		if len(page) < f.Limit {
			return nil
		}
		f.AfterSeq = page[len(page)-1].Seq
	}
}

// orphan says whether a principal that is ours has no open lease.
func (b *Broker) orphan(ctx context.Context, f Found) (Orphan, bool, error) {
	o := Orphan{Principal: f.Name, LeaseID: f.LeaseID, Enabled: f.Enabled}
	if f.LeaseID == "" {
		return o, true, nil
	}
	l, err := b.find(ctx, f.LeaseID)
	switch {
	case errors.Is(err, ErrNoLease):
		return o, true, nil
	case err != nil:
		return o, false, err
	case l.Principal != f.Name: // the comment is of no use
		return o, true, nil
	}
	o.Known, o.data = true, l.Data
	young := l.IssuedAt.IsZero() && now().Before(l.IntentDeadline.Add(b.cfg.ClockMargin))
	return o, l.State == Revoked && !young, nil
}

// actOn does r.Action with each orphan. What was recorded as intended may be done twice, which is as good. It goes on after
// a failure, which is told with the orphan, unless the target does not answer or the trail can't be written.
func (b *Broker) actOn(ctx context.Context, p Producer, r *Report) error {
	for i := range r.Orphans {
		o := &r.Orphans[i]
		if r.Action == ReconcileQuarantine && !o.Enabled {
			o.Done = true
			continue
		}
		if _, open, err := b.orphan(ctx, Found{Name: o.Principal, LeaseID: o.LeaseID}); err != nil || !open {
			o.Error = "it has a lease"
			continue
		}
		if err := b.recordOrphan(ctx, r, o, audit.OK, "an orphan is to be ended: "+string(r.Action)); err != nil {
			return &gate.Error{Kind: gate.Unavailable, Msg: "what is done can't be recorded now, so it isn't done", Err: err}
		}
		err := b.sweepTarget(ctx, r.Target, func() (err error) {
			defer b.recovered(&err, o.LeaseID)
			return b.actOnOne(ctx, p, r.Action, o)
		})
		if err == nil {
			o.Done = true
			continue
		}
		o.Error = words(err)
		if err := b.recordOrphan(ctx, r, o, audit.Failed, "an orphan is not ended"); err != nil {
			b.log.Error("a failure could not be recorded", "target", r.Target, "principal", o.Principal, "error", err)
		}
		if causeOf(err) == Unreachable || ctx.Err() != nil {
			return targetError("not every orphan is ended", err)
		}
	}
	return nil
}

func (b *Broker) actOnOne(ctx context.Context, p Producer, act ReconcileAction, o *Orphan) error {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.RevokeTimeout)
	defer cancel()
	if !b.proven(o.Principal) { // it was, or it would not be an orphan
		return &RevokeError{Cause: Unknown, Msg: "the name is not proven to be ours"}
	}
	if q, ok := p.(Quarantiner); ok && act == ReconcileQuarantine {
		return q.Quarantine(ctx, o.Principal)
	}
	err := p.Revoke(ctx, Ref{LeaseID: o.LeaseID, Principal: o.Principal, Data: o.data})
	if err != nil && causeOf(err) == Gone {
		return nil
	}
	return err
}

// recordOrphan records what is done with an orphan.
func (b *Broker) recordOrphan(ctx context.Context, r *Report, o *Orphan, status audit.Status, detail string) error {
	return b.cfg.Recorder.Append(ctx, &audit.Record{
		Stage: audit.StageEvent, Status: status, Via: string(gate.System), Node: b.cfg.Node, Op: "reconcile",
		Target: r.Target, LeaseID: o.LeaseID, Principal: o.Principal, Detail: detail, Error: o.Error,
	})
}

// recordSweep records what was found, where something is not as it should be.
func (b *Broker) recordSweep(ctx context.Context, r *Report) {
	if len(r.Orphans)+len(r.Missing)+r.Stuck == 0 && r.Error == "" && r.Action == ReconcileReport {
		return
	}
	rec := &audit.Record{
		Stage: audit.StageEvent, Status: audit.OK, Via: string(gate.System), Node: b.cfg.Node, Op: "reconcile", Target: r.Target,
		Detail: fmt.Sprintf("%s: %d orphans, %d missing, %d stuck, %d foreign of %d principals and %d leases",
			r.Action, len(r.Orphans), len(r.Missing), r.Stuck, len(r.Foreign), r.Principals, r.Leases),
		Error: r.Error,
	}
	if r.Error != "" {
		rec.Status = audit.Failed
	}
	if err := b.cfg.Recorder.Append(context.WithoutCancel(ctx), rec); err != nil {
		b.log.Error("a sweep could not be recorded", "target", r.Target, "error", err)
	}
}
