package approle

import (
	"context"
	"errors"
	"maps"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/auth"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/document"
	"github.com/bailiff-secrets/bailiff/policy"
)

// wrongPair is the one answer to a role id that nobody knows and to a secret id that is wrong.
const wrongPair = "invalid role or secret ID"

// Claimed is the role id. See auth.Named.
func (*Method) Claimed(c *auth.Call) string { return strings.TrimSpace(c.Body.Text("role_id")) }

// Login checks a role id and a secret id. See auth.Method.
func (a *Method) Login(ctx context.Context, c *auth.Call) (*auth.Outcome, error) {
	if c.Op != policy.Update && c.Op != policy.Create {
		return nil, &gate.Error{Kind: gate.Unsupported, Msg: "unsupported operation"}
	}
	roleID, id := a.Claimed(c), strings.TrimSpace(c.Body.Text("secret_id"))
	if err := c.Body.Err(); err != nil {
		return nil, err
	}
	if roleID == "" {
		return nil, auth.Refuse("", "missing role_id")
	}
	r, err := byRoleID(ctx, c.At, roleID)
	if err != nil {
		return nil, err
	}
	if r == nil {
		return a.withKey(ctx, c, roleID, id)
	}
	s := &secretID{}
	if r.BindSecret {
		if id == "" {
			return nil, auth.Refuse(roleID, "missing secret_id")
		}
		if s, err = a.use(ctx, c, r, id); err != nil {
			return nil, err
		}
	}
	if !auth.Within(c.ClientAddr, r.BoundCIDRs) {
		return nil, auth.Refuse(roleID, "source address %q unauthorized by CIDR restrictions on the role", c.ClientAddr)
	}
	spec := &identity.LoginSpec{
		Alias: roleID, DisplayName: r.Name, Role: r.Name, Params: r.Params.Spec(),
		Metadata: map[string]string{}, AliasMetadata: map[string]string{}, Claims: map[string]string{"role_name": r.Name},
	}
	maps.Copy(spec.Metadata, s.Metadata)
	spec.Metadata["role_name"] = r.Name
	maps.Copy(spec.AliasMetadata, spec.Metadata)
	if len(s.TokenCIDRs) > 0 {
		bound := auth.Params{BoundCIDRs: s.TokenCIDRs}
		spec.Params.BoundCIDRs = bound.Spec().BoundCIDRs
	}
	return &auth.Outcome{Login: spec}, nil
}

func byRoleID(ctx context.Context, m *auth.Mount, roleID string) (*role, error) {
	i, err := auth.Load[index](ctx, m, indexKey(roleID))
	if err != nil {
		return nil, err
	}
	name := "-" // no role has this name: what is not known costs what is known
	if i != nil {
		name = i.Value.Role
	}
	d, err := load(ctx, m, name)
	if err != nil || d == nil || d.Value.RoleID != roleID {
		return nil, err
	}
	return &d.Value, nil
}

// use takes one use of a secret id. It is durable on return: a crash costs a use and never gives one more.
func (a *Method) use(ctx context.Context, c *auth.Call, r *role, id string) (*secretID, error) {
	var s secretID
	err := auth.Again(func() error {
		d, err := auth.Load[secretID](ctx, c.At, secretKey(r, id))
		if err != nil {
			return err
		}
		if d == nil {
			return &auth.Refused{Msg: wrongPair, Kind: gate.Invalid, Reason: "wrong secret id", Alias: r.RoleID, Wrong: true, Known: true}
		}
		s = d.Value
		if err := subset(s.CIDRs, r.BoundCIDRs, "failed to validate CIDR blocks"); err != nil {
			return err
		}
		if !auth.Within(c.ClientAddr, s.CIDRs) {
			return auth.Refuse(r.RoleID, "source address %q unauthorized through CIDR restrictions on the secret ID", c.ClientAddr)
		}
		return spend(ctx, c.At, d)
	})
	if errors.Is(err, document.ErrConflict) {
		return nil, &gate.Error{Kind: gate.Unavailable, Msg: "the secret id is being used too often at this moment", Hint: "try again"}
	}
	return &s, err
}

func spend(ctx context.Context, m *auth.Mount, d *secretIDDoc) error {
	switch d.Value.NumUses {
	case 0:
		return nil
	case 1:
		return m.Write(ctx, d.Remove(m))
	}
	d.Value.NumUses--
	d.Value.Updated = time.Now().UTC()
	return m.Write(ctx, d.Put(m))
}

// withKey lets in a declared identity whose access id and access key were given; everybody else gets the answer to what is
// wrong, after the work that a wrong secret id costs.
func (a *Method) withKey(ctx context.Context, c *auth.Call, roleID, id string) (*auth.Outcome, error) {
	no := &auth.Refused{Msg: wrongPair, Kind: gate.Invalid, Reason: "unknown role id", Alias: roleID, Wrong: true}
	if _, err := auth.Load[secretID](ctx, c.At, secretKey(&role{Name: "-", HMACKey: roleID}, id)); err != nil {
		return nil, err
	}
	if a.keys == nil || id == "" {
		return nil, no
	}
	caller, err := auth.KeyOf(ctx, a.keys, c, roleID, id)
	switch {
	case errors.Is(err, identity.ErrUnauthenticated):
		return nil, no
	case err != nil:
		return nil, err
	}
	return &auth.Outcome{Login: auth.KeyLogin(caller)}, nil
}
