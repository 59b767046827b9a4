package sys

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/secret"
)

func (b *Backend) lookupSelf(ctx context.Context, c *call) (*gate.Response, error) {
	if _, err := c.fields("token"); err != nil {
		return nil, err
	}
	return b.tokenData(ctx, c.Caller, c.Token)
}

// lookupToken looks at the token that is named, and at the caller's own where none is.
func (b *Backend) lookupToken(ctx context.Context, c *call) (*gate.Response, error) {
	fields, err := c.fields("token")
	if err != nil {
		return nil, err
	}
	token, err := textField(fields, "token")
	if err != nil {
		return nil, err
	}
	if token == "" {
		return b.tokenData(ctx, c.Caller, c.Token)
	}
	who, known, err := b.callerOf(ctx, c, secret.New(token))
	if err != nil {
		return nil, err
	}
	if !known {
		return nil, &gate.Error{Kind: gate.Forbidden, Msg: "bad token"}
	}
	return b.tokenData(ctx, who, secret.New(token))
}

func (b *Backend) lookupAccessor(ctx context.Context, c *call) (*gate.Response, error) {
	fields, err := c.fields("accessor")
	if err != nil {
		return nil, err
	}
	if err := ownAccessor(c, fields); err != nil {
		return nil, err
	}
	return b.tokenData(ctx, c.Caller, secret.Value{})
}

// ownAccessor refuses any accessor but the caller's own: there is no finding others by theirs.
func ownAccessor(c *call, fields map[string]json.RawMessage) error {
	accessor, err := textField(fields, "accessor")
	switch {
	case err != nil:
		return err
	case accessor == "":
		return invalid("missing accessor")
	case accessor != c.Caller.Accessor:
		return &gate.Error{Kind: gate.Unsupported, Msg: "only a caller's own accessor can be looked up: see bailiff identity key list"}
	}
	return nil
}

// callerOf says whose a token is; known is false for one that isn't good.
func (b *Backend) callerOf(ctx context.Context, c *call, token secret.Value) (who identity.Caller, known bool, err error) {
	if subtle.ConstantTimeCompare([]byte(token.Reveal()), []byte(c.Token.Reveal())) == 1 {
		return c.Caller, true, nil
	}
	if b.cfg.Tokens == nil {
		return who, false, &gate.Error{Kind: gate.Unsupported, Msg: "only a caller's own token can be looked up"}
	}
	who, err = b.cfg.Tokens.Authenticate(ctx, token, c.ClientAddr)
	if errors.Is(err, identity.ErrUnauthenticated) {
		return identity.Caller{}, false, nil
	}
	return who, err == nil, err
}

// tokenData is what Vault shows of a token. Its id is the token as the caller presented it: "vault login" keeps what it
// finds there. Who asks by accessor is shown none.
func (b *Backend) tokenData(ctx context.Context, who identity.Caller, presented secret.Value) (*gate.Response, error) {
	key, err := b.keyOf(ctx, who)
	if err != nil {
		return nil, err
	}
	data := map[string]any{
		"accessor":         who.Accessor,
		"creation_time":    who.IssuedAt.Unix(),
		"creation_ttl":     int64(0),
		"display_name":     who.Name,
		"entity_id":        "",
		"expire_time":      nil,
		"explicit_max_ttl": int64(0),
		"id":               presented.Reveal(),
		"issue_time":       who.IssuedAt.UTC().Format(time.RFC3339Nano),
		"meta":             who.Metadata,
		"num_uses":         0,
		"orphan":           true,
		"path":             "auth/" + who.Method,
		"policies":         who.Policies,
		"renewable":        false,
		"ttl":              int64(0),
		"type":             "service",
	}
	if !key.ExpiresAt.IsZero() {
		data["expire_time"] = key.ExpiresAt.UTC().Format(time.RFC3339Nano)
		data["creation_ttl"] = seconds(key.ExpiresAt.Sub(key.CreatedAt))
		data["ttl"] = max(seconds(time.Until(key.ExpiresAt)), 0)
	}
	return ok(data), nil
}

// keyOf finds the access key that a caller came with; none where it came otherwise.
func (b *Backend) keyOf(ctx context.Context, who identity.Caller) (identity.Key, error) {
	if who.KeyID == "" {
		return identity.Key{}, nil
	}
	keys, err := b.cfg.Identities.Keys(ctx, who.Name)
	if err != nil {
		return identity.Key{}, err
	}
	for _, k := range keys {
		if k.ID == who.KeyID {
			return k, nil
		}
	}
	return identity.Key{}, nil
}

// renewSelf answers as Vault does for a token without an end: an access key lives as long as it was made for.
func (b *Backend) renewSelf(_ context.Context, c *call) (*gate.Response, error) {
	if _, err := c.fields("increment", "token"); err != nil {
		return nil, err
	}
	return nil, invalid("lease is not renewable")
}

// revokeSelf switches off the access key that the caller came with. It stays listed, and can be switched on again.
func (b *Backend) revokeSelf(ctx context.Context, c *call) (*gate.Response, error) {
	if c.Caller.KeyID == "" {
		return nil, &gate.Error{Kind: gate.Unsupported, Msg: "this credential can't be revoked here"}
	}
	if err := b.cfg.Identities.SetKeyDisabled(ctx, c.Caller.Name, c.Caller.Name, c.Caller.KeyID, true); err != nil {
		return nil, err
	}
	return done("disabled access key " + c.Caller.KeyID + " of identity " + c.Caller.Name), nil
}
