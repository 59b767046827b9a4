package identity

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/bailiff-secrets/bailiff/internal/document"
)

// Login makes a token, durable on return, for the entity that the alias stands for; a new alias makes a new entity. An error
// is *Said where the client should be told.
func (t *Tokens) Login(ctx context.Context, spec LoginSpec) (NewToken, error) {
	p := &spec.Params
	switch {
	case p.Type == "batch":
		return NewToken{}, said("batch tokens are not made here: set token_type to service")
	case slices.Contains(sanitize(p.Policies, false), rootPolicy):
		return NewToken{}, said("auth methods cannot create root tokens")
	}
	e, err := t.people.Login(ctx, &spec)
	if err != nil {
		return NewToken{}, err
	}
	if e.Disabled {
		return NewToken{}, &Said{Msg: "permission denied", Denied: true}
	}
	rec := tokenRecord{
		Accessor: newAccessor(), EntityID: e.ID, Owner: e.Name, Declared: e.Declared, Path: spec.Path, Display: spec.DisplayName,
		Policies: sanitize(p.Policies, !p.NoDefaultPolicy), Meta: spec.Metadata, CIDRs: p.BoundCIDRs,
		Method: spec.MountType, Mount: spec.MountPath, Accessed: spec.MountAccessor, Alias: spec.Alias, Claims: spec.Claims, By: spec.Role,
		Created: now(), MaxTTL: p.MaxTTL, ExplicitMax: p.ExplicitMaxTTL, Period: p.Period, Renewable: !p.NotRenewable, Uses: p.Uses, Asked: p.TTL,
	}
	if rec.Path == "" {
		rec.Path = spec.MountPath + "login"
	}
	if spec.Identity != "" {
		rec.Key, rec.KeyOf = spec.Metadata["key_id"], spec.Alias
		if k, ok := t.cfg.Keys.key(rec.KeyOf, rec.Key); ok {
			rec.KeyEnds = k.ExpiresAt
		}
	}
	ttl, warnings, err := t.ttl(term{ttl: p.TTL, period: p.Period, max: p.MaxTTL, explicitMax: p.ExplicitMaxTTL, from: rec.Created})
	if err != nil {
		return NewToken{}, err
	}
	rec.TTL, rec.Asked, rec.Expires = ttl, ttl, rec.Created.Add(ttl)
	rec.cutByKey()
	made, err := t.make(ctx, &rec)
	made.Warnings = warnings
	return made, err
}

// attempts is how often a login tries to make an entity while others make some.
const attempts = 8

// Login finds the entity that an alias stands for, or makes it with the alias: of several logins at once one makes it. The
// groups that the outside names count from now on.
func (p *People) Login(ctx context.Context, spec *LoginSpec) (Entity, error) {
	if e := p.loginDeclared(spec); e != nil {
		return *e, nil
	}
	for attempt := range attempts {
		a, ok := p.AliasNamed(spec.MountAccessor, spec.Alias)
		e, there := Entity{}, false
		if ok {
			e, there = p.Entity(a.Of)
		}
		var err error
		switch {
		case there && e.Declared:
			return e, nil
		case there:
			e, err = p.seen(ctx, e, a, spec)
		default:
			e, err = p.enter(ctx, a, spec, attempt)
		}
		if !errors.Is(err, document.ErrConflict) {
			return e, err
		}
		if err := p.look(ctx, aliasKey(spec.MountAccessor, spec.Alias)); err != nil {
			return Entity{}, err
		}
	}
	return Entity{}, errors.New("an entity could not be made: others change the same names all the time")
}

// loginDeclared finds a declared identity: the one that a key is of, or the one that has the alias.
func (p *People) loginDeclared(spec *LoginSpec) *Entity {
	dir := p.dir()
	e := dir.aliased(spec.MountPath, spec.Alias)
	if spec.Identity != "" {
		e = dir.byName[spec.Identity]
	}
	if e == nil {
		return nil
	}
	d := p.declared(e)
	return &d
}

// look reads an alias and its entity again, for what another server has written.
func (p *People) look(ctx context.Context, key string) error {
	if err := p.mirror.refresh(ctx, spaceAlias, key); err != nil {
		if errors.Is(err, document.ErrNotFound) {
			return nil
		}
		return err
	}
	p.mu.RLock()
	k := p.aliases[key]
	p.mu.RUnlock()
	if k == nil {
		return nil
	}
	err := p.mirror.refresh(ctx, spaceEntity, k.value.Of)
	if errors.Is(err, document.ErrNotFound) {
		return nil
	}
	return err
}

// enter makes an entity and its alias in one step. old is an alias whose entity is gone. After the first attempt the name may
// be one that another server has just taken.
func (p *People) enter(ctx context.Context, old Alias, spec *LoginSpec, attempt int) (Entity, error) {
	e := Entity{ID: newID(), Name: p.freeName(spec.DisplayName, spec.MountType+"-"+spec.Alias), Created: now()}
	if e.Updated = e.Created; attempt > 0 {
		e.Name = p.freeName(e.Name + "-" + randomLetters(5)[:4])
	}
	e.Outside = p.outside(nil, spec)
	a := Alias{
		ID: newID(), Of: e.ID, Name: spec.Alias, Accessor: spec.MountAccessor, Path: spec.MountPath, Type: spec.MountType, Metadata: spec.AliasMetadata,
		Created: e.Created, Updated: e.Created,
	}
	changes, err := p.newEntity(&e)
	if err != nil {
		return e, err
	}
	version := int64(0)
	if old.ID != "" {
		version = p.aliasVersion(old)
	}
	c, err := aliasChange(spaceAlias, &a, version)
	if err != nil {
		return e, err
	}
	return e, p.write(ctx, append(changes, c)...)
}

func (p *People) aliasVersion(a Alias) int64 {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if k := p.aliases[aliasKey(a.Accessor, a.Name)]; k != nil {
		return k.version
	}
	return 0
}

// aliasChange is the change of an alias's document.
func aliasChange(space string, a *Alias, version int64) (*document.Change, error) {
	return change(space, aliasKey(a.Accessor, a.Name), version, a, "id", a.ID, "of", a.Of)
}

// newEntity are the changes that make an entity and take its name.
func (p *People) newEntity(e *Entity) ([]*document.Change, error) {
	c, err := change(spaceEntity, e.ID, 0, e)
	if err != nil {
		return nil, err
	}
	name, err := change(spaceEntityName, nameKey(e.Name), 0, e.ID)
	return []*document.Change{c, name}, err
}

// freeName is a name for a new entity: the one that is wanted, or one like it where that is taken.
func (p *People) freeName(names ...string) string {
	name := names[len(names)-1]
	for _, n := range names {
		if n != "" {
			name = n
			break
		}
	}
	if len(name) > maxName {
		name = strings.ToValidUTF8(name[:maxName], "")
	}
	free := name
	for {
		if _, taken := p.EntityNamed(free); !taken {
			return free
		}
		free = name + "-" + randomLetters(5)[:4]
	}
}

// maxName is the longest name of an entity, in bytes.
const maxName = 256

// seen notes what a login says of an entity that is known.
func (p *People) seen(ctx context.Context, e Entity, a Alias, spec *LoginSpec) (Entity, error) {
	var changes []*document.Change
	at := now()
	if !maps.Equal(a.Metadata, spec.AliasMetadata) {
		a.Metadata, a.Updated = spec.AliasMetadata, at
		c, err := aliasChange(spaceAlias, &a, p.aliasVersion(a))
		if err != nil {
			return e, err
		}
		changes = append(changes, c)
	}
	if next := p.outside(e.Outside, spec); !maps.EqualFunc(next, e.Outside, slices.Equal) {
		e.Outside = next
		c, err := change(spaceEntity, e.ID, p.entityVersion(e.ID), &e)
		if err != nil {
			return e, err
		}
		changes = append(changes, c)
	}
	if len(changes) == 0 {
		return e, nil
	}
	if err := p.write(ctx, changes...); err != nil {
		if errors.Is(err, document.ErrConflict) {
			again := p.mirror.refresh(ctx, spaceEntity, e.ID)
			if again != nil && !errors.Is(again, document.ErrNotFound) {
				return e, again
			}
		}
		return e, err
	}
	return e, nil
}

func (p *People) entityVersion(id string) int64 {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if k := p.entities[id]; k != nil {
		return k.version
	}
	return 0
}

// outside is where the outside puts an entity, after a login: only groups that there is a group for.
func (p *People) outside(old map[string][]string, spec *LoginSpec) map[string][]string {
	var names []string
	p.mu.RLock()
	for _, g := range spec.Groups {
		if p.groupAliases[aliasKey(spec.MountAccessor, g)] != nil {
			names = append(names, g)
		}
	}
	p.mu.RUnlock()
	slices.Sort(names)
	names = slices.Compact(names)
	next := maps.Clone(old)
	if len(names) == 0 {
		delete(next, spec.MountAccessor)
		return next
	}
	if next == nil {
		next = map[string][]string{}
	}
	next[spec.MountAccessor] = names
	return next
}
