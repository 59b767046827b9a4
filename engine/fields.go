package engine

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
)

// maxBody is the largest body that is read, in bytes.
const maxBody = 1 << 20

// fields are the fields of a body in Vault's dialect, and those of them that were asked for.
type fields struct {
	all  map[string]json.RawMessage
	used map[string]bool
	err  error // the first
}

// fields reads the body; null, which the vault command sends where it has nothing to say, is an empty object.
func (c *call) fields() (*fields, error) {
	f := &fields{all: map[string]json.RawMessage{}, used: map[string]bool{}}
	if c.Body == nil {
		return f, nil
	}
	text, err := io.ReadAll(io.LimitReader(c.Body, maxBody+1))
	switch {
	case err != nil:
		return nil, &gate.Error{Kind: gate.Invalid, Msg: "the body can't be read", Err: err}
	case len(text) > maxBody:
		return nil, gate.Errorf(gate.TooLarge, "the body is larger than %d bytes", maxBody)
	}
	if text = bytes.TrimSpace(text); len(text) == 0 || string(text) == "null" {
		return f, nil
	}
	if err := json.Unmarshal(text, &f.all); err != nil {
		return nil, invalid("error parsing JSON")
	}
	for name, raw := range f.all {
		if string(bytes.TrimSpace(raw)) == "null" { // as if it were not there
			delete(f.all, name)
		}
	}
	return f, nil
}

// take finds a field; ok is false where the body has none of the name.
func (f *fields) take(name string) (json.RawMessage, bool) {
	f.used[name] = true
	raw, ok := f.all[name]
	return raw, ok
}

// bad notes the first thing that is wrong. It never repeats a value, which may be a secret in the wrong place.
func (f *fields) bad(name, want string) {
	if f.err == nil {
		f.err = invalid("Field validation failed: error converting input for field %q: it must be %s", name, want)
	}
}

// text sets to where the field is there. A number or a truth value counts as its text.
func (f *fields) text(name string, to *string) bool {
	raw, ok := f.take(name)
	if !ok {
		return false
	}
	if json.Unmarshal(raw, to) == nil {
		return true
	}
	if raw[0] == '{' || raw[0] == '[' {
		f.bad(name, "a string")
		return false
	}
	*to = string(raw)
	return true
}

// truth takes true and "true".
func (f *fields) truth(name string, to *bool) {
	var s string
	if !f.text(name, &s) {
		return
	}
	b, err := strconv.ParseBool(s)
	if err != nil {
		f.bad(name, "true or false")
		return
	}
	*to = b
}

// number takes 5 and "5".
func (f *fields) number(name string, to *int) {
	var s string
	if !f.text(name, &s) {
		return
	}
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		f.bad(name, "a whole number")
		return
	}
	*to = int(n)
}

// duration takes seconds, and words as "90s", "1h30m" or "7d".
func (f *fields) duration(name string, to *time.Duration) bool {
	var s string
	if !f.text(name, &s) {
		return false
	}
	d, ok := parseDuration(strings.TrimSpace(s))
	if !ok {
		f.bad(name, `a number of seconds or a duration as "1h30m"`)
		return false
	}
	*to = d
	return true
}

func parseDuration(s string) (time.Duration, bool) {
	if s == "" {
		return 0, true
	}
	const most = 100 * 365 * 24 * 60 * 60
	if n, err := strconv.ParseFloat(s, 64); err == nil {
		return time.Duration(n) * time.Second, n >= 0 && n <= most
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseInt(days, 10, 64)
		return time.Duration(n) * 24 * time.Hour, err == nil && n >= 0 && n <= most/(24*60*60)
	}
	d, err := time.ParseDuration(s)
	return d, err == nil && d >= 0
}

// texts takes a list of strings, or one string as a list of one.
func (f *fields) texts(name string, to *[]string) bool {
	raw, ok := f.take(name)
	if !ok {
		return false
	}
	var list []string
	if json.Unmarshal(raw, &list) != nil {
		var one string
		if json.Unmarshal(raw, &one) != nil {
			f.bad(name, "a string or a list of strings")
			return false
		}
		list = []string{one}
	}
	*to = slices.DeleteFunc(list, func(s string) bool { return strings.TrimSpace(s) == "" })
	return true
}

// names takes a list of strings, or one string with commas.
func (f *fields) names(name string, to *[]string) bool {
	var list []string
	if !f.texts(name, &list) {
		return false
	}
	out := []string{}
	for _, s := range list {
		for part := range strings.SplitSeq(s, ",") {
			if part = strings.TrimSpace(part); part != "" && !slices.Contains(out, part) {
				out = append(out, part)
			}
		}
	}
	*to = out
	return true
}

// pairs takes an object of strings, or "name=value".
func (f *fields) pairs(name string) map[string]string {
	raw, ok := f.take(name)
	if !ok {
		return nil
	}
	var object map[string]any
	out := map[string]string{}
	if json.Unmarshal(raw, &object) == nil {
		for k, v := range object {
			switch v := v.(type) {
			case string:
				out[k] = v
			case float64:
				out[k] = strconv.FormatFloat(v, 'f', -1, 64)
			default:
				f.bad(name, "an object of strings")
			}
		}
		return out
	}
	var list []string
	if !f.texts(name, &list) {
		return nil
	}
	for _, s := range list {
		k, v, ok := strings.Cut(s, "=")
		if !ok {
			f.bad(name, `an object of strings, or "name=value"`)
		}
		out[k] = v
	}
	return out
}

// ignored names the fields that nobody asked for, sorted.
func (f *fields) ignored() []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(f.all)) {
		if !f.used[name] {
			out = append(out, name)
		}
	}
	return out
}

// done says what is wrong with the body, or warns of what was ignored, in Vault's words.
func (c *call) done(f *fields) error {
	if f.err != nil {
		return f.err
	}
	if list := f.ignored(); len(list) > 0 {
		c.warnings = append(c.warnings, "Endpoint ignored these unrecognized parameters: ["+strings.Join(list, " ")+"]")
	}
	return nil
}
