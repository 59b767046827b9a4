package engine

import (
	"context"
	"errors"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/rotation"
)

// shortestPeriod is the least time between two rotations, as in Vault.
const shortestPeriod = 5 * time.Second

func (e *Engine) staticRole(ctx context.Context, c *call) (*object.StaticRole, int64, error) {
	r, err := e.record(ctx, c, object.KindStaticRole)
	if err != nil || r.Version == 0 {
		return nil, 0, err
	}
	v, err := object.Decode(r)
	if err != nil {
		return nil, 0, err
	}
	s, ok := v.(*object.StaticRole)
	if !ok {
		return nil, 0, object.ErrNotFound
	}
	return s, r.Version, nil
}

func (e *Engine) listStaticRoles(ctx context.Context, c *call) (*gate.Response, error) {
	return e.names(ctx, c, object.KindStaticRole)
}

func (e *Engine) readStaticRole(ctx context.Context, c *call) (*gate.Response, error) {
	s, _, err := e.staticRole(ctx, c)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return missing(), nil
	}
	data := map[string]any{
		"db_name":             s.Target,
		"username":            s.Username,
		"rotation_statements": notNil(s.RotationStatements),
		"credential_type":     "password",
	}
	period(data, s)
	a, err := e.cfg.Rotations.Account(ctx, c.Mount.Path, c.name)
	if err != nil && !errors.Is(err, rotation.ErrNoAccount) {
		return nil, err
	}
	if err == nil && !a.RotatedAt.IsZero() {
		data["last_vault_rotation"] = stamp(a.RotatedAt)
	}
	return &gate.Response{Data: data}, nil
}

// period shows when a role is rotated.
func period(data map[string]any, s *object.StaticRole) {
	if s.RotationSchedule != "" {
		data["rotation_schedule"] = s.RotationSchedule
		return
	}
	data["rotation_period"] = seconds(s.RotationPeriod)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// writeStaticRole makes or changes a static role. What the body doesn't say stays as it is. The password of a new one is
// set before the answer; where the target refuses that, the role isn't made.
func (e *Engine) writeStaticRole(ctx context.Context, c *call) (*gate.Response, error) {
	f, err := c.fields()
	if err != nil {
		return nil, err
	}
	if err := e.unique(ctx, c, object.KindProducer); err != nil {
		return nil, err
	}
	s, version, err := e.staticRole(ctx, c)
	if err != nil {
		return nil, err
	}
	if s == nil {
		s = &object.StaticRole{Mount: c.mount(), Name: c.name}
	}
	if err := c.account(f, s); err != nil {
		return nil, err
	}
	t, err := e.configOf(ctx, c, s.Target)
	if err != nil {
		return nil, err
	}
	if !allowed(t.Target, c.name) {
		return nil, notAllowed(c.name)
	}
	resp, err := e.put(ctx, c, s, version)
	if err != nil {
		return nil, err
	}
	if err := e.cfg.Rotations.Ensure(ctx, c.Mount.Path, c.name); err != nil {
		return nil, e.undo(ctx, c, version, err)
	}
	resp.Principal = s.Username
	return resp, nil
}

// account reads what a static role is.
func (c *call) account(f *fields, s *object.StaticRole) error {
	f.text("db_name", &s.Target)
	if s.Target == "" {
		return invalid("database name is a required field")
	}
	username := s.Username
	f.text("username", &username)
	switch {
	case username == "":
		return invalid("username is a required field to create a static account")
	case s.Username != "" && s.Username != username:
		return invalid("cannot update static account username")
	}
	s.Username = username
	if err := c.when(f, s); err != nil {
		return err
	}
	f.texts("rotation_statements", &s.RotationStatements)
	if err := c.credential(f, &object.Producer{}); err != nil {
		return err
	}
	return c.done(f)
}

// when reads the times of rotations: by period, or by schedule.
func (c *call) when(f *fields, s *object.StaticRole) error {
	if f.text("rotation_schedule", &s.RotationSchedule) && s.RotationSchedule != "" {
		s.RotationPeriod = 0
		if err := rotation.CheckSchedule(s.RotationSchedule); err != nil {
			return invalid("rotation_schedule: %v", err)
		}
	}
	if ttl(f, "rotation_period", &s.RotationPeriod) {
		if time.Duration(s.RotationPeriod) < shortestPeriod {
			return invalid("rotation_period must be %d seconds or more", shortestPeriod/time.Second)
		}
		if _, both := f.all["rotation_schedule"]; !both {
			s.RotationSchedule = ""
		}
	}
	switch {
	case f.err != nil:
		return f.err
	case s.RotationPeriod == 0 && s.RotationSchedule == "":
		return invalid("rotation_period is required to create static accounts")
	}
	return nil
}

// undo takes a role back that was just made and whose password the target refuses to set: as it was never set, nothing is
// lost. Where it isn't known what the target did, the role stays, and Bailiff goes on trying.
func (e *Engine) undo(ctx context.Context, c *call, version int64, failed error) error {
	if said, ok := errors.AsType[*gate.Error](failed); version == 0 && ok && (said.Kind == gate.Conflict || said.Kind == gate.Unsupported) {
		err := e.cfg.Estate.DeleteObject(context.WithoutCancel(ctx), c.Caller.Name, object.KindStaticRole, c.mount()+"/"+c.name, 0)
		return errors.Join(&gate.Error{Kind: said.Kind, Msg: said.Msg, Err: failed}, err)
	}
	return failed
}

func (e *Engine) deleteStaticRole(ctx context.Context, c *call) (*gate.Response, error) {
	return e.remove(ctx, c, object.KindStaticRole, c.mount()+"/"+c.name)
}

func (e *Engine) rotateRole(ctx context.Context, c *call) (*gate.Response, error) {
	s, _, err := e.staticRole(ctx, c)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return nil, invalid("no static role found for role name")
	}
	if err := e.cfg.Rotations.Rotate(ctx, c.Mount.Path, c.name); err != nil {
		return nil, err
	}
	return &gate.Response{Status: gate.NoContent, Principal: s.Username, Detail: "changed the password of static role " + c.name}, nil
}

func (e *Engine) staticCreds(ctx context.Context, c *call) (*gate.Response, error) {
	s, _, err := e.staticRole(ctx, c)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return nil, invalid("unknown role: %s", c.name)
	}
	if t, ok := e.cfg.Catalog.Target(s.Target); ok && !allowed(t, c.name) {
		return nil, notAllowed(c.name)
	}
	cred, err := e.cfg.Rotations.Credential(ctx, c.Mount.Path, c.name)
	if err != nil {
		return nil, err
	}
	data := map[string]any{
		"username":            cred.Username,
		"password":            cred.Password.Reveal(),
		"ttl":                 int64(max(0, time.Until(cred.NextAt).Round(time.Second)) / time.Second),
		"last_vault_rotation": stamp(cred.RotatedAt),
	}
	period(data, s)
	return &gate.Response{Data: data, Principal: cred.Username}, nil
}
