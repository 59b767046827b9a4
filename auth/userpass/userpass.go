// Package userpass is the auth method of names and passwords.
//
// It serves the paths of Vault's method. A password is kept as an argon2id hash. Where nobody knows a name it may be an access
// id, whose access key is then the password.
package userpass

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/bailiff-secrets/bailiff/auth"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/policy"
)

// Method is userpass. It is safe for concurrent use.
type Method struct {
	keys   auth.AccessKeys
	hasher *hasher
	routes auth.Routes
}

// New makes the method. keys may be nil: then nobody logs in with an access key.
func New(keys auth.AccessKeys) *Method {
	u := &Method{keys: keys, hasher: newHasher()}
	const read, list, update, remove = policy.Read, policy.List, policy.Update, policy.Delete
	u.routes = auth.Routes{
		{Op: list, Path: "users", Serve: u.list},
		{Op: update, Path: "users/{name}", Serve: u.write},
		{Op: read, Path: "users/{name}", Serve: u.read},
		{Op: remove, Path: "users/{name}", Serve: u.remove},
		{Op: update, Path: "users/{name}/password", Serve: u.password},
		{Op: update, Path: "users/{name}/policies", Serve: u.policies},
	}
	return u
}

// user is what is kept of a user.
type user struct {
	auth.Params

	Hash string
	Old  []string // the fields that were given by their older names, and are shown by them too
}

type userDoc = auth.Doc[user]

func key(name string) string { return "user/" + strings.ToLower(name) }

// Greets is true of logins. See auth.Method.
func (*Method) Greets(rest string) bool { return strings.HasPrefix(rest, "login/") }

// Claimed is the name in the path. See auth.Named.
func (*Method) Claimed(c *auth.Call) string {
	args, _ := auth.Match("login/{name}", c.Rest)
	return strings.ToLower(args["name"])
}

// Exists tells whether a user is there. See auth.Exister.
func (*Method) Exists(ctx context.Context, m *auth.Mount, rest string) (exists, known bool, err error) {
	args, ok := auth.Match("users/{name}", rest)
	if !ok {
		return false, false, nil
	}
	d, err := auth.Load[user](ctx, m, key(args["name"]))
	return d != nil, err == nil, err
}

// Serve answers everything but logins. See auth.Method.
func (u *Method) Serve(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	return u.routes.Serve(ctx, c)
}

const wrongPair = "invalid username or password"

// Login checks a name and a password. See auth.Method.
func (u *Method) Login(ctx context.Context, c *auth.Call) (*auth.Outcome, error) {
	name := u.Claimed(c)
	switch {
	case name == "":
		return nil, &gate.Error{Kind: gate.NotFound, Msg: "unsupported path"}
	case c.Op != policy.Update && c.Op != policy.Create:
		return nil, &gate.Error{Kind: gate.Unsupported, Msg: "unsupported operation"}
	}
	password := c.Body.Text("password")
	if err := c.Body.Err(); err != nil {
		return nil, err
	}
	if password == "" {
		return nil, auth.Refuse(name, "missing password")
	}
	d, err := auth.Load[user](ctx, c.At, key(name))
	if err != nil {
		return nil, err
	}
	if d == nil {
		return u.withKey(ctx, c, name, password)
	}
	right, err := u.hasher.matches(ctx, d.Value.Hash, password)
	switch {
	case err != nil:
		return nil, err
	case !right:
		return nil, &auth.Refused{Msg: wrongPair, Kind: gate.Invalid, Reason: "wrong password", Alias: name, Wrong: true, Known: true}
	}
	return &auth.Outcome{Login: &identity.LoginSpec{
		Alias: name, DisplayName: name, Metadata: map[string]string{"username": name}, Claims: map[string]string{"username": name},
		Params: d.Value.Spec(),
	}}, nil
}

// withKey lets in a declared identity whose access id and access key were given; everybody else gets the answer to what is
// wrong, after the work that a wrong password costs.
func (u *Method) withKey(ctx context.Context, c *auth.Call, name, password string) (*auth.Outcome, error) {
	no := &auth.Refused{Msg: wrongPair, Kind: gate.Invalid, Reason: "unknown name", Alias: name, Wrong: true}
	if u.keys != nil && identity.LooksLikeKey(password) {
		caller, err := auth.KeyOf(ctx, u.keys, c, name, password)
		switch {
		case err == nil:
			return &auth.Outcome{Login: auth.KeyLogin(caller)}, nil
		case !errors.Is(err, identity.ErrUnauthenticated):
			return nil, err
		}
	}
	if _, err := u.hasher.matches(ctx, u.hasher.nobody, password); err != nil {
		return nil, err
	}
	return nil, no
}

func (u *Method) list(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	names, err := auth.Names(ctx, c.At, "user/")
	if err != nil {
		return nil, err
	}
	return auth.Keys(names), nil
}

func (u *Method) read(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	d, err := auth.Load[user](ctx, c.At, key(c.Args["name"]))
	if err != nil {
		return nil, err
	}
	if d == nil {
		return auth.Missing(), nil
	}
	data := map[string]any{}
	d.Value.Show(data)
	for _, name := range d.Value.Old {
		if v := data["token_"+name]; !empty(v) {
			data[name] = v
		}
	}
	return auth.OK(data), nil
}

func empty(v any) bool {
	list, isList := v.([]string)
	return v == int64(0) || isList && len(list) == 0
}

func (u *Method) remove(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	if err := auth.Delete[user](ctx, c.At, key(c.Args["name"])); err != nil {
		return nil, err
	}
	return auth.Done("deleted user " + c.Args["name"]), nil
}

// write makes a user or changes one.
func (u *Method) write(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	hash, err := u.newHash(ctx, c.Body)
	if err != nil {
		return nil, err
	}
	name := strings.ToLower(c.Args["name"])
	err = auth.Again(func() error {
		d, err := auth.Load[user](ctx, c.At, key(name))
		if err != nil {
			return err
		}
		if d == nil {
			if hash == "" {
				return auth.Invalid("missing password")
			}
			d = &userDoc{Key: key(name)}
		}
		if err := d.Value.edit(c.Body); err != nil {
			return err
		}
		if hash != "" {
			d.Value.Hash = hash
		}
		return c.At.Write(ctx, d.Put(c.At))
	})
	if err != nil {
		return nil, err
	}
	return auth.Done("wrote user " + name), nil
}

// newHash is the hash of the password in a body; empty where there is none.
func (u *Method) newHash(ctx context.Context, b *auth.Body) (string, error) {
	if !b.Has("password") {
		return "", nil
	}
	password := b.Text("password")
	if err := b.Err(); err != nil {
		return "", err
	}
	if password == "" {
		return "", auth.Invalid("missing password")
	}
	return u.hasher.hash(ctx, password)
}

func older() []string { return []string{"policies", "ttl", "max_ttl", "bound_cidrs"} }

func (x *user) edit(b *auth.Body) error {
	if err := x.Read(b); err != nil {
		return err
	}
	for _, name := range older() {
		switch {
		case b.Has(name) && !slices.Contains(x.Old, name):
			x.Old = append(x.Old, name)
		case !b.Has(name) && b.Has("token_"+name):
			x.Old = slices.DeleteFunc(x.Old, func(s string) bool { return s == name })
		}
	}
	return x.Params.Old(b, older()...)
}

func (u *Method) password(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	hash, err := u.newHash(ctx, c.Body)
	if err != nil {
		return nil, err
	}
	return u.change(ctx, c, func(x *user) error {
		if hash == "" {
			return auth.Invalid("missing password")
		}
		x.Hash = hash
		return nil
	})
}

func (u *Method) policies(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	return u.change(ctx, c, func(x *user) error {
		x.Old = slices.DeleteFunc(x.Old, func(s string) bool { return s == "policies" })
		if c.Body.Has("policies") {
			x.Policies, x.Old = c.Body.Policies("policies"), append(x.Old, "policies")
		}
		if c.Body.Has("token_policies") {
			x.Policies = c.Body.Policies("token_policies")
		}
		return c.Body.Err()
	})
}

func (u *Method) change(ctx context.Context, c *auth.Call, edit func(x *user) error) (*gate.Response, error) {
	err := auth.Again(func() error {
		d, err := auth.Load[user](ctx, c.At, key(c.Args["name"]))
		if err != nil {
			return err
		}
		if d == nil {
			return auth.Invalid("username does not exist")
		}
		if err := edit(&d.Value); err != nil {
			return err
		}
		return c.At.Write(ctx, d.Put(c.At))
	})
	if err != nil {
		return nil, err
	}
	return auth.Done("changed user " + c.Args["name"]), nil
}
