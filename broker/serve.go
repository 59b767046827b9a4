package broker

import (
	"context"
	"strings"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/policy"
)

// Serve issues: it answers a read of creds/<role> below a broker mount. The other paths of such a mount are package engine's.
func (b *Broker) Serve(ctx context.Context, r *gate.Request) (*gate.Response, error) {
	role, ok := strings.CutPrefix(r.Rest, "creds/")
	if !ok || role == "" {
		return nil, gate.Errorf(gate.NotFound, "credentials are issued below creds/")
	}
	if r.Op != policy.Read {
		return nil, gate.Errorf(gate.Unsupported, "credentials are issued by reading this path")
	}
	return b.issue(ctx, r, role)
}

// Changes is true for what reaches a target: reading credentials makes some. It is a gate.Changer.
func (b *Broker) Changes(r *gate.Request) bool {
	return r.Op != policy.List && r.Op != policy.Help
}

// Overlaps is true for issuing: the lease becomes durable beside the record of the request, before the target is reached,
// and active beside the record of the answer. It is a gate.Overlapper.
func (b *Broker) Overlaps(r *gate.Request) bool {
	return r.Op == policy.Read && strings.HasPrefix(r.Rest, "creds/")
}
