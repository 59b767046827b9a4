package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
)

// maxBody is the limit of a body in bytes.
const maxBody = 1 << 20

// Body is the fields of a request in Vault's dialect, which takes "60" and 60, "a,b" and ["a","b"]. Its methods note the first
// field that is wrong; see Err. What no method asked for was ignored; see Ignored.
type Body struct {
	fields map[string]json.RawMessage
	asked  map[string]bool
	err    error
}

// readBody reads r's body; null, which the vault command sends where it has nothing to say, is an empty object.
func readBody(r *gate.Request) (*Body, error) {
	b := &Body{asked: map[string]bool{}}
	if r.Body == nil {
		return b, nil
	}
	text, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	var said *gate.Error
	switch {
	case errors.As(err, &said):
		return nil, err
	case err != nil:
		return nil, &gate.Error{Kind: gate.Invalid, Msg: "the body can't be read", Err: err}
	case len(text) > maxBody:
		return nil, gate.Errorf(gate.TooLarge, "the body is larger than %d bytes", maxBody)
	}
	if text = bytes.TrimSpace(text); len(text) == 0 || string(text) == "null" {
		return b, nil
	}
	if json.Unmarshal(text, &b.fields) != nil {
		return nil, Invalid("failed to parse JSON input: the body is not a JSON object")
	}
	return b, nil
}

// NewBody is a Body of fields that came by another way, such as a query.
func NewBody(fields map[string]string) *Body {
	b := &Body{fields: map[string]json.RawMessage{}, asked: map[string]bool{}}
	for name, value := range fields {
		b.Put(name, value)
	}
	return b
}

// Put sets a field.
func (b *Body) Put(name, value string) {
	if b.fields == nil {
		b.fields = map[string]json.RawMessage{}
	}
	b.fields[name] = toJSON(value)
}

// Err is what was wrong with a field that was asked for.
func (b *Body) Err() error { return b.err }

// Fail notes that something is wrong.
func (b *Body) Fail(err error) {
	if b.err == nil {
		b.err = err
	}
}

func (b *Body) wrong(name, kind string) {
	b.Fail(Invalid("Field validation failed: error converting input for field %q: expected %s", name, kind))
}

// raw is a field's text; ok is false where it isn't there or null.
func (b *Body) raw(name string) (json.RawMessage, bool) {
	b.asked[name] = true
	v, ok := b.fields[name]
	return v, ok && string(v) != "null"
}

// Has tells whether a field is there.
func (b *Body) Has(name string) bool {
	_, ok := b.raw(name)
	return ok
}

// Known says that these fields are known here, though nothing comes of them.
func (b *Body) Known(names ...string) {
	for _, name := range names {
		b.asked[name] = true
	}
}

// Ignored lists the fields that nobody asked for.
func (b *Body) Ignored() []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(b.fields)) {
		if !b.asked[name] {
			out = append(out, name)
		}
	}
	return out
}

// Text reads a string; numbers and booleans are taken as they are written.
func (b *Body) Text(name string) string {
	v, ok := b.raw(name)
	if !ok {
		return ""
	}
	var s string
	if json.Unmarshal(v, &s) == nil {
		return s
	}
	if v[0] == '{' || v[0] == '[' {
		b.wrong(name, "type 'string'")
		return ""
	}
	return string(v)
}

// SetText writes a string field to where it is kept, if it is there.
func (b *Body) SetText(name string, to *string) {
	if b.Has(name) {
		*to = b.Text(name)
	}
}

// Bool reads true, "true", 1.
func (b *Body) Bool(name string, otherwise bool) bool {
	v, ok := b.raw(name)
	if !ok || string(v) == `""` {
		return otherwise
	}
	yes, err := strconv.ParseBool(strings.ToLower(strings.Trim(string(v), `"`)))
	if err != nil {
		b.wrong(name, "type 'bool'")
	}
	return yes
}

// SetBool writes a boolean field to where it is kept, if it is there.
func (b *Body) SetBool(name string, to *bool) {
	if b.Has(name) {
		*to = b.Bool(name, false)
	}
}

// Int reads a whole number.
func (b *Body) Int(name string) int {
	v, ok := b.raw(name)
	text := strings.Trim(string(v), `"`)
	if !ok || text == "" {
		return 0
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		b.wrong(name, "type 'int'")
	}
	return n
}

// SetInt writes a number to where it is kept, if it is there.
func (b *Body) SetInt(name string, to *int) {
	if b.Has(name) {
		*to = b.Int(name)
	}
}

// Duration reads seconds ("60", 60) or words ("1h30m", "2d").
func (b *Body) Duration(name string) time.Duration {
	v, ok := b.raw(name)
	if !ok {
		return 0
	}
	text := strings.Trim(string(v), `"`)
	d, err := ParseDuration(text)
	switch {
	case err != nil:
		b.wrong(name, "a duration in seconds or as 1h30m")
	case d < 0:
		b.Fail(Invalid("error converting input %s for field %q: cannot provide negative value '%d'", text, name, Seconds(d)))
	}
	return d
}

// SetDuration writes a duration to where it is kept, if it is there.
func (b *Body) SetDuration(name string, to *time.Duration) {
	if b.Has(name) {
		*to = b.Duration(name)
	}
}

// ParseDuration reads a duration as Vault does: whole seconds, or Go's words with d for days. It is cut to seconds.
func ParseDuration(s string) (time.Duration, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return 0, nil
	}
	if n, err := strconv.ParseFloat(s, 64); err == nil {
		if n > 1e9 || n < -1e9 {
			return 0, errors.New("the duration is too long")
		}
		return time.Duration(n) * time.Second, nil
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n > 36500 || n < -36500 {
			return 0, errors.New("a number of days is none")
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(s)
	return d.Truncate(time.Second), err
}

// List reads a list of strings, or one string with commas.
func (b *Body) List(name string) []string {
	v, ok := b.raw(name)
	if !ok {
		return nil
	}
	var list []any
	if json.Unmarshal(v, &list) != nil {
		return SplitCommas(b.Text(name))
	}
	out := []string{}
	for _, item := range list {
		switch x := item.(type) {
		case string:
			out = append(out, strings.TrimSpace(x))
		case float64:
			out = append(out, strconv.FormatFloat(x, 'f', -1, 64))
		default:
			b.wrong(name, "a list of strings")
		}
	}
	return out
}

// SetList writes a list to where it is kept, if it is there.
func (b *Body) SetList(name string, to *[]string) {
	if b.Has(name) {
		*to = b.List(name)
	}
}

// SplitCommas takes a list in one string apart. It is never nil.
func SplitCommas(s string) []string {
	out := []string{}
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

// Policies reads names of policies: lower-case, sorted, each once.
func (b *Body) Policies(name string) []string {
	list := b.List(name)
	for i := range list {
		list[i] = strings.ToLower(strings.TrimSpace(list[i]))
	}
	slices.Sort(list)
	return slices.DeleteFunc(slices.Compact(list), func(s string) bool { return s == "" })
}

// Map reads an object of strings, a list of "key=value", or one of these.
func (b *Body) Map(name string) map[string]string {
	v, ok := b.raw(name)
	if !ok {
		return nil
	}
	var object map[string]any
	if json.Unmarshal(v, &object) == nil {
		out := make(map[string]string, len(object))
		for key, value := range object {
			switch x := value.(type) {
			case string:
				out[key] = x
			case bool:
				out[key] = strconv.FormatBool(x)
			case float64:
				out[key] = strconv.FormatFloat(x, 'f', -1, 64)
			default:
				b.wrong(name, "an object of strings")
			}
		}
		return out
	}
	out := map[string]string{}
	for _, pair := range b.List(name) {
		key, value, found := strings.Cut(pair, "=")
		if !found {
			b.wrong(name, "key=value")
			break
		}
		out[key] = value
	}
	return out
}

// JSON reads a field into v; false where it isn't there.
func (b *Body) JSON(name string, v any) bool {
	raw, ok := b.raw(name)
	if !ok {
		return false
	}
	var text string
	if json.Unmarshal(raw, &text) == nil && (strings.HasPrefix(strings.TrimSpace(text), "{") || strings.HasPrefix(strings.TrimSpace(text), "[")) {
		raw = json.RawMessage(text)
	}
	if json.Unmarshal(raw, v) != nil {
		b.wrong(name, "another JSON type")
		return false
	}
	return true
}

// Invalid is an error of a request that is wrong.
func Invalid(format string, args ...any) error { return gate.Errorf(gate.Invalid, format, args...) }

type jsonText = json.RawMessage

// toJSON writes what came as JSON before.
func toJSON(v any) json.RawMessage {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // it was decoded from JSON
	}
	return text
}

// SetSigned writes a duration that may be below zero to where it is kept, if it is there.
func (b *Body) SetSigned(name string, to *time.Duration) {
	v, ok := b.raw(name)
	if !ok {
		return
	}
	d, err := ParseDuration(strings.Trim(string(v), `"`))
	if err != nil {
		b.wrong(name, "a duration in seconds or as 1h30m")
		return
	}
	*to = d
}

// Raw is a field as it was sent; nil where it isn't there.
func (b *Body) Raw(name string) json.RawMessage {
	v, _ := b.raw(name)
	return v
}
