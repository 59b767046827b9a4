package identity

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/document"
)

// People are the entities with their aliases, and the groups. It is safe for concurrent use; what it learns counts at once.
type People struct {
	mirror *mirror
	dir    func() *Directory

	gen     atomic.Uint64 // changes with every change
	editing sync.Mutex    // held by whoever changes what people have set up

	mu           sync.RWMutex // guards what follows; the values pointed to never change
	entities     map[string]*kept[Entity]
	names        map[string]string // lower-case name → id
	mergedInto   map[string]string // id of one that is no more → id
	aliases      map[string]*kept[Alias]
	aliasOf      map[string][]string // id of the entity → keys of its aliases, sorted
	groups       map[string]*kept[Group]
	groupAliases map[string]*kept[Alias]
	memberOf     map[string][]string // id of an entity or group → ids of the groups that list it
	touched      map[string]uint64   // id of an entity → the gen of its last change
	regrouped    uint64              // the gen of the last change of any group
}

// kept is a value with its document's version and seq.
type kept[T any] struct {
	value        T
	version, seq int64
}

func newPeople(dir func() *Directory) *People {
	return &People{
		dir: dir, entities: map[string]*kept[Entity]{}, names: map[string]string{}, mergedInto: map[string]string{}, aliases: map[string]*kept[Alias]{},
		aliasOf: map[string][]string{}, groups: map[string]*kept[Group]{}, groupAliases: map[string]*kept[Alias]{},
		memberOf: map[string][]string{}, touched: map[string]uint64{},
	}
}

// takers keep the spaces of documents in memory.
func (p *People) takers() map[string]taker {
	return map[string]taker{
		spaceEntity: &space[Entity]{p, p.entities, p.entityChanged}, spaceAlias: &space[Alias]{p, p.aliases, p.aliasChanged},
		spaceGroup: &space[Group]{p, p.groups, p.groupChanged}, spaceGroupAlias: &space[Alias]{p, p.groupAliases, p.groupAliasChanged},
		spaceEntityName: nothing{}, spaceGroupName: nothing{},
	}
}

// nothing is the taker of documents that only keep a name taken.
type nothing struct{}

func (nothing) take(*document.Document) error { return nil }
func (nothing) keep(map[string]bool, int64)   {}

// space keeps the documents of one kind.
type space[T any] struct {
	p       *People
	all     map[string]*kept[T]
	changed func(key string, old, now *T) // p.mu is held; nil where there is none
}

func (s *space[T]) take(d *document.Document) error {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	old := s.all[d.Key]
	if old != nil && old.seq >= d.Seq || old == nil && d.Deleted {
		return nil
	}
	if d.Deleted {
		s.drop(d.Key, old)
		return nil
	}
	next := &kept[T]{version: d.Version, seq: d.Seq}
	if err := json.Unmarshal(d.Body, &next.value); err != nil {
		return fmt.Errorf("a document in %q can't be read: %w", d.Space, err)
	}
	var before *T
	if old != nil {
		before = &old.value
	}
	s.all[d.Key] = next
	s.p.gen.Add(1)
	s.changed(d.Key, before, &next.value)
	return nil
}

func (s *space[T]) drop(key string, old *kept[T]) {
	delete(s.all, key)
	s.p.gen.Add(1)
	s.changed(key, &old.value, nil)
}

func (s *space[T]) keep(keys map[string]bool, seq int64) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	for key, k := range s.all {
		if !keys[key] && k.seq <= seq {
			s.drop(key, k)
		}
	}
}

func (p *People) entityChanged(id string, old, now *Entity) {
	if old != nil && p.names[nameKey(old.Name)] == id {
		delete(p.names, nameKey(old.Name))
	}
	if now != nil {
		p.names[nameKey(now.Name)] = id
		for _, from := range now.Merged {
			p.mergedInto[from] = id
		}
	}
	p.touch(id, now != nil)
}

func (p *People) touch(id string, there bool) {
	if there {
		p.touched[id] = p.gen.Load()
	} else {
		delete(p.touched, id)
	}
}

func (p *People) aliasChanged(key string, old, now *Alias) {
	if old != nil {
		p.aliasOf[old.Of] = slices.DeleteFunc(slices.Clone(p.aliasOf[old.Of]), func(k string) bool { return k == key })
		if len(p.aliasOf[old.Of]) == 0 {
			delete(p.aliasOf, old.Of)
		}
		p.touch(old.Of, p.entities[old.Of] != nil)
	}
	if now != nil {
		p.aliasOf[now.Of] = append(slices.Clone(p.aliasOf[now.Of]), key)
		slices.Sort(p.aliasOf[now.Of])
		p.touch(now.Of, true)
	}
}

func (p *People) groupChanged(id string, old, now *Group) {
	move := func(g *Group, change func(member string)) {
		if g != nil {
			for _, m := range g.Entities {
				change(m)
			}
			for _, m := range g.Groups {
				change(m)
			}
		}
	}
	move(old, func(m string) {
		p.memberOf[m] = slices.DeleteFunc(slices.Clone(p.memberOf[m]), func(g string) bool { return g == id })
		if len(p.memberOf[m]) == 0 {
			delete(p.memberOf, m)
		}
	})
	move(now, func(m string) { p.memberOf[m] = append(slices.Clone(p.memberOf[m]), id) })
	p.regrouped = p.gen.Load()
}

func (p *People) groupAliasChanged(string, *Alias, *Alias) { p.regrouped = p.gen.Load() }

// Entity finds one by id, also a declared one, and the one that it was merged into.
func (p *People) Entity(id string) (Entity, bool) {
	if e := p.dir().byEntityID[id]; e != nil {
		return p.declared(e), true
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	if k := p.entities[id]; k != nil {
		return k.value, true
	}
	if k := p.entities[p.mergedInto[id]]; k != nil {
		return k.value, true
	}
	return Entity{}, false
}

// EntityNamed finds one by name, whatever its case.
func (p *People) EntityNamed(name string) (Entity, bool) {
	if e := p.dir().byLowerName[strings.ToLower(name)]; e != nil {
		return p.declared(e), true
	}
	p.mu.RLock()
	id := p.names[nameKey(name)]
	p.mu.RUnlock()
	return p.Entity(id)
}

// declared is a declared identity as an entity.
func (p *People) declared(e *entry) Entity {
	return Entity{ID: e.entityID, Name: e.identity.Name, Policies: e.policies, Metadata: e.identity.Metadata, Disabled: e.identity.Disabled, Declared: true}
}

// Entities lists the ids of all, sorted: the declared ones too.
func (p *People) Entities() []string {
	ids := slices.Collect(maps.Keys(p.dir().byEntityID))
	p.mu.RLock()
	defer p.mu.RUnlock()
	for id := range p.entities {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// AliasesOf lists an entity's aliases.
func (p *People) AliasesOf(id string) []Alias {
	out := p.dir().aliasesOf(id)
	p.mu.RLock()
	defer p.mu.RUnlock()
	for _, key := range p.aliasOf[id] {
		out = append(out, p.aliases[key].value)
	}
	return out
}

// Alias finds one by id.
func (p *People) Alias(id string) (Alias, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for _, k := range p.aliases {
		if k.value.ID == id {
			return k.value, true
		}
	}
	return Alias{}, false
}

// AliasNamed finds the alias of that name at a mount.
func (p *People) AliasNamed(accessor, name string) (Alias, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if k := p.aliases[aliasKey(accessor, name)]; k != nil {
		return k.value, true
	}
	return Alias{}, false
}

// Aliases lists the ids of all that aren't declared, sorted.
func (p *People) Aliases() []string { return p.idsOf(p.aliases) }

// GroupAliases lists the ids of what groups are called at mounts, sorted.
func (p *People) GroupAliases() []string { return p.idsOf(p.groupAliases) }

func (p *People) idsOf(all map[string]*kept[Alias]) []string {
	p.mu.RLock()
	defer p.mu.RUnlock()
	ids := make([]string, 0, len(all))
	for _, k := range all {
		ids = append(ids, k.value.ID)
	}
	slices.Sort(ids)
	return ids
}

// EntityVersion changes whenever an entity does, its aliases, or any group.
func (p *People) EntityVersion(id string) uint64 {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return max(p.touched[id], p.regrouped)
}

// now is the time as it is kept.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

// change is a document's change with value as its body; the keys are name, value, name, value.
func change(space, key string, version int64, value any, keys ...string) (*document.Change, error) {
	body, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	c := &document.Change{Document: document.Document{Space: space, Key: key, Version: version, Body: body}}
	if len(keys) > 0 {
		c.Keys = map[string]string{}
	}
	for i := 0; i+1 < len(keys); i += 2 {
		if keys[i+1] != "" {
			c.Keys[keys[i]] = keys[i+1]
		}
	}
	return c, nil
}

// removal is a document's removal.
func removal(space, key string, version int64) *document.Change {
	return &document.Change{Document: document.Document{Space: space, Key: key, Version: version}, Remove: true}
}

// write does all changes or none; ErrConflict where somebody else was quicker.
func (p *People) write(ctx context.Context, changes ...*document.Change) error {
	return p.mirror.write(ctx, changes...)
}
