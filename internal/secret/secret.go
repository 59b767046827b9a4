// Package secret holds values that must not be printed.
package secret

import "log/slog"

// Redacted is what every formatter prints in place of a Value.
const Redacted = "[redacted]"

// Value is a secret that fmt, encoding/json and log/slog print as Redacted.
// The bytes sit behind a func because fmt walks the unexported fields of nested structs.
// The zero Value is empty. A Value is immutable and safe for concurrent use.
type Value struct {
	reveal func() string
}

// New keeps s.
func New(s string) Value {
	if s == "" {
		return Value{}
	}
	return Value{reveal: func() string { return s }}
}

// Reveal gives the secret itself. Call it only at an edge: when it is written to a wire or compared.
func (v Value) Reveal() string {
	if v.reveal == nil {
		return ""
	}
	return v.reveal()
}

// Empty reports whether there is no secret.
func (v Value) Empty() bool { return v.reveal == nil }

// String is Redacted, or empty where there is no secret.
func (v Value) String() string {
	if v.Empty() {
		return ""
	}
	return Redacted
}

// GoString is as String, for %#v.
func (v Value) GoString() string { return v.String() }

// MarshalText is as String, so that JSON and YAML encoders can't leak the value.
func (v Value) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// LogValue is as String, for slog.
func (v Value) LogValue() slog.Value { return slog.StringValue(v.String()) }
