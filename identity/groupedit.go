package identity

import (
	"context"
	"fmt"
	"slices"

	"github.com/bailiff-secrets/bailiff/internal/document"
)

// The types of groups.
const (
	internalGroup = "internal"
	externalGroup = "external"
)

// Type is internal or external.
func (g *Group) Type() string {
	if g.External {
		return externalGroup
	}
	return internalGroup
}

// PutGroup makes or changes a group; made says which.
func (p *People) PutGroup(ctx context.Context, c GroupChange) (g Group, made bool, err error) {
	p.editing.Lock()
	defer p.editing.Unlock()
	if g, made, err = p.groupFor(&c); err != nil {
		return g, false, err
	}
	oldName := g.Name
	if err := p.editGroup(&g, &c, made); err != nil {
		return g, false, err
	}
	g.Updated = now()
	if made {
		g.ID, g.Created = newID(), g.Updated
		if g.Name == "" {
			g.Name = "group_" + g.ID[:8]
		}
	}
	if c.Groups != nil {
		if err := p.nest(&g, *c.Groups); err != nil {
			return g, false, err
		}
	}
	put, err := change(spaceGroup, g.ID, p.groupVersion(g.ID), &g)
	if err != nil {
		return g, false, err
	}
	changes := []*document.Change{put}
	if nameKey(g.Name) != nameKey(oldName) || made {
		taken, err := p.takeName(ctx, spaceGroupName, g.Name, g.ID)
		if err != nil {
			return g, false, err
		}
		changes = append(changes, taken...)
		if !made {
			freed, err := p.freeNames(ctx, spaceGroupName, oldName, g.ID)
			if err != nil {
				return g, false, err
			}
			changes = append(changes, freed...)
		}
	}
	return g, made, p.put(ctx, changes...)
}

func (p *People) groupFor(c *GroupChange) (g Group, made bool, err error) {
	found := false
	if c.ID != "" {
		if g, found = p.Group(c.ID); !found {
			return g, false, said("invalid group ID")
		}
	}
	if c.Name != "" {
		if named, ok := p.GroupNamed(c.Name); ok {
			if found && named.ID != g.ID {
				return g, false, said("group name is already in use")
			}
			g, found = named, true
		}
	}
	return g, !found, nil
}

// editGroup changes what can be said of a group without looking at others.
func (p *People) editGroup(g *Group, c *GroupChange, made bool) error {
	if c.Policies != nil {
		g.Policies = unique(*c.Policies)
	}
	switch {
	case slices.Contains(g.Policies, rootPolicy):
		return said("policies cannot contain root")
	case !made && c.Type != "" && c.Type != g.Type():
		return said("group type cannot be changed")
	case c.Type != "" && c.Type != internalGroup && c.Type != externalGroup:
		return said("invalid group type %q", c.Type)
	}
	g.External = g.External || c.Type == externalGroup
	if c.Name != "" {
		g.Name = c.Name
	}
	if c.Metadata != nil {
		g.Metadata = *c.Metadata
	}
	switch {
	case c.Entities != nil && g.External:
		return said("member entities can't be set manually for external groups")
	case c.Groups != nil && g.External:
		return said("member groups can't be set for external groups")
	case c.Entities != nil:
		g.Entities = compact(*c.Entities)
		for _, id := range g.Entities {
			if _, ok := p.Entity(id); !ok {
				return fmt.Errorf("invalid entity ID %q", id)
			}
		}
	}
	return nil
}

// nest makes groups members of g, unless g is in one of them.
func (p *People) nest(g *Group, groups []string) error {
	groups = compact(groups)
	for _, id := range groups {
		if _, ok := p.Group(id); !ok {
			return fmt.Errorf("invalid member group ID %q", id)
		}
		if id == g.ID {
			return fmt.Errorf("member group ID %q is same as the ID of the group", id)
		}
		if p.inside(g.ID, id, map[string]bool{}) {
			return said("cyclic relationship detected for member group ID %q", id)
		}
	}
	g.Groups = groups
	return nil
}

// inside says whether a group is a member of another one, through any others.
func (p *People) inside(group, of string, seen map[string]bool) bool {
	if seen[of] {
		return false
	}
	seen[of] = true
	g, _ := p.Group(of)
	for _, id := range g.Groups {
		if id == group || p.inside(group, id, seen) {
			return true
		}
	}
	return false
}

// compact is a list with each once, in its order, without empty ones.
func compact(list []string) []string {
	out := []string{}
	for _, s := range list {
		if s != "" && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

func (p *People) groupVersion(id string) int64 {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if k := p.groups[id]; k != nil {
		return k.version
	}
	return 0
}

// DeleteGroup forgets a group with its alias; one that is not there is no error.
func (p *People) DeleteGroup(ctx context.Context, id string) error {
	p.editing.Lock()
	defer p.editing.Unlock()
	g, ok := p.Group(id)
	if !ok {
		return nil
	}
	changes := []*document.Change{removal(spaceGroup, g.ID, p.groupVersion(g.ID))}
	if a, ok := p.GroupAliasOf(id); ok {
		changes = append(changes, removal(spaceGroupAlias, aliasKey(a.Accessor, a.Name), p.groupAliasVersion(a)))
	}
	names, err := p.freeNames(ctx, spaceGroupName, g.Name, g.ID)
	if err != nil {
		return err
	}
	for _, parent := range p.ParentsOf(id) {
		above, ok := p.Group(parent)
		if !ok {
			continue
		}
		above.Groups = slices.DeleteFunc(slices.Clone(above.Groups), func(m string) bool { return m == id })
		c, err := change(spaceGroup, above.ID, p.groupVersion(above.ID), &above)
		if err != nil {
			return err
		}
		changes = append(changes, c)
	}
	return p.put(ctx, append(changes, names...)...)
}

func (p *People) groupAliasVersion(a Alias) int64 {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if k := p.groupAliases[aliasKey(a.Accessor, a.Name)]; k != nil {
		return k.version
	}
	return 0
}

// PutGroupAlias says what an external group is called at a mount; without a group a new one gets it. changed is false where
// nothing was to do.
func (p *People) PutGroupAlias(ctx context.Context, c AliasChange) (a Alias, changed bool, err error) {
	p.editing.Lock()
	defer p.editing.Unlock()
	var old Alias
	found := false
	if c.ID != "" {
		if old, found = p.GroupAlias(c.ID); !found {
			return a, false, said("invalid group alias ID")
		}
	}
	if a = old; found && a.Name == c.Name && a.Accessor == c.Accessor && (c.Of == "" || c.Of == a.Of) {
		return a, false, nil
	}
	if other, ok := p.GroupAliasNamed(c.Accessor, c.Name); ok && other.ID != c.ID {
		return a, false, said("combination of mount and group alias name is already in use")
	}
	changes, err := p.groupOfAlias(&a, &c)
	if err != nil {
		return a, false, err
	}
	a.Name, a.Accessor, a.Path, a.Type, a.Updated = c.Name, c.Accessor, c.Path, c.Type, now()
	version := int64(0)
	if found {
		version = p.groupAliasVersion(old)
		if aliasKey(old.Accessor, old.Name) != aliasKey(a.Accessor, a.Name) {
			changes, version = append(changes, removal(spaceGroupAlias, aliasKey(old.Accessor, old.Name), version)), 0
		}
	} else {
		a.ID, a.Created = newID(), a.Updated
	}
	put, err := aliasChange(spaceGroupAlias, &a, version)
	if err != nil {
		return a, false, err
	}
	return a, true, p.put(ctx, append(changes, put)...)
}

// groupOfAlias finds the group that an alias is of, or makes one.
func (p *People) groupOfAlias(a *Alias, c *AliasChange) ([]*document.Change, error) {
	if c.Of != "" {
		g, ok := p.Group(c.Of)
		switch {
		case !ok:
			return nil, said("invalid group ID given in 'canonical_id'")
		case !g.External:
			return nil, said("alias can't be set on an internal group")
		}
		a.Of = c.Of
		if other, ok := p.GroupAliasOf(c.Of); ok && other.ID != c.ID { // a group has one
			return []*document.Change{removal(spaceGroupAlias, aliasKey(other.Accessor, other.Name), p.groupAliasVersion(other))}, nil
		}
		return nil, nil
	}
	if a.Of != "" {
		return nil, nil
	}
	g := Group{ID: newID(), External: true, Created: now()}
	g.Updated, g.Name, a.Of = g.Created, "group_"+g.ID[:8], g.ID
	put, err := change(spaceGroup, g.ID, 0, &g)
	if err != nil {
		return nil, err
	}
	name, err := change(spaceGroupName, nameKey(g.Name), 0, g.ID)
	return []*document.Change{put, name}, err
}

// DeleteGroupAlias forgets what a group is called at a mount; one that is not there is no error.
func (p *People) DeleteGroupAlias(ctx context.Context, id string) error {
	a, ok := p.GroupAlias(id)
	if !ok {
		return nil
	}
	return p.put(ctx, removal(spaceGroupAlias, aliasKey(a.Accessor, a.Name), p.groupAliasVersion(a)))
}
