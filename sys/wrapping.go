package sys

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/policy"
	"github.com/bailiff-secrets/bailiff/wrapping"
)

// Wrapping keeps answers for whoever presents their token; *wrapping.Keeper is one. A token that opens nothing is
// wrapping.ErrNoToken.
type Wrapping interface {
	// Lookup tells about a kept answer.
	Lookup(ctx context.Context, token secret.Value) (wrapping.About, error)
	// Open gives it out, once.
	Open(ctx context.Context, token secret.Value, requestID string) (*gate.Response, wrapping.About, error)
	// Rewrap keeps it on under another token.
	Rewrap(ctx context.Context, token secret.Value) (*gate.Wrap, error)
}

const (
	wrapPath, unwrapPath       = "sys/wrapping/wrap", "sys/wrapping/unwrap"
	wrapLookupPath, rewrapPath = "sys/wrapping/lookup", "sys/wrapping/rewrap"
	methodWrapping             = "wrapping-token" // of a caller who has nothing but that
)

// NeedsNoCaller tells which paths need no caller: a wrapping token is asked about, or opens what it stands for, by itself.
// See gate.Greeter.
func (b *Backend) NeedsNoCaller(r *gate.Request) bool {
	switch r.Path {
	case wrapLookupPath:
		return r.Op == policy.Update || r.Op == policy.Read
	case unwrapPath:
		return r.Op == policy.Update && (r.Token.Empty() || wrapping.IsToken(r.Token))
	}
	return false
}

// wrapping is the routes of its own; they are refused where nothing is wrapped.
func (b *Backend) wrapping() []route {
	if b.cfg.Wrapping == nil {
		return []route{{"", "sys/wrapping/{rest...}", notHere("response wrapping is not served here")}}
	}
	return []route{
		{policy.Update, wrapPath, b.wrap},
		{policy.Update, unwrapPath, b.unwrap},
		{policy.Update, rewrapPath, b.rewrap},
		{policy.Update, wrapLookupPath, b.lookupWrapped},
		{policy.Read, wrapLookupPath, b.lookupWrapped},
	}
}

// wrap answers with what it is given: the gate wraps it.
func (b *Backend) wrap(_ context.Context, c *call) (*gate.Response, error) {
	if c.WrapTTL <= 0 {
		return nil, invalid("endpoint requires response wrapping to be used")
	}
	text, err := c.readBody(maxBody)
	if err != nil {
		return nil, err
	}
	data := map[string]any{}
	if err := json.Unmarshal(text, &data); err != nil {
		return nil, invalid("error parsing JSON")
	}
	return ok(data), nil
}

func (b *Backend) unwrap(ctx context.Context, c *call) (*gate.Response, error) {
	token, err := wrappingToken(c)
	if err != nil {
		return nil, err
	}
	resp, about, err := b.cfg.Wrapping.Open(ctx, token, c.ID)
	if err != nil {
		return nil, noWrapping(err)
	}
	if c.Caller.Name == "" {
		c.Caller = identity.Caller{Method: methodWrapping, Accessor: about.Accessor}
	}
	resp.Detail = "opened the answer of " + about.CreationPath + " that was wrapped for " + about.By + ", accessor " + about.Accessor
	return resp, nil
}

func (b *Backend) rewrap(ctx context.Context, c *call) (*gate.Response, error) {
	token, err := wrappingToken(c)
	if err != nil {
		return nil, err
	}
	w, err := b.cfg.Wrapping.Rewrap(ctx, token)
	if err != nil {
		return nil, noWrapping(err)
	}
	return &gate.Response{Wrap: w, Detail: "wrapped anew, accessor " + w.Accessor}, nil
}

func (b *Backend) lookupWrapped(ctx context.Context, c *call) (*gate.Response, error) {
	token, err := wrappingToken(c)
	if err != nil {
		return nil, err
	}
	about, err := b.cfg.Wrapping.Lookup(ctx, token)
	if err != nil {
		return nil, noWrapping(err)
	}
	return ok(map[string]any{
		"creation_path": about.CreationPath, "creation_time": about.CreationTime.Format(time.RFC3339Nano), "creation_ttl": seconds(about.TTL),
	}), nil
}

// wrappingToken is the token in the body, or else the one that the caller came with.
func wrappingToken(c *call) (secret.Value, error) {
	fields, err := c.fields("token")
	if err != nil {
		return secret.Value{}, err
	}
	text, given := fields["token"]
	if !given {
		return c.Token, nil
	}
	var token string
	if json.Unmarshal(text, &token) != nil || string(text) == "null" {
		return secret.Value{}, &gate.Error{Kind: gate.Forbidden, Msg: "error validating wrapping token: could not decode token in request body"}
	}
	if token == "" {
		return secret.Value{}, &gate.Error{Kind: gate.Forbidden, Msg: "error validating wrapping token: empty token in request body"}
	}
	return secret.New(token), nil
}

func noWrapping(err error) error {
	if errors.Is(err, wrapping.ErrNoToken) {
		return invalid("%w", wrapping.ErrNoToken)
	}
	return err
}

var _ gate.Greeter = (*Backend)(nil)
