package identity

import (
	"maps"
	"slices"
	"strings"
)

// Group finds one by id.
func (p *People) Group(id string) (Group, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if k := p.groups[id]; k != nil {
		return k.value, true
	}
	return Group{}, false
}

// GroupNamed finds one by name, whatever its case.
func (p *People) GroupNamed(name string) (Group, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for _, k := range p.groups {
		if strings.EqualFold(k.value.Name, name) {
			return k.value, true
		}
	}
	return Group{}, false
}

// GroupIDs lists the ids of all, sorted.
func (p *People) GroupIDs() []string {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return slices.Sorted(maps.Keys(p.groups))
}

// GroupAliasOf is what a group is called outside.
func (p *People) GroupAliasOf(id string) (Alias, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for _, k := range p.groupAliases {
		if k.value.Of == id {
			return k.value, true
		}
	}
	return Alias{}, false
}

// GroupAlias finds one by id.
func (p *People) GroupAlias(id string) (Alias, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for _, k := range p.groupAliases {
		if k.value.ID == id {
			return k.value, true
		}
	}
	return Alias{}, false
}

// GroupAliasNamed finds what is called so at a mount.
func (p *People) GroupAliasNamed(accessor, name string) (Alias, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if k := p.groupAliases[aliasKey(accessor, name)]; k != nil {
		return k.value, true
	}
	return Alias{}, false
}

// MembersOf lists the ids of the entities that an external group has through its alias, sorted.
func (p *People) MembersOf(group string) []string {
	p.mu.RLock()
	defer p.mu.RUnlock()
	var ids []string
	for id, k := range p.entities {
		if direct, _ := p.groupsOf(id, k.value.Outside); slices.Contains(direct, group) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// GroupsOf lists the ids of the groups that an entity is in itself, and of those that it is in through other groups, sorted.
func (p *People) GroupsOf(entity string) (direct, inherited []string) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	var outside map[string][]string
	if k := p.entities[entity]; k != nil {
		outside = k.value.Outside
	}
	return p.groupsOf(entity, outside)
}

// ParentsOf lists the ids of the groups that list a group.
func (p *People) ParentsOf(group string) []string {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return slices.Sorted(slices.Values(p.memberOf[group]))
}

// groupsOf needs p.mu.
func (p *People) groupsOf(entity string, outside map[string][]string) (direct, inherited []string) {
	seen := map[string]bool{}
	add := func(list *[]string, id string) {
		if !seen[id] && p.groups[id] != nil {
			seen[id] = true
			*list = append(*list, id)
		}
	}
	for _, id := range p.memberOf[entity] {
		add(&direct, id)
	}
	for accessor, names := range outside {
		for _, name := range names {
			if k := p.groupAliases[aliasKey(accessor, name)]; k != nil {
				add(&direct, k.value.Of)
			}
		}
	}
	for next := direct; len(next) > 0; {
		var above []string
		for _, id := range next {
			for _, parent := range p.memberOf[id] {
				add(&above, parent)
			}
		}
		inherited = append(inherited, above...)
		next = above
	}
	slices.Sort(direct)
	slices.Sort(inherited)
	return direct, inherited
}

// Rights are an entity's policies, its own and those of its groups, and the ids of these, sorted.
func (p *People) Rights(id string) (policies, groups []string) {
	e, ok := p.Entity(id)
	if !ok {
		return nil, nil
	}
	return p.rights(e.ID, e.Policies)
}

// rights are an entity's own policies and those of its groups, and the ids of these, sorted.
func (p *People) rights(entity string, own []string) (policies, groups []string) {
	direct, inherited := p.GroupsOf(entity)
	groups = slices.Concat(direct, inherited)
	policies = lower(own)
	p.mu.RLock()
	defer p.mu.RUnlock()
	for _, id := range groups {
		if k := p.groups[id]; k != nil {
			policies = append(policies, k.value.Policies...)
		}
	}
	slices.Sort(policies)
	slices.Sort(groups)
	return slices.Compact(policies), groups
}
