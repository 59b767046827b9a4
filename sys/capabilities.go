package sys

import (
	"context"
	"encoding/json"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/policy"
)

// maxPaths is how many paths may be asked for at once.
const maxPaths = 1000

// resultantACL lists all that the caller's rules come to, in Vault's shape, which has no place for patterns with "+".
func (b *Backend) resultantACL(_ context.Context, c *call) (*gate.Response, error) {
	acl := b.cfg.Policies.ACL(&c.Caller)
	if acl.Root() {
		return ok(map[string]any{"root": true}), nil
	}
	exact, prefixes := acl.Grants()
	return ok(map[string]any{"root": false, "exact_paths": grantsData(exact), "glob_paths": grantsData(prefixes)}), nil
}

func grantsData(grants map[string]policy.Grant) map[string]any {
	out := make(map[string]any, len(grants))
	for pattern, g := range grants {
		one := map[string]any{"capabilities": g.Capabilities}
		if g.MinWrap != 0 {
			one["min_wrapping_ttl"] = int64(g.MinWrap.Seconds())
		}
		if g.MaxWrap != 0 {
			one["max_wrapping_ttl"] = int64(g.MaxWrap.Seconds())
		}
		if len(g.Allowed) > 0 {
			one["allowed_parameters"] = g.Allowed
		}
		if len(g.Denied) > 0 {
			one["denied_parameters"] = g.Denied
		}
		if len(g.Required) > 0 {
			one["required_parameters"] = g.Required
		}
		out[pattern] = one
	}
	return out
}

func (b *Backend) capabilitiesSelf(_ context.Context, c *call) (*gate.Response, error) {
	fields, err := c.fields("path", "paths", "token") // the vault command sends its token, which is presented anyway
	if err != nil {
		return nil, err
	}
	return b.capabilitiesOf(&c.Caller, fields)
}

func (b *Backend) capabilities(ctx context.Context, c *call) (*gate.Response, error) {
	fields, err := c.fields("path", "paths", "token")
	if err != nil {
		return nil, err
	}
	token, err := textField(fields, "token")
	if err != nil {
		return nil, err
	}
	if token == "" {
		return nil, invalid("token not found")
	}
	who, known := b.cfg.Tokens.Whose(ctx, secret.New(token))
	if !known {
		return nil, inAList("invalid token")
	}
	return b.capabilitiesOf(&who, fields)
}

func (b *Backend) capabilitiesAccessor(_ context.Context, c *call) (*gate.Response, error) {
	fields, err := c.fields("path", "paths", "accessor")
	if err != nil {
		return nil, err
	}
	accessor, err := textField(fields, "accessor")
	switch {
	case err != nil:
		return nil, err
	case accessor == "":
		return nil, inAList("missing accessor")
	}
	who, known := b.cfg.Tokens.WhoseAccessor(accessor)
	if !known {
		return nil, inAList("invalid accessor")
	}
	return b.capabilitiesOf(&who, fields)
}

func (b *Backend) capabilitiesOf(who *identity.Caller, fields map[string]json.RawMessage) (*gate.Response, error) {
	paths, err := listField(fields, "paths")
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		if paths, err = listField(fields, "path"); err != nil {
			return nil, err
		}
	}
	switch {
	case len(paths) == 0:
		return nil, invalid("paths must be supplied")
	case len(paths) > maxPaths:
		return nil, invalid("at most %d paths can be asked for at once", maxPaths)
	}
	acl := b.cfg.Policies.ACL(who)
	data := make(map[string]any, len(paths)+1)
	for _, path := range paths {
		data[path] = acl.Capabilities(path)
	}
	if len(paths) == 1 {
		data["capabilities"] = acl.Capabilities(paths[0])
	}
	return ok(data), nil
}
