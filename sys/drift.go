package sys

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/upstream"
)

// drift compares the mounts that are declared with those that the Vaults have. A Vault that can't be asked is one of the findings.
func (b *Backend) drift(ctx context.Context, _ *call) (*gate.Response, error) {
	if b.cfg.Vaults == nil {
		return ok(map[string]any{"drift": []any{}}), nil
	}
	declared, err := b.passThrough(ctx)
	if err != nil {
		return nil, err
	}
	found := []any{}
	add := func(target, path, remote, kind, detail string) {
		found = append(found, map[string]any{"target": target, "mount": path, "remote_path": remote, "drift": kind, "detail": detail})
	}
	for _, target := range b.cfg.Vaults.VaultTargets() {
		there, err := b.cfg.Vaults.VaultMounts(ctx, target)
		if err != nil {
			add(target, "", "", "unreachable", err.Error())
			continue
		}
		used := map[string]bool{}
		for _, m := range declared {
			if m.Target != target {
				continue
			}
			remote := remoteOf(m) + "/"
			used[remote] = true
			i := slices.IndexFunc(there, func(x upstream.MountInfo) bool { return x.Path == remote })
			switch {
			case i < 0:
				add(target, m.Path+"/", remote, "missing", "it is declared, and the Vault has no such mount")
			case there[i].Type != m.Engine:
				add(target, m.Path+"/", remote, "type", fmt.Sprintf("declared as %s, the Vault has %s", m.Engine, there[i].Type))
			case versionOf(there[i]) != m.KVVersion:
				add(target, m.Path+"/", remote, "kv-version", fmt.Sprintf("declared as version %d, the Vault has %d", m.KVVersion, versionOf(there[i])))
			}
		}
		for _, x := range there {
			if !used[x.Path] && !ownEngine(x.Type) {
				add(target, "", x.Path, "ungoverned", "the Vault has a "+x.Type+" mount that is not declared")
			}
		}
	}
	return ok(map[string]any{"drift": found}), nil
}

func (b *Backend) passThrough(ctx context.Context) ([]*object.Mount, error) {
	records, err := b.cfg.Estate.Objects(ctx, object.KindMount)
	if err != nil {
		return nil, err
	}
	var out []*object.Mount
	for _, rec := range records {
		v, err := object.Decode(rec)
		if err != nil {
			return nil, err
		}
		if m, isMount := v.(*object.Mount); isMount && m.Type == "vault" {
			out = append(out, m)
		}
	}
	return out, nil
}

// ownEngine tells which engines of a Vault are about its own tokens, and never passed through.
func ownEngine(engine string) bool {
	return engine == "system" || engine == "identity" || engine == "cubbyhole" || strings.HasPrefix(engine, "ns_")
}

func versionOf(m upstream.MountInfo) int {
	switch {
	case m.Type != "kv" && m.Type != "generic":
		return 0
	case m.Options["version"] == "2":
		return 2
	}
	return 1
}

// discover proposes declarations for what a Vault has and nobody has declared.
func (b *Backend) discover(ctx context.Context, c *call) (*gate.Response, error) {
	if b.cfg.Vaults == nil {
		return nil, gate.Errorf(gate.Unsupported, "there are no Vaults here")
	}
	target := c.args["target"]
	there, err := b.cfg.Vaults.VaultMounts(ctx, target)
	if err != nil {
		return nil, err
	}
	declared, err := b.passThrough(ctx)
	if err != nil {
		return nil, err
	}
	var hcl strings.Builder
	mounts, connector := []any{}, false
	for _, x := range there {
		remote := strings.TrimSuffix(x.Path, "/")
		if ownEngine(x.Type) || slices.ContainsFunc(declared, func(m *object.Mount) bool { return m.Target == target && remoteOf(m) == remote }) {
			continue
		}
		path := remote
		if _, taken := b.overlaps(path); taken {
			path = target + "/" + remote
		}
		mounts = append(mounts, map[string]any{"path": path, "remote_path": remote, "engine": x.Type, "kv_version": versionOf(x), "description": x.Description})
		fmt.Fprintf(&hcl, "mount %q {\n  type   = \"vault\"\n  target = %q\n", path, target)
		if path != remote {
			fmt.Fprintf(&hcl, "  remote_path = %q\n", remote)
		}
		hcl.WriteString("}\n\n")
		connector = connector || versionOf(x) > 0
	}
	if connector {
		fmt.Fprintf(&hcl, "connector %q {\n  target = %q\n}\n", target, target)
	}
	return ok(map[string]any{"target": target, "mounts": mounts, "hcl": hcl.String()}), nil
}

// arrived waits until a secrets engine that is being moved is at its new place.
func (b *Backend) arrived(ctx context.Context, target, path string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		there, err := b.cfg.Vaults.VaultMounts(ctx, target)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(there, func(x upstream.MountInfo) bool { return x.Path == path+"/" }) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return gate.Errorf(gate.TargetSlow, "the Vault is still moving the secrets engine")
		}
	}
}
