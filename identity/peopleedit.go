package identity

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/bailiff-secrets/bailiff/internal/document"
)

// EntityChange is what an entity shall be; nil leaves what is there.
type EntityChange struct {
	ID, Name string // either or both; none: a new one, with a name of its own
	Policies *[]string
	Metadata *map[string]string
	Disabled *bool
}

// AliasChange is what an alias shall be; empty or nil leaves what is there.
type AliasChange struct {
	ID, Of, Name, Accessor string
	Path, Type             string // of the mount
	Custom                 *map[string]string
}

// GroupChange is what a group shall be; nil leaves what is there.
type GroupChange struct {
	ID, Name, Type string // type: internal, external
	Policies       *[]string
	Metadata       *map[string]string
	Entities       *[]string
	Groups         *[]string
}

var errDeclared = said("this entity is declared in files and is not changed here: see bailiff apply")

// put writes, and takes over what others did where they were quicker.
func (p *People) put(ctx context.Context, changes ...*document.Change) error {
	err := p.write(ctx, changes...)
	if errors.Is(err, document.ErrConflict) {
		return errors.Join(err, p.mirror.catchUp(ctx))
	}
	return err
}

// PutEntity makes or changes an entity; made says which.
func (p *People) PutEntity(ctx context.Context, c EntityChange) (e Entity, made bool, err error) {
	p.editing.Lock()
	defer p.editing.Unlock()
	if e, made, err = p.entityFor(&c); err != nil {
		return e, false, err
	}
	oldName := e.Name
	if c.Name != "" {
		e.Name = c.Name
	}
	if c.Policies != nil {
		e.Policies = compact(*c.Policies)
		slices.Sort(e.Policies)
	}
	if slices.Contains(e.Policies, rootPolicy) {
		return e, false, said("policies cannot contain root")
	}
	if c.Metadata != nil {
		e.Metadata = *c.Metadata
	}
	if c.Disabled != nil {
		e.Disabled = *c.Disabled
	}
	e.Updated = now()
	if made {
		e.ID, e.Created = newID(), e.Updated
		if e.Name == "" {
			e.Name = p.freeName("entity_" + e.ID[:8])
		}
	}
	put, err := change(spaceEntity, e.ID, p.entityVersion(e.ID), &e)
	if err != nil {
		return e, false, err
	}
	changes := []*document.Change{put}
	if nameKey(e.Name) != nameKey(oldName) || made {
		taken, err := p.takeName(ctx, spaceEntityName, e.Name, e.ID)
		if err != nil {
			return e, false, err
		}
		changes = append(changes, taken...)
	}
	return e, made, p.put(ctx, changes...)
}

// entityFor finds the entity that a change is for, by its id or its name.
func (p *People) entityFor(c *EntityChange) (e Entity, made bool, err error) {
	found := false
	if c.ID != "" {
		if e, found = p.Entity(c.ID); !found {
			return e, false, said("entity not found from id")
		}
	}
	if c.Name != "" {
		if named, ok := p.EntityNamed(c.Name); ok {
			if found && named.ID != e.ID {
				return e, false, said("entity name is already in use")
			}
			e, found = named, true
		}
	}
	if e.Declared {
		return e, false, errDeclared
	}
	return e, !found, nil
}

// takeName is the change that takes a name; none where it is its own already. A name that was given up stays taken: what was
// issued under it is nobody else's.
func (p *People) takeName(ctx context.Context, space, name, id string) ([]*document.Change, error) {
	d, err := p.mirror.store.Document(ctx, space, nameKey(name))
	if err == nil {
		var of string
		if json.Unmarshal(d.Body, &of) == nil && of == id {
			return nil, nil
		}
		return nil, said("%s name is already in use", strings.TrimSuffix(space, "-name"))
	}
	if !errors.Is(err, document.ErrNotFound) {
		return nil, err
	}
	c, err := change(space, nameKey(name), 0, id)
	return []*document.Change{c}, err
}

// freeNames are the changes that give up what an id has taken.
func (p *People) freeNames(ctx context.Context, space, name, id string) ([]*document.Change, error) {
	d, err := p.mirror.store.Document(ctx, space, nameKey(name))
	if errors.Is(err, document.ErrNotFound) {
		return nil, nil
	}
	var of string
	if err != nil || json.Unmarshal(d.Body, &of) != nil || of != id {
		return nil, err
	}
	return []*document.Change{removal(space, nameKey(name), d.Version)}, nil
}

// DeleteEntity forgets an entity with its aliases; one that is not there is no error.
func (p *People) DeleteEntity(ctx context.Context, id string) error {
	p.editing.Lock()
	defer p.editing.Unlock()
	e, ok := p.Entity(id)
	switch {
	case !ok:
		return nil
	case e.Declared:
		return errDeclared
	}
	changes := []*document.Change{removal(spaceEntity, e.ID, p.entityVersion(e.ID))}
	for _, a := range p.AliasesOf(e.ID) {
		changes = append(changes, removal(spaceAlias, aliasKey(a.Accessor, a.Name), p.aliasVersion(a)))
	}
	names, err := p.freeNames(ctx, spaceEntityName, e.Name, e.ID)
	if err != nil {
		return err
	}
	return p.put(ctx, append(changes, names...)...)
}

// MergeEntities makes several entities one: to has their aliases from now on, and their tokens are its own. Where two of them
// have an alias at the same mount, keep says by its id which one stays.
func (p *People) MergeEntities(ctx context.Context, to string, from, keep []string) error {
	p.editing.Lock()
	defer p.editing.Unlock()
	into, ok := p.Entity(to)
	switch {
	case !ok:
		return said("entity id to merge to is invalid")
	case into.Declared:
		return errDeclared
	}
	at := map[string]Alias{}
	for _, a := range p.AliasesOf(to) {
		at[a.Accessor] = a
	}
	var changes []*document.Change
	for _, id := range from {
		e, ok := p.Entity(id)
		switch {
		case !ok:
			return said("entity id to merge from is invalid")
		case e.ID == into.ID:
			return said("to_entity_id should not be present in from_entity_ids")
		case e.Declared:
			return errDeclared
		}
		for _, a := range p.AliasesOf(e.ID) {
			more, err := p.moveAlias(at, a, &into, keep)
			if err != nil {
				return err
			}
			changes = append(changes, more...)
		}
		into.Merged = append(into.Merged, e.ID)
		into.Merged = append(into.Merged, e.Merged...)
		changes = append(changes, removal(spaceEntity, e.ID, p.entityVersion(e.ID)))
	}
	into.Updated = now()
	put, err := change(spaceEntity, into.ID, p.entityVersion(into.ID), &into)
	if err != nil {
		return err
	}
	return p.put(ctx, append(changes, put)...)
}

// moveAlias are the changes that make an alias another entity's, which has those of at.
func (p *People) moveAlias(at map[string]Alias, a Alias, into *Entity, keep []string) ([]*document.Change, error) {
	key, version := aliasKey(a.Accessor, a.Name), p.aliasVersion(a)
	if clash, ok := at[a.Accessor]; ok {
		switch {
		case slices.Contains(keep, clash.ID):
			return []*document.Change{removal(spaceAlias, key, version)}, nil
		case !slices.Contains(keep, a.ID):
			return nil, said("toEntity and at least one fromEntity have aliases with the same mount accessor, repeat the merge request specifying exactly one fromEntity, clashes: mountAccessor: %s, toEntity ID: %s, fromEntity ID: %s, conflicting toEntity alias ID: %s, conflicting fromEntity alias ID: %s",
				a.Accessor, into.ID, a.Of, clash.ID, a.ID)
		}
		gone := removal(spaceAlias, aliasKey(clash.Accessor, clash.Name), p.aliasVersion(clash))
		moved, err := p.moved(a, into, version)
		return []*document.Change{gone, moved}, err
	}
	at[a.Accessor] = a
	moved, err := p.moved(a, into, version)
	return []*document.Change{moved}, err
}

func (p *People) moved(a Alias, into *Entity, version int64) (*document.Change, error) {
	a.Merged = append(slices.Clone(a.Merged), a.Of)
	a.Of, a.Updated = into.ID, now()
	return aliasChange(spaceAlias, &a, version)
}

// PutAlias makes or changes an alias of an entity; without an entity a new one gets it. changed is false where nothing was to do.
func (p *People) PutAlias(ctx context.Context, c AliasChange) (a Alias, changed bool, err error) {
	p.editing.Lock()
	defer p.editing.Unlock()
	old, found := p.AliasNamed(c.Accessor, c.Name)
	if c.ID != "" {
		if old, found = p.Alias(c.ID); !found {
			return a, false, said("invalid alias ID provided")
		}
	}
	a = old
	var changes []*document.Change
	if !found {
		if changes, err = p.newAlias(&a, &c); err != nil {
			return a, false, err
		}
	} else if changed, err = p.editAlias(&a, &c); err != nil || !changed {
		return a, false, err
	}
	a.Updated = now()
	version := p.aliasVersion(old)
	if found && aliasKey(old.Accessor, old.Name) != aliasKey(a.Accessor, a.Name) {
		changes, version = append(changes, removal(spaceAlias, aliasKey(old.Accessor, old.Name), version)), 0
	}
	put, err := aliasChange(spaceAlias, &a, version)
	if err != nil {
		return a, false, err
	}
	return a, true, p.put(ctx, append(changes, put)...)
}

// newAlias fills in a new alias, and makes an entity where it has none.
func (p *People) newAlias(a *Alias, c *AliasChange) (changes []*document.Change, err error) {
	*a = Alias{ID: newID(), Of: c.Of, Name: c.Name, Accessor: c.Accessor, Path: c.Path, Type: c.Type, Created: now()}
	if c.Custom != nil {
		a.Custom = *c.Custom
	}
	if c.Of == "" {
		e := Entity{ID: newID(), Created: a.Created, Updated: a.Created}
		a.Of, e.Name = e.ID, p.freeName("entity_"+e.ID[:8])
		return p.newEntity(&e)
	}
	if _, ok := p.Entity(c.Of); !ok {
		return nil, said("invalid canonical ID")
	}
	if p.hasAliasAt(c.Of, c.Accessor) {
		return nil, said("Alias already exists for requested entity and mount accessor")
	}
	return nil, nil
}

func (p *People) hasAliasAt(entity, accessor string) bool {
	return slices.ContainsFunc(p.AliasesOf(entity), func(a Alias) bool { return a.Accessor == accessor && !a.Declared })
}

// editAlias changes an alias that is there.
func (p *People) editAlias(a *Alias, c *AliasChange) (changed bool, err error) {
	old := *a
	if c.Name != "" {
		a.Name = c.Name
	}
	if c.Accessor != "" {
		a.Accessor, a.Path, a.Type = c.Accessor, c.Path, c.Type
	}
	if c.Custom != nil {
		a.Custom = *c.Custom
	}
	moves := c.Of != "" && c.Of != a.Of
	if a.Accessor != old.Accessor && !moves && p.hasAliasAt(a.Of, a.Accessor) {
		return false, said("Alias cannot be updated as the entity already has an alias for the given 'mount_accessor' ")
	}
	if other, ok := p.AliasNamed(a.Accessor, a.Name); ok && other.ID != a.ID {
		return false, said("alias with combination of mount accessor and name already exists")
	}
	if moves {
		if _, ok := p.Entity(c.Of); !ok {
			return false, said("given 'canonical_id' is not associated with an entity")
		}
		if p.hasAliasAt(c.Of, a.Accessor) {
			return false, said("Alias cannot be updated as the given entity already has an alias for this mount ")
		}
		a.Of = c.Of
	}
	return moves || a.Name != old.Name || a.Accessor != old.Accessor || c.Custom != nil && !equalMaps(*c.Custom, old.Custom), nil
}

func equalMaps(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || v != w {
			return false
		}
	}
	return true
}

// DeleteAlias forgets an alias; one that is not there is no error.
func (p *People) DeleteAlias(ctx context.Context, id string) error {
	a, ok := p.Alias(id)
	if !ok {
		return nil
	}
	return p.put(ctx, removal(spaceAlias, aliasKey(a.Accessor, a.Name), p.aliasVersion(a)))
}

// unique is a list with each once, trimmed, in its order, in lower case.
func unique(list []string) []string {
	out := []string{}
	for _, s := range list {
		if s = strings.ToLower(strings.TrimSpace(s)); s != "" && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}
