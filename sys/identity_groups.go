package sys

import (
	"context"
	"strings"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/identity"
)

func cut(pair string) (k, v string, ok bool) { return strings.Cut(pair, "=") }

func (b *Backend) putGroup(ctx context.Context, c *call) (*gate.Response, error) {
	f, err := c.fields("id", "type", "name", "metadata", "policies", "member_group_ids", "member_entity_ids")
	if err != nil {
		return nil, err
	}
	r := loose{fields: f}
	change := identity.GroupChange{ID: first(c.args["id"], r.text("id")), Name: first(c.args["name"], r.text("name")), Type: r.text("type")}
	for name, to := range map[string]**[]string{"policies": &change.Policies, "member_group_ids": &change.Groups, "member_entity_ids": &change.Entities} {
		if _, set := r.raw(name); set {
			list := r.commas(name)
			*to = &list
		}
	}
	if _, set := r.raw("metadata"); set {
		m := r.pairs("metadata")
		change.Metadata = &m
	}
	if r.err != nil {
		return nil, r.err
	}
	g, made, err := b.people().PutGroup(ctx, change)
	if err != nil {
		return nil, err
	}
	if !made {
		return done("group " + g.Name), nil
	}
	resp := ok(map[string]any{"id": g.ID, "name": g.Name})
	resp.Detail = "group " + g.Name
	return resp, nil
}

func (b *Backend) groupByID(_ context.Context, c *call) (*gate.Response, error) {
	g, found := b.people().Group(c.args["id"])
	if !found {
		return missing(), nil
	}
	return b.groupData(&g), nil
}

func (b *Backend) groupByName(_ context.Context, c *call) (*gate.Response, error) {
	g, found := b.people().GroupNamed(c.args["name"])
	if !found {
		return missing(), nil
	}
	return b.groupData(&g), nil
}

// groupData is what Vault shows of a group.
func (b *Backend) groupData(g *identity.Group) *gate.Response {
	alias := map[string]any{}
	if a, found := b.people().GroupAliasOf(g.ID); found {
		alias = b.aliasData(&a, inGroup)
	}
	return ok(map[string]any{
		"id": g.ID, "name": g.Name, "policies": listOrNil(g.Policies), "member_entity_ids": listOrNil(b.members(g)), "parent_group_ids": listOrNil(b.people().ParentsOf(g.ID)),
		"metadata": metadata(g.Metadata), "creation_time": stamp(g.Created), "last_update_time": stamp(g.Updated), "modify_index": 1, "type": g.Type(),
		"namespace_id": "root", "alias": alias, "member_group_ids": listOrNil(g.Groups),
	})
}

func (b *Backend) members(g *identity.Group) []string {
	if g.External {
		return b.people().MembersOf(g.ID)
	}
	return g.Entities
}

func (b *Backend) deleteGroup(ctx context.Context, c *call) (*gate.Response, error) {
	id := c.args["id"]
	if c.args["name"] != "" {
		g, _ := b.people().GroupNamed(c.args["name"])
		id = g.ID
	}
	return done("group " + first(c.args["name"], id)), b.people().DeleteGroup(ctx, id)
}

// groupList lists groups by id or by name, with a few words on each.
func (b *Backend) groupList(byID bool) handler {
	return func(context.Context, *call) (*gate.Response, error) {
		var keys []string
		info := map[string]any{}
		for _, id := range b.people().GroupIDs() {
			g, found := b.people().Group(id)
			if !found {
				continue
			}
			one := map[string]any{"name": g.Name, "num_member_entities": len(b.members(&g)), "num_parent_groups": len(b.people().ParentsOf(id))}
			if a, found := b.people().GroupAliasOf(id); found {
				one["alias"] = b.aliasShort(&a)
			}
			info[id] = one
			if byID {
				keys = append(keys, id)
			} else {
				keys = append(keys, g.Name)
			}
		}
		return infoList(keys, info), nil
	}
}

func (b *Backend) putGroupAlias(ctx context.Context, c *call) (*gate.Response, error) {
	f, err := c.fields("id", "name", "mount_accessor", "canonical_id", "mount_type")
	if err != nil {
		return nil, err
	}
	r := loose{fields: f}
	change := identity.AliasChange{ID: first(c.args["id"], r.text("id")), Name: r.text("name"), Accessor: r.text("mount_accessor"), Of: r.text("canonical_id")}
	var found bool
	switch change.Path, change.Type, found = b.mountOf(change.Accessor); {
	case r.err != nil:
		return nil, r.err
	case change.Name == "":
		return nil, invalid("missing alias name")
	case change.Accessor == "":
		return nil, invalid("missing mount_accessor")
	case !found:
		return nil, invalid("invalid mount accessor %q", change.Accessor)
	}
	a, changed, err := b.people().PutGroupAlias(ctx, change)
	return aliasDone(&a, changed, err)
}

func (b *Backend) groupAliasByID(_ context.Context, c *call) (*gate.Response, error) {
	a, found := b.people().GroupAlias(c.args["id"])
	if !found {
		return missing(), nil
	}
	return ok(b.aliasData(&a, ofGroup)), nil
}

func (b *Backend) deleteGroupAlias(ctx context.Context, c *call) (*gate.Response, error) {
	return done("alias " + c.args["id"]), b.people().DeleteGroupAlias(ctx, c.args["id"])
}

func (b *Backend) groupAliasList(context.Context, *call) (*gate.Response, error) {
	var keys []string
	info := map[string]any{}
	for _, id := range b.people().GroupAliases() {
		if a, found := b.people().GroupAlias(id); found {
			one := b.aliasShort(&a)
			delete(one, "id")
			one["canonical_id"], one["custom_metadata"], one["local"] = a.Of, nil, false
			keys, info[id] = append(keys, id), one
		}
	}
	return infoList(keys, info), nil
}

// sought is what a lookup names: exactly one way to find it.
type sought struct{ id, name, aliasID, aliasName, accessor string }

func (c *call) sought() (s sought, err error) {
	f, err := c.fields("id", "name", "alias_id", "alias_name", "alias_mount_accessor")
	if err != nil {
		return s, err
	}
	r := loose{fields: f}
	s = sought{r.text("id"), r.text("name"), r.text("alias_id"), r.text("alias_name"), r.text("alias_mount_accessor")}
	switch n := len(f); {
	case r.err != nil:
		return s, r.err
	case n == 0:
		return s, invalid("query parameter not supplied")
	case n == 2 && s.aliasName != "" && s.accessor != "":
	case n != 1:
		return s, invalid("query parameter conflict; please supply distinct set of query parameters")
	case s.aliasName != "" || s.accessor != "":
		return s, invalid("both 'alias_name' and 'alias_mount_accessor' needs to be set")
	}
	return s, nil
}

func (b *Backend) lookupEntity(_ context.Context, c *call) (*gate.Response, error) {
	s, err := c.sought()
	if err != nil {
		return nil, err
	}
	var a identity.Alias
	var e identity.Entity
	found := false
	switch {
	case s.name != "":
		e, found = b.people().EntityNamed(s.name)
	case s.aliasID != "":
		a, _ = b.people().Alias(s.aliasID)
		s.id = a.Of
	case s.aliasName != "":
		a, _ = b.people().AliasNamed(s.accessor, s.aliasName)
		s.id = a.Of
	}
	if s.id != "" {
		e, found = b.people().Entity(s.id)
	}
	if !found {
		return done(""), nil
	}
	return b.entityData(&e), nil
}

func (b *Backend) lookupGroup(_ context.Context, c *call) (*gate.Response, error) {
	s, err := c.sought()
	if err != nil {
		return nil, err
	}
	var a identity.Alias
	var g identity.Group
	found := false
	switch {
	case s.name != "":
		g, found = b.people().GroupNamed(s.name)
	case s.aliasID != "":
		a, _ = b.people().GroupAlias(s.aliasID)
		s.id = a.Of
	case s.aliasName != "":
		a, _ = b.people().GroupAliasNamed(s.accessor, s.aliasName)
		s.id = a.Of
	}
	if s.id != "" {
		g, found = b.people().Group(s.id)
	}
	if !found {
		return done(""), nil
	}
	return b.groupData(&g), nil
}
