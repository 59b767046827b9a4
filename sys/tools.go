package sys

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"hash"
	"strconv"
	"strings"

	"github.com/bailiff-secrets/bailiff/gate"
)

const (
	defaultRandom = 32
	maxRandom     = 128 << 10 // bytes, as in Vault
)

// random answers with random bytes. The path may name a source, which is always the same, and a number.
func (b *Backend) random(_ context.Context, c *call) (*gate.Response, error) {
	fields, err := c.fields("bytes", "format", "source")
	if err != nil {
		return nil, err
	}
	delete(fields, "source") // Vault takes the path's
	n, err := intField(fields, "bytes", defaultRandom)
	if err != nil {
		return nil, err
	}
	source, number := c.args["source"], c.args["bytes"]
	if number == "" && source != "" && source != "platform" && source != "seal" && source != "all" {
		source, number = "", source // as Vault sees a path of one segment
	}
	if number != "" {
		if n, err = strconv.Atoi(number); err != nil {
			return nil, invalid("error parsing url-set byte count: %w", err)
		}
	}
	switch {
	case n < 1:
		return nil, invalid(`"bytes" cannot be less than 1`)
	case n > maxRandom:
		return nil, invalid(`"bytes" should be less than %d`, maxRandom)
	}
	encode, err := encoding(fields, "base64", `unsupported encoding format %q; must be "hex" or "base64"`)
	if err != nil {
		return nil, err
	}
	var warnings []string
	switch source {
	case "", "platform", "all":
	case "seal":
		warnings = []string{"no seal/entropy augmentation available, using platform entropy source"}
	default:
		return nil, invalid(`unsupported entropy source %q; must be "platform" or "seal", or "all"`, source)
	}
	out := make([]byte, n)
	rand.Read(out) //nolint:errcheck // never fails: see crypto/rand
	return &gate.Response{Data: map[string]any{"random_bytes": encode(out)}, Warnings: warnings}, nil
}

// hash answers with the hash of its input.
func (b *Backend) hash(_ context.Context, c *call) (*gate.Response, error) {
	fields, err := c.fields("input", "format", "algorithm")
	if err != nil {
		return nil, err
	}
	input, err := textField(fields, "input")
	if err != nil {
		return nil, err
	}
	text, err := base64.StdEncoding.DecodeString(input)
	if err != nil {
		return nil, invalid("unable to decode input as base64: %w", err)
	}
	encode, err := encoding(fields, "hex", `unsupported encoding format %s; must be "hex" or "base64"`)
	if err != nil {
		return nil, err
	}
	algorithm := c.args["algorithm"]
	if algorithm == "" {
		if algorithm, err = textField(fields, "algorithm"); err != nil {
			return nil, err
		}
	}
	h := hashOf(algorithm)
	if h == nil {
		return nil, invalid("unsupported algorithm %s", algorithm)
	}
	h.Write(text)
	return ok(map[string]any{"sum": encode(h.Sum(nil))}), nil
}

func hashOf(algorithm string) hash.Hash {
	switch algorithm {
	case "sha2-224":
		return sha256.New224()
	case "", "sha2-256":
		return sha256.New()
	case "sha2-384":
		return sha512.New384()
	case "sha2-512":
		return sha512.New()
	case "sha3-224":
		return sha3.New224()
	case "sha3-256":
		return sha3.New256()
	case "sha3-384":
		return sha3.New384()
	case "sha3-512":
		return sha3.New512()
	}
	return nil
}

// encoding is how the field format wants bytes written; unknown says that it wants neither of the two.
func encoding(fields map[string]json.RawMessage, otherwise, unknown string) (func([]byte) string, error) {
	format, err := textField(fields, "format")
	if err != nil {
		return nil, err
	}
	if format == "" {
		format = otherwise
	}
	switch format {
	case "hex":
		return hex.EncodeToString, nil
	case "base64":
		return base64.StdEncoding.EncodeToString, nil
	}
	return nil, invalid(unknown, format)
}

// intField takes a number and a number in a string, as Vault does.
func intField(fields map[string]json.RawMessage, name string, otherwise int) (int, error) {
	text, given := fields[name]
	if !given || string(text) == "null" {
		return otherwise, nil
	}
	s := strings.Trim(string(text), `"`)
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, invalid("Field validation failed: error converting input %.40s for field %q: cannot parse '' as int: strconv.ParseInt: parsing %.40q: invalid syntax", s, name, s)
	}
	return n, nil
}
