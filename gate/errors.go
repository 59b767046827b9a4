package gate

import (
	"errors"
	"fmt"
	"time"
)

// ErrDenied is a policy's no.
var ErrDenied = errors.New("permission denied")

// ErrNoRecord means that the audit trail could not be written: nothing is released.
var ErrNoRecord = errors.New("no record could be kept, so nothing is released")

// Kind classes an Error; each door maps it to its own status codes.
type Kind int

// The kinds.
const (
	Internal    Kind = iota // a bare 500: the details are in the log under the request id
	Invalid                 // the request can't be judged or served as it is
	NotFound                // no such mount, object or lease
	Unsupported             // this operation isn't possible on this path
	Conflict                // check-and-set failed, or it exists
	TooLarge                // body over the limit
	TooMany                 // a guard stopped it
	TargetDown              // the target can't be reached or answered nonsense
	TargetSlow              // the target did not answer in time
	Unavailable             // Bailiff can't serve now
	Forbidden               // allowed by policy, refused by what serves it (not the owner of a lease)
)

// Error is an error that says something to the client. Msg never holds a secret value.
type Error struct {
	Kind  Kind
	Msg   string
	Hint  string        // what to do about it; may be empty
	After time.Duration // for TooMany: when to try again
	Err   error         // the cause, for the log; never sent
}

// Errorf makes an Error; a %w in format is kept as its cause.
func Errorf(kind Kind, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: kind, Msg: err.Error(), Err: errors.Unwrap(err)}
}

func (e *Error) Error() string { return e.Msg }

func (e *Error) Unwrap() error { return e.Err }
