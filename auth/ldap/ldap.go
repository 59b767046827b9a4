// Package ldap is the auth method of people whose passwords an LDAP directory knows: OpenLDAP, Active Directory and others.
//
// It serves the paths of Vault's method. A login binds to the directory as the user; the directory's groups give policies here
// (groups/NAME), and are told as the groups that the entity is in.
package ldap

import (
	"context"
	"strings"

	"github.com/bailiff-secrets/bailiff/auth"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/policy"
)

// Method is ldap. It is safe for concurrent use.
type Method struct{ routes auth.Routes }

// New makes the method.
func New() *Method {
	l := &Method{}
	const read, list, update, remove = policy.Read, policy.List, policy.Update, policy.Delete
	l.routes = auth.Routes{
		{Op: read, Path: "config", Serve: l.readConfig},
		{Op: update, Path: "config", Serve: l.writeConfig},
	}
	for _, kind := range []*mapping{{"groups", "group/"}, {"users", "user/"}} {
		l.routes = append(l.routes,
			auth.Route{Op: list, Path: kind.path, Serve: kind.list},
			auth.Route{Op: read, Path: kind.path + "/{name...}", Serve: kind.read},
			auth.Route{Op: update, Path: kind.path + "/{name...}", Serve: kind.write},
			auth.Route{Op: remove, Path: kind.path + "/{name...}", Serve: kind.remove})
	}
	return l
}

// Greets is true of logins. See auth.Method.
func (*Method) Greets(rest string) bool { return strings.HasPrefix(rest, "login/") }

// Claimed is the name in the path. See auth.Named.
func (*Method) Claimed(c *auth.Call) string {
	return strings.ToLower(strings.TrimPrefix(c.Rest, "login/"))
}

// Serve answers everything but logins. See auth.Method.
func (l *Method) Serve(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	return l.routes.Serve(ctx, c)
}

// mapping is what a group or a user of the directory has here.
type mapping struct{ path, prefix string }

// mapped is what is kept of it.
type mapped struct {
	Policies []string
	Groups   []string // of a user: beside those of the directory
}

func (k *mapping) list(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	names, err := auth.Names(ctx, c.At, k.prefix)
	if err != nil {
		return nil, err
	}
	return auth.Keys(names), nil
}

// key is where a name is kept; the configuration says whether capitals count.
func (k *mapping) key(ctx context.Context, c *auth.Call) (key string, x *config, err error) {
	d, err := loadConfig(ctx, c.At)
	if err != nil {
		return "", nil, err
	}
	if d == nil {
		return "", nil, auth.Invalid("ldap backend not configured")
	}
	return k.prefix + d.Value.fold(c.Args["name"]), &d.Value, nil
}

func (k *mapping) read(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	key, _, err := k.key(ctx, c)
	if err != nil {
		return nil, err
	}
	d, err := auth.Load[mapped](ctx, c.At, key)
	if err != nil {
		return nil, err
	}
	if d == nil {
		return auth.Missing(), nil
	}
	data := map[string]any{"policies": auth.Strings(d.Value.Policies)}
	if k.path == "users" {
		data["groups"] = strings.Join(d.Value.Groups, ",")
	}
	return auth.OK(data), nil
}

func (k *mapping) write(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	key, x, err := k.key(ctx, c)
	if err != nil {
		return nil, err
	}
	next := mapped{Policies: c.Body.Policies("policies")}
	if k.path == "users" {
		for _, g := range c.Body.List("groups") {
			next.Groups = append(next.Groups, x.fold(g))
		}
	}
	if err := c.Body.Err(); err != nil {
		return nil, err
	}
	err = auth.Again(func() error {
		d, err := auth.Load[mapped](ctx, c.At, key)
		if err != nil {
			return err
		}
		if d == nil {
			d = &auth.Doc[mapped]{Key: key}
		}
		d.Value = next
		return c.At.Write(ctx, d.Put(c.At))
	})
	if err != nil {
		return nil, err
	}
	return auth.Done("wrote " + k.path + "/" + c.Args["name"]), nil
}

func (k *mapping) remove(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	key, _, err := k.key(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := auth.Delete[mapped](ctx, c.At, key); err != nil {
		return nil, err
	}
	return auth.Done("deleted " + k.path + "/" + c.Args["name"]), nil
}
