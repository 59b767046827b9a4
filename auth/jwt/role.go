package jwt

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/auth"
	"github.com/bailiff-secrets/bailiff/gate"
)

// role is what is kept of a role.
type role struct {
	auth.Params

	Type             string // jwt or oidc
	ExpirationLeeway time.Duration
	NotBeforeLeeway  time.Duration
	SkewLeeway       time.Duration
	Audiences        []string
	Subject          string
	ClaimsType       string // string or glob
	Claims           map[string]any
	Mappings         map[string]string
	UserClaim        string
	UserPointer      bool
	GroupsClaim      string
	Scopes           []string
	Redirects        []string
	Verbose          bool // shown again; claims are not logged
	MaxAge           time.Duration
	Preset           string
	Old              []string // the fields that were given by their older names, and are shown by them too
}

type roleDoc = auth.Doc[role]

func roleKey(name string) string { return "role/" + lower(name) }

func loadRole(ctx context.Context, m *auth.Mount, name string) (*roleDoc, error) {
	return auth.Load[role](ctx, m, roleKey(name))
}

func (j *Method) listRoles(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	names, err := auth.Names(ctx, c.At, "role/")
	if err != nil {
		return nil, err
	}
	return auth.Keys(names), nil
}

func (j *Method) readRole(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	d, err := loadRole(ctx, c.At, c.Args["name"])
	if err != nil {
		return nil, err
	}
	if d == nil {
		return auth.Missing(), nil
	}
	r := &d.Value
	data := map[string]any{
		"role_type": r.Type, "expiration_leeway": auth.Seconds(r.ExpirationLeeway), "not_before_leeway": auth.Seconds(r.NotBeforeLeeway),
		"clock_skew_leeway": auth.Seconds(r.SkewLeeway), "bound_audiences": r.Audiences, "bound_subject": r.Subject,
		"bound_claims_type": r.ClaimsType, "bound_claims": r.Claims, "claim_mappings": r.Mappings, "user_claim": r.UserClaim,
		"user_claim_json_pointer": r.UserPointer, "groups_claim": r.GroupsClaim, "allowed_redirect_uris": r.Redirects, "oidc_scopes": r.Scopes,
		"verbose_oidc_logging": r.Verbose, "max_age": auth.Seconds(r.MaxAge),
	}
	r.Show(data)
	for _, name := range r.Old {
		data[name] = data["token_"+name]
	}
	if r.Preset != "" {
		data["preset"] = r.Preset
	}
	return auth.OK(data), nil
}

func (j *Method) deleteRole(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	if err := auth.Delete[role](ctx, c.At, roleKey(c.Args["name"])); err != nil {
		return nil, err
	}
	return auth.Done("deleted role " + c.Args["name"]), nil
}

func (j *Method) writeRole(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	resp := auth.Done("wrote role " + c.Args["name"])
	err := auth.Again(func() error {
		d, err := loadRole(ctx, c.At, c.Args["name"])
		if err != nil {
			return err
		}
		if d == nil {
			d = &roleDoc{Key: roleKey(c.Args["name"])}
		}
		mount, err := loadConfig(ctx, c.At)
		if err != nil {
			return err
		}
		if err := d.Value.edit(c.Body); err != nil {
			return err
		}
		if mount != nil && d.Value.Preset == "" {
			d.Value.Preset = mount.Value.Preset
		}
		if err := d.Value.check(); err != nil {
			return err
		}
		resp.Warnings = d.Value.warnings(c.At)
		return c.At.Write(ctx, d.Put(c.At))
	})
	if err != nil {
		return nil, err
	}
	if len(resp.Warnings) > 0 {
		resp.Status = gate.OK
	}
	return resp, nil
}

func (r *role) warnings(m *auth.Mount) []string {
	var out []string
	limit := m.Tune.MaxTTL
	if limit == 0 {
		limit = auth.SystemTTL
	}
	if r.MaxTTL > limit {
		out = append(out, "token max ttl is greater than the system or backend mount's maximum TTL value; issued tokens' max TTL value will be truncated")
	}
	if r.Verbose {
		out = append(out, "verbose_oidc_logging has no effect: claims are never logged")
	}
	return out
}

func older() []string {
	return []string{"policies", "num_uses", "ttl", "max_ttl", "period", "bound_cidrs"}
}

// edit takes over the fields of a body.
func (r *role) edit(b *auth.Body) error {
	r.Type = b.Text("role_type")
	if r.Type == "" {
		r.Type = "oidc"
		if b.Text("preset") != "" || r.Preset != "" {
			r.Type = "jwt"
		}
	}
	if r.Type != "jwt" && r.Type != "oidc" {
		return auth.Invalid("invalid 'role_type': %s", r.Type)
	}
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
	b.SetSigned("expiration_leeway", &r.ExpirationLeeway)
	b.SetSigned("not_before_leeway", &r.NotBeforeLeeway)
	b.SetSigned("clock_skew_leeway", &r.SkewLeeway)
	b.SetList("bound_audiences", &r.Audiences)
	b.SetText("bound_subject", &r.Subject)
	b.SetBool("verbose_oidc_logging", &r.Verbose)
	b.SetDuration("max_age", &r.MaxAge)
	r.ClaimsType = "string"
	b.SetText("bound_claims_type", &r.ClaimsType)
	if b.Has("bound_claims") {
		r.Claims = nil
		b.JSON("bound_claims", &r.Claims)
	}
	if b.Has("claim_mappings") {
		r.Mappings = b.Map("claim_mappings")
	}
	b.SetText("user_claim", &r.UserClaim)
	b.SetBool("user_claim_json_pointer", &r.UserPointer)
	b.SetText("groups_claim", &r.GroupsClaim)
	b.SetList("oidc_scopes", &r.Scopes)
	b.SetList("allowed_redirect_uris", &r.Redirects)
	b.SetText("preset", &r.Preset)
	return b.Err()
}

func (r *role) check() error {
	if r.ClaimsType != "string" && r.ClaimsType != "glob" {
		return auth.Invalid("invalid 'bound_claims_type': %s", r.ClaimsType)
	}
	for name, v := range r.Claims {
		if _, ok := texts(v); !ok {
			return auth.Invalid("claim is not a string or list: %q", name)
		}
	}
	if err := r.checkMappings(); err != nil {
		return err
	}
	if err := r.usePreset(); err != nil {
		return err
	}
	switch {
	case r.UserClaim == "":
		return auth.Invalid("a user claim must be defined on the role")
	case r.Type == "oidc" && len(r.Redirects) == 0:
		return auth.Invalid("'allowed_redirect_uris' must be set if 'role_type' is 'oidc' or unspecified.")
	case r.Type == "jwt" && len(r.Audiences) == 0 && r.Subject == "" && len(r.Claims) == 0:
		return auth.Invalid("must have at least one bound constraint when creating/updating a role")
	}
	return nil
}

func (r *role) checkMappings() error {
	seen := map[string]bool{}
	for _, key := range r.Mappings {
		switch {
		case key == "role":
			return auth.Invalid("metadata key %q is reserved and may not be a mapping destination", key)
		case seen[key]:
			return auth.Invalid("multiple keys are mapped to metadata key %q", key)
		}
		seen[key] = true
	}
	return nil
}

// user is who a token is of.
func (r *role) user(c claims) (string, error) {
	v := c[r.UserClaim]
	if r.UserPointer {
		v = c.find(r.UserClaim)
	}
	if v == nil {
		return "", auth.Invalid("claim %q not found in token", r.UserClaim)
	}
	s, ok := text(v)
	if !ok || strings.TrimSpace(s) == "" {
		return "", auth.Invalid("claim %q could not be converted to string", r.UserClaim)
	}
	return s, nil
}

// groups are the groups that a token names.
func (r *role) groups(c claims) ([]string, error) {
	if r.GroupsClaim == "" {
		return nil, nil
	}
	v := c.find(r.GroupsClaim)
	if v == nil {
		return nil, auth.Invalid("failed to fetch groups: %q claim not found in token", r.GroupsClaim)
	}
	list, ok := texts(v)
	if !ok {
		return nil, auth.Invalid("%q claim could not be converted to string list", r.GroupsClaim)
	}
	return slices.DeleteFunc(list, func(s string) bool { return s == "" }), nil
}

// metadata is what a token says that is kept under names of the role's own.
func (r *role) metadata(c claims) (map[string]string, error) {
	out := map[string]string{}
	for from, to := range r.Mappings {
		v := c.find(from)
		if v == nil {
			continue
		}
		s, ok := text(v)
		if !ok {
			return nil, auth.Invalid("error converting claim '%s' to string", from)
		}
		out[to] = s
	}
	return out, nil
}
