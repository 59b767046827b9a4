package sys

import (
	"context"
	"fmt"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/object"
)

// abandonTimeout bounds the deletion of a key whose answer could not be released.
const abandonTimeout = 10 * time.Second

// identityInput is the body for an identity: it makes one or, with disabled alone, switches one off or on.
type identityInput struct {
	Description string            `json:"description"`
	Roles       []string          `json:"roles"`
	Metadata    map[string]string `json:"metadata"`
	Note        string            `json:"note"` // of its first key
	Disabled    *bool             `json:"disabled"`
}

func (b *Backend) putIdentity(ctx context.Context, c *call) (*gate.Response, error) {
	var in identityInput
	if err := c.decode(&in, maxBody); err != nil {
		return nil, err
	}
	name := c.args["name"]
	if in.Disabled == nil {
		key, err := b.cfg.Identities.Create(ctx, c.Caller.Name,
			object.Identity{Name: name, Description: in.Description, Roles: in.Roles, Metadata: in.Metadata}, in.Note)
		if err != nil {
			return nil, err
		}
		return b.shownOnce(ctx, c, key, fmt.Sprintf("created identity %s with access key %s", name, key.KeyID)), nil
	}
	if in.Description != "" || in.Roles != nil || in.Metadata != nil || in.Note != "" {
		return nil, invalid("disabled stands alone: what else an identity is can be changed by bailiff apply")
	}
	if err := b.cfg.Identities.SetDisabled(ctx, c.Caller.Name, name, *in.Disabled); err != nil {
		return nil, c.noIdentity(err)
	}
	return done(switched(*in.Disabled) + " identity " + name), nil
}

func switched(disabled bool) string {
	if disabled {
		return "disabled"
	}
	return "enabled"
}

// noIdentity says which identity it is that is not there.
func (c *call) noIdentity(err error) error {
	c.args["kind"] = string(object.KindIdentity)
	return c.named(err)
}

func (b *Backend) keys(ctx context.Context, c *call) (*gate.Response, error) {
	list, err := b.cfg.Identities.Keys(ctx, c.args["name"])
	if err != nil {
		return nil, c.noIdentity(err)
	}
	keys := make([]any, 0, len(list))
	for _, k := range list {
		data := map[string]any{"id": k.ID, "note": k.Note, "created_at": k.CreatedAt, "disabled": k.Disabled}
		if !k.ExpiresAt.IsZero() {
			data["expires_at"] = k.ExpiresAt
		}
		keys = append(keys, data)
	}
	return ok(map[string]any{"keys": keys}), nil
}

func (b *Backend) addKey(ctx context.Context, c *call) (*gate.Response, error) {
	var in struct {
		Note string          `json:"note"`
		TTL  object.Duration `json:"ttl"`
	}
	if err := c.decode(&in, maxBody); err != nil {
		return nil, err
	}
	if in.TTL < 0 {
		return nil, invalid("ttl must not be below zero")
	}
	name := c.args["name"]
	key, err := b.cfg.Identities.AddKey(ctx, c.Caller.Name, name, in.Note, time.Duration(in.TTL))
	if err != nil {
		return nil, c.noIdentity(err)
	}
	return b.shownOnce(ctx, c, key, fmt.Sprintf("created access key %s of identity %s", key.KeyID, name)), nil
}

// shownOnce is the one answer that holds a new key. Where it can't be released the key is deleted: nobody has it.
func (b *Backend) shownOnce(ctx context.Context, c *call, key identity.NewKey, detail string) *gate.Response {
	data := map[string]any{"name": key.Name, "access_id": key.AccessID, "key_id": key.KeyID, "access_key": key.Key.Reveal()}
	if k, err := b.keyOf(ctx, identity.Caller{Name: key.Name, KeyID: key.KeyID}); err == nil && !k.ExpiresAt.IsZero() {
		data["expires_at"] = k.ExpiresAt
	}
	by, id := c.Caller.Name, c.ID
	return &gate.Response{Data: data, Detail: detail, Abandon: func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abandonTimeout)
		defer cancel()
		if err := b.cfg.Identities.DeleteKey(ctx, by, key.Name, key.KeyID); err != nil {
			b.cfg.Logger.Error("an access key that nobody was given can't be deleted", "request_id", id, "identity", key.Name, "key_id", key.KeyID, "error", err)
		}
	}}
}

func (b *Backend) changeKey(ctx context.Context, c *call) (*gate.Response, error) {
	var in struct {
		Disabled *bool `json:"disabled"`
	}
	if err := c.decode(&in, maxBody); err != nil {
		return nil, err
	}
	if in.Disabled == nil {
		return nil, invalid(`write {"disabled": true} or {"disabled": false}`)
	}
	if err := b.cfg.Identities.SetKeyDisabled(ctx, c.Caller.Name, c.args["name"], c.args["id"], *in.Disabled); err != nil {
		return nil, c.noIdentity(err)
	}
	return done(fmt.Sprintf("%s access key %s of identity %s", switched(*in.Disabled), c.args["id"], c.args["name"])), nil
}

func (b *Backend) deleteKey(ctx context.Context, c *call) (*gate.Response, error) {
	if err := b.cfg.Identities.DeleteKey(ctx, c.Caller.Name, c.args["name"], c.args["id"]); err != nil {
		return nil, c.noIdentity(err)
	}
	return done(fmt.Sprintf("deleted access key %s of identity %s", c.args["id"], c.args["name"])), nil
}
