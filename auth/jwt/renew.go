package jwt

import (
	"context"

	"github.com/bailiff-secrets/bailiff/auth"
	"github.com/bailiff-secrets/bailiff/identity"
)

// Renew lets a token go on as long as its role is there, and with what that says now. See auth.Renewer.
func (*Method) Renew(ctx context.Context, m *auth.Mount, who identity.Admission) (*auth.Params, error) {
	d, err := loadRole(ctx, m, who.Role)
	if err != nil {
		return nil, err
	}
	if d == nil {
		return nil, auth.Gone(who.Role)
	}
	return &d.Value.Params, nil
}
