package sys

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/policy"
)

// maxPaths is how many paths may be asked for at once.
const maxPaths = 1000

func (b *Backend) policyNames(ctx context.Context, _ *call) (*gate.Response, error) {
	names, err := b.policyList(ctx)
	if err != nil {
		return nil, err
	}
	return ok(map[string]any{"keys": names}), nil
}

// oldPolicyNames answers the path that old clients ask.
func (b *Backend) oldPolicyNames(ctx context.Context, _ *call) (*gate.Response, error) {
	names, err := b.policyList(ctx)
	if err != nil {
		return nil, err
	}
	return ok(map[string]any{"keys": names, "policies": names}), nil
}

func (b *Backend) policyList(ctx context.Context) ([]string, error) {
	records, err := b.cfg.Estate.Objects(ctx, object.KindPolicy)
	if err != nil {
		return nil, err
	}
	names := []string{object.PolicyDefault, object.PolicyRoot}
	for _, rec := range records {
		names = append(names, rec.Name)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

func (b *Backend) aclPolicy(ctx context.Context, c *call) (*gate.Response, error) {
	return b.policyText(ctx, c, "policy")
}

func (b *Backend) oldPolicy(ctx context.Context, c *call) (*gate.Response, error) {
	return b.policyText(ctx, c, "rules")
}

// policyText reads one policy; its text stands under field. Names are in small letters, however they are asked for.
func (b *Backend) policyText(ctx context.Context, c *call, field string) (*gate.Response, error) {
	name := strings.ToLower(c.args["name"])
	text := ""
	rec, err := b.cfg.Estate.Object(ctx, object.KindPolicy, name)
	switch {
	case errors.Is(err, object.ErrNotFound) && name == object.PolicyRoot:
	case errors.Is(err, object.ErrNotFound) && name == object.PolicyDefault:
		text = policy.Default
	case errors.Is(err, object.ErrNotFound):
		return &gate.Response{Status: gate.Missing}, nil
	case err != nil:
		return nil, err
	default:
		v, err := object.Decode(rec)
		if err != nil {
			return nil, fmt.Errorf("read policy: %w", err)
		}
		if p, isPolicy := v.(*object.Policy); isPolicy {
			text = p.Rules
		}
	}
	return ok(map[string]any{"name": name, field: text}), nil
}

// resultantACL says that a caller may do everything; what less comes to can't be said in the old shape.
func (b *Backend) resultantACL(_ context.Context, c *call) (*gate.Response, error) {
	if slices.Equal(b.cfg.Policies.ACL(&c.Caller).Capabilities("sys"), []string{policy.Root}) {
		return ok(map[string]any{"root": true}), nil
	}
	return nil, &gate.Error{Kind: gate.Unsupported, Msg: "the rules of a caller can't be listed: ask sys/capabilities-self for the paths"}
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
	who, known, err := b.callerOf(ctx, c, secret.New(token))
	if err != nil {
		return nil, err
	}
	if !known {
		return nil, invalid("1 error occurred:\n\t* invalid token\n\n")
	}
	return b.capabilitiesOf(&who, fields)
}

func (b *Backend) capabilitiesAccessor(_ context.Context, c *call) (*gate.Response, error) {
	fields, err := c.fields("path", "paths", "accessor")
	if err != nil {
		return nil, err
	}
	if err := ownAccessor(c, fields); err != nil {
		return nil, err
	}
	return b.capabilitiesOf(&c.Caller, fields)
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
