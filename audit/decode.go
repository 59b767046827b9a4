package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/bailiff-secrets/bailiff/policy"
)

// Decode reads the bytes of a record.
func Decode(rec []byte, r *Record) error {
	return DecodeWith(rec, r, func(b []byte) string { return string(b) })
}

// DecodeWith is Decode for somebody who reads many: text makes a string of the bytes of a field, and may give one that it made
// before.
func DecodeWith(rec []byte, r *Record, text func([]byte) string) error {
	*r = Record{}
	d := decoder{b: rec, str: text}
	if d.record(r) {
		return nil
	}
	*r = Record{}
	if err := json.Unmarshal(rec, r); err != nil {
		return fmt.Errorf("audit record: %w", err)
	}
	return nil
}

// decoder reads what appendTail writes, quicker than encoding/json. It gives up, and so leaves the record to that, at whatever
// it does not expect: a field that it doesn't know, an escape, an object.
type decoder struct {
	b   []byte
	i   int
	str func([]byte) string
}

func (d *decoder) record(r *Record) bool {
	if !d.skip(`{"v":`) {
		return false
	}
	v, ok := d.number()
	if !ok || !d.skip(`,"seq":`) {
		return false
	}
	seq, ok := d.number()
	if !ok || seq < 0 {
		return false
	}
	r.V, r.Seq = int(v), uint64(seq)
	for d.skip(`,"`) {
		end := bytes.IndexByte(d.b[d.i:], '"')
		if end < 0 {
			return false
		}
		name := d.b[d.i : d.i+end]
		d.i += end + 1
		if !d.skip(":") || !d.field(r, name) {
			return false
		}
	}
	return d.skip("}") && d.i == len(d.b)
}

// field reads the value of one field.
func (d *decoder) field(r *Record, name []byte) bool {
	switch string(name) {
	case "code", "micros":
		n, ok := d.number()
		if string(name) == "code" {
			r.Code = int(n)
		} else {
			r.Micros = n
		}
		return ok
	case "rule":
		return d.rule(r)
	}
	text, ok := d.text()
	if !ok {
		return false
	}
	switch string(name) {
	case "time":
		return r.Time.UnmarshalText(text) == nil
	case "stage":
		r.Stage = Stage(d.str(text))
	case "status":
		r.Status = Status(d.str(text))
	default:
		to := textField(r, name)
		if to == nil {
			return false
		}
		switch to {
		case &r.RequestID, &r.LeaseID, &r.Principal, &r.Detail, &r.Error: // seldom the same twice
			*to = string(text)
		default:
			*to = d.str(text)
		}
	}
	return true
}

// textField is where the text of a field goes; nil for one that isn't known.
func textField(r *Record, name []byte) *string {
	for _, f := range texts(r) {
		if f.name == string(name) {
			return f.value
		}
	}
	return nil
}

// rule reads a rule as appendRule writes it.
func (d *decoder) rule(r *Record) bool {
	var rule policy.Rule
	if !d.skip(`{"policy":`) {
		return false
	}
	name, ok := d.text()
	rule.Policy = d.str(name)
	if !ok || !d.skip(`,"version":`) {
		return false
	}
	if rule.Version, ok = d.number(); !ok || !d.skip(`,"line":`) {
		return false
	}
	line, ok := d.number()
	rule.Line = int(line)
	if !ok || !d.skip(`,"pattern":`) {
		return false
	}
	pattern, ok := d.text()
	rule.Pattern = d.str(pattern)
	r.Rule = &rule
	return ok && d.skip("}")
}

// skip passes over what must come next.
func (d *decoder) skip(s string) bool {
	if len(d.b)-d.i < len(s) || string(d.b[d.i:d.i+len(s)]) != s {
		return false
	}
	d.i += len(s)
	return true
}

// text reads a string without escapes.
func (d *decoder) text() ([]byte, bool) {
	if !d.skip(`"`) {
		return nil, false
	}
	end := bytes.IndexByte(d.b[d.i:], '"')
	if end < 0 || bytes.IndexByte(d.b[d.i:d.i+end], '\\') >= 0 {
		return nil, false
	}
	v := d.b[d.i : d.i+end]
	d.i += end + 1
	return v, true
}

// number reads a whole number.
func (d *decoder) number() (int64, bool) {
	from := d.i
	for d.i < len(d.b) && (d.b[d.i] >= '0' && d.b[d.i] <= '9' || d.b[d.i] == '-') {
		d.i++
	}
	n, err := strconv.ParseInt(string(d.b[from:d.i]), 10, 64)
	return n, err == nil
}
