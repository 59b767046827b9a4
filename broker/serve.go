package broker

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/policy"
)

// Describer is a Role.Config that can show itself, in Vault's names and without secrets.
type Describer interface {
	Describe() map[string]any
}

// Serve answers below a broker mount: creds/<role> issues, roles lists, roles/<role> shows.
func (b *Broker) Serve(ctx context.Context, r *gate.Request) (*gate.Response, error) {
	dir, name, _ := strings.Cut(r.Rest, "/")
	if r.Op == policy.Help {
		return help(dir, name)
	}
	switch {
	case dir == "creds" && name != "":
		return b.serveCreds(ctx, r, name)
	case dir == "roles" && name == "":
		return b.serveRoles(r)
	case dir == "roles":
		return b.serveRole(r, name)
	case r.Rest == "config" || dir == "config" || dir == "rotate-root" || dir == "rotate-role" || dir == "static-roles" || dir == "static-creds":
		return nil, unsupported("targets and roles of this mount are declared with `bailiff apply`")
	}
	return nil, gate.Errorf(gate.NotFound, "no such path in this mount: it has creds/<role>, roles and roles/<role>")
}

// Changes is true for what reaches a target: reading credentials makes some. It is a gate.Changer.
func (b *Broker) Changes(r *gate.Request) bool {
	switch r.Op {
	case policy.List, policy.Help:
		return false
	case policy.Read:
		return strings.HasPrefix(r.Rest, "creds/")
	default:
		return true
	}
}

func (b *Broker) serveCreds(ctx context.Context, r *gate.Request, role string) (*gate.Response, error) {
	if r.Op != policy.Read {
		return nil, unsupported("credentials are issued by reading this path")
	}
	return b.issue(ctx, r, role)
}

func (b *Broker) serveRoles(r *gate.Request) (*gate.Response, error) {
	if r.Op != policy.List {
		return nil, unsupported("this path can only be listed")
	}
	names := b.cfg.Catalog.Roles(r.Mount.Path)
	if len(names) == 0 {
		return &gate.Response{Status: gate.Missing}, nil
	}
	return &gate.Response{Data: map[string]any{"keys": names}}, nil
}

func (b *Broker) serveRole(r *gate.Request, name string) (*gate.Response, error) {
	if r.Op != policy.Read {
		return nil, unsupported("roles are declared with `bailiff apply`, not written here")
	}
	role, ok := b.cfg.Catalog.Role(r.Mount.Path, name)
	if !ok {
		return &gate.Response{Status: gate.Missing}, nil
	}
	data := map[string]any{}
	if d, ok := role.Config.(Describer); ok {
		data = d.Describe()
	}
	data["db_name"] = role.Target
	data["default_ttl"] = int64(role.DefaultTTL / time.Second)
	data["max_ttl"] = int64(role.MaxTTL / time.Second)
	return &gate.Response{Data: data}, nil
}

func unsupported(msg string) error { return gate.Errorf(gate.Unsupported, "%s", msg) }

// help answers in the words and the shape of Vault's path help.
func help(dir, name string) (*gate.Response, error) {
	text := mountHelp
	switch {
	case dir == "creds" && name != "":
		text = fmt.Sprintf(credsHelp, name)
	case dir == "roles" && name != "":
		text = fmt.Sprintf(roleHelp, name)
	case dir == "roles":
		text = rolesHelp
	}
	return &gate.Response{Bare: true, Data: map[string]any{"help": text, "see_also": []string{}}}, nil
}

const (
	mountHelp = `This mount lends short-lived credentials.

    creds/<role>    read: issues a credential with a lease
    roles           list: the roles
    roles/<role>    read: how a role makes its credentials, and how long they live
`
	credsHelp = `Reading issues a new credential of the role %q.

It is ended on the target when its lease expires or is revoked. The lease can be renewed up to the role's max_ttl.
`
	rolesHelp = `Listing gives the names of the roles of this mount. They are declared with "bailiff apply".
`
	roleHelp = `Reading shows how the role %q makes its credentials. It is declared with "bailiff apply".
`
)
