package sys

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/secret"
)

// maxDetail is how long a record's account of an apply may get, in bytes.
const maxDetail = 2048

// applyInput is the body of plan and apply.
type applyInput struct {
	Objects []objectInput    `json:"objects"`
	Prune   bool             `json:"prune"`
	Expect  map[string]int64 `json:"expect"`

	SkipPreflight bool `json:"skip_preflight"` // apply: don't try new and changed producers on their targets
}

// Untried is an Estate that tries new and changed producers on their targets before they count, and can be told not to.
type Untried interface {
	ApplyUntried(ctx context.Context, by string, want []object.Record, prune bool, expect map[string]int64) (object.Plan, error)
}

type objectInput struct {
	Kind    object.Kind       `json:"kind"`
	Name    string            `json:"name"`
	Body    json.RawMessage   `json:"body"`
	Secrets map[string]string `json:"secrets"`
}

// records checks each object's form and moves its secrets to where they can't be printed.
func (in *applyInput) records() ([]object.Record, error) {
	var out []object.Record
	var problems []error
	seen := map[string]bool{}
	for _, o := range in.Objects {
		id := string(o.Kind) + "/" + o.Name
		if seen[id] {
			problems = append(problems, &object.Problem{Kind: o.Kind, Name: o.Name, Msg: "it is there twice", Hint: "leave one of the two out"})
			continue
		}
		seen[id] = true
		rec := object.Record{Kind: o.Kind, Name: o.Name, Body: o.Body, Source: object.SourceApply}
		if len(rec.Body) == 0 {
			rec.Body = json.RawMessage("{}")
		}
		for field, value := range o.Secrets {
			if rec.Secrets == nil {
				rec.Secrets = map[string]secret.Value{}
			}
			rec.Secrets[field] = secret.New(value)
		}
		normal, err := object.Normal(rec)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		out = append(out, normal)
	}
	return out, errors.Join(problems...)
}

func (b *Backend) plan(ctx context.Context, c *call) (*gate.Response, error) {
	var in applyInput
	if err := c.decode(&in, maxApplyBody); err != nil {
		return nil, err
	}
	want, err := in.records()
	if err != nil {
		return nil, err
	}
	plan, err := b.cfg.Estate.Plan(ctx, want, in.Prune)
	if err != nil {
		return nil, err
	}
	return ok(planData(plan)), nil
}

func (b *Backend) apply(ctx context.Context, c *call) (*gate.Response, error) {
	var in applyInput
	if err := c.decode(&in, maxApplyBody); err != nil {
		return nil, err
	}
	want, err := in.records()
	if err != nil {
		return nil, err
	}
	apply, account := b.cfg.Estate.Apply, ""
	if e, ok := b.cfg.Estate.(Untried); ok && in.SkipPreflight {
		apply, account = e.ApplyUntried, "not tried on targets: "
	}
	plan, err := apply(ctx, c.Caller.Name, want, in.Prune, in.Expect)
	if err != nil {
		return nil, err
	}
	resp := ok(planData(plan))
	resp.Detail = account + accountOf(plan)
	return resp, nil
}

func planData(p object.Plan) map[string]any {
	steps := p.Steps
	if steps == nil {
		steps = []object.Step{}
	}
	data := map[string]any{"steps": steps}
	if len(p.Warnings) > 0 {
		data["warnings"] = p.Warnings
	}
	return data
}

// accountOf says what an apply did, without values.
func accountOf(p object.Plan) string {
	var parts []string
	for _, s := range p.Steps {
		if s.Action != object.Unchanged {
			parts = append(parts, fmt.Sprintf("%s %s %s", s.Action, s.Kind, s.Name))
		}
	}
	if len(parts) == 0 {
		return "nothing changed"
	}
	text := strings.Join(parts, ", ")
	if len(text) <= maxDetail {
		return text
	}
	cut := strings.LastIndex(text[:maxDetail], ", ")
	return fmt.Sprintf("%s and more: %d changes", text[:max(cut, 0)], len(parts))
}

func (b *Backend) objects(ctx context.Context, c *call) (*gate.Response, error) {
	kind, err := c.kind()
	if err != nil {
		return nil, err
	}
	records, err := b.cfg.Estate.Objects(ctx, kind)
	if err != nil {
		return nil, err
	}
	list := make([]any, 0, len(records))
	for _, rec := range records {
		list = append(list, objectData(rec))
	}
	return ok(map[string]any{"objects": list}), nil
}

func (b *Backend) object(ctx context.Context, c *call) (*gate.Response, error) {
	kind, err := c.kind()
	if err != nil {
		return nil, err
	}
	rec, err := b.cfg.Estate.Object(ctx, kind, c.args["name"])
	if err != nil {
		return nil, c.named(err)
	}
	return ok(objectData(rec)), nil
}

func (b *Backend) deleteObject(ctx context.Context, c *call) (*gate.Response, error) {
	kind, err := c.kind()
	if err != nil {
		return nil, err
	}
	q, err := c.query("version")
	if err != nil {
		return nil, err
	}
	version := int64(q.number("version", 0, 1<<62))
	if q.err != nil {
		return nil, q.err
	}
	if err := b.cfg.Estate.DeleteObject(ctx, c.Caller.Name, kind, c.args["name"], version); err != nil {
		return nil, c.named(err)
	}
	return done(fmt.Sprintf("deleted %s %s", kind, c.args["name"])), nil
}

func (c *call) kind() (object.Kind, error) {
	kind := object.Kind(c.args["kind"])
	if !kind.Valid() {
		return "", invalid("%.40q is no kind of object: use target, mount, producer, connector, policy, role or identity", kind)
	}
	return kind, nil
}

// named says of which object it is that it is not there.
func (c *call) named(err error) error {
	if errors.Is(err, object.ErrNotFound) {
		return &gate.Error{Kind: gate.NotFound, Msg: fmt.Sprintf("there is no %s %q", c.args["kind"], c.args["name"]), Err: err}
	}
	return err
}

// objectData is an object without its secrets.
func objectData(rec object.Record) map[string]any {
	return map[string]any{
		"kind": rec.Kind, "name": rec.Name, "version": rec.Version, "updated_at": rec.UpdatedAt, "updated_by": rec.UpdatedBy,
		"source": rec.Source, "body": rec.Body,
	}
}
