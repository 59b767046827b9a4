package jwt

import (
	"context"
	"errors"
	"maps"

	"github.com/bailiff-secrets/bailiff/auth"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/identity"
)

// login checks a token that the client has.
func (j *Method) login(ctx context.Context, c *auth.Call) (*auth.Outcome, error) {
	name, token := lower(c.Body.Text("role")), c.Body.Text("jwt")
	if err := c.Body.Err(); err != nil {
		return nil, err
	}
	x, name, d, err := j.find(ctx, c, name)
	if err != nil {
		return nil, err
	}
	r := &d.Value
	switch {
	case r.Type == "oidc":
		return nil, auth.Refuse("", "role with oidc role_type is not allowed")
	case token == "":
		return nil, auth.Refuse("", "missing token")
	case !r.Allow(c.ClientAddr):
		return nil, &auth.Refused{Msg: "permission denied", Kind: gate.Forbidden, Reason: "the address is none that tokens of the role are bound to"}
	}
	s := j.sourceOf(c.At, x)
	payload, err := s.verify(ctx, token)
	if err != nil {
		return nil, wrong("", "error validating token: %s", err)
	}
	all, err := parseClaims(payload)
	if err != nil {
		return nil, wrong("", "error validating token: %s", err)
	}
	if err := r.checkToken(all, s.issuer()); err != nil {
		return nil, err
	}
	return r.admit(name, all)
}

// wrong is a no that counts against the address.
func wrong(alias, format string, args ...any) *auth.Refused {
	no := auth.Refuse(alias, format, args...)
	no.Wrong = true
	return no
}

// find finds the configuration and the role of a login.
func (j *Method) find(ctx context.Context, c *auth.Call, name string) (*configDoc, string, *roleDoc, error) {
	x, err := loadConfig(ctx, c.At)
	if err != nil {
		return nil, "", nil, err
	}
	if x == nil {
		return nil, "", nil, auth.Refuse("", "could not load configuration")
	}
	if name == "" {
		name = x.Value.DefaultRole
	}
	if name == "" {
		return nil, "", nil, auth.Refuse("", "missing role")
	}
	d, err := loadRole(ctx, c.At, name)
	if err != nil {
		return nil, "", nil, err
	}
	if d == nil {
		return nil, "", nil, wrong("", "role %q could not be found", name)
	}
	return x, name, d, nil
}

// checkToken says why a token that is signed well does not count.
func (r *role) checkToken(all claims, issuer string) error {
	subject, _ := text(all["sub"])
	iss, _ := text(all["iss"])
	switch {
	case issuer != "" && iss != issuer:
		return wrong(subject, "error validating token: invalid issuer (iss) claim")
	case r.Subject != "" && subject != r.Subject:
		return wrong(subject, "error validating token: invalid subject (sub) claim")
	}
	if err := all.checkTimes(leeways{r.ExpirationLeeway, r.NotBeforeLeeway, r.SkewLeeway}); err != nil {
		return wrong(subject, "error validating token: %s", err)
	}
	if err := all.checkAudience(r.Audiences); err != nil {
		return wrong(subject, "%s", err)
	}
	return nil
}

// admit lets in whom the claims name, where they are as the role wants them.
func (r *role) admit(name string, all claims) (*auth.Outcome, error) {
	user, err := r.user(all)
	if err != nil {
		return nil, refuse("", err)
	}
	metadata, err := r.metadata(all)
	if err != nil {
		return nil, refuse(user, err)
	}
	groups, err := r.groups(all)
	if err != nil {
		return nil, refuse(user, err)
	}
	if err := all.checkBound(r.Claims, r.ClaimsType == "glob"); err != nil {
		return nil, wrong(user, "error validating claims: %s", err)
	}
	spec := &identity.LoginSpec{
		Alias: user, AliasMetadata: metadata, DisplayName: user, Groups: groups, Metadata: map[string]string{"role": name},
		Claims: all.decisive(), Params: r.Spec(), Role: name,
	}
	maps.Copy(spec.Metadata, metadata)
	spec.Metadata["role"] = name
	return &auth.Outcome{Login: spec}, nil
}

// refuse is a no for a reason that was an error of the request.
func refuse(alias string, err error) error {
	var said *gate.Error
	if errors.As(err, &said) {
		return wrong(alias, "%s", said.Msg)
	}
	return err
}
