package sys

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/object"
)

// The largest bodies in bytes: of apply and plan, and of all others.
const (
	maxBody      = 1 << 20
	maxApplyBody = 16 << 20
)

// readBody reads the whole body; null, which the vault command sends where it has nothing to say, is an empty object.
func (c *call) readBody(limit int64) ([]byte, error) {
	if c.Body == nil {
		return []byte("{}"), nil
	}
	text, err := io.ReadAll(io.LimitReader(c.Body, limit+1))
	switch {
	case err != nil:
		return nil, &gate.Error{Kind: gate.Invalid, Msg: "the body can't be read", Err: err}
	case int64(len(text)) > limit:
		return nil, gate.Errorf(gate.TooLarge, "the body is larger than %d bytes", limit)
	}
	if text = bytes.TrimSpace(text); len(text) == 0 || string(text) == "null" {
		return []byte("{}"), nil
	}
	return text, nil
}

// decode reads the body into v, strictly.
func (c *call) decode(v any, limit int64) error {
	text, err := c.readBody(limit)
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return badBody(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return invalid("there is more behind the JSON object of the body")
	}
	return nil
}

// badBody says what is wrong with a body without repeating a value from it.
func badBody(err error) error {
	var typ *json.UnmarshalTypeError
	switch field, unknown := strings.CutPrefix(err.Error(), "json: unknown field "); {
	case unknown:
		return invalid("the body's field %s is not known", field)
	case errors.Is(err, object.ErrDuration):
		return invalid("a duration in the body is none: write it as \"90s\", \"15m\" or \"1h30m\"")
	case errors.As(err, &typ) && typ.Field != "":
		kind, _, _ := strings.Cut(typ.Value, " ")
		return invalid("the body's field %q can't be a JSON %s", typ.Field, kind)
	default:
		return invalid("the body is not a JSON object as it is expected here")
	}
}

// fields reads a body of Vault's dialect: the fields that are known; the others are ignored with a warning, as Vault does.
func (c *call) fields(known ...string) (map[string]json.RawMessage, error) {
	text, err := c.readBody(maxBody)
	if err != nil {
		return nil, err
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, invalid("error parsing JSON")
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if !slices.Contains(known, name) {
			c.ignored = append(c.ignored, name)
			delete(all, name)
		}
	}
	return all, nil
}

func textField(fields map[string]json.RawMessage, name string) (string, error) {
	var s string
	if text, ok := fields[name]; ok && json.Unmarshal(text, &s) != nil {
		return "", invalid("%s must be a string", name)
	}
	return s, nil
}

// boolField takes true and "true", as Vault does.
func boolField(fields map[string]json.RawMessage, name string, otherwise bool) (bool, error) {
	text, ok := fields[name]
	if !ok || string(text) == "null" {
		return otherwise, nil
	}
	b, err := strconv.ParseBool(strings.Trim(string(text), `"`))
	if err != nil {
		return false, invalid("%s must be true or false", name)
	}
	return b, nil
}

// durationField takes seconds or words.
func durationField(fields map[string]json.RawMessage, name string) (time.Duration, error) {
	var d object.Duration
	if text, ok := fields[name]; ok {
		if err := d.UnmarshalJSON(text); err != nil {
			return 0, invalid("%s: %w", name, err)
		}
	}
	return time.Duration(d), nil
}

// listField takes a list of strings, or one string with commas, as Vault does.
func listField(fields map[string]json.RawMessage, name string) ([]string, error) {
	text, ok := fields[name]
	if !ok {
		return nil, nil
	}
	var list []string
	if json.Unmarshal(text, &list) == nil {
		return list, nil
	}
	var one string
	if json.Unmarshal(text, &one) != nil {
		return nil, invalid("%s must be a string or a list of strings", name)
	}
	for part := range strings.SplitSeq(one, ",") {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	return list, nil
}

// query reads the request's parameters, each at most once; what nobody asked for is refused.
type query struct {
	values map[string]string
	err    error
}

func (c *call) query(known ...string) (*query, error) {
	q := &query{values: map[string]string{}}
	for name, values := range c.Query {
		if !slices.Contains(known, name) {
			return nil, invalid("the query parameter %.40q is not known: use %s", name, strings.Join(known, ", "))
		}
		if len(values) > 1 {
			return nil, invalid("the query parameter %s is there twice", name)
		}
		if len(values) == 1 {
			q.values[name] = values[0]
		}
	}
	return q, nil
}

func (q *query) text(name string) string { return q.values[name] }

// number reads a whole number from 0 to limit; otherwise where there is none. The first error stays in q.err.
func (q *query) number(name string, otherwise, limit uint64) uint64 {
	s := q.values[name]
	if s == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil || n > limit {
		q.fail("the query parameter %s must be a whole number from 0 to %d", name, limit)
	}
	return n
}

func (q *query) fail(format string, args ...any) {
	if q.err == nil {
		q.err = invalid("%s", fmt.Sprintf(format, args...))
	}
}
