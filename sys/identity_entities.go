package sys

import (
	"context"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/policy"
)

func (b *Backend) identityRoutes() []route {
	const read, list, update, remove = policy.Read, policy.List, policy.Update, policy.Delete
	return []route{
		{update, "identity/entity", b.putEntity},
		{list, "identity/entity/id", b.entityList(true)},
		{update, "identity/entity/id/{id}", b.putEntity},
		{read, "identity/entity/id/{id}", b.entityByID},
		{remove, "identity/entity/id/{id}", b.deleteEntity},
		{list, "identity/entity/name", b.entityList(false)},
		{update, "identity/entity/name/{name...}", b.putEntity},
		{read, "identity/entity/name/{name...}", b.entityByName},
		{remove, "identity/entity/name/{name...}", b.deleteEntity},
		{update, "identity/entity/batch-delete", b.deleteEntities},
		{update, "identity/entity/merge", b.mergeEntities},
		{update, "identity/entity-alias", b.putAlias},
		{list, "identity/entity-alias/id", b.aliasList},
		{update, "identity/entity-alias/id/{id}", b.putAlias},
		{read, "identity/entity-alias/id/{id}", b.aliasByID},
		{remove, "identity/entity-alias/id/{id}", b.deleteAlias},
		{update, "identity/group", b.putGroup},
		{list, "identity/group/id", b.groupList(true)},
		{update, "identity/group/id/{id}", b.putGroup},
		{read, "identity/group/id/{id}", b.groupByID},
		{remove, "identity/group/id/{id}", b.deleteGroup},
		{list, "identity/group/name", b.groupList(false)},
		{update, "identity/group/name/{name...}", b.putGroup},
		{read, "identity/group/name/{name...}", b.groupByName},
		{remove, "identity/group/name/{name...}", b.deleteGroup},
		{update, "identity/group-alias", b.putGroupAlias},
		{list, "identity/group-alias/id", b.groupAliasList},
		{update, "identity/group-alias/id/{id}", b.putGroupAlias},
		{read, "identity/group-alias/id/{id}", b.groupAliasByID},
		{remove, "identity/group-alias/id/{id}", b.deleteGroupAlias},
		{update, "identity/lookup/entity", b.lookupEntity},
		{update, "identity/lookup/group", b.lookupGroup},
		{"", "identity/mfa/{rest...}", notHere("second factors are left to the auth methods' own servers")},
		{"", "identity/oidc/{rest...}", notHere("Bailiff is no OpenID Connect provider: use the Vault behind by a mount of its own")},
	}
}

func (b *Backend) people() *identity.People { return b.cfg.Tokens.People() }

func missing() *gate.Response { return &gate.Response{Status: gate.Missing} }

// where finds a mount's path and type by its accessor.
func (b *Backend) mountOf(accessor string) (path, kind string, found bool) {
	for _, m := range b.cfg.Mounts().All() {
		if m.Accessor == accessor {
			return m.Path, m.Type, true
		}
	}
	return "", "", false
}

func (b *Backend) putEntity(ctx context.Context, c *call) (*gate.Response, error) {
	f, err := c.fields("id", "name", "metadata", "policies", "disabled")
	if err != nil {
		return nil, err
	}
	r := loose{fields: f}
	change := identity.EntityChange{ID: first(c.args["id"], r.text("id")), Name: first(c.args["name"], r.text("name"))}
	if _, set := r.raw("policies"); set {
		list := r.commas("policies")
		change.Policies = &list
	}
	if _, set := r.raw("metadata"); set {
		m := r.pairs("metadata")
		change.Metadata = &m
	}
	if _, set := r.raw("disabled"); set {
		off := r.truth("disabled", false)
		change.Disabled = &off
	}
	if r.err != nil {
		return nil, r.err
	}
	e, made, err := b.people().PutEntity(ctx, change)
	if err != nil {
		return nil, err
	}
	if !made {
		return done("entity " + e.Name), nil
	}
	resp := ok(map[string]any{"id": e.ID, "name": e.Name, "aliases": nil})
	resp.Detail = "entity " + e.Name
	return resp, nil
}

func first(texts ...string) string {
	for _, s := range texts {
		if s != "" {
			return s
		}
	}
	return ""
}

// pairs is a map, or a list of key=value.
func (r *loose) pairs(name string) map[string]string {
	raw, _ := r.raw(name)
	if len(raw) > 0 && raw[0] == '{' {
		return r.texts(name)
	}
	out := map[string]string{}
	for _, pair := range r.list(name) {
		k, v, ok := cut(pair)
		if !ok {
			r.fail("Field validation failed: error converting input %s for field %q: invalid key pair %q", pair, name, pair)
			return nil
		}
		out[k] = v
	}
	return out
}

func (b *Backend) entityByID(_ context.Context, c *call) (*gate.Response, error) {
	e, found := b.people().Entity(c.args["id"])
	if !found || e.ID != c.args["id"] { // it was merged into another
		return missing(), nil
	}
	return b.entityData(&e), nil
}

func (b *Backend) entityByName(_ context.Context, c *call) (*gate.Response, error) {
	e, found := b.people().EntityNamed(c.args["name"])
	if !found {
		return missing(), nil
	}
	return b.entityData(&e), nil
}

// entityData is what Vault shows of an entity.
func (b *Backend) entityData(e *identity.Entity) *gate.Response {
	direct, inherited := b.people().GroupsOf(e.ID)
	aliases := []any{}
	for _, a := range b.people().AliasesOf(e.ID) {
		aliases = append(aliases, b.aliasData(&a, inEntity))
	}
	return ok(map[string]any{
		"id": e.ID, "name": e.Name, "metadata": metadata(e.Metadata), "merged_entity_ids": listOrNil(e.Merged), "policies": filled(e.Policies), "disabled": e.Disabled,
		"namespace_id": "root", "creation_time": stamp(e.Created), "last_update_time": stamp(e.Updated), "aliases": aliases,
		"direct_group_ids": filled(direct), "inherited_group_ids": filled(inherited), "group_ids": append(filled(direct), inherited...),
	})
}

// stamp is a time as Vault's protobufs write it.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func filled(list []string) []string {
	if list == nil {
		return []string{}
	}
	return append([]string{}, list...)
}

func listOrNil(list []string) any {
	if len(list) == 0 {
		return nil
	}
	return list
}

// shownIn says where an alias is shown: in what it is of, or alone.
type shownIn int

const (
	inEntity shownIn = iota
	inGroup
	ofEntity
	ofGroup
)

// custom is what people have set, never null.
func custom(a *identity.Alias) map[string]string {
	if a.Custom == nil {
		return map[string]string{}
	}
	return a.Custom
}

// aliasData is what Vault shows of an alias.
func (b *Backend) aliasData(a *identity.Alias, in shownIn) map[string]any {
	data := map[string]any{
		"id": a.ID, "canonical_id": a.Of, "mount_accessor": a.Accessor, "metadata": metadata(a.Metadata), "name": a.Name,
		"merged_from_canonical_ids": listOrNil(a.Merged), "creation_time": stamp(a.Created), "last_update_time": stamp(a.Updated),
	}
	switch in {
	case inGroup:
	case ofGroup:
		data["local"], data["custom_metadata"], data["namespace_id"] = false, nil, "root"
	default:
		data["local"], data["custom_metadata"] = false, custom(a)
	}
	if in == ofEntity {
		data["namespace_id"] = "root"
	}
	if path, kind, found := b.mountOf(a.Accessor); found {
		data["mount_path"], data["mount_type"] = path, kind
	} else if a.Path != "" {
		data["mount_path"], data["mount_type"] = a.Path, a.Type
	}
	return data
}

func (b *Backend) deleteEntity(ctx context.Context, c *call) (*gate.Response, error) {
	e, found := b.people().Entity(c.args["id"])
	if c.args["name"] != "" {
		e, found = b.people().EntityNamed(c.args["name"])
	}
	if !found {
		return done("an entity that isn't there"), nil
	}
	return done("entity " + e.Name), b.forget(ctx, e.ID)
}

// forget ends an entity and its tokens. These open nothing from the moment when the entity is gone.
func (b *Backend) forget(ctx context.Context, id string) error {
	if err := b.people().DeleteEntity(ctx, id); err != nil {
		return err
	}
	return b.cfg.Tokens.RevokeEntity(context.WithoutCancel(ctx), id)
}

func (b *Backend) deleteEntities(ctx context.Context, c *call) (*gate.Response, error) {
	f, err := c.fields("entity_ids")
	if err != nil {
		return nil, err
	}
	r := loose{fields: f}
	ids := r.commas("entity_ids")
	if r.err != nil || len(ids) == 0 {
		return nil, invalid("missing entity ids to delete")
	}
	for _, id := range ids {
		if err := b.forget(ctx, id); err != nil {
			return nil, err
		}
	}
	return done("entities"), nil
}

func (b *Backend) mergeEntities(ctx context.Context, c *call) (*gate.Response, error) {
	f, err := c.fields("from_entity_ids", "to_entity_id", "force", "conflicting_alias_ids_to_keep")
	if err != nil {
		return nil, err
	}
	r := loose{fields: f}
	to, from, keep := r.text("to_entity_id"), r.commas("from_entity_ids"), r.commas("conflicting_alias_ids_to_keep")
	switch {
	case r.err != nil:
		return nil, r.err
	case to == "":
		return nil, invalid("missing entity id to merge to")
	case len(from) == 0:
		return nil, invalid("missing entity ids to merge from")
	}
	if err := b.people().MergeEntities(ctx, to, from, keep); err != nil {
		return nil, err
	}
	return done("entities became one: " + to), nil
}

// entityList lists entities by id or by name, with a few words on each.
func (b *Backend) entityList(byID bool) handler {
	return func(context.Context, *call) (*gate.Response, error) {
		var keys []string
		info := map[string]any{}
		for _, id := range b.people().Entities() {
			e, found := b.people().Entity(id)
			if !found {
				continue
			}
			one := map[string]any{"name": e.Name}
			var aliases []any
			for _, a := range b.people().AliasesOf(id) {
				aliases = append(aliases, b.aliasShort(&a))
			}
			if aliases != nil {
				one["aliases"] = aliases
			}
			info[id] = one
			if byID {
				keys = append(keys, id)
			} else {
				keys = append(keys, e.Name)
			}
		}
		return infoList(keys, info), nil
	}
}

func (b *Backend) aliasShort(a *identity.Alias) map[string]any {
	one := map[string]any{"id": a.ID, "name": a.Name, "mount_accessor": a.Accessor}
	if path, kind, found := b.mountOf(a.Accessor); found {
		one["mount_path"], one["mount_type"] = path, kind
	}
	return one
}

// infoList is Vault's answer to a list that says something of each, by its id; of nothing it is that nothing is there.
func infoList(keys []string, info map[string]any) *gate.Response {
	if len(keys) == 0 {
		return missing()
	}
	if info[keys[0]] == nil {
		return ok(map[string]any{"keys": keys})
	}
	return ok(map[string]any{"keys": keys, "key_info": info})
}

func (b *Backend) putAlias(ctx context.Context, c *call) (*gate.Response, error) {
	f, err := c.fields("id", "name", "mount_accessor", "canonical_id", "entity_id", "custom_metadata")
	if err != nil {
		return nil, err
	}
	r := loose{fields: f}
	change := identity.AliasChange{
		ID: first(c.args["id"], r.text("id")), Name: r.text("name"), Accessor: r.text("mount_accessor"), Of: first(r.text("canonical_id"), r.text("entity_id")),
	}
	if _, set := r.raw("custom_metadata"); set {
		m := r.pairs("custom_metadata")
		change.Custom = &m
	}
	if r.err != nil {
		return nil, r.err
	}
	if change.ID == "" && (change.Accessor == "" || change.Name == "") {
		return nil, invalid("'id' or 'mount_accessor' and 'name' must be provided")
	}
	if change.Accessor != "" {
		var found bool
		if change.Path, change.Type, found = b.mountOf(change.Accessor); !found {
			return nil, invalid("invalid mount accessor %q", change.Accessor)
		}
	}
	a, changed, err := b.people().PutAlias(ctx, change)
	return aliasDone(&a, changed, err)
}

func aliasDone(a *identity.Alias, changed bool, err error) (*gate.Response, error) {
	if err != nil {
		return nil, err
	}
	if !changed {
		return done("nothing"), nil
	}
	resp := ok(map[string]any{"id": a.ID, "canonical_id": a.Of})
	resp.Detail = "alias " + a.Path + a.Name
	return resp, nil
}

func (b *Backend) aliasByID(_ context.Context, c *call) (*gate.Response, error) {
	a, found := b.people().Alias(c.args["id"])
	if !found {
		return missing(), nil
	}
	return ok(b.aliasData(&a, ofEntity)), nil
}

func (b *Backend) deleteAlias(ctx context.Context, c *call) (*gate.Response, error) {
	return done("alias " + c.args["id"]), b.people().DeleteAlias(ctx, c.args["id"])
}

func (b *Backend) aliasList(context.Context, *call) (*gate.Response, error) {
	var keys []string
	info := map[string]any{}
	for _, id := range b.people().Aliases() {
		if a, found := b.people().Alias(id); found {
			one := b.aliasShort(&a)
			delete(one, "id")
			one["canonical_id"], one["custom_metadata"], one["local"] = a.Of, custom(&a), false
			keys, info[id] = append(keys, id), one
		}
	}
	return infoList(keys, info), nil
}
