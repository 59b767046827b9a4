package sys

import (
	"context"
	"maps"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
)

// status says how much there is, and what needs a person.
func (b *Backend) status(ctx context.Context, _ *call) (*gate.Response, error) {
	records, err := b.cfg.Estate.Objects(ctx, "")
	if err != nil {
		return nil, err
	}
	objects := map[string]int{}
	for _, rec := range records {
		objects[string(rec.Kind)]++
	}
	stuck := 0
	err = b.each(ctx, broker.Filter{States: []broker.State{broker.Stuck}}, func(*broker.Lease) bool {
		stuck++
		return stuck < maxLeaseKeys
	})
	if err != nil {
		return nil, err
	}
	data := map[string]any{"objects": objects, "mounts": len(b.cfg.Mounts().All()), "stuck_leases": stuck}
	maps.Copy(data, b.cfg.Status(ctx))
	return ok(data), nil
}
