package sys

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/object"
)

// tune changes the lease times of a mount whose leases are ours. It changes the declared object, as an apply would.
func (b *Backend) tune(ctx context.Context, c *call) (*gate.Response, error) {
	path, isTune := strings.CutSuffix(c.args["path"], "/tune")
	if !isTune {
		return nil, &gate.Error{Kind: gate.Unsupported, Msg: "mounts are declared in files: see bailiff apply"}
	}
	path = c.inNamespace(path)
	rec, err := b.cfg.Estate.Object(ctx, object.KindMount, path)
	if errors.Is(err, object.ErrNotFound) {
		return nil, invalid("tune of path \"%s/\" failed: no mount entry found", path)
	}
	if err != nil {
		return nil, err
	}
	v, err := object.Decode(rec)
	if err != nil {
		return nil, err
	}
	m, isMount := v.(*object.Mount)
	if isMount && m.Type == "vault" && b.cfg.Vaults != nil {
		return b.tuneBehind(ctx, c, m)
	}
	if !isMount || m.Type != "broker" {
		return nil, &gate.Error{Kind: gate.Unsupported, Msg: "the leases of this mount are kept by the Vault behind it: tune it there"}
	}
	fields, err := c.fields("default_lease_ttl", "max_lease_ttl", "description", "options", "force_no_cache", "plugin_version", "user_lockout_config")
	if err != nil {
		return nil, err
	}
	if err := tuneMount(m, fields); err != nil {
		return nil, err
	}
	changed, err := object.Encode(m)
	if err != nil {
		return nil, err
	}
	changed.Source = rec.Source
	expect := map[string]int64{string(object.KindMount) + "/" + path: rec.Version}
	if _, err := b.cfg.Estate.Apply(ctx, c.Caller.Name, []object.Record{changed}, false, expect); err != nil {
		return nil, err
	}
	return done(fmt.Sprintf("tuned %s/: default lease %s, longest %s", path, ttlWords(m.DefaultTTL), ttlWords(m.MaxTTL))), nil
}

// tuneMount takes what the fields say. An empty time changes nothing and "system" takes the mount's own away, as in Vault.
func tuneMount(m *object.Mount, fields map[string]json.RawMessage) error {
	for name, ttl := range map[string]*object.Duration{"default_lease_ttl": &m.DefaultTTL, "max_lease_ttl": &m.MaxTTL} {
		switch string(fields[name]) {
		case "", "null", `""`:
			continue
		case `"system"`:
			*ttl = 0
			continue
		}
		d, err := durationField(fields, name)
		if err != nil {
			return err
		}
		*ttl = object.Duration(d)
	}
	if m.MaxTTL > 0 && m.DefaultTTL > m.MaxTTL {
		return invalid("backend max lease TTL of %d would be less than backend default lease TTL of %d",
			seconds(time.Duration(m.MaxTTL)), seconds(time.Duration(m.DefaultTTL)))
	}
	if _, set := fields["description"]; !set {
		return nil
	}
	text, err := textField(fields, "description")
	if err == nil {
		m.Description = text
	}
	return err
}

func ttlWords(d object.Duration) string {
	if d == 0 {
		return "the system's"
	}
	return time.Duration(d).String()
}
