package gate

import (
	"context"

	"github.com/bailiff-secrets/bailiff/policy"
)

// canWrap refuses, before anything is done, what could not be wrapped afterwards.
func (g *Gate) canWrap(r *Request) error {
	switch {
	case r.WrapTTL <= 0:
		return nil
	case g.cfg.Wrapper == nil:
		return Errorf(Unsupported, "response wrapping is not served here")
	case r.WrapFormat == "jwt":
		return Errorf(Unsupported, "wrapping tokens have one format: leave X-Vault-Wrap-Format away")
	}
	return nil
}

// wrap keeps resp for whoever presents a token, where r asks for that, and gives back what stands for it. Where it can't be
// kept, what was issued is ended. As in Vault, errors and answers that say nothing are not wrapped.
func (g *Gate) wrap(ctx context.Context, r *Request, resp *Response, err error) (*Response, error) {
	if err != nil || r.WrapTTL <= 0 || !wraps(r, resp) {
		return resp, err
	}
	w, err := g.cfg.Wrapper.Wrap(ctx, r, resp)
	if err != nil {
		if resp.Abandon != nil {
			resp.Abandon()
		}
		return nil, err
	}
	stands := &Response{Wrap: w, Abandon: resp.Abandon, Principal: resp.Principal, LeaseID: resp.LeaseID, Detail: detail(resp.Detail, w)}
	if resp.Lease != nil {
		stands.LeaseID = resp.Lease.ID
	}
	return stands, nil
}

// detail says in a record that what was answered was not seen by who asked.
func detail(said string, w *Wrap) string {
	const mark = "wrapped, accessor "
	if said != "" {
		return said + "; " + mark + w.Accessor
	}
	return mark + w.Accessor
}

func wraps(r *Request, resp *Response) bool {
	switch {
	case r.Op == policy.Help, resp.Bare, resp.Wrap != nil:
		return false
	case resp.Raw != nil:
		return resp.Raw.Code >= 200 && resp.Raw.Code < 300 && resp.Raw.Length != 0
	}
	return (resp.Status == OK || resp.Status == Accepted) && resp.Says()
}
