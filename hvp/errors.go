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

// mediaError is gate.Unsupported of a request body's format, for which HTTP has a status of its own.
type mediaError struct{ err error }

func (e *mediaError) Error() string { return e.err.Error() }

func (e *mediaError) Unwrap() error { return e.err }

// quietError is an error whose words are for the trail alone.
type quietError struct{ err error }

func (e *quietError) Error() string { return e.err.Error() }

func (e *quietError) Unwrap() error { return e.err }

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
	var media *mediaError
	switch {
	case errors.As(err, &said):
		code := statusOf(said.Kind)
		if code == http.StatusMethodNotAllowed && errors.As(err, &media) {
			code = http.StatusUnsupportedMediaType
		}
		if code != http.StatusInternalServerError {
			if errors.As(err, new(*quietError)) {
				return code, nil
			}
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
