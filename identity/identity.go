// Package identity owns who calls: identities, their access keys, and how a presented token becomes a Caller.
package identity

import (
	"context"
	"errors"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/secret"
)

// ErrUnauthenticated is the one answer to a missing, malformed, unknown, wrong, expired or disabled credential.
// The reason is kept apart (see Refusal) so that it can be recorded without reaching the client.
var ErrUnauthenticated = errors.New("permission denied")

// Caller is an authenticated identity as one request sees it. It holds no secret.
type Caller struct {
	Name      string   // the identity's name; empty when nobody was authenticated
	AccessID  string   // p-…
	KeyID     string   // which access key was used
	Method    string   // "api-key"
	Accessor  string   // stands for the presented credential in records and answers; not a secret
	Policies  []string // names, sorted, without duplicates, "default" included
	Metadata  map[string]string
	IssuedAt  time.Time // when the credential was made
	Expires   time.Time // when the credential ends; zero: it doesn't
	MaxLeases int       // open at a time; 0: no limit
	IssueRate string    // "10/s"; empty: no limit

	// Of a token; empty for an access key, whose identity is an entity by itself.
	DisplayName   string            // for people: "approle-ci"
	EntityID      string            // of the entity that Name names; set for access keys too
	GroupIDs      []string          // of the groups that the entity is in, sorted
	TokenPolicies []string          // those of the token alone; Policies also has those of the entity and its groups
	Claims        map[string]string // what decided at the login
	MountPath     string            // where the login was: "auth/approle/"
	AliasName     string            // who that was there
	NoWrite       bool              // a token that keeps nothing: a batch token
	LastUse       bool              // the token may not be used again: it ends with this request
}

// Identity is a person, service or machine that may call.
type Identity struct {
	Name        string
	AccessID    string
	Description string
	Roles       []string // names of roles it is bound to, beside the roles that name it
	Metadata    map[string]string
	Disabled    bool
	MaxLeases   int    // open at a time; 0: no limit
	IssueRate   string // "10/s"; empty: no limit
	Aliases     []DeclaredAlias
}

// DeclaredAlias is what an identity is called at an auth mount: who logs in there by that name is that identity.
type DeclaredAlias = object.Alias

// Role binds policies to identities, and to logins that proved something.
type Role struct {
	Name       string
	Policies   []string
	Identities []string // names of identities
	Binds      []Bind
}

// Bind is what a login must have proved to have a role.
type Bind = object.Bind

// Key is one access key of an identity. The key itself is never kept.
type Key struct {
	ID        string // k-…
	AccessID  string
	Hash      [32]byte // SHA-256 of the key, which is 256 random bits
	Note      string
	CreatedAt time.Time
	ExpiresAt time.Time // zero: does not expire
	Disabled  bool
}

// KeyStore keeps access keys. Every method is durable on return and safe for concurrent use.
type KeyStore interface {
	// PutKey adds a key or replaces the one with the same ID.
	PutKey(ctx context.Context, k Key) error
	// DeleteKey removes a key; removing one that is not there is no error.
	DeleteKey(ctx context.Context, accessID, id string) error
	// Keys lists every key, ordered by AccessID, then ID.
	Keys(ctx context.Context) ([]Key, error)
}

// NewKey is an access key at the one moment when it can be seen.
type NewKey struct {
	Name     string // of the identity
	AccessID string
	KeyID    string
	Key      secret.Value
}
