package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/policy"
)

// Force gives up a lease whose credential can't be ended: it becomes Revoked without the target having been asked, and
// nobody tries again. by and reason are those of the person who answers for it. What may still be alive is recorded first,
// with its target; where that can't be, nothing is given up. A lease that is revoked already is no error.
func (b *Broker) Force(ctx context.Context, id, by, reason string) error {
	if by == "" || strings.TrimSpace(reason) == "" {
		return gate.Errorf(gate.Invalid, "giving up a lease needs a person and a reason")
	}
	l, err := b.find(ctx, id)
	if err != nil {
		return err
	}
	recorded := false
	for l.State != Revoked {
		if !recorded {
			if err := b.recordForce(ctx, l, by, reason); err != nil {
				return err
			}
			recorded = true
		}
		from := l.State
		l.State, l.NextAt = Revoked, time.Time{}
		l.Error = fmt.Sprintf("given up by %s: %s", by, reason)
		err := b.cfg.Store.Move(ctx, l, from)
		if err == nil {
			b.waiters.tell(id, nil)
			b.many.result(l, true)
			return nil
		}
		if !errors.Is(err, ErrStale) {
			return notStored(err)
		}
		if l, err = b.find(ctx, id); err != nil { // a write came between
			return err
		}
	}
	return nil
}

// ForcePrefix is Force for every open lease whose id begins with prefix. It says how many it gave up, and stops at the
// first error.
func (b *Broker) ForcePrefix(ctx context.Context, prefix, by, reason string) (int, error) {
	if prefix == "" {
		return 0, gate.Errorf(gate.Invalid, "the prefix is empty")
	}
	var n atomic.Int64
	f := Filter{Prefix: prefix, Limit: 1000}
	for {
		page, err := b.List(ctx, f)
		if err != nil {
			return int(n.Load()), err
		}
		var g errgroup.Group
		g.SetLimit(64) // writes at a time share a commit
		for _, l := range page {
			g.Go(func() error {
				err := b.Force(ctx, l.ID, by, reason)
				if err == nil {
					n.Add(1)
				}
				return err
			})
		}
		if err := g.Wait(); err != nil || len(page) < f.Limit {
			return int(n.Load()), err
		}
		f.AfterSeq = page[len(page)-1].Seq
	}
}

// recordForce records what is given up.
func (b *Broker) recordForce(ctx context.Context, l *Lease, by, reason string) error {
	last := "it was never tried"
	if l.Cause != "" {
		last = string(l.Cause) + ": " + l.Error
	}
	err := b.cfg.Recorder.Append(ctx, &audit.Record{
		Stage: audit.StageEvent, Status: audit.OK, Via: string(gate.System), Node: b.cfg.Node, Op: string(policy.Delete),
		RequestID: l.RequestID, Identity: by, Path: l.Mount + "creds/" + l.Role, Mount: l.Mount, Target: l.Target,
		LeaseID: l.ID, Principal: l.Principal, Error: last, Event: EventGivenUp,
		Detail: fmt.Sprintf("given up by %s without being ended: %s may still be alive on %s, issued to %s; reason: %s",
			by, l.Principal, l.Target, l.Identity, reason),
	})
	if err != nil {
		return &gate.Error{Kind: gate.Unavailable, Msg: "no record could be kept, so nothing is given up", Err: err}
	}
	return nil
}
