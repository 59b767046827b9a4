package api

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"

	"github.com/bailiff-secrets/bailiff/internal/secret"
)

// errValue does not say what it saw: it was a secret.
var errValue = errors.New("value must be a JSON object, the base64 form of one, or key=value")

// ParseValue reads the value of a secret: a JSON object, or a string that holds the base64 form of one (as usc/get
// answers it) or a single key=value.
func ParseValue(raw json.RawMessage) (secret.Value, error) {
	raw = bytes.TrimSpace(raw)
	if isObject(raw) {
		return secret.New(string(raw)), nil
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return secret.Value{}, errValue
	}
	if b, err := base64.StdEncoding.DecodeString(s); err == nil && isObject(b) {
		return secret.New(string(bytes.TrimSpace(b))), nil
	}
	key, value, ok := strings.Cut(s, "=")
	if !ok || key == "" {
		return secret.Value{}, errValue
	}
	b, err := json.Marshal(map[string]string{key: value})
	if err != nil {
		return secret.Value{}, errValue
	}
	return secret.New(string(b)), nil
}

func isObject(b []byte) bool {
	var m map[string]json.RawMessage
	return json.Unmarshal(b, &m) == nil && m != nil
}
