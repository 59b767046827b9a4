// Package jwt is the auth method of signed tokens that somebody else issued: those of CI jobs and services, which present
// one, and those of people, who fetch one from an OpenID Connect provider in their browser.
//
// It serves the paths of Vault's method (types jwt and oidc). A token's algorithm must be on a list, which never has "none"
// or one with a shared key. Beside Vault's, a role or the whole mount may have a preset for a well-known issuer, which
// demands a claim that stays the same when somebody takes over a name.
package jwt

import (
	"context"
	"strings"
	"sync"

	"github.com/bailiff-secrets/bailiff/auth"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/policy"
)

// Method is jwt, and oidc. It is safe for concurrent use.
type Method struct {
	routes auth.Routes

	mu    sync.Mutex
	cache map[string]*source // by the accessor of a mount
}

// New makes the method.
func New() *Method {
	j := &Method{cache: map[string]*source{}}
	const read, list, update, remove = policy.Read, policy.List, policy.Update, policy.Delete
	j.routes = auth.Routes{
		{Op: read, Path: "config", Serve: j.readConfig},
		{Op: update, Path: "config", Serve: j.writeConfig},
		{Op: list, Path: "role", Serve: j.listRoles},
		{Op: read, Path: "role/{name}", Serve: j.readRole},
		{Op: update, Path: "role/{name}", Serve: j.writeRole},
		{Op: remove, Path: "role/{name}", Serve: j.deleteRole},
	}
	return j
}

// Greets is true of logins and of the way to them. See auth.Method.
func (*Method) Greets(rest string) bool {
	return rest == "login" || rest == "oidc/auth_url" || rest == "oidc/callback"
}

// Serve answers everything but logins. See auth.Method.
func (j *Method) Serve(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	return j.routes.Serve(ctx, c)
}

// Exists tells whether a role is there. See auth.Exister.
func (*Method) Exists(ctx context.Context, m *auth.Mount, rest string) (exists, known bool, err error) {
	args, ok := auth.Match("role/{name}", rest)
	if !ok {
		return false, false, nil
	}
	r, err := loadRole(ctx, m, args["name"])
	return r != nil, err == nil, err
}

// Login checks a token, or leads to one. See auth.Method.
func (j *Method) Login(ctx context.Context, c *auth.Call) (*auth.Outcome, error) {
	writes := c.Op == policy.Update || c.Op == policy.Create
	switch {
	case c.Rest == "login" && writes:
		return j.login(ctx, c)
	case c.Rest == "oidc/auth_url" && writes:
		return j.authURL(ctx, c)
	case c.Rest == "oidc/callback" && c.Op == policy.Read:
		return j.callback(ctx, c)
	}
	return nil, &gate.Error{Kind: gate.Unsupported, Msg: "unsupported operation"}
}

func lower(s string) string { return strings.ToLower(s) }
