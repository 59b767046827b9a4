package hvp

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
)

// wrapping fills in how long the answer is to be wrapped, in Vault's words where that can't be understood.
func wrapping(q *gate.Request, h http.Header) *no {
	ttl, why := single(h, "X-Vault-Wrap-Ttl")
	if why != "" {
		return &no{kind: gate.Invalid, why: why}
	}
	if ttl == "" {
		return nil
	}
	d, err := seconds(ttl)
	if err == nil && d < 0 {
		err = errors.New("requested wrap ttl cannot be negative")
	}
	if err != nil {
		return &no{kind: gate.Invalid, why: "error parsing X-Vault-Wrap-TTL header: " + cut(err.Error(), 128)}
	}
	if q.WrapFormat, why = single(h, "X-Vault-Wrap-Format"); why != "" {
		return &no{kind: gate.Invalid, why: why}
	}
	q.WrapTTL = d
	return nil
}

// maxSeconds is more than anybody means and less than a time.Duration can hold.
const maxSeconds = 1 << 32

// seconds reads a number of seconds, a number of days as in "2d", or a duration as Go writes it: what Vault takes.
func seconds(s string) (time.Duration, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	unit := time.Second
	if err != nil {
		days, ok := strings.CutSuffix(s, "d")
		if !ok {
			return time.ParseDuration(s)
		}
		if n, err = strconv.ParseInt(days, 10, 64); err != nil {
			return 0, err
		}
		unit = 24 * time.Hour
	}
	if n > maxSeconds/int64(unit/time.Second) || n < -maxSeconds {
		return 0, errors.New("time: invalid duration " + strconv.Quote(s))
	}
	return time.Duration(n) * unit, nil
}

// mfaWarning is what a client is told whose second factor nobody looks at.
const mfaWarning = "X-Vault-MFA is ignored: Bailiff asks for no second factor"

// warn adds to an answer what of the request was ignored.
func warn(to http.Header, r *http.Request, resp *gate.Response) {
	if len(r.Header["X-Vault-Mfa"]) == 0 {
		return
	}
	if resp.Raw == nil && !resp.Bare && resp.Wrap == nil && resp.Says() {
		resp.Warnings = append(resp.Warnings, mfaWarning)
		return
	}
	to["Warning"] = append(to["Warning"], `199 bailiff "`+mfaWarning+`"`)
}
