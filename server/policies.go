package server

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/policy"
)

// maxPersonal is how many compiled sets of single callers are kept.
const maxPersonal = 20_000

// policies are the parsed policies of one live, and what was compiled of them so far. It is safe for concurrent use.
type policies struct {
	byName   map[string]*policy.Policy
	texts    map[string]string // of those that were written
	subjects subjects          // nil: templates know what a caller itself says
	index    func() *policy.Index

	mu       sync.RWMutex
	sets     map[string]*policy.Set // by the names of the policies
	personal map[string]*policy.ACL // where templates count: also by whose they are
}

// subjects knows what templates can name of a caller.
type subjects interface {
	// Subject is an entity with its aliases and groups; nil where there is none.
	Subject(who *identity.Caller) *policy.Subject
	// EntityVersion changes whenever what Subject says of an entity does.
	EntityVersion(entityID string) uint64
}

// parsePolicies parses what old has not parsed already; nil: nothing has.
func parsePolicies(list []versionedPolicy, old *policies) (*policies, error) {
	out := &policies{byName: make(map[string]*policy.Policy, len(list)+2), texts: make(map[string]string, len(list)), sets: make(map[string]*policy.Set), personal: make(map[string]*policy.ACL)}
	builtin, err := policy.Parse(identity.DefaultPolicy, 0, policy.Default)
	if err != nil {
		return nil, fmt.Errorf("the built-in policy: %w", err)
	}
	out.byName[identity.DefaultPolicy] = builtin
	if out.byName[policy.Root], err = policy.Parse(policy.Root, 0, ""); err != nil {
		return nil, fmt.Errorf("the built-in policy: %w", err)
	}
	for _, p := range list {
		parsed, err := old.parse(p)
		if err != nil {
			return nil, err
		}
		out.byName[p.Name], out.texts[p.Name] = parsed, p.Rules
	}
	out.index = sync.OnceValue(func() *policy.Index {
		return policy.NewIndex(slices.Collect(maps.Values(out.byName)))
	})
	return out, nil
}

// parse parses a policy, or finds it among those that were parsed before.
func (p *policies) parse(v versionedPolicy) (*policy.Policy, error) {
	if p != nil && p.texts[v.Name] == v.Rules {
		if x := p.byName[v.Name]; x != nil && x.Version() == v.version {
			return x, nil
		}
	}
	return policy.Parse(v.Name, v.version, v.Rules)
}

// acl finds what a caller's policies come to. Where that is known already nothing is allocated.
func (p *policies) acl(who *identity.Caller) *policy.ACL {
	var buf [512]byte
	key := binary.LittleEndian.AppendUint32(buf[:0], uint32(len(who.Policies))) //nolint:gosec // nobody has so many
	for _, n := range who.Policies {
		key = append(append(key, n...), 0)
	}
	names := len(key)
	key = append(append(key, who.EntityID...), 0)
	if p.subjects != nil {
		key = binary.LittleEndian.AppendUint64(key, p.subjects.EntityVersion(who.EntityID))
	}
	key = append(key, who.Name...)
	p.mu.RLock()
	set := p.sets[string(key[:names])]
	acl := p.personal[string(key)]
	p.mu.RUnlock()
	switch {
	case acl != nil:
		return acl
	case set != nil && !set.Templated():
		return set.For(nil)
	}
	return p.compile(who, string(key[:names]), string(key))
}

func (p *policies) compile(who *identity.Caller, names, key string) *policy.ACL {
	p.mu.RLock()
	set := p.sets[names]
	p.mu.RUnlock()
	if set == nil {
		set = policy.NewSet(p.list(who.Policies)...)
	}
	var acl *policy.ACL
	if set.Templated() {
		acl = set.For(p.subject(who))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sets[names] = set
	if acl == nil {
		return set.For(nil)
	}
	if len(p.personal) >= maxPersonal {
		clear(p.personal)
	}
	p.personal[key] = acl
	return acl
}

// list finds policies by name; one that is not there grants nothing.
func (p *policies) list(names []string) []*policy.Policy {
	out := make([]*policy.Policy, 0, len(names))
	for _, n := range names {
		if x := p.byName[n]; x != nil {
			out = append(out, x)
		}
	}
	return out
}

func (p *policies) subject(who *identity.Caller) *policy.Subject {
	if p.subjects != nil {
		return p.subjects.Subject(who)
	}
	return &policy.Subject{ID: who.EntityID, Name: who.Name, Metadata: who.Metadata}
}
