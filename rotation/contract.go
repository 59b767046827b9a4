package rotation

import (
	"context"
	"errors"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/internal/secret"
)

// Account is an account on a target, and what is known of its password.
type Account struct {
	Mount    string // of a static role, with its slash; empty for a target's own user
	Name     string // of the static role, or of the target
	Target   string
	Username string

	Current  secret.Value // proven last; empty before the first rotation of a static role
	Next     secret.Value // set while a rotation is under way: the target may take it already
	Previous secret.Value // what Current replaced
	Declared secret.Value // of a target's own user: what the operator declared, before it was rotated away

	RotatedAt time.Time // when Current was proven; zero: never
	NextAt    time.Time // when work on it is next due; zero when there is none
	Attempt   int       // failures since the last success
	Error     string    // the last failure, without values
	Version   int64     // 1, 2, 3, …: set by the store, and what PutAccount checks
}

// Rotating reports whether a rotation was begun and has not ended.
func (a *Account) Rotating() bool { return !a.Next.Empty() }

// Root reports whether it is a target's own user.
func (a *Account) Root() bool { return a.Mount == "" }

// The errors of a Store.
var (
	// ErrNoAccount is returned for an account that is not there.
	ErrNoAccount = errors.New("account not found")
	// ErrStale is returned when an account is stored in another version.
	ErrStale = errors.New("the account has moved on")
)

// Store keeps accounts, by mount and name. Every method that writes is durable on return; all are safe for concurrent use.
// The four passwords are sealed at rest.
type Store interface {
	// PutAccount writes all of a where the stored version is a.Version, and increases a.Version; version 0 is that of an
	// account that is not there. ErrStale otherwise.
	PutAccount(ctx context.Context, a *Account) error
	// DropAccount removes the account where the stored version is a.Version; ErrStale otherwise, also where there is none.
	DropAccount(ctx context.Context, a *Account) error
	// Account finds one; ErrNoAccount where there is none.
	Account(ctx context.Context, mount, name string) (*Account, error)
	// Accounts lists every account by mount and name.
	Accounts(ctx context.Context) ([]*Account, error)
	// DueAccounts lists up to limit accounts whose NextAt is at or before now, oldest first, by index.
	DueAccounts(ctx context.Context, now time.Time, limit int) ([]*Account, error)
}

// Role is a static role as it is declared now.
type Role struct {
	Mount, Name string // the mount with its slash
	Target      string
	Username    string
	Period      time.Duration // between two rotations; 0 where Schedule says when
	Schedule    string        // cron expression, in UTC
	Statements  []string      // that change the password; none: the producer's own
}

// Admin is the user as which Bailiff works on a target, as it is declared now.
type Admin struct {
	Username   string
	Password   secret.Value
	Statements []string // that change the password; none: the producer's own
}

// Catalog tells what there is to rotate now. It is safe for concurrent use and changes when the configuration does.
type Catalog interface {
	// StaticRole finds one; ok is false where there is none.
	StaticRole(mount, name string) (Role, bool)
	// StaticRoles lists them all.
	StaticRoles() []Role
	// Admin finds a target's own user; ok is false where there is no such target, or none with a user of its own.
	Admin(target string) (Admin, bool)
	// Producer finds the producer that reaches a target, with its type; an error where the target is not configured.
	Producer(target string) (p broker.Producer, kind string, err error)
}

// Targets takes a target's own password over once it is proven: durable on return, and used for what connects from then on.
type Targets interface {
	SetPassword(ctx context.Context, target string, password secret.Value) error
}

// CustomSetter is a broker.PasswordSetter that can change a password with statements of the operator's own. It is
// idempotent where the statements are.
type CustomSetter interface {
	SetPasswordWith(ctx context.Context, username string, password secret.Value, statements []string) error
}
