package engine

import (
	"context"
	"errors"
	"strings"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/policy"
	"github.com/bailiff-secrets/bailiff/rotation"
)

// Estate is what is declared, and the one way to change it. Every method that writes is durable on return. Errors are
// *gate.Error, *object.Problem (also joined), object.ErrNotFound or object.ErrConflict where the caller should learn more.
type Estate interface {
	// Objects lists the objects of a kind by name.
	Objects(ctx context.Context, kind object.Kind) ([]object.Record, error)
	// Put makes want what stands, where what stands has that version; 0: where there is none.
	Put(ctx context.Context, by string, want object.Record, version int64) (object.Plan, error)
	// DeleteObject removes one to which nothing refers; version 0: whichever stands.
	DeleteObject(ctx context.Context, by string, kind object.Kind, name string, version int64) error
}

// Untried is an Estate that tries a producer on its target before it counts, and can be told not to.
type Untried interface {
	PutUntried(ctx context.Context, by string, want object.Record, version int64) (object.Plan, error)
}

// Catalog finds what stands now without asking the store.
type Catalog interface {
	// Role finds a producer of a mount, whose path ends in a slash.
	Role(mount, name string) (broker.Role, bool)
	// Target finds a target as it is declared.
	Target(name string) (object.Target, bool)
}

// Connections are Bailiff's own to targets.
type Connections interface {
	// Verify logs in to a target that need not be declared yet. Errors are words without values.
	Verify(ctx context.Context, t object.Target) error
	// Reset ends the connections to a target and begins anew.
	Reset(ctx context.Context, target string) error
}

// Rotations change passwords of accounts that stay; *rotation.Manager is one.
type Rotations interface {
	// Ensure sets the password of a static role where that was never done.
	Ensure(ctx context.Context, mount, name string) error
	// Rotate changes the password of a static role.
	Rotate(ctx context.Context, mount, name string) error
	// RotateTarget changes the password of a target's own user.
	RotateTarget(ctx context.Context, target string) error
	// Credential gives the password of a static role.
	Credential(ctx context.Context, mount, name string) (rotation.Credential, error)
	// Account shows what is known of a static role's account.
	Account(ctx context.Context, mount, name string) (*rotation.Account, error)
}

// Config is what an Engine needs. All must be set.
type Config struct {
	Issuer      gate.Backend // serves creds/<role>
	Estate      Estate
	Catalog     Catalog
	Connections Connections
	Rotations   Rotations
}

// Engine serves every broker mount. It is a gate.Backend and safe for concurrent use.
type Engine struct{ cfg Config }

// New makes an Engine.
func New(cfg Config) (*Engine, error) {
	if cfg.Issuer == nil || cfg.Estate == nil || cfg.Catalog == nil || cfg.Connections == nil || cfg.Rotations == nil {
		return nil, errors.New("engine: a part is missing from the configuration")
	}
	return &Engine{cfg}, nil
}

// handler serves one operation below one directory; name is empty where the directory itself is meant.
type handler func(ctx context.Context, c *call) (*gate.Response, error)

// call is one request, taken apart.
type call struct {
	*gate.Request
	name     string
	warnings []string
	untried  bool // a role is not tried on its target before it counts
}

// mount is the mount's path without its slash, as objects name it.
func (c *call) mount() string { return strings.TrimSuffix(c.Mount.Path, "/") }

// directory is what a path below the mount begins with.
type directory struct {
	list, read, write, remove handler
	kind                      object.Kind // of the objects behind it; empty where there are none
}

func (e *Engine) directory(name string) (directory, bool) {
	switch name {
	case "config":
		return directory{list: e.listConfigs, read: e.readConfig, write: e.writeConfig, remove: e.deleteConfig, kind: object.KindTarget}, true
	case "roles":
		return directory{list: e.listRoles, read: e.readRole, write: e.writeRole, remove: e.deleteRole, kind: object.KindProducer}, true
	case "static-roles":
		return directory{list: e.listStaticRoles, read: e.readStaticRole, write: e.writeStaticRole, remove: e.deleteStaticRole, kind: object.KindStaticRole}, true
	case "creds":
		return directory{}, true // what issues is found by its role
	case "static-creds":
		return directory{read: e.staticCreds}, true
	case "rotate-root":
		return directory{write: e.rotateRoot}, true
	case "rotate-role":
		return directory{write: e.rotateRole}, true
	case "reset":
		return directory{write: e.reset}, true
	}
	return directory{}, false
}

// Serve answers below a broker mount.
func (e *Engine) Serve(ctx context.Context, r *gate.Request) (*gate.Response, error) {
	name, rest, _ := strings.Cut(r.Rest, "/")
	if r.Op == policy.Help {
		return help(name, rest)
	}
	if role, ok := e.issuing(r); ok {
		return e.answer(ctx, r, rest, func(ctx context.Context, c *call) (*gate.Response, error) { return e.issueShaped(ctx, c, role.Shape) })
	}
	d, ok := e.directory(name)
	if !ok || strings.Contains(rest, "/") {
		return nil, gate.Errorf(gate.NotFound, oneError, "unsupported path")
	}
	serve := d.of(r.Op, rest)
	if serve == nil {
		return nil, gate.Errorf(gate.Unsupported, oneError, "unsupported operation")
	}
	return e.answer(ctx, r, rest, serve)
}

// answer is what serve says, in words that the gate knows.
func (e *Engine) answer(ctx context.Context, r *gate.Request, name string, serve handler) (*gate.Response, error) {
	c := &call{Request: r, name: name}
	resp, err := serve(ctx, c)
	if err != nil {
		return nil, say(err)
	}
	resp.Warnings = append(resp.Warnings, c.warnings...)
	if resp.Status == gate.NoContent && len(resp.Warnings) > 0 {
		resp.Status = gate.OK
	}
	return resp, nil
}

// of finds what serves an operation; nil where nothing does.
func (d directory) of(op policy.Operation, name string) handler {
	switch {
	case op == policy.List && name == "":
		return d.list
	case name == "":
		return nil
	case op == policy.Read:
		return d.read
	case op == policy.Create, op == policy.Update:
		return d.write
	case op == policy.Delete:
		return d.remove
	}
	return nil
}

// Changes is true for what reaches a target or changes an object: reading credentials makes some. It is a gate.Changer.
func (e *Engine) Changes(r *gate.Request) bool {
	switch r.Op {
	case policy.List, policy.Help:
		return false
	case policy.Read:
		_, issues := e.issuing(r)
		return issues
	default:
		return true
	}
}

// Overlaps is true for issuing, of which the broker makes some durable beside the records. It is a gate.Overlapper.
func (e *Engine) Overlaps(r *gate.Request) bool {
	_, issues := e.issuing(r)
	return issues
}

// Exists tells a create from an update. It is a gate.Exister.
func (e *Engine) Exists(ctx context.Context, r *gate.Request) (exists, known bool, err error) {
	dir, name, _ := strings.Cut(r.Rest, "/")
	d, ok := e.directory(dir)
	if !ok || d.kind == "" || name == "" {
		return false, false, nil
	}
	records, err := e.cfg.Estate.Objects(ctx, d.kind)
	if err != nil {
		return false, false, err
	}
	if d.kind != object.KindTarget {
		name = r.Mount.Path + name
	}
	_, exists = find(records, name)
	return exists, true, nil
}

func find(records []object.Record, name string) (object.Record, bool) {
	for _, r := range records {
		if r.Name == name {
			return r, true
		}
	}
	return object.Record{}, false
}

// say turns what the parts below answer into what the gate knows.
func say(err error) error {
	var problem *object.Problem
	if errors.As(err, new(*gate.Error)) {
		return err
	}
	switch {
	case errors.As(err, &problem):
		return &gate.Error{Kind: gate.Invalid, Msg: err.Error()}
	case errors.Is(err, object.ErrConflict):
		return &gate.Error{Kind: gate.Conflict, Msg: "somebody else changed it at the same time", Hint: "try again"}
	case errors.Is(err, object.ErrNotFound):
		return &gate.Error{Kind: gate.NotFound, Msg: err.Error()}
	}
	return err
}

// oneError is the form in which Vault says what its router has to say.
const oneError = "1 error occurred:\n\t* %s\n\n"

func invalid(format string, args ...any) error { return gate.Errorf(gate.Invalid, format, args...) }

func missing() *gate.Response { return &gate.Response{Status: gate.Missing} }

// keys answers a list.
func keys(names []string) *gate.Response {
	if len(names) == 0 {
		return missing()
	}
	return &gate.Response{Data: map[string]any{"keys": names}}
}

// put writes one object beside those that stand.
func (e *Engine) put(ctx context.Context, c *call, v any, version int64) (*gate.Response, error) {
	rec, err := object.Encode(v)
	if err != nil {
		return nil, err
	}
	put := e.cfg.Estate.Put
	if x, ok := e.cfg.Estate.(Untried); ok && c.untried {
		put = x.PutUntried
	}
	plan, err := put(ctx, c.Caller.Name, rec, version)
	if err != nil {
		return nil, err
	}
	resp := &gate.Response{Status: gate.NoContent, Detail: "nothing changed", Warnings: plan.Warnings}
	for _, s := range plan.Steps {
		if s.Action != object.Unchanged {
			resp.Detail = string(s.Action) + " " + string(s.Kind) + " " + s.Name
		}
	}
	return resp, nil
}

// remove deletes one object; that it isn't there is as good.
func (e *Engine) remove(ctx context.Context, c *call, kind object.Kind, name string) (*gate.Response, error) {
	err := e.cfg.Estate.DeleteObject(ctx, c.Caller.Name, kind, name, 0)
	if errors.Is(err, object.ErrNotFound) {
		return &gate.Response{Status: gate.NoContent, Detail: "there was none"}, nil
	}
	if err != nil {
		return nil, err
	}
	return &gate.Response{Status: gate.NoContent, Detail: "deleted " + string(kind) + " " + name}, nil
}

var (
	_ gate.Backend = (*Engine)(nil)
	_ gate.Changer = (*Engine)(nil)
	_ gate.Exister = (*Engine)(nil)
)
