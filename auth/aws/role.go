package aws

import (
	"context"
	"strings"

	"github.com/bailiff-secrets/bailiff/auth"
	"github.com/bailiff-secrets/bailiff/gate"
)

// role is what is kept of a role.
type role struct {
	auth.Params

	ID       string
	ARNs     []string // of users and roles, without paths; a * at the end stands for anything
	IDs      []string // AWS's own of users and roles (AIDA…, AROA…), which are never used again
	Accounts []string
}

func (a *Method) listRoles(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	names, err := auth.Names(ctx, c.At, "role/")
	if err != nil {
		return nil, err
	}
	return auth.Keys(names), nil
}

func (a *Method) readRole(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	d, err := auth.Load[role](ctx, c.At, roleKey(c.Args["name"]))
	if err != nil {
		return nil, err
	}
	if d == nil {
		return auth.Missing(), nil
	}
	r := &d.Value
	data := map[string]any{
		"auth_type": "iam", "role_id": r.ID, "bound_iam_principal_arn": auth.Strings(r.ARNs), "bound_iam_principal_id": auth.Strings(r.IDs),
		"bound_account_id": auth.Strings(r.Accounts), "resolve_aws_unique_ids": false, "inferred_entity_type": "", "inferred_aws_region": "",
	}
	r.Show(data)
	return auth.OK(data), nil
}

func (a *Method) removeRole(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	if err := auth.Delete[role](ctx, c.At, roleKey(c.Args["name"])); err != nil {
		return nil, err
	}
	return auth.Done("deleted role " + c.Args["name"]), nil
}

func (a *Method) writeRole(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	name := strings.ToLower(c.Args["name"])
	err := auth.Again(func() error {
		d, err := auth.Load[role](ctx, c.At, roleKey(name))
		if err != nil {
			return err
		}
		if d == nil {
			d = &auth.Doc[role]{Key: roleKey(name), Value: role{ID: auth.UUID()}}
		}
		if err := d.Value.edit(c.Body); err != nil {
			return err
		}
		return c.At.Write(ctx, d.Put(c.At))
	})
	if err != nil {
		return nil, err
	}
	return auth.Done("wrote role " + name), nil
}

func (r *role) edit(b *auth.Body) error {
	if t := b.Text("auth_type"); t != "" && t != "iam" {
		return auth.Invalid("auth_type %q is not served: use iam", t)
	}
	if b.Text("inferred_entity_type") != "" {
		return auth.Invalid("inferred_entity_type is not served: it needs a credential of AWS")
	}
	if b.Bool("resolve_aws_unique_ids", false) {
		return auth.Invalid("resolve_aws_unique_ids needs a credential of AWS: give the ids as bound_iam_principal_id")
	}
	b.SetList("bound_iam_principal_arn", &r.ARNs)
	b.SetList("bound_iam_principal_id", &r.IDs)
	b.SetList("bound_account_id", &r.Accounts)
	if err := r.Read(b); err != nil {
		return err
	}
	if err := r.Params.Old(b, "policies", "ttl", "max_ttl", "period"); err != nil {
		return err
	}
	if err := b.Err(); err != nil {
		return err
	}
	for _, arn := range r.ARNs {
		if strings.Contains(strings.TrimSuffix(arn, "*"), "*") || !strings.HasPrefix(arn, "arn:") || strings.Count(arn, ":") != 5 {
			return auth.Invalid("bound_iam_principal_arn has %.80q, which is not an ARN, with at most a * at its end", arn)
		}
	}
	if len(r.ARNs) == 0 && len(r.IDs) == 0 && len(r.Accounts) == 0 {
		return auth.Invalid("at least one bound parameter should be specified on the role")
	}
	return nil
}

// has tells whether a caller belongs to the role: to each kind of bounds that it has.
func (r *role) has(who *caller) bool {
	return anyOf(r.ARNs, who.canonical()) && anyOf(r.IDs, who.uniqueID()) && anyOf(r.Accounts, who.Account)
}

func anyOf(bounds []string, value string) bool {
	if len(bounds) == 0 {
		return true
	}
	for _, b := range bounds {
		if prefix, open := strings.CutSuffix(b, "*"); b == value || open && strings.HasPrefix(value, prefix) {
			return true
		}
	}
	return false
}
