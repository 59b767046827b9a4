package ldap

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/bailiff-secrets/bailiff/auth"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/policy"
)

const bindFailed = "ldap operation failed: failed to bind as user"

// Login binds as a user. See auth.Method.
func (l *Method) Login(ctx context.Context, c *auth.Call) (*auth.Outcome, error) {
	args, ok := auth.Match("login/{name...}", c.Rest)
	if !ok {
		return nil, &gate.Error{Kind: gate.NotFound, Msg: "unsupported path"}
	}
	name, password := args["name"], c.Body.Text("password")
	if c.Op != policy.Update && c.Op != policy.Create {
		return nil, &gate.Error{Kind: gate.Unsupported, Msg: "unsupported operation"}
	}
	if err := c.Body.Err(); err != nil {
		return nil, err
	}
	d, err := loadConfig(ctx, c.At)
	switch {
	case err != nil:
		return nil, err
	case d == nil:
		return nil, auth.Refuse(name, "auth method not configured")
	case !d.Value.Allow(c.ClientAddr):
		return nil, &auth.Refused{Msg: "permission denied", Kind: gate.Forbidden, Reason: "the address is none that tokens are bound to", Alias: name}
	case password == "":
		return nil, auth.Refuse(name, "password cannot be of zero length when passwordless binds are being denied")
	}
	who, err := d.Value.authenticate(ctx, name, password)
	var no *wrongError
	switch {
	case errors.As(err, &no):
		return nil, &auth.Refused{Msg: bindFailed, Kind: gate.Invalid, Reason: no.why, Alias: name, Wrong: true, Known: no.known}
	case err != nil:
		return nil, &gate.Error{Kind: gate.TargetDown, Msg: "the LDAP server does not answer as it should", Err: err}
	}
	return l.admit(ctx, c, &d.Value, name, who)
}

// admit gathers the policies that a user has here.
func (l *Method) admit(ctx context.Context, c *auth.Call, x *config, name string, who *person) (*auth.Outcome, error) {
	user, err := auth.Load[mapped](ctx, c.At, "user/"+x.fold(name))
	if err != nil {
		return nil, err
	}
	var groups, policies []string
	if user != nil {
		groups, policies = append(groups, user.Value.Groups...), append(policies, user.Value.Policies...)
	}
	groups = append(groups, who.groups...)
	for _, g := range groups {
		d, err := auth.Load[mapped](ctx, c.At, "group/"+x.fold(g))
		if err != nil {
			return nil, err
		}
		if d != nil {
			policies = append(policies, d.Value.Policies...)
		}
	}
	spec := &identity.LoginSpec{
		Alias: who.alias, AliasMetadata: map[string]string{"name": name}, DisplayName: name, Groups: unique(groups),
		Metadata: map[string]string{"username": name}, Params: x.Spec(), Claims: map[string]string{"username": name, "dn": who.dn},
	}
	if x.NameAsAlias {
		spec.Alias = name
	}
	spec.Params.Policies = unique(append(slices.Clone(spec.Params.Policies), policies...))
	out := &auth.Outcome{Login: spec, Data: map[string]any{}}
	if len(who.groups) == 0 {
		out.Warnings = []string{`no LDAP groups found in groupDN "` + x.GroupDN + `"; only policies from locally-defined groups available`}
	}
	return out, nil
}

// unique sorts a list and leaves out what is there twice.
func unique(list []string) []string {
	set := map[string]bool{}
	for _, s := range list {
		if s != "" {
			set[s] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}
