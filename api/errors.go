package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/identity"
)

// Kind says in one word what went wrong.
type Kind string

// The kinds of an Error.
const (
	Denied          Kind = "denied"          // 403: a policy said no
	Unauthenticated Kind = "unauthenticated" // 403: no credential, or not a good one
	Forbidden       Kind = "forbidden"       // 403: a policy said yes, and what serves the path no
	Invalid         Kind = "invalid"         // 400
	NotFound        Kind = "not-found"       // 404
	Unsupported     Kind = "unsupported"     // 405
	Conflict        Kind = "conflict"        // 409
	TooLarge        Kind = "too-large"       // 413
	TooMany         Kind = "too-many"        // 429, with Retry-After
	TargetDown      Kind = "target-down"     // 502
	TargetSlow      Kind = "target-slow"     // 504
	Unavailable     Kind = "unavailable"     // 503
	Internal        Kind = "internal"        // 500: the details are in the server's log, under the request id
)

// Error is what the server answers instead of the thing asked for: {"error":{…}}.
type Error struct {
	Status    int    `json:"-"` // of HTTP
	Kind      Kind   `json:"kind"`
	Message   string `json:"message"`
	Hint      string `json:"hint,omitempty"`
	RequestID string `json:"request_id,omitempty"`

	after time.Duration
}

func (e *Error) Error() string { return e.Message }

// errorBody is the wire's form of an Error.
type errorBody struct {
	Error *Error `json:"error"`
}

// wire is how the gate's kinds are told.
var wire = map[gate.Kind]struct {
	status int
	kind   Kind
}{
	gate.Invalid:     {http.StatusBadRequest, Invalid},
	gate.NotFound:    {http.StatusNotFound, NotFound},
	gate.Unsupported: {http.StatusMethodNotAllowed, Unsupported},
	gate.Conflict:    {http.StatusConflict, Conflict},
	gate.TooLarge:    {http.StatusRequestEntityTooLarge, TooLarge},
	gate.TooMany:     {http.StatusTooManyRequests, TooMany},
	gate.TargetDown:  {http.StatusBadGateway, TargetDown},
	gate.TargetSlow:  {http.StatusGatewayTimeout, TargetSlow},
	gate.Unavailable: {http.StatusServiceUnavailable, Unavailable},
	gate.Forbidden:   {http.StatusForbidden, Forbidden},
}

// errorOf is the one place where an error becomes a status. What it doesn't know is internal, and says no more than that.
func errorOf(err error, requestID string) *Error {
	out := &Error{RequestID: requestID}
	var said *gate.Error
	if errors.As(err, &said) {
		out.Hint, out.after = said.Hint, said.After
	}
	form, known := wire[gate.Internal], false
	if said != nil {
		form, known = wire[said.Kind]
	}
	switch {
	case errors.Is(err, identity.ErrUnauthenticated):
		out.Status, out.Kind, out.Message = http.StatusForbidden, Unauthenticated, "permission denied"
		out.Hint = "the token is missing, or is not that of an enabled identity"
	case errors.Is(err, gate.ErrDenied):
		out.Status, out.Kind, out.Message = http.StatusForbidden, Denied, "permission denied"
	case errors.Is(err, gate.ErrNoRecord):
		out.Status, out.Kind, out.Message = http.StatusServiceUnavailable, Unavailable, gate.ErrNoRecord.Error()
	case known:
		out.Status, out.Kind, out.Message = form.status, form.kind, said.Msg
	case errors.Is(err, context.DeadlineExceeded):
		out.Status, out.Kind, out.Message = http.StatusGatewayTimeout, TargetSlow, "it took too long"
	default:
		out.Status, out.Kind, out.Message = http.StatusInternalServerError, Internal, "internal error"
	}
	return out
}
