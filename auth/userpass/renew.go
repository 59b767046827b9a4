package userpass

import (
	"context"

	"github.com/bailiff-secrets/bailiff/auth"
	"github.com/bailiff-secrets/bailiff/identity"
)

// Renew lets a token go on as long as its user is there, and with what that says now. See auth.Renewer.
func (*Method) Renew(ctx context.Context, m *auth.Mount, who identity.Admission) (*auth.Params, error) {
	d, err := auth.Load[user](ctx, m, key(who.Alias))
	if err != nil {
		return nil, err
	}
	if d == nil {
		return nil, &identity.Said{Msg: "the user is no longer there, not renewing"}
	}
	return &d.Value.Params, auth.SamePolicies(&d.Value.Params, who)
}
