package identity

import "slices"

// DefaultPolicy is the policy that every identity has.
const DefaultPolicy = "default"

// Directory says who is known and which policies each has. It is immutable.
type Directory struct {
	byAccessID map[string]*entry
	byName     map[string]*entry
}

type entry struct {
	identity Identity
	policies []string
}

// NewDirectory binds identities to policies: those of the roles that an identity names, of the roles that name it, and
// DefaultPolicy. A role that is not there binds nothing.
func NewDirectory(identities []Identity, roles []Role) *Directory {
	d := &Directory{byAccessID: make(map[string]*entry, len(identities)), byName: make(map[string]*entry, len(identities))}
	byName := make(map[string]*Role, len(roles))
	named := make(map[string][]string)
	for i := range roles {
		byName[roles[i].Name] = &roles[i]
		for _, who := range roles[i].Identities {
			named[who] = append(named[who], roles[i].Name)
		}
	}
	for _, id := range identities {
		policies := []string{DefaultPolicy}
		for _, name := range append(slices.Clone(id.Roles), named[id.Name]...) {
			if role := byName[name]; role != nil {
				policies = append(policies, role.Policies...)
			}
		}
		slices.Sort(policies)
		e := &entry{identity: id, policies: slices.Compact(policies)}
		d.byAccessID[id.AccessID], d.byName[id.Name] = e, e
	}
	return d
}

// Identity finds one by name.
func (d *Directory) Identity(name string) (Identity, bool) {
	e, ok := d.byName[name]
	if !ok {
		return Identity{}, false
	}
	return e.identity, true
}

// Policies lists what an identity has, sorted; nil where it is not known.
func (d *Directory) Policies(name string) []string {
	if e, ok := d.byName[name]; ok {
		return e.policies
	}
	return nil
}
