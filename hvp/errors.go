package hvp

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/identity"
)

// refusal is the error of a request that this package refused, where Vault's answer is not the one of its kind.
type refusal struct {
	err error // as the gate recorded it
	no  *no
}

func (e *refusal) Error() string { return e.err.Error() }

func (e *refusal) Unwrap() error { return e.err }

// fail answers an error, which the gate has logged. It is the one place where errors become statuses.
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, q *gate.Request, err error) {
	if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
		panic(http.ErrAbortHandler) // nobody is there to read an answer
	}
	code, words := describe(q, err)
	var said *gate.Error
	if errors.As(err, &said) && said.Kind == gate.TooMany {
		seconds := (said.After + time.Second - 1) / time.Second
		w.Header().Set("Retry-After", strconv.FormatInt(int64(max(seconds, 1)), 10))
	}
	h.write(w, q, code, errorBody(words), nil)
}

// describe is the status of an error and what a client is told.
func describe(q *gate.Request, err error) (code int, words []string) {
	var said *gate.Error
	var ours *refusal
	switch {
	case errors.As(err, &said):
		code := statusOf(said.Kind)
		if errors.As(err, &ours) && said.Kind == ours.no.kind { // or else the caller is told something else
			if ours.no.media {
				code = http.StatusUnsupportedMediaType
			}
			if ours.no.quiet {
				return code, nil
			}
		}
		if code != http.StatusInternalServerError {
			if said.Hint != "" {
				return code, []string{said.Msg, said.Hint}
			}
			return code, []string{said.Msg}
		}
	case errors.Is(err, identity.ErrUnauthenticated):
		return http.StatusForbidden, []string{"permission denied"}
	case errors.Is(err, gate.ErrDenied):
		return http.StatusForbidden, []string{"1 error occurred:\n\t* permission denied\n\n"}
	case errors.Is(err, gate.ErrNoRecord):
		return http.StatusServiceUnavailable, []string{gate.ErrNoRecord.Error()}
	case errors.Is(err, context.DeadlineExceeded):
		return http.StatusGatewayTimeout, []string{"the request took too long"}
	}
	return http.StatusInternalServerError, []string{"internal error; request id " + q.ID}
}

func statusOf(k gate.Kind) int {
	switch k {
	case gate.Invalid, gate.Conflict:
		return http.StatusBadRequest
	case gate.NotFound:
		return http.StatusNotFound
	case gate.Unsupported:
		return http.StatusMethodNotAllowed
	case gate.TooLarge:
		return http.StatusRequestEntityTooLarge
	case gate.TooMany:
		return http.StatusTooManyRequests
	case gate.TargetDown:
		return http.StatusBadGateway
	case gate.TargetSlow:
		return http.StatusGatewayTimeout
	case gate.Unavailable:
		return http.StatusServiceUnavailable
	case gate.Forbidden:
		return http.StatusForbidden
	default:
		return http.StatusInternalServerError
	}
}
