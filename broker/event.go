package broker

import (
	"context"
	"fmt"
	"sync"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/policy"
)

// The events of a lease, as records name them for those who are told.
const (
	EventRevoked = "lease.revoked"            // its credential is gone
	EventFailing = "lease.revocation-failing" // it is stuck; the record's Error is "cause: words"
	EventGivenUp = "lease.given-up"           // a person gave it up; the record's Error is that of the last try
)

// recordEnd records that a credential was ended, before the store says so: a crash between the two records it twice, which
// is what happened.
func (b *Broker) recordEnd(ctx context.Context, l *Lease, told Ended) {
	detail := "revoked before its time"
	switch {
	case l.IssuedAt.IsZero():
		detail = "revoked: it was never released"
	case !l.ExpiresAt.After(now()):
		detail = "expired and revoked"
	}
	if r, err := b.many.covering(ctx, l, b.alone()); err == nil && r != nil {
		detail += ", by revocation " + r.ID
	}
	if told.Sessions > 0 {
		detail += fmt.Sprintf(", %d sessions closed", told.Sessions)
	}
	if l.Attempt > 0 {
		detail += fmt.Sprintf(", after %d failures", l.Attempt)
	}
	event := EventRevoked
	if l.IssuedAt.IsZero() {
		event = "" // nobody had it
	}
	b.record(ctx, l, audit.OK, event, detail, "")
}

// recordFailure records that a credential could not be ended yet.
func (b *Broker) recordFailure(ctx context.Context, l *Lease) {
	detail, event := "not revoked yet, tried again", ""
	if l.State == Stuck {
		event = EventFailing
		detail = fmt.Sprintf("stuck after %d failures, still tried", l.Attempt)
	}
	b.record(ctx, l, audit.Failed, event, detail, string(l.Cause)+": "+l.Error)
}

// record appends an event. Revoking does not stop when the trail can't be written: leaving credentials alive is worse.
func (b *Broker) record(ctx context.Context, l *Lease, status audit.Status, event, detail, failure string) {
	err := b.cfg.Recorder.Append(ctx, &audit.Record{
		Stage: audit.StageEvent, Status: status, Via: string(gate.System), Node: b.cfg.Node, Op: string(policy.Delete),
		RequestID: l.RequestID, Identity: l.Identity, AccessID: l.AccessID,
		Path: l.Mount + "creds/" + l.Role, Mount: l.Mount, Target: l.Target,
		LeaseID: l.ID, Principal: l.Principal, Detail: detail, Error: failure, Event: event,
	})
	if err != nil {
		b.log.Error("a revocation could not be recorded", "lease_id", l.ID, "target", l.Target, "detail", detail, "error", err)
	}
}

// Counts is what happened on one target since the broker was made, and what waits there now.
type Counts struct {
	Issued, IssueFailed   uint64
	Renewed               uint64
	Revoked, RevokeFailed uint64
	Waiting, Working      int // revocations in the target's lane
}

// counters guards the Counts of every target.
type counters struct {
	mu       sync.Mutex
	byTarget map[string]*Counts
}

func (c *counters) add(target string, f func(*Counts)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.byTarget[target]
	if x == nil {
		x = new(Counts)
		c.byTarget[target] = x
	}
	f(x)
}

// Counts gives the counts by target.
func (b *Broker) Counts() map[string]Counts {
	all := b.Stats().Targets
	out := make(map[string]Counts, len(all))
	for target, x := range all {
		out[target] = x.Counts
	}
	return out
}
