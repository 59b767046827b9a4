package object

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Hooks are judgements that need packages which this one must not import. A nil hook judges nothing.
type Hooks struct {
	Policy   func(name, rules string) error            // parses a policy's text
	Producer func(p Producer, targetType string) error // validates what only a producer's type knows
	Target   func(t Target) error                      // the same of a target
}

// Check judges a whole set of objects: each by itself, then every reference between them, then that no mount lies in another.
// It reports all it finds: *Problem, joined by errors.Join.
func Check(records []Record) error { return CheckWith(records, Hooks{}) }

// CheckWith is Check with more judgement.
func CheckWith(records []Record, h Hooks) error {
	s := newSet()
	for _, rec := range records {
		s.add(rec)
	}
	for _, rec := range s.records {
		s.references(rec, s.decoded[keyOf(rec)])
		s.hooks(rec, s.decoded[keyOf(rec)], h)
	}
	s.nested()
	return errors.Join(s.problems...)
}

// CheckRecord judges one object by itself, as far as that is possible.
func CheckRecord(rec Record) error {
	s := newSet()
	s.add(rec)
	return errors.Join(s.problems...)
}

type key struct {
	kind Kind
	name string
}

func keyOf(rec Record) key { return key{rec.Kind, rec.Name} }

// set is a set of objects under judgement.
type set struct {
	records   []Record // those that could be decoded
	decoded   map[key]any
	seen      map[key]bool
	accessIDs map[string]string
	accounts  map[[2]string]string // target and username of a static role → its name
	problems  []error
}

func newSet() *set {
	return &set{decoded: map[key]any{}, seen: map[key]bool{}, accessIDs: map[string]string{}, accounts: map[[2]string]string{}}
}

func (s *set) add(rec Record) {
	k := keyOf(rec)
	if s.seen[k] {
		s.bad(rec, "", "it is there twice", "leave one of the two out")
		return
	}
	s.seen[k] = true
	v, err := Decode(rec)
	if err != nil {
		s.problems = append(s.problems, err)
		return
	}
	s.records = append(s.records, rec)
	s.decoded[k] = v
	c := &checker{rec: rec}
	switch v := v.(type) {
	case *Target:
		c.target(v)
	case *Mount:
		c.mount(v)
	case *Producer:
		c.producer(v)
	case *StaticRole:
		c.staticRole(v)
	case *Connector:
		c.connector(v)
	case *Policy:
		c.policy(v)
	case *Role:
		c.role(v)
	case *Identity:
		c.identity(v)
	case *Notify:
		c.notify(v)
	}
	s.problems = append(s.problems, c.problems...)
}

// references judges what an object says of others.
func (s *set) references(rec Record, v any) {
	switch v := v.(type) {
	case *Target:
		if m := s.mountOf(rec, v.Mount); m != nil && m.Type != MountBroker {
			s.bad(rec, "mount", fmt.Sprintf("mount %q is of type %s", v.Mount, m.Type), `a target belongs to a mount of type "broker"`)
		}
	case *Mount:
		if v.Type == MountVault && v.Target != "" {
			s.targetOf(rec, v.Target, func(t *Target) bool { return t.Type == TargetVault }, "a mount passes on to a target of type vault")
		}
	case *Producer:
		s.producer(rec, v)
	case *StaticRole:
		s.staticRole(rec, v)
	case *Connector:
		s.connector(rec, v)
	case *Role:
		for _, name := range v.Policies {
			if name != PolicyDefault && name != PolicyRoot {
				s.known(rec, "policies", KindPolicy, name)
			}
		}
		for _, name := range v.Identities {
			s.known(rec, "identities", KindIdentity, name)
		}
	case *Identity:
		for _, name := range v.Roles {
			s.known(rec, "roles", KindRole, name)
		}
		if other, ok := s.accessIDs[v.AccessID]; ok && v.AccessID != "" {
			s.bad(rec, "access_id", fmt.Sprintf("identity %q has the same", other), "leave it out: Bailiff chooses one")
		}
		s.accessIDs[v.AccessID] = v.Name
	}
}

func (s *set) staticRole(rec Record, r *StaticRole) {
	if m := s.mountOf(rec, r.Mount); m != nil && m.Type != MountBroker {
		s.bad(rec, "mount", fmt.Sprintf("mount %q is of type %s", r.Mount, m.Type), `static roles live under a mount of type "broker"`)
	}
	if r.Target == "" {
		return
	}
	s.targetOf(rec, r.Target, func(t *Target) bool { return t.Type != TargetVault }, "an account stays on a target of type postgres")
	s.belongs(rec, r.Target, r.Mount)
	if t, ok := s.decoded[key{KindTarget, r.Target}].(*Target); ok && r.Username != "" && t.Username == r.Username {
		s.bad(rec, "username", fmt.Sprintf("as %q Bailiff itself works on target %q", r.Username, r.Target), "its password is changed with rotate-root")
	}
	account := [2]string{r.Target, r.Username}
	if other, ok := s.accounts[account]; ok {
		s.bad(rec, "username", fmt.Sprintf("static role %q has the same account", other), "leave one of the two out")
	}
	s.accounts[account] = rec.Name
}

func (s *set) producer(rec Record, p *Producer) {
	if m := s.mountOf(rec, p.Mount); m != nil {
		if m.Type != MountBroker {
			s.bad(rec, "mount", fmt.Sprintf("mount %q is of type %s", p.Mount, m.Type), `producers live under a mount of type "broker"`)
		}
		if p.MaxTTL == 0 && m.MaxTTL > 0 && p.DefaultTTL > m.MaxTTL {
			s.bad(rec, "default_ttl", fmt.Sprintf("it is longer than the mount's max_ttl, %s", m.MaxTTL), "make it shorter")
		}
	}
	if p.Target != "" {
		s.targetOf(rec, p.Target, func(t *Target) bool { return t.Type != TargetVault }, "credentials are made on a target of type postgres")
		s.belongs(rec, p.Target, p.Mount)
	}
}

// belongs refuses a role on a target that belongs to another mount.
func (s *set) belongs(rec Record, target, mount string) {
	if t, ok := s.decoded[key{KindTarget, target}].(*Target); ok && t.Mount != "" && t.Mount != mount {
		s.bad(rec, "target", fmt.Sprintf("target %q belongs to mount %q", target, t.Mount), "declare another target for this mount")
	}
}

func (s *set) connector(rec Record, c *Connector) {
	if c.Target != "" {
		s.targetOf(rec, c.Target, func(t *Target) bool { return t.Type == TargetVault }, "a connector's target is of type vault")
	}
	if c.Mount == "" {
		return
	}
	if m := s.mountOf(rec, c.Mount); m != nil && !m.mayBeKV() {
		s.bad(rec, "mount", fmt.Sprintf("mount %q is no KV mount", c.Mount), "name a mount of type vault whose engine is kv")
	}
}

func (m *Mount) mayBeKV() bool {
	return m.Type == MountVault && (m.Engine == "" || m.Engine == "kv" || m.Engine == "generic")
}

func (s *set) hooks(rec Record, v any, h Hooks) {
	var err error
	field := ""
	switch v := v.(type) {
	case *Policy:
		if h.Policy != nil && v.Rules != "" {
			field, err = "rules", h.Policy(v.Name, v.Rules)
		}
	case *Producer:
		if t, ok := s.decoded[key{KindTarget, v.Target}].(*Target); ok && h.Producer != nil && t.Type != TargetVault {
			err = h.Producer(*v, t.Type)
		}
	case *Target:
		if h.Target != nil {
			err = h.Target(*v)
		}
	}
	if err != nil {
		s.bad(rec, field, err.Error(), "")
	}
}

// nested refuses mounts that lie inside another. Sorted with their slash, a mount stands right before what lies in it.
func (s *set) nested() {
	var mounts []Record
	for _, rec := range s.records {
		if rec.Kind == KindMount {
			mounts = append(mounts, rec)
		}
	}
	slices.SortFunc(mounts, func(a, b Record) int { return cmp.Compare(a.Name+"/", b.Name+"/") })
	outer := ""
	for _, rec := range mounts {
		if outer != "" && strings.HasPrefix(rec.Name+"/", outer+"/") {
			s.bad(rec, "path", fmt.Sprintf("it lies inside mount %q", outer), "give it a path of its own")
			continue
		}
		outer = rec.Name
	}
}

func (s *set) targetOf(rec Record, name string, fits func(*Target) bool, hint string) {
	if !s.known(rec, "target", KindTarget, name) {
		return
	}
	if t, ok := s.decoded[key{KindTarget, name}].(*Target); ok && t.Type != "" && !fits(t) {
		s.bad(rec, "target", fmt.Sprintf("target %q is of type %s", name, t.Type), hint)
	}
}

func (s *set) mountOf(rec Record, path string) *Mount {
	if path == "" || !s.known(rec, "mount", KindMount, path) {
		return nil
	}
	m, _ := s.decoded[key{KindMount, path}].(*Mount)
	return m
}

// known reports whether an object is there, also one that is wrong in itself.
func (s *set) known(rec Record, field string, kind Kind, name string) bool {
	if s.seen[key{kind, name}] {
		return true
	}
	s.bad(rec, field, fmt.Sprintf("there is no %s %q", kind, name), "declare it, or correct the name")
	return false
}

func (s *set) bad(rec Record, field, msg, hint string) {
	s.problems = append(s.problems, problem(rec, field, msg, hint))
}
