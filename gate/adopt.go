package gate

import (
	"context"
	"time"
)

// Adopter keeps the leases that targets issue by themselves, beside our own. It is safe for concurrent use; errors are *Error.
type Adopter interface {
	// Expect notes, durably, that the target may issue something for r under a name that nobody knows yet. What it returns
	// is for Adopt; a request of which nothing is heard leaves the note, which is listed until whatever was issued has ended.
	Expect(ctx context.Context, r *Request) (intent string, err error)
	// Adopt keeps l for r's caller and ends the note. It is durable on return. A nil l says that nothing was issued.
	// After an error the lease must be ended on the target, and its answer must not be released.
	Adopt(ctx context.Context, r *Request, intent string, l *TargetLease) error
	// Abandon ends a lease that was adopted and whose answer nobody got. It does not wait for the target.
	Abandon(ctx context.Context, id string)
}

// TargetLease is a lease that a target keeps.
type TargetLease struct {
	ID        string // as our clients know it: below our mount
	Remote    string // as the target knows it
	Duration  time.Duration
	Renewable bool
}
