package gate

import (
	"time"

	"github.com/bailiff-secrets/bailiff/internal/envelope"
)

// Envelope is resp in Vault's shape, for a request with that id. It must have no Raw. An answer that stands for one that is
// kept says nothing else, as in Vault.
func (resp *Response) Envelope(requestID string) envelope.Envelope {
	if w := resp.Wrap; w != nil {
		return envelope.Envelope{WrapInfo: &envelope.WrapInfo{
			Token: w.Token.Reveal(), Accessor: w.Accessor, TTL: int64(w.TTL / time.Second), CreationTime: w.CreationTime.UTC(),
			CreationPath: w.CreationPath, WrappedAccessor: w.WrappedAccessor,
		}, Warnings: resp.Warnings}
	}
	e := envelope.Envelope{RequestID: requestID, Data: resp.Data, Warnings: resp.Warnings}
	if l := resp.Lease; l != nil {
		e.LeaseID, e.Renewable, e.LeaseDuration = l.ID, l.Renewable, int64(l.Duration/time.Second)
	}
	if a := resp.Auth; a != nil {
		e.Auth = &envelope.Auth{
			ClientToken: a.ClientToken.Reveal(), Accessor: a.Accessor, Policies: a.Policies, TokenPolicies: a.TokenPolicies,
			IdentityPolicies: a.IdentityPolicies, Metadata: a.Metadata, LeaseDuration: int64(a.LeaseDuration / time.Second),
			Renewable: a.Renewable, EntityID: a.EntityID, TokenType: a.TokenType, Orphan: a.Orphan, NumUses: a.NumUses,
		}
	}
	return e
}

// Says tells whether resp has anything to say beside its Status.
func (resp *Response) Says() bool {
	return resp.Raw != nil || resp.Data != nil || resp.Lease != nil || resp.Auth != nil || resp.Wrap != nil || len(resp.Warnings) > 0
}
