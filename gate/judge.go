package gate

import (
	"bytes"
	"context"
	"io"

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
	if err := judgeOp(ctx, acl, r); err != nil {
		return err
	}
	if !r.Decision.Allowed {
		if err := g.judgeAll(ctx, acl, r); err != nil {
			return err
		}
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

// judgeOp decides by capability, and finds out whether a write is a create or an update where that makes the difference.
func judgeOp(ctx context.Context, acl *policy.ACL, r *Request) error {
	r.Decision = acl.Decide(r.Op, r.FullPath())
	if r.Op != policy.Update {
		return nil
	}
	create := acl.Decide(policy.Create, r.FullPath())
	if may(create) == may(r.Decision) && !r.Decision.NeedsOp {
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

// may says whether the capability is there.
func may(d policy.Decision) bool { return d.Allowed || d.Conditional }

// judgeAll decides with everything that a rule can look at, and finds the nearest rule for the record of a refusal. What is
// granted only so many times is counted before it is granted.
func (g *Gate) judgeAll(ctx context.Context, acl *policy.ACL, r *Request) error {
	q := policy.Question{Op: r.Op, Path: r.FullPath(), WrapTTL: r.WrapTTL, Context: contextOf(r)}
	if r.Decision.NeedsParams {
		var err error
		if q.Params, err = params(r); err != nil {
			return err
		}
	}
	for {
		d := acl.Judge(&q)
		if d.Uses == nil {
			r.Decision = d
			return nil
		}
		if g.cfg.Uses != nil {
			left, err := g.cfg.Uses.Take(ctx, d.Uses.Name, d.Uses.Max)
			if err != nil {
				return &Error{Kind: Unavailable, Msg: "what the rule grants can't be counted", Err: err}
			}
			if left {
				r.Decision = d
				return nil
			}
		}
		q.Spent = append(q.Spent, d.Uses.Name)
	}
}

func contextOf(r *Request) *policy.Context {
	return &policy.Context{
		Time: r.Start, Addr: r.ClientAddr, Identity: r.Caller.Name, EntityID: r.Caller.EntityID, Method: r.Caller.Method,
		Metadata: r.Caller.Metadata, Groups: r.Caller.GroupIDs, Claims: r.Caller.Claims, Reason: r.Reason, Ticket: r.Ticket,
	}
}

// params reads the parameters of r. A body is read whole, as far as the door lets it be, and put back byte for byte.
func params(r *Request) (map[string]any, error) {
	if r.Op == policy.Read {
		return policy.QueryParams(r.Query), nil
	}
	if r.Body == nil {
		return nil, nil
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	r.Body, r.BodyLen = bytes.NewReader(body), int64(len(body))
	out, err := policy.BodyParams(r.ContentType, body)
	if err != nil {
		return nil, Errorf(Invalid, "%w", err)
	}
	return out, nil
}
