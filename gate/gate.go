// Package gate is the one way to a backend: who, where, may it, record, serve, record.
package gate

import (
	"context"
	"net/netip"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/policy"
)

// Authenticator turns a presented credential into a Caller. It is safe for concurrent use. A credential that isn't good
// is identity.ErrUnauthenticated (possibly wrapped in *identity.Refusal); the Caller then holds what may be recorded of it.
type Authenticator interface {
	Authenticate(ctx context.Context, token secret.Value, from netip.Addr) (identity.Caller, error)
}

// Recorder keeps the trail. Append is durable on return and safe for concurrent use; after an error nothing that the
// records describe may be released. *audit.Log is one.
type Recorder interface {
	Append(ctx context.Context, records ...*audit.Record) error
}

// Policies finds the compiled rules of a caller: those of its policies, with templates filled in. It never fails: a name that
// is not there grants nothing. It is safe for concurrent use and caches.
type Policies interface {
	ACL(who *identity.Caller) *policy.ACL
}

// Uses counts what a policy grants only so many times, for all servers together. It is safe for concurrent use.
type Uses interface {
	// Take counts one more use, durable on return; false where there are most already.
	Take(ctx context.Context, name string, most int64) (bool, error)
}

// Wrapper keeps answers for whoever presents a token that is good once. It is safe for concurrent use.
type Wrapper interface {
	// Wrap keeps resp, sealed, for r.WrapTTL. It is durable on return; Raw bodies are read to their end and closed. What is
	// wrapped is what a door would have answered.
	Wrap(ctx context.Context, r *Request, resp *Response) (*Wrap, error)
}

// Doer is the gate as doors see it; *Gate is one.
type Doer interface {
	// Do serves r: who, where, may it, record, serve, record. Errors are identity.ErrUnauthenticated, ErrDenied, ErrNoRecord,
	// *Error, or anything else, which is internal. Whoever gets a Response owns its Raw.Body.
	Do(ctx context.Context, r *Request) (*Response, error)
	// Refuse records that r can't be judged (an odd path, a body over the limit) and returns what to answer: a *Error of kind,
	// or ErrNoRecord. r.Path holds the path as it came; it is recorded quoted and cut.
	Refuse(ctx context.Context, r *Request, kind Kind, why string) error
}
