package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/bailiff-secrets/bailiff/auth"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/policy"
)

// Login checks the token of a service account. See auth.Method.
func (k *Method) Login(ctx context.Context, c *auth.Call) (*auth.Outcome, error) {
	if c.Op != policy.Update && c.Op != policy.Create {
		return nil, &gate.Error{Kind: gate.Unsupported, Msg: "unsupported operation"}
	}
	name, token := c.Body.Text("role"), c.Body.Text("jwt")
	if err := c.Body.Err(); err != nil {
		return nil, err
	}
	switch {
	case name == "":
		return nil, auth.Refuse("", "missing role")
	case token == "":
		return nil, auth.Refuse("", "missing jwt")
	}
	d, err := loadRole(ctx, c.At, name)
	if err != nil {
		return nil, err
	}
	if d == nil {
		no := auth.Refuse("", "invalid role name %q", name)
		no.Wrong = true
		return nil, no
	}
	r := &d.Value
	if !r.Allow(c.ClientAddr) {
		return nil, forbidden("", "permission denied", "the address is none that tokens of the role are bound to")
	}
	x, err := loadConfig(ctx, c.At)
	if err != nil {
		return nil, err
	}
	if x == nil {
		return nil, auth.Refuse("", "could not load backend configuration")
	}
	cluster, err := k.clusterOf(c.At, x)
	if err != nil {
		return nil, err
	}
	account, err := cluster.check(ctx, r, token)
	if err != nil {
		return nil, err
	}
	return r.admit(name, account), nil
}

// forbidden is a no that Vault answers as one of policy.
func forbidden(alias, msg, reason string) *auth.Refused {
	return &auth.Refused{Msg: msg, Kind: gate.Forbidden, Reason: reason, Alias: alias, Wrong: true}
}

// check says whose a token is. What it says itself is looked at first, and costs the cluster nothing.
func (c *cluster) check(ctx context.Context, r *role, token string) (*account, error) {
	payload, err := c.payload(ctx, token)
	if err != nil {
		if isDown(err) {
			return nil, err
		}
		return nil, forbidden("", "permission denied", err.Error())
	}
	a, err := parseAccount(payload)
	if err != nil {
		return nil, forbidden("", "permission denied", err.Error())
	}
	if err := a.counts(r, &c.config); err != nil {
		return nil, forbidden(a.full(), err.Error(), err.Error())
	}
	switch {
	case !fits(r.Namespaces, a.Namespace):
		return nil, forbidden(a.full(), "namespace not authorized", "namespace not authorized")
	case !fits(r.Names, a.Name):
		return nil, forbidden(a.full(), "service account name not authorized", "service account name not authorized")
	case len(r.UIDs) > 0 && !slices.Contains(r.UIDs, a.UID):
		return nil, forbidden(a.full(), "service account not authorized", "the service account is another one of the same name")
	case c.config.Validation == offline:
		return a, nil
	}
	if err := c.review(ctx, r, a, token); err != nil {
		if isDown(err) {
			return nil, err
		}
		return nil, forbidden(a.full(), "permission denied", err.Error())
	}
	return a, nil
}

func isDown(err error) bool {
	var said *gate.Error
	return errors.As(err, &said)
}

// admit lets in a service account.
func (r *role) admit(name string, a *account) *auth.Outcome {
	alias := a.UID
	if r.AliasSource == byName {
		alias = a.full()
	}
	metadata := map[string]string{
		"service_account_uid": a.UID, "service_account_name": a.Name, "service_account_namespace": a.Namespace, "service_account_secret_name": a.Secret,
	}
	spec := &identity.LoginSpec{
		Alias: alias, AliasMetadata: metadata, DisplayName: fmt.Sprintf("%s-%s", a.Namespace, a.Name), Role: name, Params: r.Spec(),
		Metadata: map[string]string{"role": name}, Claims: a.claims(),
	}
	maps.Copy(spec.Metadata, metadata)
	return &auth.Outcome{Login: spec}
}
