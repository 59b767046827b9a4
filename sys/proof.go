package sys

import (
	"context"
	"errors"
	"strconv"

	"github.com/bailiff-secrets/bailiff/audit/merkle"
	"github.com/bailiff-secrets/bailiff/gate"
)

// trailKey shows the public key with which checkpoints and proofs are checked.
func (b *Backend) trailKey(context.Context, *call) (*gate.Response, error) {
	if b.cfg.Proofs == nil {
		return nil, unsigned()
	}
	return ok(map[string]any{"key": b.cfg.Proofs.Key()}), nil
}

// checkpoint shows the newest signature for the trail.
func (b *Backend) checkpoint(context.Context, *call) (*gate.Response, error) {
	if b.cfg.Proofs == nil {
		return nil, unsigned()
	}
	signed := b.cfg.Proofs.Checkpoint()
	if signed == nil {
		return &gate.Response{Status: gate.Missing}, nil
	}
	return ok(map[string]any{"checkpoint": string(signed)}), nil
}

// proof shows that a record is in the trail.
func (b *Backend) proof(ctx context.Context, c *call) (*gate.Response, error) {
	if b.cfg.Proofs == nil {
		return nil, unsigned()
	}
	seq, err := strconv.ParseUint(c.args["seq"], 10, 63)
	if err != nil || seq == 0 {
		return nil, invalid("the number of a record is one from 1")
	}
	p, err := b.cfg.Proofs.Prove(ctx, seq)
	if errors.Is(err, merkle.ErrUnsigned) {
		if head := b.cfg.Trail.Head().Seq; seq > head {
			return &gate.Response{Status: gate.Missing}, nil
		}
		return nil, &gate.Error{Kind: gate.Unavailable, Msg: err.Error(), Hint: "ask again in a second", Err: err}
	}
	if err != nil {
		return nil, err
	}
	return ok(map[string]any{"proof": string(p.Text())}), nil
}

func unsigned() error {
	return &gate.Error{Kind: gate.Unsupported, Msg: "nothing is signed for here"}
}
