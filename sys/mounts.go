package sys

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
)

const (
	authPrefix      = "auth/"
	systemTTL       = 2764800 // seconds: what Vault shows where a mount has no TTL of its own
	typeOfToken     = "token"
	typeOfSystem    = "system"
	typeOfDatabase  = "database"
	typeOfCubbyhole = "cubbyhole"
	kindOfAuthToken = "default-service"
)

// uiMount tells which mount serves a path: every kv command of the vault command line asks first.
func (b *Backend) uiMount(_ context.Context, c *call) (*gate.Response, error) {
	path := c.args["path"]
	m, _, found := b.cfg.Mounts().Route(c.inNamespace(path))
	if !found {
		m, _, found = b.cfg.Mounts().Route(path)
		found = found && m.Internal // which is in every namespace
	}
	if !found || !b.visible(c, m) {
		return nil, &gate.Error{Kind: gate.Forbidden, Msg: fmt.Sprintf(
			"preflight capability check returned 403, please ensure client's policies grant access to path %q", path+"/")}
	}
	data := mountData(m)
	data["path"] = c.shown(strings.TrimPrefix(m.Path, authPrefix))
	return ok(data), nil
}

// uiMounts shows the mounts below which the caller may do anything at all.
func (b *Backend) uiMounts(_ context.Context, c *call) (*gate.Response, error) {
	secrets, auth := map[string]any{}, map[string]any{}
	for _, m := range b.cfg.Mounts().All() {
		if !b.visible(c, m) || !c.holds(m) {
			continue
		}
		if name, isAuth := strings.CutPrefix(m.Path, authPrefix); isAuth {
			auth[name] = mountData(m)
		} else {
			secrets[c.shown(m.Path)] = mountData(m)
		}
	}
	return ok(map[string]any{"secret": secrets, "auth": auth}), nil
}

func (b *Backend) visible(c *call, m *gate.Mount) bool {
	return b.cfg.Policies.ACL(&c.Caller).Mountable(m.Path)
}

// holds tells whether m is in the namespace that is asked about. Bailiff's own are in every one.
func (c *call) holds(m *gate.Mount) bool {
	return c.Namespace == "" || m.Internal || strings.HasPrefix(m.Path, authPrefix) || strings.HasPrefix(m.Path, c.Namespace+"/")
}

// shown is the path of a mount as the namespace calls it.
func (c *call) shown(path string) string {
	if c.Namespace == "" {
		return path
	}
	return strings.TrimPrefix(path, c.Namespace+"/")
}

func (b *Backend) mounts(_ context.Context, c *call) (*gate.Response, error) {
	data := map[string]any{}
	for _, m := range b.cfg.Mounts().All() {
		if !strings.HasPrefix(m.Path, authPrefix) && c.holds(m) {
			data[c.shown(m.Path)] = mountData(m)
		}
	}
	return ok(data), nil
}

func (b *Backend) auth(ctx context.Context, c *call) (*gate.Response, error) {
	return b.cfg.Auth.ServeMounts(ctx, c.Request, c.args["path"])
}

// unlock lets a name log in again that was locked out after wrong proofs.
func (b *Backend) unlock(_ context.Context, c *call) (*gate.Response, error) {
	b.cfg.Auth.Unlock(c.args["accessor"], c.args["name"])
	return done("unlocked " + c.args["name"]), nil
}

// mountOrTune reads one mount, or with /tune what could be tuned of it.
func (b *Backend) mountOrTune(_ context.Context, c *call) (*gate.Response, error) {
	path, tune := strings.CutSuffix(c.args["path"], "/tune")
	m, found := b.mountAt(c.inNamespace(path) + "/")
	switch {
	case !found && tune:
		return nil, invalid("cannot fetch sysview for path %q", path+"/")
	case !found:
		return nil, invalid("No secret engine mount at %s/", path)
	case tune:
		return ok(tuneData(m)), nil
	}
	return ok(mountData(m)), nil
}

func (b *Backend) mountAt(path string) (*gate.Mount, bool) {
	m, rest, found := b.cfg.Mounts().Route(strings.TrimSuffix(path, "/"))
	return m, found && rest == "" && m.Path == path
}

// mountData is a mount as Vault shows it.
func mountData(m *gate.Mount) map[string]any {
	config := map[string]any{"default_lease_ttl": seconds(m.DefaultTTL), "max_lease_ttl": seconds(m.MaxTTL), "force_no_cache": false}
	maps.Copy(config, m.Config)
	data := map[string]any{
		"accessor":                m.Accessor,
		"config":                  config,
		"description":             m.Description,
		"external_entropy_access": false,
		"local":                   m.Type == typeOfCubbyhole,
		"options":                 m.Options,
		"plugin_version":          "",
		"running_plugin_version":  "",
		"running_sha256":          "",
		"seal_wrap":               false,
		"type":                    m.Type,
		"uuid":                    m.UUID,
	}
	if !m.Internal && m.Options == nil {
		data["options"] = map[string]string{}
	}
	switch m.Type {
	case typeOfSystem, typeOfDatabase, typeOfCubbyhole: // Vault says nothing of these
	case typeOfToken:
		config["token_type"] = kindOfAuthToken
	default:
		data["deprecation_status"] = "supported"
	}
	return data
}

func tuneData(m *gate.Mount) map[string]any {
	ttl := func(d time.Duration) int64 {
		if d == 0 {
			return systemTTL
		}
		return seconds(d)
	}
	data := map[string]any{
		"default_lease_ttl": ttl(m.DefaultTTL), "max_lease_ttl": ttl(m.MaxTTL), "force_no_cache": false, "description": m.Description,
	}
	if len(m.Options) > 0 {
		data["options"] = m.Options
	}
	return data
}

// auditDevices shows the trail as the one audit device that there is.
func (b *Backend) auditDevices(context.Context, *call) (*gate.Response, error) {
	return ok(map[string]any{"bailiff/": map[string]any{
		"type": "bailiff", "path": "bailiff/", "description": "the trail, always on: see bailiff audit query",
		"options": map[string]string{}, "local": true,
	}}), nil
}

func seconds(d time.Duration) int64 { return int64(d / time.Second) }

// versions shows the one version that runs, since it was started: what ran before is not kept.
func (b *Backend) versions(context.Context, *call) (*gate.Response, error) {
	info := map[string]any{"build_date": "", "previous_version": nil, "timestamp_installed": b.started.UTC().Format(time.RFC3339Nano)}
	return ok(map[string]any{"keys": []string{b.cfg.Version}, "key_info": map[string]any{b.cfg.Version: info}}), nil
}
