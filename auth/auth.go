// Package auth serves the mounts below auth/: how identities prove who they are, in the paths and answers of Vault's methods.
//
// A [Backend] keeps the table of mounts, lets in whom a [Method] vouches for, and guards logins: it locks out names and slows
// down addresses whose proofs are wrong. Each folder in this one is a method.
package auth

import (
	"context"
	"fmt"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/document"
)

// Tokens lets in whom a method vouches for. It is safe for concurrent use.
type Tokens interface {
	// Login makes a token, durable on return, for the entity that the alias stands for; a new alias makes a new entity. An
	// error is *identity.Said where the client should be told.
	Login(ctx context.Context, spec identity.LoginSpec) (identity.NewToken, error)
	// Revoke ends a token that nobody got.
	Revoke(ctx context.Context, accessor string) error
}

// Method is one type of auth method. One Method serves each of its mounts; it keeps what it is set up with in documents
// of the mount. It is safe for concurrent use.
type Method interface {
	// Serve answers a request below a mount, other than a login: config, roles, users, secret ids.
	Serve(ctx context.Context, c *Call) (*gate.Response, error)
	// Greets tells which paths below a mount log in, or lead to it (oidc/auth_url), and so need no caller.
	Greets(rest string) bool
	// Login checks a proof. A *Refused is a no, in Vault's words: the same for what is unknown and what is wrong, after the
	// same work.
	Login(ctx context.Context, c *Call) (*Outcome, error)
}

// Named is a Method whose logins say who somebody claims to be before they prove it, so that a name can be locked out.
type Named interface {
	// Claimed is that name; empty where there is none.
	Claimed(c *Call) string
}

// Exister is a Method that can tell a create from an update; see gate.Exister.
type Exister interface {
	Exists(ctx context.Context, m *Mount, rest string) (exists, known bool, err error)
}

// Renewer is a Method that can say of somebody whom it let in whether it would do so still. An error is what they are told.
type Renewer interface {
	Renew(ctx context.Context, m *Mount, who identity.Admission) (*Params, error)
}

// Outcome is the end of a request that needed no caller: a login, or an answer on the way to one.
type Outcome struct {
	Login    *identity.LoginSpec // the mount's fields are filled in by the Backend
	Answer   *gate.Response
	Data     map[string]any // goes with the login's answer
	Warnings []string
}

// Refused is a login's no.
type Refused struct {
	Msg    string // for the client
	Kind   gate.Kind
	Reason string // for the record: what was wrong, without the proof
	Alias  string // who it was meant to be, where that is known
	Wrong  bool   // the proof was wrong, or the name is not known: it counts towards a lock-out
	Known  bool   // the name is known
}

func (r *Refused) Error() string { return r.Msg }

// Refuse is a no whose reason is what the client is told.
func Refuse(alias, format string, args ...any) *Refused {
	msg := fmt.Sprintf(format, args...)
	return &Refused{Msg: msg, Kind: gate.Invalid, Reason: msg, Alias: alias}
}

// Mount is one auth method as it is mounted. It is not changed once it is in use.
type Mount struct {
	Path        string `json:"path"` // "approle/": below auth/
	Type        string `json:"type"`
	Accessor    string `json:"accessor"`
	UUID        string `json:"uuid"`
	Description string `json:"description,omitempty"`
	Local       bool   `json:"local,omitempty"`
	SealWrap    bool   `json:"seal_wrap,omitempty"`
	Tune        Tune   `json:"tune"`
	Options     map[string]string
	Disabled    bool `json:"disabled,omitempty"` // on its way out: its tokens are being ended

	store   document.Store
	version int64
}

// Tune is what can be tuned of a mount.
type Tune struct {
	DefaultTTL  time.Duration `json:"default_ttl,omitempty"` // zero: the system's
	MaxTTL      time.Duration `json:"max_ttl,omitempty"`     // zero: the system's
	TokenType   string        `json:"token_type,omitempty"`  // default-service (also empty), default-batch, service, batch
	Visibility  string        `json:"listing_visibility,omitempty"`
	NoCache     bool          `json:"force_no_cache,omitempty"`
	Passthrough []string      `json:"passthrough_request_headers,omitempty"`
	Allowed     []string      `json:"allowed_response_headers,omitempty"`
	RequestKeys []string      `json:"audit_non_hmac_request_keys,omitempty"` // shown again; the trail has no values at all
	AnswerKeys  []string      `json:"audit_non_hmac_response_keys,omitempty"`
	Lockout     *Lockout      `json:"lockout,omitempty"`
}

// Lockout says when a name is locked out; zero fields are the defaults.
type Lockout struct {
	Threshold uint64        `json:"threshold,omitempty"` // wrong proofs
	Duration  time.Duration `json:"duration,omitempty"`
	Reset     time.Duration `json:"reset,omitempty"` // after which a wrong proof is forgotten
	Disabled  bool          `json:"disabled,omitempty"`
}

// FullPath is where the mount is: "auth/approle/".
func (m *Mount) FullPath() string { return "auth/" + m.Path }
