package auth

import (
	"context"
	"slices"
	"strings"

	"github.com/bailiff-secrets/bailiff/identity"
)

// Renew says with what a token goes on that came through a mount. An error is *identity.Said where its method would not let
// that caller in any more: the role or the user is gone.
func (b *Backend) Renew(ctx context.Context, who identity.Admission) (identity.TokenParams, error) {
	for _, m := range b.table.Load().mounts {
		if m.Accessor != who.MountAccessor {
			continue
		}
		p := &Params{}
		if r, ok := b.cfg.Methods[m.Type].(Renewer); ok {
			var err error
			if p, err = r.Renew(ctx, m, who); err != nil {
				return identity.TokenParams{}, err
			}
		}
		spec := p.Spec()
		m.limit(&spec)
		return spec, nil
	}
	return identity.TokenParams{}, &identity.Said{Msg: "the auth method is no longer enabled, not renewing"}
}

// Gone is the answer to a renewal whose role is no longer there.
func Gone(role string) error {
	return &identity.Said{Msg: "role \"" + role + "\" does not exist during renewal"}
}

// SamePolicies says no to a renewal where a token's policies are not those that it would get now.
func SamePolicies(p *Params, who identity.Admission) error {
	var now []string
	for _, name := range p.Policies {
		now = append(now, strings.ToLower(strings.TrimSpace(name)))
	}
	if !p.NoDefault {
		now = append(now, "default")
	}
	slices.Sort(now)
	then := slices.Clone(who.Policies)
	slices.Sort(then)
	if !slices.Equal(slices.Compact(now), slices.Compact(then)) {
		return &identity.Said{Msg: "policies have changed, not renewing"}
	}
	return nil
}
