package gate

import (
	"context"

	"github.com/bailiff-secrets/bailiff/policy"
)

// mayIt sets r.Decision, and r.Op to Create where a write turns out to be one.
func (g *Gate) mayIt(ctx context.Context, r *Request) error {
	if greets(r) {
		r.Decision = policy.Decision{Allowed: true, Reason: "open to everybody"}
		return nil
	}
	if r.Mount != nil {
		if j, ok := r.Mount.Backend.(Judge); ok && j.Open(r) {
			r.Decision = policy.Decision{Allowed: true, Reason: "open to every known caller"}
			return nil
		}
	}
	acl := g.cfg.Policies.ACL(&r.Caller)
	if err := g.judgeOp(ctx, acl, r); err != nil {
		return err
	}
	if !r.Decision.Allowed {
		return ErrDenied
	}
	if r.Mount == nil {
		return nil
	}
	if s, ok := r.Mount.Backend.(Guarded); ok && r.Op != policy.Help && !r.Decision.Sudo && s.NeedsSudo(r) {
		r.Decision.Allowed, r.Decision.Reason = false, "the path needs the sudo capability"
		return ErrDenied
	}
	return nil
}

// judgeOp decides, and finds out whether a write is a create or an update where that makes the difference.
func (g *Gate) judgeOp(ctx context.Context, acl *policy.ACL, r *Request) error {
	r.Decision = acl.Decide(r.Op, r.Path)
	if r.Op != policy.Update {
		return nil
	}
	create := acl.Decide(policy.Create, r.Path)
	if create.Allowed == r.Decision.Allowed {
		return nil
	}
	exists, known := true, false
	if r.Mount != nil {
		if x, ok := r.Mount.Backend.(Exister); ok {
			var err error
			if exists, known, err = x.Exists(ctx, r); err != nil {
				return err
			}
		}
	}
	if known && !exists {
		r.Op, r.Decision = policy.Create, create
	}
	return nil
}
