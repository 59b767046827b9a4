package ldap

import (
	"context"

	"github.com/bailiff-secrets/bailiff/auth"
	"github.com/bailiff-secrets/bailiff/identity"
)

// Renew lets a token go on as long as its configuration is there, and with what that says now. See auth.Renewer. The
// password is not kept, so the directory is not asked again.
func (*Method) Renew(ctx context.Context, m *auth.Mount, who identity.Admission) (*auth.Params, error) {
	d, err := loadConfig(ctx, m)
	if err != nil {
		return nil, err
	}
	if d == nil {
		return nil, &identity.Said{Msg: "the method is no longer set up, not renewing"}
	}
	return &d.Value.Params, nil
}
