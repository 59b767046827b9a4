package rotation

import (
	"context"
	"crypto/rand"
	"errors"
	mrand "math/rand/v2"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/secret"
)

// backoff is a random wait before the try after attempt failures, with full jitter.
func backoff(attempt int, shortest, longest time.Duration) time.Duration {
	limit := shortest
	for range attempt - 1 {
		if limit >= longest/2 {
			limit = longest
			break
		}
		limit *= 2
	}
	return 1 + mrand.N(max(limit, 1))
}

const (
	upper  = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	lower  = "abcdefghijklmnopqrstuvwxyz"
	digits = "0123456789"

	passwordLength = 24 // log2(62) × 24 = 142 bits
)

// newPassword is 142 random bits in letters and digits, with at least one of each sort: password checks on targets ask for
// that.
func newPassword() secret.Value {
	const alphabet = upper + lower + digits
	for {
		out := make([]byte, 0, passwordLength)
		var buf [passwordLength]byte
		for len(out) < passwordLength {
			rand.Read(buf[:]) //nolint:errcheck // never fails: see crypto/rand
			for _, x := range buf {
				if x &= 63; int(x) < len(alphabet) && len(out) < passwordLength {
					out = append(out, alphabet[x])
				}
			}
		}
		if s := string(out); strings.ContainsAny(s, upper) && strings.ContainsAny(s, lower) && strings.ContainsAny(s, digits) {
			return secret.New(s)
		}
	}
}

// causeOf classes what a producer returned; nil has no cause.
func causeOf(err error) broker.Cause {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*broker.RevokeError](err); ok {
		return e.Cause
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return broker.Unreachable
	}
	return broker.Unknown
}

func unreachable(err error) bool { return causeOf(err) == broker.Unreachable }

// words is what may be said of an error. The text of one that nobody classed is not shown: it may hold values.
func words(err error) string {
	if e, ok := errors.AsType[*broker.RevokeError](err); ok {
		return e.Msg
	}
	if e, ok := errors.AsType[*gate.Error](err); ok {
		return e.Msg
	}
	switch {
	case errors.Is(err, gate.ErrNoRecord):
		return gate.ErrNoRecord.Error()
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return "the target did not answer in time"
	}
	return "no reason is known"
}

// said is err for whoever asked for the rotation.
func said(a *Account, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, gate.ErrNoRecord) {
		return err
	}
	if e, ok := errors.AsType[*gate.Error](err); ok {
		return e
	}
	kind := gate.TargetDown
	if errors.Is(err, context.DeadlineExceeded) {
		kind = gate.TargetSlow
	}
	if cause := causeOf(err); cause == broker.Gone || cause == broker.ForbiddenBy {
		kind = gate.Conflict
	}
	hint := ""
	if a.Rotating() || !a.Root() {
		hint = "it is tried again by itself"
	}
	return &gate.Error{Kind: kind, Msg: "the password of " + a.Username + " was not changed: " + words(err), Hint: hint, Err: err}
}

// notStored is the answer when the store did not take a write.
func notStored(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrStale):
		return &gate.Error{Kind: gate.Conflict, Msg: "the account is being rotated by another process", Err: err}
	}
	return &gate.Error{Kind: gate.Unavailable, Msg: "the account can't be stored now", Err: err}
}
