// Package rows says how what a store keeps stands in its columns, the same in every database.
package rows

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/seal"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/rotation"
)

// ErrNoSealer is returned where something sealed is touched before there is a sealer.
var ErrNoSealer = errors.New("the store has no keys yet for what is sealed")

// minTime and maxTime are the ends of what a column can hold: from 1677 to 2262.
var minTime, maxTime = time.Unix(0, math.MinInt64), time.Unix(0, math.MaxInt64)

// CheckTimes refuses times that a column can't hold. The zero time, which stands as NULL, is none of them.
func CheckTimes(times ...time.Time) error {
	for _, t := range times {
		if !t.IsZero() && (t.Before(minTime) || t.After(maxTime)) {
			return fmt.Errorf("the time %s can't be kept: it is out of range", t)
		}
	}
	return nil
}

// Nanos is t as it stands in a column, nanoseconds since 1970, or the nearest that a column can hold.
func Nanos(t time.Time) int64 {
	switch {
	case t.Before(minTime):
		return math.MinInt64
	case t.After(maxTime):
		return math.MaxInt64
	}
	return t.UnixNano()
}

// Time is what Nanos wrote, in UTC.
func Time(nanos int64) time.Time { return time.Unix(0, nanos).UTC() }

// Blob is b, but never NULL.
func Blob(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// Keys seal and open what is secret in rows. It is safe for concurrent use; the zero value has no sealer yet.
type Keys struct{ sealer atomic.Pointer[seal.Sealer] }

// Use sets the sealer, or puts another in its place.
func (k *Keys) Use(s seal.Sealer) { k.sealer.Store(&s) }

// Seal seals plain for a place; nothing stays nothing. It fails with ErrNoSealer where there is none.
func (k *Keys) Seal(plain []byte, where string) ([]byte, error) {
	if len(plain) == 0 {
		return nil, nil
	}
	p := k.sealer.Load()
	if p == nil {
		return nil, ErrNoSealer
	}
	return (*p).Seal(plain, where)
}

// Open is the other way.
func (k *Keys) Open(sealed []byte, where string) ([]byte, error) {
	if len(sealed) == 0 {
		return nil, nil
	}
	p := k.sealer.Load()
	if p == nil {
		return nil, ErrNoSealer
	}
	return (*p).Open(sealed, where)
}

// sealAll seals named values as one; nil where there are none.
func (k *Keys) sealAll(values map[string]secret.Value, where string) ([]byte, error) {
	if len(values) == 0 {
		return nil, nil
	}
	plain := make(map[string][]byte, len(values)) // bytes, because a secret need not be UTF-8
	for name, v := range values {
		plain[name] = []byte(v.Reveal())
	}
	b, err := json.Marshal(plain)
	if err != nil {
		return nil, err
	}
	return k.Seal(b, where)
}

// openAll is the other way; nil where nothing is sealed.
func (k *Keys) openAll(sealed []byte, where string) (map[string]secret.Value, error) {
	b, err := k.Open(sealed, where)
	if err != nil || b == nil {
		return nil, err
	}
	var plain map[string][]byte
	if err := json.Unmarshal(b, &plain); err != nil {
		return nil, err
	}
	values := make(map[string]secret.Value, len(plain))
	for name, v := range plain {
		values[name] = secret.New(string(v))
	}
	return values, nil
}

// secretsPlace is where an object's secrets are sealed for. No kind holds a slash, so no two objects share it.
func secretsPlace(r object.Record) string {
	return "objects|" + string(r.Kind) + "/" + r.Name + "|secrets"
}

// SealSecrets seals all secrets of an object as one; nil where it has none.
func (k *Keys) SealSecrets(r object.Record) ([]byte, error) {
	return k.sealAll(r.Secrets, secretsPlace(r))
}

// OpenSecrets is the other way; r names the object.
func (k *Keys) OpenSecrets(r object.Record, sealed []byte) (map[string]secret.Value, error) {
	return k.openAll(sealed, secretsPlace(r))
}

// passwordsPlace is where an account's passwords are sealed for. A mount ends in a slash and no target's name has one, so
// no two accounts share it.
func passwordsPlace(a *rotation.Account) string { return "accounts|" + a.Mount + a.Name + "|secrets" }

// passwords names an account's passwords as they are sealed together.
func passwords(a *rotation.Account) map[string]*secret.Value {
	return map[string]*secret.Value{"current": &a.Current, "next": &a.Next, "previous": &a.Previous, "declared": &a.Declared}
}

// SealPasswords seals all passwords of an account as one; nil where it has none.
func (k *Keys) SealPasswords(a *rotation.Account) ([]byte, error) {
	values := make(map[string]secret.Value)
	for name, v := range passwords(a) {
		if !v.Empty() {
			values[name] = *v
		}
	}
	return k.sealAll(values, passwordsPlace(a))
}

// OpenPasswords sets the passwords of an account to what was sealed.
func (k *Keys) OpenPasswords(a *rotation.Account, sealed []byte) error {
	values, err := k.openAll(sealed, passwordsPlace(a))
	if err != nil || values == nil {
		return err
	}
	for name, v := range passwords(a) {
		*v = values[name]
	}
	return nil
}
