package kubernetes

import (
	"context"
	"slices"
	"strings"

	"github.com/bailiff-secrets/bailiff/auth"
	"github.com/bailiff-secrets/bailiff/gate"
)

// role is what is kept of a role.
type role struct {
	auth.Params

	Names       []string
	Namespaces  []string
	UIDs        []string // not in Vault: of service accounts; any where empty
	Audience    string
	AliasSource string
	Old         []string // the fields that were given by their older names, and are shown by them too
}

type roleDoc = auth.Doc[role]

func loadRole(ctx context.Context, m *auth.Mount, name string) (*roleDoc, error) {
	return auth.Load[role](ctx, m, "role/"+strings.ToLower(name))
}

func (k *Method) listRoles(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	names, err := auth.Names(ctx, c.At, "role/")
	if err != nil {
		return nil, err
	}
	return auth.Keys(names), nil
}

func (k *Method) readRole(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	d, err := loadRole(ctx, c.At, c.Args["name"])
	if err != nil {
		return nil, err
	}
	if d == nil {
		return auth.Missing(), nil
	}
	r := &d.Value
	data := map[string]any{
		"bound_service_account_names": r.Names, "bound_service_account_namespaces": r.Namespaces, "alias_name_source": r.AliasSource,
	}
	if r.Audience != "" {
		data["audience"] = r.Audience
	}
	if len(r.UIDs) > 0 {
		data["bound_service_account_uids"] = r.UIDs
	}
	r.Show(data)
	for _, name := range r.Old {
		data[name] = data["token_"+name]
	}
	return auth.OK(data), nil
}

func (k *Method) deleteRole(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	if err := auth.Delete[role](ctx, c.At, "role/"+strings.ToLower(c.Args["name"])); err != nil {
		return nil, err
	}
	return auth.Done("deleted role " + c.Args["name"]), nil
}

func (k *Method) writeRole(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	resp := auth.Done("wrote role " + c.Args["name"])
	err := auth.Again(func() error {
		d, err := loadRole(ctx, c.At, c.Args["name"])
		if err != nil {
			return err
		}
		if d == nil {
			d = &roleDoc{Key: "role/" + strings.ToLower(c.Args["name"])}
		}
		if err := d.Value.edit(c.Body); err != nil {
			return err
		}
		limit := c.At.Tune.MaxTTL
		if limit == 0 {
			limit = auth.SystemTTL
		}
		if d.Value.MaxTTL > limit {
			resp.Status = gate.OK
			resp.Warnings = []string{"max_ttl is greater than the system or backend mount's maximum TTL value; issued tokens' max TTL value will be truncated"}
		}
		return c.At.Write(ctx, d.Put(c.At))
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

func older() []string {
	return []string{"policies", "num_uses", "ttl", "max_ttl", "period", "bound_cidrs"}
}

const (
	byUID  = "serviceaccount_uid"
	byName = "serviceaccount_name"
)

// edit takes over the fields of a body.
func (r *role) edit(b *auth.Body) error {
	if err := r.Read(b); err != nil {
		return err
	}
	for _, name := range older() {
		if b.Has(name) && !slices.Contains(r.Old, name) {
			r.Old = append(r.Old, name)
		}
	}
	if err := r.Params.Old(b, older()...); err != nil {
		return err
	}
	b.SetList("bound_service_account_names", &r.Names)
	b.SetList("bound_service_account_namespaces", &r.Namespaces)
	b.SetList("bound_service_account_uids", &r.UIDs)
	b.SetText("audience", &r.Audience)
	b.SetText("alias_name_source", &r.AliasSource)
	if r.AliasSource == "" {
		r.AliasSource = byUID
	}
	if err := b.Err(); err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		list []string
	}{{"bound_service_account_names", r.Names}, {"bound_service_account_namespaces", r.Namespaces}} {
		switch {
		case len(f.list) == 0:
			return auth.Invalid("%q can not be empty", f.name)
		case len(f.list) > 1 && slices.Contains(f.list, "*"):
			return auth.Invalid("can not mix %q with values", "*")
		}
	}
	if r.AliasSource != byUID && r.AliasSource != byName {
		return auth.Invalid("invalid alias_name_source, must be one of: %s, %s", byUID, byName)
	}
	return nil
}

// fits tells whether one of the patterns, in which a * at the beginning or the end stands for anything, fits s.
func fits(patterns []string, s string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		switch begins, ends := strings.HasSuffix(p, "*"), strings.HasPrefix(p, "*"); {
		case p == "*":
			return true
		case begins && ends:
			return strings.Contains(s, p[1:len(p)-1])
		case begins:
			return strings.HasPrefix(s, p[:len(p)-1])
		case ends:
			return strings.HasSuffix(s, p[1:])
		}
		return p == s
	})
}
