package identity

import (
	"slices"
	"strings"
)

// DefaultPolicy is the policy that every identity has.
const DefaultPolicy = "default"

// Directory says who is known and which policies each has. It is immutable.
type Directory struct {
	byAccessID  map[string]*entry
	byName      map[string]*entry
	byLowerName map[string]*entry
	byEntityID  map[string]*entry
	byAlias     map[DeclaredAlias]*entry
	binds       []boundRole
}

type entry struct {
	identity Identity
	policies []string
	entityID string
}

// boundRole is a role that a login may have through what it proved.
type boundRole struct {
	bind     Bind
	policies []string
}

// NewDirectory binds identities to policies: those of the roles that an identity names, of the roles that name it, and
// DefaultPolicy. A role that is not there binds nothing.
func NewDirectory(identities []Identity, roles []Role) *Directory {
	n := len(identities)
	d := &Directory{
		byAccessID: make(map[string]*entry, n), byName: make(map[string]*entry, n), byLowerName: make(map[string]*entry, n),
		byEntityID: make(map[string]*entry, n), byAlias: make(map[DeclaredAlias]*entry),
	}
	byName := make(map[string]*Role, len(roles))
	named := make(map[string][]string)
	for i := range roles {
		byName[roles[i].Name] = &roles[i]
		for _, who := range roles[i].Identities {
			named[who] = append(named[who], roles[i].Name)
		}
		for _, b := range roles[i].Binds {
			d.binds = append(d.binds, boundRole{b, roles[i].Policies})
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
		e := &entry{identity: id, policies: slices.Compact(policies), entityID: EntityIDOf(id.AccessID)}
		d.byAccessID[id.AccessID], d.byName[id.Name], d.byLowerName[strings.ToLower(id.Name)], d.byEntityID[e.entityID] = e, e, e, e
		for _, a := range id.Aliases {
			d.byAlias[DeclaredAlias{Mount: a.Mount, Name: strings.ToLower(a.Name)}] = e
		}
	}
	return d
}

// aliased finds whom a name at an auth mount stands for.
func (d *Directory) aliased(mountPath, name string) *entry {
	return d.byAlias[DeclaredAlias{Mount: mountName(mountPath), Name: strings.ToLower(name)}]
}

// mountName is an auth mount's path as files have it: "auth/userpass/" is "userpass".
func mountName(path string) string {
	return strings.TrimSuffix(strings.TrimPrefix(path, "auth/"), "/")
}

// aliasesOf lists the declared aliases of an entity.
func (d *Directory) aliasesOf(entityID string) []Alias {
	e := d.byEntityID[entityID]
	if e == nil {
		return nil
	}
	var out []Alias
	for _, a := range e.identity.Aliases {
		out = append(out, Alias{
			ID: idFrom("alias|" + a.Mount + "|" + a.Name), Of: entityID, Name: a.Name, Path: "auth/" + a.Mount + "/", Declared: true,
		})
	}
	return out
}

// bound lists the policies of the roles that a login at a mount has through its claims.
func (d *Directory) bound(mountPath string, claims map[string]string) []string {
	var out []string
	for _, b := range d.binds {
		if matches(&b.bind, mountPath, claims) {
			out = append(out, b.policies...)
		}
	}
	return out
}

// matches says whether every claim that is bound has one of the values that it may have.
func matches(b *Bind, mountPath string, claims map[string]string) bool {
	if b.Mount != mountName(mountPath) || len(b.Claims) == 0 {
		return false
	}
	for name, values := range b.Claims {
		if v, ok := claims[name]; !ok || !slices.Contains(values, v) {
			return false
		}
	}
	return true
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
