package approle

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/auth"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/document"
)

// role is what is kept of a role.
type role struct {
	auth.Params

	Name        string
	RoleID      string
	HMACKey     string // of the hashes of its secret ids
	BindSecret  bool
	BoundCIDRs  []string `json:"secret_id_bound_cidrs"`
	NumUses     int      `json:"secret_id_num_uses"`
	SecretIDTTL time.Duration
	Local       bool
	OldPolicies bool // they were given by the older name, and are shown by it too
	OldPeriod   bool
}

type roleDoc = auth.Doc[role]

// index finds a role by its role id.
type index struct{ Role string }

func roleKey(name string) string { return "role/" + strings.ToLower(name) }

func indexKey(roleID string) string {
	sum := sha256.Sum256([]byte(roleID))
	return "role-id/" + hex.EncodeToString(sum[:])
}

func load(ctx context.Context, m *auth.Mount, name string) (*roleDoc, error) {
	return auth.Load[role](ctx, m, roleKey(name))
}

// save writes a role that was read or made, and its index where the role id is another one than before.
func save(ctx context.Context, m *auth.Mount, d *roleDoc, previous string) error {
	r := &d.Value
	if !r.BindSecret && len(r.BoundCIDRs) == 0 && len(r.Params.BoundCIDRs) == 0 {
		return auth.Invalid("at least one constraint should be enabled on the role")
	}
	changes := []*document.Change{d.Put(m)}
	if previous != r.RoleID {
		taken, err := auth.Load[index](ctx, m, indexKey(r.RoleID))
		if err != nil {
			return err
		}
		if taken != nil {
			return auth.Invalid("role_id already in use")
		}
		next := &auth.Doc[index]{Key: indexKey(r.RoleID), Value: index{r.Name}}
		changes = append(changes, next.Put(m))
		if previous != "" {
			old, err := auth.Load[index](ctx, m, indexKey(previous))
			if err != nil {
				return err
			}
			if old != nil {
				changes = append(changes, old.Remove(m))
			}
		}
	}
	return m.Write(ctx, changes...)
}

func (a *Method) listRoles(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	names, err := auth.Names(ctx, c.At, "role/")
	if err != nil {
		return nil, err
	}
	return auth.Keys(names), nil
}

func (a *Method) writeRole(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	if len(c.Args["role"]) > maxName {
		return nil, auth.Invalid("role_name is longer than maximum of %d bytes", maxName)
	}
	resp := auth.Done("wrote role " + c.Args["role"])
	err := auth.Again(func() error {
		d, err := load(ctx, c.At, c.Args["role"])
		if err != nil {
			return err
		}
		made := d == nil
		if made {
			name := strings.ToLower(c.Args["role"])
			d = &roleDoc{Key: roleKey(name), Value: role{Name: name, HMACKey: auth.UUID(), BindSecret: true}}
		}
		previous := d.Value.RoleID
		if err := d.Value.edit(c.Body, made); err != nil {
			return err
		}
		return save(ctx, c.At, d, previous)
	})
	if err != nil {
		return nil, err
	}
	resp.Warnings = typeWarning(c.Body)
	if c.Body.Duration("token_max_ttl") > mountMax(c.At) {
		resp.Warnings = append(resp.Warnings, "token_max_ttl is greater than the backend mount's maximum TTL value; issued tokens' max TTL value will be truncated")
	}
	if len(resp.Warnings) > 0 {
		resp.Status = gate.OK
	}
	return resp, nil
}

const maxName = 4096

func mountMax(m *auth.Mount) time.Duration {
	if m.Tune.MaxTTL > 0 {
		return m.Tune.MaxTTL
	}
	return auth.SystemTTL
}

func typeWarning(b *auth.Body) []string {
	switch t := b.Text("token_type"); t {
	case "default-service":
		return []string{"default-service has no useful meaning; adjusting to service"}
	case "default-batch":
		return []string{"default-batch has no useful meaning; adjusting to batch"}
	}
	return nil
}

// edit takes over the fields of a body.
func (r *role) edit(b *auth.Body, made bool) error {
	if t := b.Text("token_type"); t == "default-service" || t == "default-batch" {
		b.Put("token_type", strings.TrimPrefix(t, "default-"))
		defer b.Put("token_type", t)
	}
	if err := r.Params.Read(b); err != nil {
		return err
	}
	if b.Has("local_secret_ids") {
		if !made {
			return auth.Invalid("local_secret_ids can only be modified during role creation")
		}
		r.Local = b.Bool("local_secret_ids", false)
	}
	if b.Has("role_id") || made {
		r.RoleID = auth.UUID()
		b.SetText("role_id", &r.RoleID)
	}
	if r.RoleID == "" {
		return auth.Invalid("invalid role_id supplied, or failed to generate a role_id")
	}
	b.SetBool("bind_secret_id", &r.BindSecret)
	if err := r.editCIDRs(b, "invalid CIDR blocks"); err != nil {
		return err
	}
	b.SetInt("secret_id_num_uses", &r.NumUses)
	if r.NumUses < 0 {
		return auth.Invalid("secret_id_num_uses cannot be negative")
	}
	b.SetDuration("secret_id_ttl", &r.SecretIDTTL)
	r.OldPolicies = b.Has("policies") || r.OldPolicies && !b.Has("token_policies")
	r.OldPeriod = b.Has("period") || r.OldPeriod && !b.Has("token_period")
	return r.Params.Old(b, "policies", "period")
}

func (r *role) editCIDRs(b *auth.Body, wrong string) error {
	for _, name := range []string{"bound_cidr_list", "secret_id_bound_cidrs"} { // the second counts
		b.SetList(name, &r.BoundCIDRs)
	}
	for _, s := range r.BoundCIDRs {
		if _, err := netip.ParsePrefix(s); err != nil {
			return auth.Invalid("%s", wrong)
		}
	}
	return b.Err()
}

func (a *Method) readRole(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	d, err := load(ctx, c.At, c.Args["role"])
	if err != nil {
		return nil, err
	}
	if d == nil {
		return auth.Missing(), nil
	}
	r := &d.Value
	data := map[string]any{
		"bind_secret_id": r.BindSecret, "secret_id_bound_cidrs": r.BoundCIDRs, "secret_id_num_uses": r.NumUses,
		"secret_id_ttl": auth.Seconds(r.SecretIDTTL), "local_secret_ids": r.Local,
	}
	r.Params.Show(data)
	if r.OldPeriod {
		data["period"] = auth.Seconds(r.Period)
	}
	if r.OldPolicies && len(r.Policies) > 0 {
		data["policies"] = r.Policies
	}
	return auth.OK(data), nil
}

// deleteRole forgets the role's secret ids first: a crash in between leaves a role that can be deleted again.
func (a *Method) deleteRole(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	err := auth.Again(func() error {
		d, err := load(ctx, c.At, c.Args["role"])
		if err != nil || d == nil {
			return err
		}
		if err := forgetSecretIDs(ctx, c.At, &d.Value); err != nil {
			return err
		}
		changes := []*document.Change{d.Remove(c.At)}
		i, err := auth.Load[index](ctx, c.At, indexKey(d.Value.RoleID))
		if err != nil {
			return err
		}
		if i != nil {
			changes = append(changes, i.Remove(c.At))
		}
		return c.At.Write(ctx, changes...)
	})
	if err != nil {
		return nil, err
	}
	return auth.Done("deleted role " + c.Args["role"]), nil
}

func (a *Method) readRoleID(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	return show(ctx, c, func(r *role) map[string]any { return map[string]any{"role_id": r.RoleID} })
}

func (a *Method) readLocal(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	return show(ctx, c, func(r *role) map[string]any { return map[string]any{"local_secret_ids": r.Local} })
}

func (a *Method) writeRoleID(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	id := c.Body.Text("role_id")
	return change(ctx, c, func(r *role) error {
		if id == "" {
			return auth.Invalid("missing role_id")
		}
		r.RoleID = id
		return nil
	})
}

func show(ctx context.Context, c *auth.Call, what func(r *role) map[string]any) (*gate.Response, error) {
	d, err := load(ctx, c.At, c.Args["role"])
	if err != nil {
		return nil, err
	}
	if d == nil {
		return auth.Missing(), nil
	}
	return auth.OK(what(&d.Value)), nil
}

// change edits a role that is there.
func change(ctx context.Context, c *auth.Call, edit func(r *role) error) (*gate.Response, error) {
	err := auth.Again(func() error {
		d, err := load(ctx, c.At, c.Args["role"])
		if err != nil {
			return err
		}
		if d == nil {
			return errNoRole
		}
		previous := d.Value.RoleID
		if err := edit(&d.Value); err != nil {
			return err
		}
		if err := c.Body.Err(); err != nil {
			return err
		}
		return save(ctx, c.At, d, previous)
	})
	if err != nil {
		return nil, err
	}
	return auth.Done("changed role " + c.Args["role"]), nil
}

// errNoRole is what Vault says where a part of a role that isn't there is written.
var errNoRole error = &gate.Error{Kind: gate.NotFound, Msg: "unsupported path"}

func noRole(name string) error { return auth.Invalid("role %q does not exist", name) }

func isNoRole(err error) bool { return errors.Is(err, errNoRole) }
