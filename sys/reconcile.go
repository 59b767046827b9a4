package sys

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
)

// reconcile compares a target with its leases and, where the action says so, shuts out or removes what has none.
func (b *Backend) reconcile(ctx context.Context, c *call) (*gate.Response, error) {
	if b.cfg.Reconciler == nil {
		return nil, &gate.Error{Kind: gate.Unsupported, Msg: "targets can't be compared with leases here"}
	}
	in := struct {
		Action broker.ReconcileAction `json:"action"`
	}{broker.ReconcileReport}
	if err := c.decode(&in, maxBody); err != nil {
		return nil, err
	}
	switch in.Action {
	case "":
		in.Action = broker.ReconcileReport
	case broker.ReconcileReport, broker.ReconcileQuarantine, broker.ReconcileRemove:
	default:
		return nil, invalid("the action is %.20q: it can be report, quarantine or remove", in.Action)
	}
	r, err := b.cfg.Reconciler.Reconcile(ctx, c.args["target"], in.Action)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	data := map[string]any{}
	if err := json.Unmarshal(text, &data); err != nil {
		return nil, err
	}
	return &gate.Response{Data: data, Detail: fmt.Sprintf("%s: %d orphans, %d leases without their principal", in.Action, len(r.Orphans), len(r.Missing))}, nil
}
