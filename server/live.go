package server

import (
	"fmt"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/producers"
	"github.com/bailiff-secrets/bailiff/rotation"
	"github.com/bailiff-secrets/bailiff/usc"
)

// set is every object, decoded.
type set struct {
	records    []object.Record
	targets    []versioned
	mounts     []object.Mount
	producers  []object.Producer
	statics    []object.StaticRole
	connectors []object.Connector
	policies   []versionedPolicy
	roles      []identity.Role
	identities []identity.Identity
	notifies   []object.Notify
}

type versioned struct {
	object.Target
	version int64
}

type versionedPolicy struct {
	object.Policy
	version int64
}

func decodeAll(records []object.Record) (*set, error) {
	s := &set{records: records}
	for _, r := range records {
		v, err := object.Decode(r)
		if err != nil {
			return nil, err
		}
		switch o := v.(type) {
		case *object.Target:
			s.targets = append(s.targets, versioned{*o, r.Version})
		case *object.Mount:
			s.mounts = append(s.mounts, *o)
		case *object.Producer:
			s.producers = append(s.producers, *o)
		case *object.StaticRole:
			s.statics = append(s.statics, *o)
		case *object.Connector:
			s.connectors = append(s.connectors, *o)
		case *object.Policy:
			s.policies = append(s.policies, versionedPolicy{*o, r.Version})
		case *object.Role:
			s.roles = append(s.roles, identity.Role(*o))
		case *object.Identity:
			s.identities = append(s.identities, identity.Identity(*o))
		case *object.Notify:
			s.notifies = append(s.notifies, *o)
		default:
			return nil, fmt.Errorf("object %s %q is of a kind that this version does not know", r.Kind, r.Name)
		}
	}
	return s, nil
}

// live is everything that requests need, as one apply left it. It is immutable.
type live struct {
	set        *set
	mounts     *gate.Mounts
	policies   *policies
	connectors map[string]usc.Connector
	roles      map[string]map[string]broker.Role // mount with its slash → name → role
	statics    map[string]rotation.Role          // by path
}

// build makes the next live. It starts new targets, which connect to nothing until they are asked.
func (e *estate) build(s *set) (*live, error) {
	if err := e.targets.ensure(s.targets); err != nil {
		return nil, err
	}
	l := &live{set: s, connectors: make(map[string]usc.Connector), roles: make(map[string]map[string]broker.Role), statics: make(map[string]rotation.Role)}
	var err error
	if l.policies, err = parsePolicies(s.policies, e.parsed()); err != nil {
		return nil, err
	}
	l.policies.subjects = people{e.tokens.People()}
	mounts := append(e.auth.Mounts(), e.internal...)
	for _, m := range s.mounts {
		g, err := e.mount(m, s)
		if err != nil {
			return nil, err
		}
		mounts = append(mounts, g)
	}
	if l.mounts, err = gate.NewMounts(mounts); err != nil {
		return nil, err
	}
	for _, c := range s.connectors {
		l.connectors[c.Name] = connect(c, s.mounts)
	}
	for _, r := range s.statics {
		l.statics[r.Mount+"/"+r.Name] = staticRole(r)
	}
	for _, p := range s.producers {
		role, err := roleOf(p, s.targets)
		if err != nil {
			return nil, err
		}
		if l.roles[role.Mount] == nil {
			l.roles[role.Mount] = make(map[string]broker.Role)
		}
		l.roles[role.Mount][role.Name] = role
	}
	return l, nil
}

// engineOf is what a broker mount is called among secrets engines: as its producers' type says, where it has one with a say.
func engineOf(mount string, s *set) string {
	for _, p := range s.producers {
		if p.Mount != mount {
			continue
		}
		for _, t := range s.targets {
			if engine := producers.Types[t.Type].Shape.Engine; t.Name == p.Target && engine != "" {
				return engine
			}
		}
	}
	return "database"
}

func (e *estate) mount(m object.Mount, s *set) (*gate.Mount, error) {
	g := &gate.Mount{
		Path: m.Path + "/", Type: m.Engine, Target: m.Target, Description: m.Description,
		Accessor: stableID(m.Engine+"_", m.Path), UUID: stableUUID(m.Path),
		DefaultTTL: time.Duration(m.DefaultTTL), MaxTTL: time.Duration(m.MaxTTL),
		MaxLeases: m.MaxLeases, IssueRate: m.IssueRate, Outlive: m.Children == "outlive",
	}
	if m.Type == "broker" {
		if g.Type == "" {
			g.Type = engineOf(m.Path, s)
			g.Accessor = stableID("database_", m.Path)
		}
		g.Backend = e.engine
		return g, nil
	}
	if m.KVVersion > 0 {
		g.Options = map[string]string{"version": fmt.Sprint(m.KVVersion)}
	}
	t := e.targets.find(m.Target)
	if t == nil || t.vault == nil {
		return nil, fmt.Errorf("mount %q: target %q is not a Vault", m.Path, m.Target)
	}
	g.Backend = t.vault.Mount(remotePath(m), m.KVVersion)
	return g, nil
}

func remotePath(m object.Mount) string {
	if m.RemotePath != "" {
		return m.RemotePath
	}
	return m.Path
}

// connect finds the mounts that a connector reaches.
func connect(c object.Connector, mounts []object.Mount) usc.Connector {
	out := usc.Connector{Name: c.Name, Target: c.Target, Description: c.Description}
	for _, m := range mounts {
		switch {
		case m.KVVersion == 0:
		case c.Mount == m.Path:
			out.Mounts = append(out.Mounts, usc.Mount{Path: m.Path, KVVersion: m.KVVersion})
		case c.Target != "" && c.Target == m.Target:
			out.Mounts = append(out.Mounts, usc.Mount{Path: m.Path, Prefix: remotePath(m) + "/", KVVersion: m.KVVersion})
		}
	}
	return out
}

func roleOf(p object.Producer, targets []versioned) (broker.Role, error) {
	kind, targetMax := "", time.Duration(0)
	for _, t := range targets {
		if t.Name == p.Target {
			kind, targetMax = t.Type, time.Duration(t.MaxTTL)
		}
	}
	factory, ok := producers.Types[kind]
	if !ok {
		return broker.Role{}, fmt.Errorf("producer %q: no producer for targets of type %q", p.Mount+"/"+p.Name, kind)
	}
	config, err := factory.Role(p)
	if err != nil {
		return broker.Role{}, fmt.Errorf("producer %q: %w", p.Mount+"/"+p.Name, err)
	}
	return broker.Role{
		Mount: p.Mount + "/", Name: p.Name, Target: p.Target, Config: config, Shape: factory.Shape,
		DefaultTTL: time.Duration(p.DefaultTTL), MaxTTL: time.Duration(p.MaxTTL), TargetMaxTTL: targetMax,
		MaxLeases: p.MaxLeases, IssueRate: p.IssueRate, Share: p.Share, PoolSize: p.PoolSize, PoolMaxAge: time.Duration(p.PoolMaxAge),
		ReadyTimeout: time.Duration(p.ReadyTimeout),
	}, nil
}
