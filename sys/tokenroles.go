package sys

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/identity"
)

func (b *Backend) tokenRoles(context.Context, *call) (*gate.Response, error) {
	return keyList(b.cfg.Tokens.Roles()), nil
}

func (b *Backend) tokenRole(_ context.Context, c *call) (*gate.Response, error) {
	r, found := b.cfg.Tokens.Role(c.args["role"])
	if !found {
		return &gate.Response{Status: gate.Missing}, nil
	}
	data := map[string]any{
		"name": r.Name, "orphan": r.Orphan, "renewable": r.Renewable, "path_suffix": r.PathSuffix, "token_type": r.Type,
		"token_no_default_policy": r.NoDefaultPolicy, "allowed_entity_aliases": r.AllowedEntityAliases,
		"allowed_policies": r.AllowedPolicies, "disallowed_policies": r.DisallowedPolicies,
		"allowed_policies_glob": r.AllowedPoliciesGlob, "disallowed_policies_glob": r.DisallowedPoliciesGlob,
		"period": seconds(r.OldPeriod), "token_period": seconds(r.Period),
		"explicit_max_ttl": seconds(r.OldExplicitMaxTTL), "token_explicit_max_ttl": seconds(r.ExplicitMaxTTL),
	}
	if len(r.BoundCIDRs) > 0 {
		data["token_bound_cidrs"] = identity.CIDRTexts(r.BoundCIDRs)
	}
	if len(r.OldBoundCIDRs) > 0 {
		data["bound_cidrs"] = identity.CIDRTexts(r.OldBoundCIDRs)
	}
	if r.Uses > 0 {
		data["token_num_uses"] = r.Uses
	}
	return ok(data), nil
}

func (b *Backend) deleteTokenRole(ctx context.Context, c *call) (*gate.Response, error) {
	if err := b.cfg.Tokens.DeleteRole(ctx, c.args["role"]); err != nil {
		return nil, err
	}
	return done("token role " + c.args["role"]), nil
}

// putTokenRole makes a role or changes it: what isn't named stays as it is.
func (b *Backend) putTokenRole(ctx context.Context, c *call) (*gate.Response, error) {
	f, err := c.fields("role_name", "allowed_policies", "disallowed_policies", "allowed_policies_glob", "disallowed_policies_glob", "orphan", "renewable",
		"path_suffix", "token_type", "allowed_entity_aliases", "period", "token_period", "explicit_max_ttl", "token_explicit_max_ttl", "bound_cidrs",
		"token_bound_cidrs", "token_no_default_policy", "token_num_uses")
	if err != nil {
		return nil, err
	}
	in := roleInput{loose: loose{fields: f}, most: b.cfg.Tokens.MaxTTL()}
	if _, there := f["token_type"]; there {
		if _, set := in.raw("token_type"); !set {
			return nil, invalid("Invalid 'token_type' value: null")
		}
	}
	if err := b.cfg.Tokens.PutRole(ctx, c.args["role"], in.edit); err != nil {
		return nil, err
	}
	resp := &gate.Response{Status: gate.NoContent, Detail: "token role " + c.args["role"], Warnings: in.warnings}
	if len(in.warnings) > 0 {
		resp.Status = gate.OK
	}
	return resp, nil
}

// roleInput is what a role shall be.
type roleInput struct {
	loose
	most     time.Duration // that a token may live
	warnings []string
}

var pathSuffix = regexp.MustCompile(`\w[\w-.]+\w`)

func (in *roleInput) edit(r *identity.TokenRole, made bool) error {
	in.warnings = nil
	if made {
		r.Renewable, r.Type = true, "default-service"
		r.AllowedPolicies, r.DisallowedPolicies, r.AllowedPoliciesGlob, r.DisallowedPoliciesGlob = []string{}, []string{}, []string{}, []string{}
	}
	in.flags(r)
	in.policies(r)
	if err := in.suffix(r); err != nil {
		return err
	}
	if err := in.kind(r); err != nil {
		return err
	}
	r.Period, r.OldPeriod = in.span("period", r.Period, r.OldPeriod)
	r.ExplicitMaxTTL, r.OldExplicitMaxTTL = in.span("explicit_max_ttl", r.ExplicitMaxTTL, r.OldExplicitMaxTTL)
	if r.ExplicitMaxTTL > in.most {
		in.warnings = append(in.warnings, fmt.Sprintf("Given explicit max TTL of %d is greater than system/mount allowed value of %d seconds; until this is fixed attempting to create tokens against this role will result in an error",
			seconds(r.ExplicitMaxTTL), seconds(in.most)))
	}
	in.cidrs(r)
	if in.err != nil {
		return in.err
	}
	if r.Uses < 0 {
		return invalid("error parsing role fields: 'token_num_uses' cannot be negative")
	}
	return batchRole(r)
}

func (in *roleInput) flags(r *identity.TokenRole) {
	r.Orphan, r.Renewable = in.truth("orphan", r.Orphan), in.truth("renewable", r.Renewable)
	r.NoDefaultPolicy = in.truth("token_no_default_policy", r.NoDefaultPolicy)
	if _, set := in.raw("token_num_uses"); set {
		r.Uses = in.number("token_num_uses")
	}
}

func (in *roleInput) policies(r *identity.TokenRole) {
	for name, to := range map[string]*[]string{
		"allowed_policies": &r.AllowedPolicies, "disallowed_policies": &r.DisallowedPolicies, "allowed_policies_glob": &r.AllowedPoliciesGlob,
		"disallowed_policies_glob": &r.DisallowedPoliciesGlob, "allowed_entity_aliases": &r.AllowedEntityAliases,
	} {
		if _, set := in.raw(name); set {
			list := []string{}
			for _, p := range in.commas(name) {
				list = append(list, strings.ToLower(p))
			}
			slices.Sort(list)
			*to = slices.Compact(list)
		}
	}
}

// commas is a list, or a text with commas.
func (r *loose) commas(name string) []string {
	var out []string
	list := r.list(name)
	if len(list) == 1 {
		list = strings.Split(list[0], ",")
	}
	for _, s := range list {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}

func (in *roleInput) suffix(r *identity.TokenRole) error {
	if _, set := in.raw("path_suffix"); set {
		r.PathSuffix = in.text("path_suffix")
	}
	switch {
	case r.PathSuffix != "" && !pathSuffix.MatchString(r.PathSuffix):
		return invalid("given role path suffix contains invalid characters; must match %s", pathSuffix)
	case strings.Contains(r.PathSuffix, ".."):
		return invalid("error registering path suffix: path cannot contain parent references")
	}
	return nil
}

func (in *roleInput) kind(r *identity.TokenRole) error {
	if _, set := in.raw("token_type"); !set {
		return nil
	}
	switch kind := in.text("token_type"); kind {
	case "service", "batch", "default-service", "default-batch":
		r.Type = kind
	default:
		return invalid("invalid 'token_type' value %q", kind)
	}
	return nil
}

// span reads a duration by its new name, or by its old one, which is then shown by that too.
func (in *roleInput) span(name string, now, old time.Duration) (set, oldSet time.Duration) {
	_, byNew := in.raw("token_" + name)
	_, byOld := in.raw(name)
	switch {
	case byNew:
		if byOld {
			in.warnings = append(in.warnings, fmt.Sprintf("Both 'token_%s' and deprecated '%s' value supplied, ignoring the deprecated value", name, name))
		}
		return in.duration("token_" + name), 0
	case byOld:
		d := in.duration(name)
		return d, d
	}
	return now, old
}

func (in *roleInput) cidrs(r *identity.TokenRole) {
	read := func(name string) []netip.Prefix {
		list, err := identity.ParseCIDRs(in.commas(name))
		if err != nil {
			in.fail("error parsing %s: %w", name, err)
		}
		return list
	}
	_, byNew := in.raw("token_bound_cidrs")
	_, byOld := in.raw("bound_cidrs")
	switch {
	case byNew:
		if byOld {
			in.warnings = append(in.warnings, "Both 'token_bound_cidrs' and deprecated 'bound_cidrs' value supplied, ignoring the deprecated value")
		}
		r.BoundCIDRs, r.OldBoundCIDRs = read("token_bound_cidrs"), nil
	case byOld:
		r.BoundCIDRs = read("bound_cidrs")
		r.OldBoundCIDRs = r.BoundCIDRs
	}
}

// batchRole judges a role for batch tokens.
func batchRole(r *identity.TokenRole) error {
	switch {
	case r.Type != "batch":
		return nil
	case !r.Orphan:
		return invalid("'token_type' cannot be 'batch' when role is set to generate non-orphan tokens")
	case r.Period != 0:
		return invalid("'token_type' cannot be 'batch' when role is set to generate periodic tokens")
	case r.Renewable:
		return invalid("'token_type' cannot be 'batch' when role is set to generate renewable tokens")
	case r.ExplicitMaxTTL != 0:
		return invalid("'token_type' cannot be 'batch' when role is set to generate tokens with an explicit max TTL")
	}
	return nil
}
