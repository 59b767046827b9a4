// Package approle is the auth method by which programs log in: with the id of a role and, as a rule, a secret id.
//
// It serves the paths of Vault's method. Where nobody knows a role id it may be an access id, whose access key is then the
// secret id: a client that knows only AppRole logs in with an access key too.
package approle

import (
	"context"

	"github.com/bailiff-secrets/bailiff/auth"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/policy"
)

// Method is AppRole. It is safe for concurrent use.
type Method struct {
	keys   auth.AccessKeys
	routes auth.Routes
}

// New makes the method. keys may be nil: then nobody logs in with an access key.
func New(keys auth.AccessKeys) *Method {
	a := &Method{keys: keys}
	const read, list, update, remove = policy.Read, policy.List, policy.Update, policy.Delete
	a.routes = auth.Routes{
		{Op: list, Path: "role", Serve: a.listRoles},
		{Op: update, Path: "role/{role}", Serve: a.writeRole},
		{Op: read, Path: "role/{role}", Serve: a.readRole},
		{Op: remove, Path: "role/{role}", Serve: a.deleteRole},
		{Op: read, Path: "role/{role}/role-id", Serve: a.readRoleID},
		{Op: update, Path: "role/{role}/role-id", Serve: a.writeRoleID},
		{Op: read, Path: "role/{role}/local-secret-ids", Serve: a.readLocal},
		{Op: update, Path: "role/{role}/secret-id", Serve: a.newSecretID},
		{Op: list, Path: "role/{role}/secret-id", Serve: a.listSecretIDs},
		{Op: update, Path: "role/{role}/custom-secret-id", Serve: a.customSecretID},
		{Op: update, Path: "role/{role}/secret-id/lookup", Serve: a.lookupSecretID},
		{Op: update, Path: "role/{role}/secret-id/destroy", Serve: a.destroySecretID},
		{Op: remove, Path: "role/{role}/secret-id/destroy", Serve: a.destroySecretID},
		{Op: update, Path: "role/{role}/secret-id-accessor/lookup", Serve: a.lookupAccessor},
		{Op: update, Path: "role/{role}/secret-id-accessor/destroy", Serve: a.destroyAccessor},
		{Op: remove, Path: "role/{role}/secret-id-accessor/destroy", Serve: a.destroyAccessor},
		{Op: update, Path: "tidy/secret-id", Serve: a.tidy},
	}
	for _, f := range fields() {
		path := "role/{role}/" + f.path
		a.routes = append(a.routes,
			auth.Route{Op: read, Path: path, Serve: f.read},
			auth.Route{Op: update, Path: path, Serve: f.write},
			auth.Route{Op: remove, Path: path, Serve: f.remove})
	}
	return a
}

// Greets is true of the login alone. See auth.Method.
func (*Method) Greets(rest string) bool { return rest == "login" }

// Serve answers everything but logins. See auth.Method.
func (a *Method) Serve(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	return a.routes.Serve(ctx, c)
}

// Exists tells whether a role is there. See auth.Exister.
func (*Method) Exists(ctx context.Context, m *auth.Mount, rest string) (exists, known bool, err error) {
	args, ok := auth.Match("role/{role}", rest)
	if !ok {
		return false, false, nil
	}
	r, err := load(ctx, m, args["role"])
	return r != nil, err == nil, err
}
