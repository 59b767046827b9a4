// Package auth serves the mounts below auth/: how identities prove who they are, in the paths and answers of Vault's methods.
package auth

import (
	"context"
	"net/netip"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/document"
)

// Tokens lets in whom a method vouches for. It is safe for concurrent use.
type Tokens interface {
	// Login makes a token, durable on return, for the entity that the alias stands for; a new alias makes a new entity.
	Login(ctx context.Context, spec identity.LoginSpec) (identity.NewToken, error)
}

// Method is one type of auth method. One Method serves each of its mounts; it keeps what it is set up with in documents
// whose keys begin with Mount.Accessor. It is safe for concurrent use.
type Method interface {
	// Serve answers a request below a mount, other than a login: config, roles, users, secret ids. r.Rest is the path there.
	Serve(ctx context.Context, m *Mount, r *gate.Request) (*gate.Response, error)
	// IsLogin tells which requests log in, or lead to it (oidc/auth_url), and so need no caller.
	IsLogin(m *Mount, r *gate.Request) bool
	// Login checks a proof. An error is what the client is told, as Vault words it: the same for what is unknown and what is
	// wrong, after the same work.
	Login(ctx context.Context, m *Mount, r *gate.Request) (*Outcome, error)
}

// Outcome is the end of a request that needed no caller: a login, or an answer on the way to one.
type Outcome struct {
	Login  *identity.LoginSpec // the mount's fields are filled in by the Backend
	Answer *gate.Response
}

// Mount is one auth method as it is mounted.
type Mount struct {
	Path     string // "auth/approle/"
	Type     string
	Accessor string
	Config   map[string]string // tune: default_lease_ttl, max_lease_ttl, listing_visibility, token_type
	Store    document.Store
	From     func(r *gate.Request) netip.Addr
}
