package broker

import (
	"context"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/secret"
)

// Claimer is a Store that several brokers share: it hands each piece of due work to one of them at a time.
type Claimer interface {
	// Claim takes up to limit leases that are due at now for broker by until the given time, oldest first. It leaves out what
	// a claim that has not run out holds, its own included. A Move ends a claim. That a claim is lost (its broker died) does
	// no harm: the work is done again, and is idempotent.
	Claim(ctx context.Context, by string, now, until time.Time, limit int) ([]*Lease, error)
}

// Counter tells how many leases there are without counting them one by one.
type Counter interface {
	// Open counts the leases that are not revoked and match sel, for quotas and previews; it may stop at limit (0: none).
	Open(ctx context.Context, sel Selector, limit int) (int, error)
	// Tally counts open leases by state, target and cause, for metrics and previews.
	Tally(ctx context.Context) ([]Tally, error)
	// Overdue is when the oldest revocation that is due, or that failed, should have happened; zero where there is none.
	Overdue(ctx context.Context, now time.Time) (time.Time, error)
}

// Expirer is a Store that finds active leases by their end.
type Expirer interface {
	// Expiring lists up to limit active leases whose NextAt, which is their end, is past after, or is after and their Seq is
	// past afterSeq, and at or before until: by NextAt, then Seq, by index.
	Expiring(ctx context.Context, after time.Time, afterSeq int64, until time.Time, limit int) ([]*Lease, error)
}

// Tally is one line of Counter.Tally.
type Tally struct {
	State  State
	Target string
	Cause  Cause
	N      int
}

// Selector picks leases to revoke. All fields that are set must match; a Selector without any matches nothing.
type Selector struct {
	Prefix   string            `json:"prefix,omitempty"` // of the ID
	Identity string            `json:"identity,omitempty"`
	Mount    string            `json:"mount,omitempty"` // with its slash
	Role     string            `json:"role,omitempty"`
	Producer string            `json:"producer,omitempty"` // type
	Target   string            `json:"target,omitempty"`
	Token    string            `json:"token,omitempty"`    // accessor
	Claims   map[string]string `json:"claims,omitempty"`   // what decided at the login; all that are given must be so
	Children bool              `json:"children,omitempty"` // leave out leases that outlive their token; picks nothing by itself
}

// Empty reports whether nothing is selected.
func (s Selector) Empty() bool {
	return s.Prefix == "" && s.Identity == "" && s.Mount == "" && s.Role == "" && s.Producer == "" && s.Target == "" && s.Token == "" &&
		len(s.Claims) == 0
}

// Matches reports whether l is one of those that s picks.
func (s Selector) Matches(l *Lease) bool {
	eq := func(want, got string) bool { return want == "" || want == got }
	return !s.Empty() && len(l.ID) >= len(s.Prefix) && l.ID[:len(s.Prefix)] == s.Prefix &&
		eq(s.Identity, l.Identity) && eq(s.Mount, l.Mount) && eq(s.Role, l.Role) && eq(s.Producer, l.Producer) &&
		eq(s.Target, l.Target) && eq(s.Token, l.Token) && hasClaims(l, s.Claims) && (!s.Children || !l.Outlives)
}

// hasClaims reports whether all of want decided at the login of whom l was issued to.
func hasClaims(l *Lease, want map[string]string) bool {
	for name, value := range want {
		if got, there := l.Claims[name]; !there || got != value {
			return false
		}
	}
	return true
}

// Revocation is the durable promise to revoke every lease that a Selector picks and that was issued before it. From the
// moment its row is durable, lookup and renew refuse those leases; the leases themselves are marked in the background.
type Revocation struct {
	ID        string // "rv-…"
	Selector  Selector
	By        string // identity
	Reason    string
	RequestID string
	CreatedAt time.Time
	UpTo      int64 // leases with a larger Seq are not meant
	Cursor    int64 // leases up to this Seq have been marked
	Marked    int64 // leases marked so far
	Expanded  bool  // every lease is marked
	DoneAt    time.Time
	Revoked   int64 // of those marked, ended on the target
	Open      int64 // of those marked, not ended yet (as of the last look)
	Sessions  int64 // sessions closed, where the producer tells
}

// Revocations keeps revocations of many. Every method that writes is durable on return; all are safe for concurrent use.
type Revocations interface {
	// PutRevocation adds one, and sets UpTo to the largest Seq there is.
	PutRevocation(ctx context.Context, r *Revocation) error
	// UpdateRevocation writes Cursor, Marked, Expanded, DoneAt, Revoked, Open and Sessions.
	UpdateRevocation(ctx context.Context, r *Revocation) error
	// Revocation finds one; ErrNoRevocation where there is none.
	Revocation(ctx context.Context, id string) (*Revocation, error)
	// OpenRevocations lists those without DoneAt, oldest first; with limit > 0 also the newest done ones, up to limit in all.
	OpenRevocations(ctx context.Context, limit int) ([]*Revocation, error)
}

// BatchRevoker is a Producer that ends many credentials at the cost of one. The result has one error for each ref, as
// Revoke would give it; a ref that can't be ended must not keep the others from it.
type BatchRevoker interface {
	RevokeBatch(ctx context.Context, refs []Ref) []error
}

// Prober is a Producer that can tell whether a credential works, by using it. An error says why it doesn't (yet).
type Prober interface {
	Probe(ctx context.Context, spec Spec, c *Credential) error
}

// Lister is a Producer that can list what is on its target. It calls yield for each principal whose name has the form of
// Bailiff's names; whether it really is one, the broker finds out by the name's check. An error of yield ends it.
type Lister interface {
	List(ctx context.Context, yield func(Found) error) error
}

// Found is one principal on a target.
type Found struct {
	Name    string
	LeaseID string // as the principal's comment names it; may be empty
	Enabled bool
}

// Quarantiner is a Producer that can shut a principal out without removing it: no login, no session, nothing deleted.
type Quarantiner interface {
	Quarantine(ctx context.Context, name string) error
}

// Teller is a Producer that tells what a revocation did: it is Revoke with a result.
type Teller interface {
	RevokeTold(ctx context.Context, ref Ref) (Ended, error)
}

// Ended is what a revocation found.
type Ended struct {
	Gone     bool // the principal was not there any more
	Sessions int  // that were closed
}

// Pooler is a Producer whose target can hold credentials that don't work yet. Park makes spec.Principal, disabled and
// without a known password; Hand enables it, with a new password and spec.ExpiresAt, in one statement. Revoke ends both.
type Pooler interface {
	Park(ctx context.Context, spec Spec) error
	Hand(ctx context.Context, spec Spec) (*Credential, error)
}

// PasswordSetter is a Producer that can set the password of an account that stays (a static role, or Bailiff's own user).
// Both are idempotent.
type PasswordSetter interface {
	// SetPassword makes password the one that username logs in with.
	SetPassword(ctx context.Context, username string, password secret.Value) error
	// TryPassword logs in: nil where it works, a *RevokeError of cause ForbiddenBy where the target refuses it.
	TryPassword(ctx context.Context, username string, password secret.Value) error
}
