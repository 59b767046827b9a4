package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/object"
)

// identities makes identities and their access keys.
type identities struct{ estate *estate }

// Create declares an identity and makes its first key. Killed between the two, an identity without a key is left, which
// can do nothing and can be given one.
func (i identities) Create(ctx context.Context, by string, in object.Identity, note string) (identity.NewKey, error) {
	e := i.estate
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.standing(object.KindIdentity, in.Name) != nil {
		return identity.NewKey{}, &gate.Error{
			Kind: gate.Conflict, Msg: fmt.Sprintf("identity %q exists", in.Name), Hint: "another key for it: bailiff identity key create " + in.Name,
		}
	}
	in.AccessID = identity.NewAccessID()
	if err := e.upsert(ctx, by, &in); err != nil {
		return identity.NewKey{}, err
	}
	return i.newKey(ctx, in.Name, in.AccessID, note, 0)
}

func (i identities) newKey(ctx context.Context, name, accessID, note string, ttl time.Duration) (identity.NewKey, error) {
	k, text, err := i.estate.manager.AddKey(ctx, accessID, note, ttl)
	if err != nil {
		return identity.NewKey{}, err
	}
	return identity.NewKey{Name: name, AccessID: accessID, KeyID: k.ID, Key: text}, nil
}

// AddKey makes one more key, which lives for ttl (0: for ever).
func (i identities) AddKey(ctx context.Context, _, name, note string, ttl time.Duration) (identity.NewKey, error) {
	id, err := i.find(name)
	if err != nil {
		return identity.NewKey{}, err
	}
	return i.newKey(ctx, name, id.AccessID, note, ttl)
}

// Keys lists the keys of an identity, oldest first.
func (i identities) Keys(_ context.Context, name string) ([]identity.Key, error) {
	id, err := i.find(name)
	if err != nil {
		return nil, err
	}
	return i.estate.manager.Keys(id.AccessID), nil
}

// SetKeyDisabled switches a key off or on, at once. What was issued to a key that is switched off is revoked.
func (i identities) SetKeyDisabled(ctx context.Context, _, name, id string, disabled bool) error {
	who, err := i.find(name)
	if err != nil {
		return err
	}
	if err := i.estate.manager.SetKeyDisabled(ctx, who.AccessID, id, disabled); err != nil || !disabled {
		return noKey(err)
	}
	return i.estate.revokeKey(ctx, id)
}

// DeleteKey forgets a key, at once, and revokes what was issued to it. The key is switched off first, so that a crash
// between leaves one whose leases the next start revokes.
func (i identities) DeleteKey(ctx context.Context, by, name, id string) error {
	who, err := i.find(name)
	if err != nil {
		return err
	}
	if err := i.SetKeyDisabled(ctx, by, name, id, true); err != nil {
		return err
	}
	return noKey(i.estate.manager.DeleteKey(ctx, who.AccessID, id))
}

// SetDisabled switches an identity off or on, at once. What was issued to one that is switched off is revoked, and its tokens end.
func (i identities) SetDisabled(ctx context.Context, by, name string, disabled bool) error {
	e := i.estate
	e.mu.Lock()
	defer e.mu.Unlock()
	rec, ok := find(e.live.Load().set.records, object.KindIdentity, name)
	if !ok {
		return noIdentity(name)
	}
	v, err := object.Decode(rec)
	if err != nil {
		return err
	}
	id, ok := v.(*object.Identity)
	if !ok {
		return nil
	}
	if id.Disabled != disabled {
		id.Disabled = disabled
		if err := e.replace(ctx, by, rec, id); err != nil {
			return err
		}
	}
	if !disabled {
		return nil
	}
	// Also where it was off: the last try may have been cut off here.
	return errors.Join(e.revokeFor(ctx, e.manager.Keys(id.AccessID)), e.tokens.RevokeEntity(ctx, identity.EntityIDOf(id.AccessID)))
}

// replace writes one object in place of the one that stands. The caller holds e.mu.
func (e *estate) replace(ctx context.Context, by string, old object.Record, v any) error {
	rec, err := object.Encode(v)
	if err != nil {
		return err
	}
	rec.Source, rec.UpdatedBy, rec.UpdatedAt = old.Source, by, time.Now().UTC()
	if err := e.store.Apply(ctx, []object.Change{{Record: rec, Expect: old.Version}}); err != nil {
		return storeError(err)
	}
	records, err := e.store.Objects(ctx)
	if err != nil {
		return err
	}
	return e.swap(ctx, records)
}

func (i identities) find(name string) (*object.Identity, error) {
	id, ok := i.estate.standing(object.KindIdentity, name).(*object.Identity)
	if !ok {
		return nil, noIdentity(name)
	}
	return id, nil
}

func noIdentity(name string) error {
	return &gate.Error{Kind: gate.NotFound, Msg: fmt.Sprintf("identity %q not found", name)}
}

func noKey(err error) error {
	if errors.Is(err, identity.ErrNoKey) {
		return &gate.Error{Kind: gate.NotFound, Msg: "access key not found"}
	}
	return err
}
