package engine

import (
	"context"
	"strings"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/object"
)

// scope is what a mount may see: the targets, and which mounts use them.
type scope struct {
	mount   string // without its slash
	targets []target
	users   map[string]map[string]bool // target → mounts with roles on it
	only    bool                       // there is no other broker mount
}

// target is a declared target with its version.
type target struct {
	object.Target
	version int64
}

// look reads what the mount of c may see.
func (e *Engine) look(ctx context.Context, c *call) (*scope, error) {
	s := &scope{mount: c.mount(), users: map[string]map[string]bool{}, only: true}
	for _, kind := range []object.Kind{object.KindTarget, object.KindMount, object.KindProducer, object.KindStaticRole} {
		records, err := e.cfg.Estate.Objects(ctx, kind)
		if err != nil {
			return nil, err
		}
		for _, rec := range records {
			v, err := object.Decode(rec)
			if err != nil {
				return nil, err
			}
			s.add(v, rec.Version)
		}
	}
	return s, nil
}

func (s *scope) add(v any, version int64) {
	switch o := v.(type) {
	case *object.Target:
		s.targets = append(s.targets, target{*o, version})
	case *object.Mount:
		s.only = s.only && (o.Type != object.MountBroker || o.Path == s.mount)
	case *object.Producer:
		s.use(o.Target, o.Mount)
	case *object.StaticRole:
		s.use(o.Target, o.Mount)
	}
}

func (s *scope) use(target, mount string) {
	if s.users[target] == nil {
		s.users[target] = map[string]bool{}
	}
	s.users[target][mount] = true
}

// sees reports whether the mount may use a target.
func (s *scope) sees(t target) bool {
	switch {
	case t.Type == object.TargetVault:
		return false
	case t.Mount != "":
		return t.Mount == s.mount
	}
	return s.only || s.users[t.Name][s.mount]
}

// find finds a target that the mount may use.
func (s *scope) find(name string) (target, bool) {
	for _, t := range s.targets {
		if t.Name == name && s.sees(t) {
			return t, true
		}
	}
	return target{}, false
}

// shared reports whether another mount has roles on a target.
func (s *scope) shared(name string) bool {
	for mount := range s.users[name] {
		if mount != s.mount {
			return true
		}
	}
	return false
}

// taken reports whether a name is one of a target that the mount may not use.
func (s *scope) taken(name string) bool {
	for _, t := range s.targets {
		if t.Name == name && !s.sees(t) {
			return true
		}
	}
	return false
}

// configOf finds the target of a path, or says as Vault does that there is none.
func (e *Engine) configOf(ctx context.Context, c *call, name string) (target, error) {
	s, err := e.look(ctx, c)
	if err != nil {
		return target{}, err
	}
	t, ok := s.find(name)
	if !ok {
		return target{}, noConfig(name)
	}
	return t, nil
}

func noConfig(name string) error {
	return gate.Errorf(gate.Invalid, "failed to find entry for connection with name: %q", name)
}

// allowed reports whether a role may use a target: its allowed_roles hold the name, or a glob for it.
func allowed(t object.Target, role string) bool {
	if t.AllowedRoles == nil {
		return true
	}
	for _, glob := range t.AllowedRoles {
		if matches(glob, role) {
			return true
		}
	}
	return false
}

// matches reports whether a name fits a glob, in which * stands for any text.
func matches(glob, name string) bool {
	parts := strings.Split(glob, "*")
	if len(parts) == 1 {
		return glob == name
	}
	first, last := parts[0], parts[len(parts)-1]
	if len(name) < len(first)+len(last) || !strings.HasPrefix(name, first) || !strings.HasSuffix(name, last) {
		return false
	}
	name = name[len(first) : len(name)-len(last)]
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(name, part)
		if i < 0 {
			return false
		}
		name = name[i+len(part):]
	}
	return true
}

func notAllowed(role string) error {
	return gate.Errorf(gate.Forbidden, "%q is not an allowed role", role)
}
