package object

import (
	"bytes"
	"encoding/json"
	"errors"
	"time"
)

// ErrDuration is the error of a text that is no duration. It does not repeat the text, which may have come from where secrets are kept.
var ErrDuration = errors.New(`not a duration: write it as "90s", "15m" or "1h30m"`)

// Duration is a time.Duration that is written in words ("1h30m") in JSON and HCL.
type Duration time.Duration

// MarshalText writes d in words.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads words; a bare number is seconds, as in Vault.
func (d *Duration) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*d = 0
		return nil
	}
	x, err := time.ParseDuration(string(b))
	if err != nil {
		x, err = time.ParseDuration(string(b) + "s")
	}
	if err != nil {
		return ErrDuration
	}
	*d = Duration(x)
	return nil
}

// UnmarshalJSON reads words in a string, or a number of seconds.
func (d *Duration) UnmarshalJSON(b []byte) error {
	b = bytes.TrimSpace(b)
	switch {
	case string(b) == "null":
		return nil
	case len(b) > 0 && b[0] == '"':
		var s string
		if err := json.Unmarshal(b, &s); err != nil {
			return ErrDuration
		}
		return d.UnmarshalText([]byte(s))
	default:
		return d.UnmarshalText(b)
	}
}

// IsZero lets encoding/json leave it out.
func (d Duration) IsZero() bool { return d == 0 }

// String writes d in words.
func (d Duration) String() string { return time.Duration(d).String() }
