package engine

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/secret"
)

// pluginName is the one of Vault's plugins whose work Bailiff does.
const pluginName = "postgresql-database-plugin"

func (e *Engine) listConfigs(ctx context.Context, c *call) (*gate.Response, error) {
	s, err := e.look(ctx, c)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, t := range s.targets {
		if s.sees(t) {
			names = append(names, t.Name)
		}
	}
	return keys(names), nil
}

func (e *Engine) readConfig(ctx context.Context, c *call) (*gate.Response, error) {
	s, err := e.look(ctx, c)
	if err != nil {
		return nil, err
	}
	t, ok := s.find(c.name)
	if !ok {
		return missing(), nil
	}
	details := map[string]any{"connection_url": shown(t.Address), "username": t.Username}
	if t.MaxConnections > 0 {
		details["max_open_connections"] = t.MaxConnections
	}
	roles := t.AllowedRoles
	if roles == nil {
		roles = []string{"*"}
	}
	return &gate.Response{Data: map[string]any{
		"plugin_name":                        pluginName,
		"plugin_version":                     "",
		"connection_details":                 details,
		"allowed_roles":                      roles,
		"root_credentials_rotate_statements": notNil(t.RotationStatements),
		"password_policy":                    "",
	}}, nil
}

// writeConfig makes or changes a target. What the body doesn't say stays as it is.
func (e *Engine) writeConfig(ctx context.Context, c *call) (*gate.Response, error) {
	f, err := c.fields()
	if err != nil {
		return nil, err
	}
	s, err := e.look(ctx, c)
	if err != nil {
		return nil, err
	}
	t, there := s.find(c.name)
	switch {
	case there && s.shared(c.name):
		return nil, invalid("the connection %q is used by roles of another mount too: it is changed with bailiff apply", c.name)
	case s.taken(c.name):
		return nil, invalid("the name %q is taken by a connection of another mount: choose another", c.name)
	case !there:
		t = target{Target: object.Target{Name: c.name, Type: object.TargetPostgres, Mount: c.mount(), AllowedRoles: []string{}}}
	}
	verify := true
	f.truth("verify_connection", &verify)
	if err := c.plugin(f, there); err != nil {
		return nil, err
	}
	if err := c.connection(f, &t.Target); err != nil {
		return nil, err
	}
	f.names("allowed_roles", &t.AllowedRoles)
	f.texts("root_rotation_statements", &t.RotationStatements)
	f.text("tls_ca", &t.CACert)
	if err := c.done(f); err != nil {
		return nil, err
	}
	if verify {
		if err := e.cfg.Connections.Verify(ctx, t.Target); err != nil {
			return nil, invalid("error creating database object: error verifying connection: %s", brief(err))
		}
	}
	return e.put(ctx, c, t.Target, t.version)
}

// plugin judges which plugin is asked for, and drops what only Vault's has a use for.
func (c *call) plugin(f *fields, there bool) error {
	name := ""
	if there {
		name = pluginName
	}
	f.text("plugin_name", &name)
	switch name {
	case "":
		return invalid("empty plugin name")
	case pluginName:
	default:
		return invalid("error creating database object: the plugin %q is not served: %s is", name, pluginName)
	}
	for field, why := range map[string]string{
		"plugin_version":    "there is one version",
		"username_template": "Bailiff's names hold a key by which it tells its own accounts",
		"password_policy":   "passwords are 24 random letters and digits",
	} {
		var value string
		if f.text(field, &value) && value != "" {
			c.warnings = append(c.warnings, field+" has no effect: "+why)
		}
	}
	slices.Sort(c.warnings)
	return nil
}

// connection reads how the target is reached.
func (c *call) connection(f *fields, t *object.Target) error {
	var text, password string
	if f.text("connection_url", &text) {
		conn, err := parseConnection(text)
		if err != nil {
			return err
		}
		t.Address = conn.address
		if conn.timeout > 0 {
			t.Timeout = object.Duration(conn.timeout)
		}
		if conn.username != "" {
			t.Username = conn.username
		}
		if conn.password != "" {
			t.Password = secret.New(conn.password)
			c.warnings = append(c.warnings, "Password found in connection_url, use a templated url. It was moved to where passwords are kept, and reading this shows a template.")
		}
		if len(conn.ignored) > 0 {
			c.warnings = append(c.warnings, "these parameters of connection_url have no effect: "+strings.Join(conn.ignored, ", "))
		}
		if strings.Contains(conn.address, "sslmode=prefer") {
			c.warnings = append(c.warnings, "connection_url does not ask for TLS (sslmode=verify-full): whoever stands between can read along")
		}
	}
	if t.Address == "" {
		return invalid("error creating database object: connection_url cannot be empty")
	}
	f.text("username", &t.Username)
	if f.text("password", &password) {
		t.Password = secret.New(password)
	}
	f.number("max_open_connections", &t.MaxConnections)
	t.MaxConnections = max(t.MaxConnections, 0) // Vault: no limit
	var unused string
	var idle time.Duration
	f.text("max_idle_connections", &unused) // how a pool is kept, which Bailiff does by itself
	f.duration("max_connection_lifetime", &idle)
	f.text("disable_escaping", &unused)
	if t.Username == "" {
		return invalid("error creating database object: username cannot be empty")
	}
	return nil
}

func (e *Engine) deleteConfig(ctx context.Context, c *call) (*gate.Response, error) {
	s, err := e.look(ctx, c)
	if err != nil {
		return nil, err
	}
	if _, ok := s.find(c.name); !ok {
		return &gate.Response{Status: gate.NoContent, Detail: "there was none"}, nil
	}
	return e.remove(ctx, c, object.KindTarget, c.name)
}

func (e *Engine) rotateRoot(ctx context.Context, c *call) (*gate.Response, error) {
	t, err := e.configOf(ctx, c, c.name)
	if err != nil {
		return nil, err
	}
	if err := e.cfg.Rotations.RotateTarget(ctx, t.Name); err != nil {
		return nil, err
	}
	return &gate.Response{Status: gate.NoContent, Principal: t.Username, Detail: "changed the password of Bailiff's own user on target " + t.Name}, nil
}

func (e *Engine) reset(ctx context.Context, c *call) (*gate.Response, error) {
	t, err := e.configOf(ctx, c, c.name)
	if err != nil {
		return nil, err
	}
	if err := e.cfg.Connections.Reset(ctx, t.Name); err != nil {
		return nil, err
	}
	return &gate.Response{Status: gate.NoContent, Detail: "connected anew to target " + t.Name}, nil
}

func notNil(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
