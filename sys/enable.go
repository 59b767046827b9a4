package sys

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/upstream"
)

// Vaults are the Vaults behind, on which secrets engines are enabled. Errors are *gate.Error.
type Vaults interface {
	// DefaultVault is the target on which a mount at path is made where nobody says which.
	DefaultVault(path string) (target string, err error)
	// AskVault changes something on a target by one of its sys paths ("mounts/x"), with Bailiff's login there.
	AskVault(ctx context.Context, target, method, path string, in map[string]any) error
	// VaultMounts lists the secrets engines of a target.
	VaultMounts(ctx context.Context, target string) ([]upstream.MountInfo, error)
	// KeepMount declares a mount, as the API does, in use at once. What it can't tell is found out on the target.
	KeepMount(ctx context.Context, by string, m *object.Mount) error
	// VaultTargets names the targets that are Vaults.
	VaultTargets() []string
}

// inNamespace is path as it stands in the table of mounts.
func (c *call) inNamespace(path string) string {
	if c.Namespace == "" {
		return path
	}
	return c.Namespace + "/" + path
}

// changeMount enables a secrets engine on the default Vault and declares its mount, or tunes one.
//
// The engine is enabled first: killed between the two, there is an engine behind which nobody reaches (bailiff mount list
// --drift shows it), and never a mount that leads nowhere.
func (b *Backend) changeMount(ctx context.Context, c *call) (*gate.Response, error) {
	path := c.args["path"]
	if strings.HasSuffix(path, "/tune") || b.cfg.Vaults == nil {
		return b.tune(ctx, c)
	}
	in, err := c.whole()
	if err != nil {
		return nil, err
	}
	full := c.inNamespace(path)
	if m, there := b.overlaps(full); there {
		return nil, invalid("path is already in use at %s", m.Path)
	}
	target, err := b.cfg.Vaults.DefaultVault(full)
	if err != nil {
		return nil, err
	}
	if err := b.cfg.Vaults.AskVault(ctx, target, http.MethodPost, "mounts/"+full, in); err != nil {
		return nil, err
	}
	m := &object.Mount{Path: full, Type: "vault", Target: target}
	if text, isText := in["description"].(string); isText {
		m.Description = text
	}
	if err := b.cfg.Vaults.KeepMount(ctx, c.Caller.Name, m); err != nil {
		return nil, err
	}
	return done("enabled " + full + "/ on target " + target), nil
}

// whole is the body as it is, for the target to judge.
func (c *call) whole() (map[string]any, error) {
	text, err := c.readBody(maxBody)
	if err != nil {
		return nil, err
	}
	in := map[string]any{}
	if len(text) > 0 && json.Unmarshal(text, &in) != nil {
		return nil, invalid("error parsing JSON")
	}
	return in, nil
}

// overlaps finds a mount that lies at, below or above path.
func (b *Backend) overlaps(path string) (*gate.Mount, bool) {
	for _, m := range b.cfg.Mounts().All() {
		if strings.HasPrefix(m.Path, path+"/") || strings.HasPrefix(path+"/", m.Path) {
			return m, true
		}
	}
	return nil, false
}

// mountObject finds the declaration of a pass-through mount; nil where there is none.
func (b *Backend) mountObject(ctx context.Context, path string) (*object.Mount, error) {
	records, err := b.cfg.Estate.Objects(ctx, object.KindMount)
	if err != nil {
		return nil, err
	}
	for _, rec := range records {
		if rec.Name != path {
			continue
		}
		v, err := object.Decode(rec)
		if err != nil {
			return nil, err
		}
		m, isMount := v.(*object.Mount)
		if !isMount || m.Type != "vault" {
			return nil, &gate.Error{Kind: gate.Unsupported, Msg: "the mount is Bailiff's own: it is declared in files, see bailiff apply"}
		}
		return m, nil
	}
	return nil, nil
}

// disableMount disables a secrets engine on its Vault and forgets the mount. What isn't there is disabled, as in Vault.
func (b *Backend) disableMount(ctx context.Context, c *call) (*gate.Response, error) {
	full := c.inNamespace(c.args["path"])
	m, err := b.mountObject(ctx, full)
	if err != nil {
		return nil, err
	}
	if m == nil {
		return done("nothing to disable at " + full + "/"), nil
	}
	if err := b.cfg.Vaults.AskVault(ctx, m.Target, http.MethodDelete, "mounts/"+remoteOf(m), nil); err != nil {
		return nil, err
	}
	if err := b.cfg.Estate.DeleteObject(ctx, c.Caller.Name, object.KindMount, full, 0); err != nil {
		return nil, err
	}
	return done("disabled " + full + "/ on target " + m.Target), nil
}

func remoteOf(m *object.Mount) string {
	if m.RemotePath != "" {
		return m.RemotePath
	}
	return m.Path
}

// remount moves a secrets engine on its Vault, and the mount with it. Vault does it behind the answer and tells how far it is
// by an id; here it is done when it is answered.
func (b *Backend) remount(ctx context.Context, c *call) (*gate.Response, error) {
	fields, err := c.fields("from", "to")
	if err != nil {
		return nil, err
	}
	from, err := textField(fields, "from")
	if err != nil {
		return nil, err
	}
	to, err := textField(fields, "to")
	if err != nil {
		return nil, err
	}
	if from == "" || to == "" {
		return nil, invalid("both 'from' and 'to' path must be specified as a string")
	}
	from, to = c.inNamespace(strings.Trim(from, "/")), c.inNamespace(strings.Trim(to, "/"))
	m, err := b.mountObject(ctx, from)
	switch {
	case err != nil:
		return nil, err
	case m == nil:
		return nil, invalid("no matching mount at %q", from+"/")
	}
	if x, there := b.overlaps(to); there {
		return nil, invalid("path already in use at %q", x.Path)
	}
	if err := b.cfg.Vaults.AskVault(ctx, m.Target, http.MethodPost, "remount", map[string]any{"from": remoteOf(m), "to": to}); err != nil {
		return nil, err
	}
	// Vault moves in the background, and the declaration asks it for what it finds at the new place.
	if err := b.arrived(ctx, m.Target, to); err != nil {
		return nil, err
	}
	moved := *m
	moved.Path, moved.RemotePath = to, ""
	if err := b.cfg.Vaults.KeepMount(ctx, c.Caller.Name, &moved); err != nil {
		return nil, err
	}
	if err := b.cfg.Estate.DeleteObject(ctx, c.Caller.Name, object.KindMount, from, 0); err != nil {
		return nil, err
	}
	resp := ok(map[string]any{"migration_id": c.ID})
	resp.Detail = fmt.Sprintf("moved %s/ to %s/ on target %s", from, to, m.Target)
	return resp, nil
}

// remountStatus tells how far a move is: done, as it is when it is answered. Nothing is kept of it.
func (b *Backend) remountStatus(_ context.Context, c *call) (*gate.Response, error) {
	id := c.args["id"]
	if len(id) != 36 || strings.Count(id, "-") != 4 {
		return &gate.Response{Status: gate.Missing}, nil
	}
	return ok(map[string]any{"migration_id": id, "migration_info": map[string]any{"status": "success", "source_mount": "", "target_mount": ""}}), nil
}

// tuneBehind tunes a secrets engine on its Vault, and the description here.
func (b *Backend) tuneBehind(ctx context.Context, c *call, m *object.Mount) (*gate.Response, error) {
	in, err := c.whole()
	if err != nil {
		return nil, err
	}
	if err := b.cfg.Vaults.AskVault(ctx, m.Target, http.MethodPost, "mounts/"+remoteOf(m)+"/tune", in); err != nil {
		return nil, err
	}
	if text, isText := in["description"].(string); isText {
		m.Description = text
	}
	m.KVVersion, m.Engine = 0, "" // as they are there now
	if err := b.cfg.Vaults.KeepMount(ctx, c.Caller.Name, m); err != nil {
		return nil, err
	}
	return done("tuned " + m.Path + "/ on target " + m.Target), nil
}
