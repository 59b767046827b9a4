package auth

import (
	"context"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/secret"
)

// AccessKeys knows declared identities and their access keys; *identity.Manager is one.
type AccessKeys = gate.Authenticator

// KeyOf checks an access key that is given as a pair, for methods that take one in place of their own proofs.
func KeyOf(ctx context.Context, keys AccessKeys, c *Call, id, key string) (identity.Caller, error) {
	return keys.Authenticate(ctx, secret.New(id+identity.Separator+key), c.ClientAddr)
}

// KeyLogin is the login of a declared identity, whose access key was right.
func KeyLogin(who identity.Caller) *identity.LoginSpec {
	return &identity.LoginSpec{Alias: who.AccessID, Identity: who.Name, DisplayName: who.Name, Metadata: map[string]string{"access_id": who.AccessID, "key_id": who.KeyID}}
}
