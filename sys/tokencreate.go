package sys

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/identity"
)

func (b *Backend) createToken(ctx context.Context, c *call) (*gate.Response, error) {
	return b.create(ctx, c, identity.TokenRequest{Path: c.Path})
}

func (b *Backend) createOrphan(ctx context.Context, c *call) (*gate.Response, error) {
	return b.create(ctx, c, identity.TokenRequest{Path: c.Path, Orphan: true})
}

func (b *Backend) createByRole(ctx context.Context, c *call) (*gate.Response, error) {
	return b.create(ctx, c, identity.TokenRequest{Path: c.Path, Role: c.args["role"]})
}

// create makes a token. Where its answer can't be released the token ends.
func (b *Backend) create(ctx context.Context, c *call, q identity.TokenRequest) (*gate.Response, error) {
	if err := b.readToken(c, &q); err != nil {
		return nil, err
	}
	q.By, q.Sudo = c.Caller, c.Decision.Sudo
	if c.Mount != nil {
		q.MountAccessor = c.Mount.Accessor
	}
	made, err := b.cfg.Tokens.Create(ctx, q)
	if err != nil {
		return nil, err
	}
	i := identity.Info{Caller: made.Caller, TTL: made.TTL, Orphan: made.Orphan, Uses: made.Params.Uses, Renewable: !made.Params.NotRenewable}
	i.Metadata = made.Caller.Metadata
	return &gate.Response{
		Auth: authOf(&i, made.Token), Warnings: made.Warnings, Detail: "token " + made.Caller.Accessor + " of " + made.Caller.Name,
		Abandon: func() { b.abandon(made.Caller.Accessor) },
	}, nil
}

// abandon ends a token that nobody was told of.
func (b *Backend) abandon(accessor string) {
	if err := b.cfg.Tokens.Revoke(context.Background(), accessor); err != nil {
		b.cfg.Logger.Error("a token that nobody got could not be ended; it ends when it expires", "accessor", accessor, "error", err)
	}
}

// readToken reads what a token shall be, as loosely as Vault does.
func (b *Backend) readToken(c *call, q *identity.TokenRequest) error {
	f, err := c.fields("id", "policies", "meta", "no_parent", "no_default_policy", "lease", "ttl", "renewable", "explicit_max_ttl", "display_name",
		"num_uses", "period", "type", "entity_alias", "format", "role_name")
	if err != nil {
		return err
	}
	if _, there := f["meta"]; there {
		c.ignored = append(c.ignored, "meta") // as Vault says; it takes it all the same
		slices.Sort(c.ignored)
	}
	r := loose{fields: f}
	q.TokenID, q.DisplayName, q.Type, q.EntityAlias = r.text("id"), r.text("display_name"), r.text("type"), r.text("entity_alias")
	q.Policies, q.Metadata = r.list("policies"), r.texts("meta")
	q.NoParent, q.NoDefaultPolicy = r.truth("no_parent", false), r.truth("no_default_policy", false)
	q.NotRenewable, q.Uses = !r.truth("renewable", true), r.number("num_uses")
	q.ExplicitMaxTTL, q.Period = r.duration("explicit_max_ttl"), r.duration("period")
	if q.TTL = r.duration("ttl"); f["ttl"] == nil {
		q.TTL = r.duration("lease")
	}
	return r.err
}

// loose reads fields of any type that can be understood. The first error stays.
type loose struct {
	fields map[string]json.RawMessage
	err    error
}

func (r *loose) raw(name string) (json.RawMessage, bool) {
	raw, ok := r.fields[name]
	return raw, ok && string(raw) != "null"
}

func (r *loose) fail(format string, args ...any) {
	if r.err == nil {
		r.err = invalid(format, args...)
	}
}

func (r *loose) text(name string) string {
	raw, ok := r.raw(name)
	if !ok {
		return ""
	}
	s, ok := scalar(raw)
	if !ok {
		r.fail("Error decoding request: '%s' expected type 'string'", name)
	}
	return s
}

// scalar is a text, a number or a truth as text.
func scalar(raw json.RawMessage) (string, bool) {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s, true
	}
	raw = bytes.TrimSpace(raw)
	if len(raw) > 0 && (raw[0] == '{' || raw[0] == '[') {
		return "", false
	}
	return string(raw), true
}

func (r *loose) list(name string) []string {
	raw, ok := r.raw(name)
	if !ok {
		return nil
	}
	var items []json.RawMessage
	if json.Unmarshal(raw, &items) != nil {
		items = []json.RawMessage{raw}
	}
	var out []string
	for _, item := range items {
		s, ok := scalar(item)
		if !ok {
			r.fail("Error decoding request: '%s' expected type 'string'", name)
			return nil
		}
		out = append(out, s)
	}
	return out
}

func (r *loose) texts(name string) map[string]string {
	raw, ok := r.raw(name)
	if !ok {
		return nil
	}
	var all map[string]json.RawMessage
	if json.Unmarshal(raw, &all) != nil {
		r.fail("Error decoding request: '%s' expected a map", name)
		return nil
	}
	out := make(map[string]string, len(all))
	for k, v := range all {
		s, ok := scalar(v)
		if !ok {
			r.fail("Error decoding request: '%s[%s]' expected type 'string'", name, k)
		}
		out[k] = s
	}
	return out
}

func (r *loose) truth(name string, otherwise bool) bool {
	raw, ok := r.raw(name)
	if !ok {
		return otherwise
	}
	s, _ := scalar(raw)
	b, err := strconv.ParseBool(s)
	if err != nil {
		r.fail("Error decoding request: cannot parse '%s' as bool", name)
	}
	return b
}

func (r *loose) number(name string) int {
	raw, ok := r.raw(name)
	if !ok {
		return 0
	}
	s, _ := scalar(raw)
	n, err := strconv.Atoi(s)
	if err != nil {
		r.fail("Error decoding request: cannot parse '%s' as int", name)
	}
	return n
}

func (r *loose) duration(name string) time.Duration {
	d, err := durationOf(r.fields, name)
	if err != nil && r.err == nil {
		r.err = err
	}
	return d
}

// durationOf reads a duration as Vault does: seconds, or words; zero where there is none.
func durationOf(fields map[string]json.RawMessage, name string) (time.Duration, error) {
	raw, ok := fields[name]
	if !ok || string(raw) == "null" {
		return 0, nil
	}
	s, ok := scalar(raw)
	if !ok {
		return 0, invalid("%s must be a duration", name)
	}
	if s == "" {
		return 0, nil
	}
	if n, err := strconv.ParseFloat(s, 64); err == nil {
		return time.Duration(n) * time.Second, nil
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseInt(days, 10, 32); err == nil {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, invalid("%s", err.Error())
	}
	return d, nil
}
