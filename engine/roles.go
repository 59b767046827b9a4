package engine

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/object"
)

// names lists the objects of a kind that lie in the mount of c.
func (e *Engine) names(ctx context.Context, c *call, kind object.Kind) (*gate.Response, error) {
	records, err := e.cfg.Estate.Objects(ctx, kind)
	if err != nil {
		return nil, err
	}
	var list []string
	for _, r := range records {
		if mount, name := object.SplitProducer(r.Name); mount == c.mount() {
			list = append(list, name)
		}
	}
	return keys(list), nil
}

// record finds an object of the mount of c by its own name; version 0 where there is none.
func (e *Engine) record(ctx context.Context, c *call, kind object.Kind) (object.Record, error) {
	records, err := e.cfg.Estate.Objects(ctx, kind)
	if err != nil {
		return object.Record{}, err
	}
	r, _ := find(records, c.mount()+"/"+c.name)
	return r, nil
}

// unique refuses a role whose name one of the other sort has.
func (e *Engine) unique(ctx context.Context, c *call, other object.Kind) error {
	r, err := e.record(ctx, c, other)
	if err == nil && r.Version != 0 {
		err = invalid("Role and Static Role names must be unique")
	}
	return err
}

func (e *Engine) producer(ctx context.Context, c *call) (*object.Producer, int64, error) {
	r, err := e.record(ctx, c, object.KindProducer)
	if err != nil || r.Version == 0 {
		return nil, 0, err
	}
	v, err := object.Decode(r)
	if err != nil {
		return nil, 0, err
	}
	p, ok := v.(*object.Producer)
	if !ok {
		return nil, 0, object.ErrNotFound
	}
	return p, r.Version, nil
}

func (e *Engine) listRoles(ctx context.Context, c *call) (*gate.Response, error) {
	return e.names(ctx, c, object.KindProducer)
}

func (e *Engine) readRole(ctx context.Context, c *call) (*gate.Response, error) {
	p, _, err := e.producer(ctx, c)
	if err != nil {
		return nil, err
	}
	if p == nil {
		return missing(), nil
	}
	data := map[string]any{
		"db_name":               p.Target,
		"creation_statements":   notNil(p.CreationStatements),
		"revocation_statements": notNil(p.RevocationStatements),
		"rollback_statements":   []string{},
		"renew_statements":      notNil(p.RenewStatements),
		"default_ttl":           seconds(p.DefaultTTL),
		"max_ttl":               seconds(p.MaxTTL),
		"credential_type":       "password",
	}
	credential := map[string]any{}
	if p.ScramIterations > 0 {
		credential["scram_iterations"] = p.ScramIterations
	}
	if p.PasswordAuth != "" {
		credential["password_authentication"] = p.PasswordAuth
	}
	if len(credential) > 0 {
		data["credential_config"] = credential
	}
	for _, own := range ownFields(p) {
		own.show(data)
	}
	return &gate.Response{Data: data}, nil
}

func seconds(d object.Duration) int64 { return int64(time.Duration(d) / time.Second) }

// ownField is a field of a role that Vault doesn't have. It is shown only where it is set.
type ownField struct {
	name     string
	number   *int
	text     *string
	duration *object.Duration
}

func ownFields(p *object.Producer) []ownField {
	return []ownField{
		{name: "max_leases", number: &p.MaxLeases},
		{name: "max_issue_rate", text: &p.IssueRate},
		{name: "ready_timeout", duration: &p.ReadyTimeout},
		{name: "pool_size", number: &p.PoolSize},
		{name: "pool_max_age", duration: &p.PoolMaxAge},
		{name: "share", text: &p.Share},
	}
}

func (o ownField) show(data map[string]any) {
	switch {
	case o.number != nil && *o.number != 0:
		data[o.name] = *o.number
	case o.text != nil && *o.text != "":
		data[o.name] = *o.text
	case o.duration != nil && *o.duration != 0:
		data[o.name] = seconds(*o.duration)
	}
}

func (o ownField) take(f *fields) {
	switch {
	case o.number != nil:
		f.number(o.name, o.number)
	case o.text != nil:
		f.text(o.name, o.text)
	default:
		ttl(f, o.name, o.duration)
	}
}

func ttl(f *fields, name string, to *object.Duration) bool {
	var d time.Duration
	ok := f.duration(name, &d)
	if ok {
		*to = object.Duration(d)
	}
	return ok
}

// writeRole makes or changes a producer. What the body doesn't say stays as it is.
func (e *Engine) writeRole(ctx context.Context, c *call) (*gate.Response, error) {
	f, err := c.fields()
	if err != nil {
		return nil, err
	}
	if err := e.unique(ctx, c, object.KindStaticRole); err != nil {
		return nil, err
	}
	p, version, err := e.producer(ctx, c)
	if err != nil {
		return nil, err
	}
	if p == nil {
		p = &object.Producer{Mount: c.mount(), Name: c.name}
	}
	f.text("db_name", &p.Target)
	if p.Target == "" {
		return nil, invalid("database name is required")
	}
	if err := c.credential(f, p); err != nil {
		return nil, err
	}
	f.texts("creation_statements", &p.CreationStatements)
	f.texts("revocation_statements", &p.RevocationStatements)
	f.texts("renew_statements", &p.RenewStatements)
	var rollback []string
	if f.texts("rollback_statements", &rollback); len(rollback) > 0 {
		c.warnings = append(c.warnings, "rollback_statements have no effect: an account is made in one transaction, and a lease that is durable before it ends what was made")
	}
	ttl(f, "default_ttl", &p.DefaultTTL)
	ttl(f, "max_ttl", &p.MaxTTL)
	for _, own := range ownFields(p) {
		own.take(f)
	}
	f.truth("skip_preflight", &c.untried)
	if err := c.done(f); err != nil {
		return nil, err
	}
	if _, err := e.configOf(ctx, c, p.Target); err != nil {
		return nil, err
	}
	return e.put(ctx, c, p, version)
}

// credential reads what sort of credential a role has. Only passwords are made.
func (c *call) credential(f *fields, p *object.Producer) error {
	kind := "password"
	f.text("credential_type", &kind)
	if kind != "password" {
		return invalid("invalid credential_type %q", kind)
	}
	for name, value := range f.pairs("credential_config") {
		switch name {
		case "password_authentication":
			p.PasswordAuth = value
		case "scram_iterations":
			n, err := strconv.Atoi(value)
			if err != nil {
				return invalid("credential_config validation failed: scram_iterations must be a whole number")
			}
			p.ScramIterations = n
		case "password_policy":
			c.warnings = append(c.warnings, "password_policy has no effect: passwords are 24 random letters and digits")
		default:
			return invalid("credential_config validation failed: %.40q is not known", name)
		}
	}
	return nil
}

func (e *Engine) deleteRole(ctx context.Context, c *call) (*gate.Response, error) {
	return e.remove(ctx, c, object.KindProducer, c.mount()+"/"+c.name)
}

// issue gives the request to the broker, once it is clear that the role may use its target.
func (e *Engine) issue(ctx context.Context, c *call) (*gate.Response, error) {
	role, ok := e.cfg.Catalog.Role(c.Mount.Path, c.name)
	if !ok {
		return nil, invalid("unknown role: %s", c.name)
	}
	if t, ok := e.cfg.Catalog.Target(role.Target); ok && !allowed(t, c.name) {
		return nil, notAllowed(c.name)
	}
	return e.cfg.Issuer.Serve(ctx, c.Request)
}

// brief is an error in words that are meant for clients.
func brief(err error) string {
	text := err.Error()
	if i := strings.IndexByte(text, '\n'); i >= 0 {
		text = text[:i]
	}
	return text
}
