package identity

import "slices"

// madeCaller is a Caller as it was made of what stood at the time.
type madeCaller struct {
	Caller
	disabled bool
	dir      *Directory
	gen      uint64
}

// callerOf is whom a token stands for, as everything stands now. It is made anew only when something has changed.
func (t *Tokens) callerOf(s *tokenState) *madeCaller {
	dir, gen := t.cfg.Keys.dir.Load(), t.people.gen.Load()
	if c := s.caller.Load(); c != nil && c.dir == dir && c.gen == gen {
		return c
	}
	c := t.makeCaller(s, dir, gen)
	s.caller.Store(c)
	return c
}

func (t *Tokens) makeCaller(s *tokenState, dir *Directory, gen uint64) *madeCaller {
	c := &madeCaller{dir: dir, gen: gen, Caller: Caller{
		Name: s.Owner, AccessID: s.KeyOf, Method: s.method(), Accessor: s.Accessor, Metadata: s.Meta, IssuedAt: s.Created, Expires: s.Expires,
		DisplayName: s.Display, EntityID: s.EntityID, TokenPolicies: s.Policies, Claims: s.Claims, MountPath: s.Mount, AliasName: s.Alias,
	}}
	var own []string
	if e := dir.byEntityID[s.EntityID]; e != nil {
		c.Name, c.AccessID, c.disabled = e.identity.Name, e.identity.AccessID, e.identity.Disabled
		c.MaxLeases, c.IssueRate = e.identity.MaxLeases, e.identity.IssueRate
		if s.Declared {
			c.TokenPolicies = sanitize(append(slices.Clone(e.policies), s.Policies...), false)
		}
	} else if s.EntityID != "" {
		e, ok := t.people.Entity(s.EntityID)
		c.disabled = e.Disabled || !ok
		if ok {
			c.Name, c.EntityID, own = e.Name, e.ID, e.Policies
		}
	} else if e, ok := t.people.EntityNamed(s.Owner); ok {
		c.disabled = e.Disabled // an orphan has no rights of whoever made it, and ends to count with them
	}
	c.Policies = c.TokenPolicies
	if s.EntityID != "" {
		var rights []string
		rights, c.GroupIDs = t.people.rights(c.EntityID, own)
		rights = append(rights, dir.bound(s.Mount, s.Claims)...)
		c.Policies = merge(c.TokenPolicies, rights)
	}
	return c
}

// addGroups gives a caller with an access key what its entity has through groups.
func (t *Tokens) addGroups(c *Caller) {
	p := t.people
	p.mu.RLock()
	_, member := p.memberOf[c.EntityID]
	p.mu.RUnlock()
	if !member {
		return
	}
	rights, groups := p.rights(c.EntityID, nil)
	c.Policies, c.GroupIDs = merge(c.Policies, rights), groups
}

// merge joins lists of policies: sorted, each once. Root stands for all others.
func merge(a, b []string) []string {
	if len(b) == 0 {
		return a
	}
	out := append(slices.Clone(a), b...)
	slices.Sort(out)
	return slices.Compact(out)
}
