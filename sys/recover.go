package sys

import (
	"context"
	"fmt"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
)

// Recovery deals with revocations that are held because the store has gone back in time.
type Recovery interface {
	// Held is the hold that lasts, if one does.
	Held() (broker.Hold, bool)
	// HeldLeases counts by target what is due and waits, and lists up to limit of it.
	HeldLeases(ctx context.Context, limit int) (broker.Preview, []*broker.Lease, error)
	// Confirm ends the hold, durably.
	Confirm(ctx context.Context, by, reason string) error
}

// recoverPlan says whether revocations are held, why, and what would be revoked.
func (b *Backend) recoverPlan(ctx context.Context, _ *call) (*gate.Response, error) {
	data, _, err := b.heldData(ctx)
	if err != nil {
		return nil, err
	}
	return ok(data), nil
}

func (b *Backend) heldData(ctx context.Context) (data map[string]any, n int, err error) {
	leases, targets := []any{}, []broker.PreviewTarget{}
	data = map[string]any{"held": false, "count": 0, "targets": targets, "leases": leases}
	if b.cfg.Recovery == nil {
		return data, 0, nil
	}
	h, held := b.cfg.Recovery.Held()
	if !held {
		return data, 0, nil
	}
	p, list, err := b.cfg.Recovery.HeldLeases(ctx, maxPage)
	if err != nil {
		return nil, 0, err
	}
	for _, l := range list {
		leases = append(leases, leaseData(l))
	}
	targets = append(targets, p.Targets...)
	return map[string]any{
		"held": true, "since": h.Since, "why": h.Why, "count": p.Leases, "targets": targets, "leases": leases,
	}, p.Leases, nil
}

// recover carries out what is held.
func (b *Backend) recover(ctx context.Context, c *call) (*gate.Response, error) {
	var in struct {
		Reason string `json:"reason"`
	}
	if err := c.decode(&in, maxBody); err != nil {
		return nil, err
	}
	if err := checkReason(in.Reason); err != nil {
		return nil, err
	}
	data, n, err := b.heldData(ctx)
	if err != nil {
		return nil, err
	}
	if data["held"] != true {
		return nil, invalid("nothing is held")
	}
	if err := b.cfg.Recovery.Confirm(ctx, c.Caller.Name, in.Reason); err != nil {
		return nil, err
	}
	data["held"] = false
	resp := ok(data)
	resp.Detail = fmt.Sprintf("%d leases that were held are revoked now", n)
	return resp, nil
}
