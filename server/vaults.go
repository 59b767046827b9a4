package server

import (
	"context"
	"strings"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/upstream"
)

// DefaultVault is the target on which a mount at path is made where nobody says which: the one that has the mounts of the
// longest namespace that path is in, or the only one there is.
func (e *estate) DefaultVault(path string) (string, error) {
	set := e.live.Load().set
	for prefix := path; ; {
		i := strings.LastIndexByte(prefix, '/')
		if i < 0 {
			break
		}
		prefix = prefix[:i]
		if names := vaultsBelow(set.mounts, prefix+"/"); len(names) == 1 {
			return names[0], nil
		}
	}
	var vaults, chosen []string
	for _, t := range set.targets {
		if t.Type != "vault" {
			continue
		}
		vaults = append(vaults, t.Name)
		if t.Default {
			chosen = append(chosen, t.Name)
		}
	}
	switch {
	case len(chosen) == 1:
		return chosen[0], nil
	case len(vaults) == 1:
		return vaults[0], nil
	case len(vaults) == 0:
		return "", gate.Errorf(gate.Unsupported, "no Vault is declared on which a secrets engine could be enabled")
	}
	return "", &gate.Error{
		Kind: gate.Invalid, Msg: "there are several Vaults on which the secrets engine could be enabled",
		Hint: "say default = true at one target",
	}
}

// vaultsBelow names the targets of the pass-through mounts below prefix, each once.
func vaultsBelow(mounts []object.Mount, prefix string) []string {
	seen := map[string]bool{}
	for _, m := range mounts {
		if m.Type == "vault" && strings.HasPrefix(m.Path, prefix) {
			seen[m.Target] = true
		}
	}
	return sortedKeys(seen)
}

// Vault finds a Vault that is declared.
func (e *estate) Vault(name string) (*upstream.Vault, error) {
	t := e.targets.find(name)
	if t == nil || t.vault == nil {
		return nil, gate.Errorf(gate.NotFound, "target %q is not a declared Vault", name)
	}
	return t.vault, nil
}

// AskVault changes something on a Vault by one of its sys paths, with Bailiff's login there.
func (e *estate) AskVault(ctx context.Context, target, method, path string, in map[string]any) error {
	v, err := e.Vault(target)
	if err != nil {
		return err
	}
	return v.Sys(ctx, method, path, in)
}

// VaultMounts lists the secrets engines of a Vault.
func (e *estate) VaultMounts(ctx context.Context, target string) ([]upstream.MountInfo, error) {
	v, err := e.Vault(target)
	if err != nil {
		return nil, err
	}
	return v.Mounts(ctx)
}

// VaultTargets names the targets that are Vaults.
func (e *estate) VaultTargets() []string {
	var out []string
	for _, t := range e.live.Load().set.targets {
		if t.Type == "vault" {
			out = append(out, t.Name)
		}
	}
	return out
}

// KeepMount declares a mount as the API does, in use at once.
func (e *estate) KeepMount(ctx context.Context, by string, m *object.Mount) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.upsert(ctx, by, m)
}
