package approle

import (
	"context"
	"time"

	"github.com/bailiff-secrets/bailiff/auth"
	"github.com/bailiff-secrets/bailiff/gate"
)

// field is a part of a role that has a path of its own.
type field struct {
	path   string
	names  []string // of the fields that may be written there; without any of them the first is missing
	shows  func(r *role) map[string]any
	set    func(r *role, b *auth.Body) error
	unset  func(r *role)
	absent string // what is said to be missing, where it isn't the first name
}

func fields() []*field {
	seconds := func(name string, d func(r *role) *time.Duration, check func(r *role) error) *field {
		return &field{
			path: dashed(name), names: []string{name},
			shows: func(r *role) map[string]any { return map[string]any{name: auth.Seconds(*d(r))} },
			set: func(r *role, b *auth.Body) error {
				*d(r) = b.Duration(name)
				return check(r)
			},
			unset: func(r *role) { *d(r) = 0 },
		}
	}
	number := func(name string, n func(r *role) *int) *field {
		return &field{
			path: dashed(name), names: []string{name},
			shows: func(r *role) map[string]any { return map[string]any{name: *n(r)} },
			set: func(r *role, b *auth.Body) error {
				if *n(r) = b.Int(name); *n(r) < 0 {
					return auth.Invalid("%s cannot be negative", name)
				}
				return nil
			},
			unset: func(r *role) { *n(r) = 0 },
		}
	}
	fine := func(*role) error { return nil }
	return []*field{
		policiesField(), periodField(), bindField(),
		number("secret_id_num_uses", func(r *role) *int { return &r.NumUses }),
		number("token_num_uses", func(r *role) *int { return &r.Params.NumUses }),
		seconds("secret_id_ttl", func(r *role) *time.Duration { return &r.SecretIDTTL }, fine),
		seconds("token_ttl", func(r *role) *time.Duration { return &r.TTL }, func(r *role) error {
			if r.MaxTTL > 0 && r.TTL > r.MaxTTL {
				return auth.Invalid("token_ttl should not be greater than token_max_ttl")
			}
			return nil
		}),
		seconds("token_max_ttl", func(r *role) *time.Duration { return &r.MaxTTL }, func(r *role) error {
			if r.MaxTTL > 0 && r.TTL > r.MaxTTL {
				return auth.Invalid("token_max_ttl should be greater than or equal to token_ttl")
			}
			return nil
		}),
		cidrField("bound-cidr-list", older), cidrField("secret-id-bound-cidrs", "secret_id_bound_cidrs"),
		tokenCIDRField(),
	}
}

func dashed(name string) string {
	out := []byte(name)
	for i := range out {
		if out[i] == '_' {
			out[i] = '-'
		}
	}
	return string(out)
}

func policiesField() *field {
	return &field{
		path: "policies", names: []string{"token_policies", "policies"},
		shows: func(r *role) map[string]any {
			data := map[string]any{"token_policies": auth.Strings(r.Policies)}
			if r.OldPolicies && len(r.Policies) > 0 {
				data["policies"] = r.Policies
			}
			return data
		},
		set: func(r *role, b *auth.Body) error {
			r.OldPolicies = b.Has("policies")
			if b.Has("token_policies") {
				r.Policies = b.Policies("token_policies")
				return nil
			}
			r.Policies = b.Policies("policies")
			return nil
		},
		unset: func(r *role) { r.Policies, r.OldPolicies = nil, false },
	}
}

func periodField() *field {
	return &field{
		path: "period", names: []string{"token_period", "period"}, absent: "period",
		shows: func(r *role) map[string]any {
			data := map[string]any{"token_period": auth.Seconds(r.Period)}
			if r.OldPeriod && r.Period > 0 {
				data["period"] = auth.Seconds(r.Period)
			}
			return data
		},
		set: func(r *role, b *auth.Body) error {
			r.OldPeriod = b.Has("period")
			r.Period = b.Duration("period")
			b.SetDuration("token_period", &r.Period)
			if r.Period < 0 {
				return auth.Invalid("'token_period' cannot be negative")
			}
			return nil
		},
		unset: func(r *role) { r.Period, r.OldPeriod = 0, false },
	}
}

func bindField() *field {
	return &field{
		path: "bind-secret-id", names: []string{"bind_secret_id"},
		shows: func(r *role) map[string]any { return map[string]any{"bind_secret_id": r.BindSecret} },
		set: func(r *role, b *auth.Body) error {
			r.BindSecret = b.Bool("bind_secret_id", true)
			return nil
		},
		unset: func(r *role) { r.BindSecret = true },
	}
}

// older is what Vault called secret_id_bound_cidrs first.
const older = "bound_cidr_list"

func cidrField(path, name string) *field {
	return &field{
		path: path, names: []string{name}, absent: older,
		shows: func(r *role) map[string]any {
			if name == older { // Vault keeps it under the newer name alone
				return map[string]any{name: nil}
			}
			return map[string]any{name: r.BoundCIDRs}
		},
		set: func(r *role, b *auth.Body) error {
			if len(b.List(name)) == 0 {
				return auth.Invalid("missing bound_cidr_list")
			}
			return r.editCIDRs(b, "failed to validate CIDR blocks")
		},
		unset: func(r *role) { r.BoundCIDRs = nil },
	}
}

func tokenCIDRField() *field {
	const name = "token_bound_cidrs"
	return &field{
		path: dashed(name), names: []string{name},
		shows: func(r *role) map[string]any { return map[string]any{name: r.Params.BoundCIDRs} },
		set: func(r *role, b *auth.Body) error {
			list, err := auth.CIDRs(b.List(name))
			r.Params.BoundCIDRs = list
			return err
		},
		unset: func(r *role) { r.Params.BoundCIDRs = nil },
	}
}

func (f *field) read(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	resp, err := show(ctx, c, f.shows)
	if err == nil && f.names[0] == older && resp.Data != nil {
		resp.Warnings = append(resp.Warnings, `The "bound_cidr_list" field is deprecated and will be removed. Please use "secret_id_bound_cidrs" instead.`)
	}
	return resp, err
}

func (f *field) write(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	return change(ctx, c, func(r *role) error {
		for _, name := range f.names {
			if c.Body.Has(name) {
				return f.set(r, c.Body)
			}
		}
		absent := f.absent
		if absent == "" {
			absent = f.names[0]
		}
		return auth.Invalid("missing %s", absent)
	})
}

func (f *field) remove(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	resp, err := change(ctx, c, func(r *role) error {
		f.unset(r)
		return nil
	})
	if isNoRole(err) {
		return auth.Done("there was no role " + c.Args["role"]), nil
	}
	return resp, err
}
