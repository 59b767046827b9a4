package broker

import (
	"context"
	"errors"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/secret"
)

// State is where a lease is in its life.
type State string

// The states. A lease never goes back.
const (
	Pending  State = "pending"  // durable, before the credential exists on the target
	Active   State = "active"   // the credential was released, or may have been
	Revoking State = "revoking" // to be ended; tried again with backoff
	Stuck    State = "stuck"    // Revoking that failed often: still tried, hourly, and listed
	Revoked  State = "revoked"  // ended on the target
	Pooled   State = "pooled"   // made ahead of demand, disabled on the target; becomes Active when it is handed out
)

// Cause says why a revocation did not succeed yet.
type Cause string

// The causes. Gone counts as done and is never stored on an open lease.
const (
	Gone        Cause = "gone"
	OwnsObjects Cause = "owns-objects"
	Unreachable Cause = "unreachable"
	ForbiddenBy Cause = "forbidden"
	Unknown     Cause = "unknown"
)

// Lease is the promise to revoke one credential at one time. It never holds the credential's secret.
type Lease struct {
	Seq       int64  // time-ordered, set by the store
	ID        string // public: <mount>creds/<role>/<24 random letters>
	Mount     string // "database/"
	Role      string // the producer object's name within the mount
	Producer  string // type: "postgres"
	Target    string
	Identity  string
	AccessID  string
	RequestID string
	Principal string            // the name on the target, chosen before it is made
	Token     string            // accessor of the token or access key that it was issued to
	Claims    map[string]string // what decided when that token was made; nil: nothing
	Outlives  bool              // it stays when that token ends; otherwise it is revoked then
	Holders   int               // how many callers share it; 0 and 1 mean one
	ShareKey  string            // what those who share it have in common; empty: it is not shared

	State          State
	IssuedAt       time.Time // when it became active; zero before
	ExpiresAt      time.Time // when it will be revoked
	MaxExpiresAt   time.Time // renewals never go past it
	IntentDeadline time.Time // a pending lease past it is revoked
	NextAt         time.Time // when work on it is next due; zero when there is none
	Attempt        int       // failed revocations so far
	Cause          Cause
	Error          string // the last failure, without values
	Version        int64  // 1, 2, 3, …: set by the store, and what Move checks
	Data           []byte // what the producer needs to revoke when its role is gone; sealed at rest, never a password
}

// ErrNoLease is returned for a lease that is not there (or no longer open, where an open one is asked for).
var ErrNoLease = errors.New("lease not found")

// ErrStale is returned when a lease was not in the state that a transition starts from.
var ErrStale = errors.New("the lease has moved on")

// ErrNoRevocation is returned for a revocation of many that is not there.
var ErrNoRevocation = errors.New("revocation not found")

// Store keeps leases. Every method that writes is durable on return; all are safe for concurrent use, and concurrent
// writes share one commit. A transition names the states it may start from and fails with ErrStale from any other, so
// that a late answer can't undo a revocation.
type Store interface {
	// Insert adds a lease and sets its Seq. The ID must be new.
	Insert(ctx context.Context, l *Lease) error
	// Move writes l's mutable fields (State, IssuedAt, ExpiresAt, NextAt, Attempt, Cause, Error, Holders, and for a lease that
	// leaves Pooled also MaxExpiresAt, Identity, AccessID, RequestID, Token, Claims, Outlives, ShareKey) where the stored state is one
	// of from and the stored Version is l's, and increases l.Version; ErrStale otherwise, ErrNoLease where there is none.
	Move(ctx context.Context, l *Lease, from ...State) error
	// Lease finds one by its ID, in any state; ErrNoLease where there is none.
	Lease(ctx context.Context, id string) (*Lease, error)
	// Due lists up to limit leases that are not revoked and whose NextAt is at or before now, oldest first, by index.
	Due(ctx context.Context, now time.Time, limit int) ([]*Lease, error)
	// List pages through leases that match f, by Seq.
	List(ctx context.Context, f Filter) ([]*Lease, error)
}

// Filter selects leases. Zero fields match everything.
type Filter struct {
	Prefix   string // of ID
	Identity string
	Target   string
	Mount    string
	Role     string
	States   []State // empty: every state but Revoked
	Cause    Cause
	Producer string
	Token    string
	Claims   map[string]string // all of them, of the token
	ShareKey string
	AfterSeq int64
	Limit    int // 0: 1000
}

// Spec is what a producer is asked to make.
type Spec struct {
	LeaseID   string
	Principal string    // the exact name to create
	ExpiresAt time.Time // for targets with expiry of their own
	Deadline  time.Time // the producer must not create anything after it
	Role      Role
}

// Role is how a producer object says credentials are made. Config is the producer's own, as it was validated.
type Role struct {
	Mount, Name string
	Target      string
	DefaultTTL  time.Duration
	MaxTTL      time.Duration
	Config      any

	TargetMaxTTL time.Duration // no credential on the target lives longer; 0: no limit
	MaxLeases    int           // open at a time; 0: no limit
	IssueRate    string        // "10/s", "100/m"; empty: no limit
	Share        string        // ShareByIdentity, or empty: nobody shares
	PoolSize     int           // credentials made ahead of demand, at most; 0: none
	PoolMaxAge   time.Duration // how long they wait at most
	Shape        Shape         // of the answer
	ReadyTimeout time.Duration // how long a new credential may take to work before it is released; 0: it is not tried
}

// ShareByIdentity is Role.Share where callers of one identity share a lease.
const ShareByIdentity = "identity"

// Credential is what a producer made: the fields of the answer in Vault's names, some of them secret.
type Credential struct {
	Fields map[string]secret.Value // "username", "password"
	Data   []byte                  // kept (sealed) with the lease, for a later Revoke without Role; never a secret of the credential

	Warnings []string // for whoever gets it
}

// Ref names a credential to renew or revoke.
type Ref struct {
	LeaseID   string
	Principal string
	Role      *Role  // nil when the role is gone: use Data
	Data      []byte // as Snapshot returned it when the lease was made
}

// Producer makes and ends credentials on one target. Both methods must be idempotent for one LeaseID, honour ctx and be
// safe for concurrent use. The contract as tests is producers/producertest.
type Producer interface {
	// Create makes the credential named spec.Principal. It must refuse with an error past spec.Deadline, also on the
	// target's side as far as the target can. After an error the credential may or may not exist: the broker revokes it.
	Create(ctx context.Context, spec Spec) (*Credential, error)
	// Revoke ends the credential and its sessions. A credential that isn't there is success. A failure is a *RevokeError
	// where the producer can class it.
	Revoke(ctx context.Context, ref Ref) error
}

// Renewer is a Producer whose target keeps an expiry of its own, to be moved on renewal. Renew never moves it back: where it
// is at until or later already it stays, also where another Renew, of another process, is at work at the same time. Brokers
// don't know of each other's renewals, and the one whose end is the earlier may reach the target last.
type Renewer interface {
	Renew(ctx context.Context, ref Ref, until time.Time) error
}

// Snapshotter is a Producer that keeps what Revoke will need with the lease, for the day the role is gone or changed.
// It is called before Create, so that the bytes are durable with the intent.
type Snapshotter interface {
	Snapshot(role Role) ([]byte, error)
}

// Namer is a Producer whose target wants names of another form than bl-<role8>-<20 letters>. Names must hold at least 80
// random bits and be recognisable as Bailiff's. They have no check, so Reconcile touches none of them.
type Namer interface {
	Name(role Role, random string) string
}

// RevokeError classes a failed revocation. Msg never holds a secret value.
type RevokeError struct {
	Cause Cause
	Msg   string
	Err   error
}

func (e *RevokeError) Error() string { return e.Msg }

func (e *RevokeError) Unwrap() error { return e.Err }

// Catalog tells the broker which roles and producers exist now. It is safe for concurrent use and changes when the
// configuration does.
type Catalog interface {
	// Role finds a producer object; ok is false where there is none.
	Role(mount, name string) (Role, bool)
	// Roles lists the names of a mount's producer objects, sorted.
	Roles(mount string) []string
	// Producer finds the producer that reaches a target, with its type; an error where the target is not configured.
	Producer(target string) (p Producer, kind string, err error)
}
