package sys

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/policy"
)

// Putter is an Estate that takes one object beside those that stand, as a request makes it: its source is "api".
type Putter interface {
	// Put makes rec what stands, where what stands has that version; 0: where there is none. It is durable on return and counts.
	Put(ctx context.Context, by string, rec object.Record, version int64) (object.Plan, error)
}

func (b *Backend) policyRoutes() []route {
	const read, list, update, remove = policy.Read, policy.List, policy.Update, policy.Delete
	return []route{
		{list, "sys/policies/acl", b.policyNames},
		{read, "sys/policies/acl/{name...}", b.aclPolicy},
		{update, "sys/policies/acl/{name...}", b.writePolicy},
		{remove, "sys/policies/acl/{name...}", b.deletePolicy},
		{list, "sys/policy", b.oldPolicyNames},
		{read, "sys/policy", b.oldPolicyNames},
		{read, "sys/policy/{name...}", b.oldPolicy},
		{update, "sys/policy/{name...}", b.writeOldPolicy},
		{remove, "sys/policy/{name...}", b.deletePolicy},
	}
}

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

// policyList has the names in Vault's order: root is last.
func (b *Backend) policyList(ctx context.Context) ([]string, error) {
	records, err := b.cfg.Estate.Objects(ctx, object.KindPolicy)
	if err != nil {
		return nil, err
	}
	names := []string{object.PolicyDefault}
	for _, rec := range records {
		names = append(names, rec.Name)
	}
	slices.Sort(names)
	return append(slices.Compact(names), object.PolicyRoot), nil
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
	text, found, err := b.rulesOf(ctx, name)
	switch {
	case err != nil:
		return nil, err
	case !found:
		return &gate.Response{Status: gate.Missing}, nil
	}
	return ok(map[string]any{"name": name, field: text}), nil
}

// rulesOf is the text of a policy as it counts.
func (b *Backend) rulesOf(ctx context.Context, name string) (text string, found bool, err error) {
	rec, err := b.cfg.Estate.Object(ctx, object.KindPolicy, name)
	switch {
	case errors.Is(err, object.ErrNotFound) && name == object.PolicyRoot:
		return "", true, nil
	case errors.Is(err, object.ErrNotFound) && name == object.PolicyDefault:
		return policy.Default, true, nil
	case errors.Is(err, object.ErrNotFound):
		return "", false, nil
	case err != nil:
		return "", false, err
	}
	v, err := object.Decode(rec)
	if err != nil {
		return "", false, fmt.Errorf("read policy: %w", err)
	}
	p, isPolicy := v.(*object.Policy)
	if !isPolicy {
		return "", false, fmt.Errorf("policy %q is stored as something else", name)
	}
	return p.Rules, true, nil
}

// immutable are the policies that nobody may change, as in Vault.
var immutable = [...]string{object.PolicyRoot, "response-wrapping", "control-group"}

func (b *Backend) writePolicy(ctx context.Context, c *call) (*gate.Response, error) {
	fields, err := c.fields("policy", "name", "cas")
	if err != nil {
		return nil, err
	}
	return b.putPolicy(ctx, c, fields, nil)
}

// writeOldPolicy takes the text under its old name too.
func (b *Backend) writeOldPolicy(ctx context.Context, c *call) (*gate.Response, error) {
	fields, err := c.fields("policy", "rules", "name", "cas")
	if err != nil {
		return nil, err
	}
	text, err := textField(fields, "policy")
	if err != nil || text != "" {
		return b.putPolicy(ctx, c, fields, nil)
	}
	fields["policy"] = fields["rules"]
	if fields["rules"] == nil {
		delete(fields, "policy")
	}
	return b.putPolicy(ctx, c, fields, []string{"'rules' is deprecated, please use 'policy' instead"})
}

func (b *Backend) putPolicy(ctx context.Context, c *call, fields map[string]json.RawMessage, warnings []string) (*gate.Response, error) {
	put, can := b.cfg.Estate.(Putter)
	if !can {
		return nil, &gate.Error{Kind: gate.Unsupported, Msg: "policies are declared in files: see bailiff apply"}
	}
	name := strings.ToLower(c.args["name"])
	if name != c.args["name"] {
		warnings = append([]string{"policy name was converted to " + name}, warnings...)
	}
	text, err := textField(fields, "policy")
	switch {
	case err != nil:
		return nil, err
	case text == "":
		return nil, invalid("'policy' parameter not supplied or empty")
	}
	if plain, err := base64.StdEncoding.DecodeString(text); err == nil {
		text = string(plain)
	}
	if _, err := policy.Parse(name, 0, text); err != nil {
		var at *policy.ParseError
		if errors.As(err, &at) {
			return nil, invalid("%s", at.Vault())
		}
		return nil, err
	}
	if slices.Contains(immutable[:], name) {
		return nil, invalid("cannot update %q policy", name)
	}
	var cas *int64
	if raw, given := fields["cas"]; given {
		if err := json.Unmarshal(raw, &cas); err != nil {
			return nil, invalid("cas must be the number of the version that stands, or 0 where there is none")
		}
	}
	rec, err := object.Encode(&object.Policy{Name: name, Rules: text})
	if err != nil {
		return nil, err
	}
	if err := b.put(ctx, put, c.Caller.Name, rec, cas); err != nil {
		return nil, err
	}
	resp := done("wrote policy " + name)
	if resp.Warnings = warnings; len(warnings) > 0 {
		resp.Status = gate.OK
	}
	return resp, nil
}

// put writes rec over the version that is expected; without one over whichever stands.
func (b *Backend) put(ctx context.Context, to Putter, by string, rec object.Record, cas *int64) error {
	for tries := 0; ; tries++ {
		version := int64(0)
		if cas != nil {
			version = *cas
		} else if stands, err := b.cfg.Estate.Object(ctx, rec.Kind, rec.Name); err == nil {
			version = stands.Version
		}
		_, err := to.Put(ctx, by, rec, version)
		if cas != nil || tries == 10 || !conflicts(err) {
			return err
		}
	}
}

// conflicts says that what stood was changed meanwhile.
func conflicts(err error) bool {
	var said *gate.Error
	return errors.Is(err, object.ErrConflict) || errors.As(err, &said) && said.Kind == gate.Conflict
}

// deletePolicy removes a policy; one that is not there is removed already, as in Vault.
func (b *Backend) deletePolicy(ctx context.Context, c *call) (*gate.Response, error) {
	name := strings.ToLower(c.args["name"])
	switch {
	case slices.Contains(immutable[:], name):
		return nil, invalid("cannot delete %q policy", name)
	case name == object.PolicyDefault:
		return nil, invalid("cannot delete default policy")
	}
	err := b.cfg.Estate.DeleteObject(ctx, c.Caller.Name, object.KindPolicy, name, 0)
	switch {
	case errors.Is(err, object.ErrNotFound):
		return done("there was no policy " + name), nil
	case err != nil:
		return nil, err
	}
	return done("deleted policy " + name), nil
}
