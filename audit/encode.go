package audit

import (
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/bailiff-secrets/bailiff/policy"
)

// recordHead is how every record begins; the sequence number follows.
const recordHead = `{"v":1,"seq":`

// timeLayout is RFC 3339 in UTC with all nine digits, so that every time takes the same room.
const timeLayout = "2006-01-02T15:04:05.000000000Z"

// MaxRecordBytes is how long the JSON of one record may be.
const MaxRecordBytes = 1 << 20

// appendTail appends what follows the sequence number in the JSON of r: the encoding that encoding/json gives, but for
// the width of the time and for HTML characters, which are left as they are.
func appendTail(b []byte, r *Record) ([]byte, error) {
	t := r.Time.UTC()
	if y := t.Year(); y < 0 || y > 9999 {
		return b, fmt.Errorf("audit record: year %d can't be written", y)
	}
	b = append(b, `,"time":"`...)
	b = t.AppendFormat(b, timeLayout)
	b = append(b, '"')
	b = appendField(b, "stage", string(r.Stage))
	b = appendField(b, "status", string(r.Status))
	all := texts(r)
	for _, f := range all[:beforeRule] {
		b = appendOptional(b, f.name, *f.value)
	}
	if r.Rule != nil {
		b = appendRule(b, r.Rule)
	}
	b = appendInt(b, "code", int64(r.Code))
	b = appendOptional(b, "error", r.Error)
	b = appendInt(b, "micros", r.Micros)
	for _, f := range all[beforeRule+1:] {
		b = appendOptional(b, f.name, *f.value)
	}
	return append(b, '}'), nil
}

// textOf is a field of text: its name, and where it is in a record.
type textOf struct {
	name  string
	value *string
}

// beforeRule is how many of the texts stand before the rule; the one behind it is the error.
const beforeRule = 14

// texts lists the fields of text in the order in which they are written.
func texts(r *Record) [19]textOf {
	return [...]textOf{
		{"request_id", &r.RequestID}, {"node", &r.Node}, {"via", &r.Via}, {"identity", &r.Identity}, {"access_id", &r.AccessID},
		{"key_id", &r.KeyID}, {"auth_method", &r.Method}, {"client_addr", &r.ClientAddr}, {"proxy_addr", &r.ProxyAddr},
		{"user_agent", &r.UserAgent}, {"op", &r.Op}, {"path", &r.Path}, {"mount", &r.Mount}, {"target", &r.Target},
		{"error", &r.Error}, {"lease_id", &r.LeaseID}, {"principal", &r.Principal}, {"detail", &r.Detail}, {"event", &r.Event},
	}
}

func appendRule(b []byte, r *policy.Rule) []byte {
	b = append(b, `,"rule":{"policy":`...)
	b = appendString(b, r.Policy)
	b = append(b, `,"version":`...)
	b = strconv.AppendInt(b, r.Version, 10)
	b = append(b, `,"line":`...)
	b = strconv.AppendInt(b, int64(r.Line), 10)
	b = append(b, `,"pattern":`...)
	b = appendString(b, r.Pattern)
	return append(b, '}')
}

func appendField(b []byte, name, value string) []byte {
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, '"', ':')
	return appendString(b, value)
}

func appendOptional(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return appendField(b, name, value)
}

func appendInt(b []byte, name string, n int64) []byte {
	if n == 0 {
		return b
	}
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, '"', ':')
	return strconv.AppendInt(b, n, 10)
}

// appendString appends s in quotes. The same string always becomes the same bytes, and a quote inside is always escaped:
// a query may look for the bytes of a field without decoding. Invalid UTF-8 becomes U+FFFD.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	b = appendEscaped(b, s)
	return append(b, '"')
}

func appendEscaped(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' {
				i++
				continue
			}
			b = append(b, s[from:i]...)
			if c == '"' || c == '\\' {
				b = append(b, '\\', c)
			} else {
				b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			}
			i++
			from = i
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 {
			b = append(b, s[from:i]...)
			b = append(b, "\ufffd"...)
			from = i + 1
		}
		i += n
	}
	return append(b, s[from:]...)
}

// peek reads the sequence number and the time (Unix nanoseconds) off the front of a record without decoding it.
func peek(rec []byte) (seq uint64, at int64, ok bool) {
	const mid = `,"time":"`
	if len(rec) < len(recordHead) || string(rec[:len(recordHead)]) != recordHead {
		return 0, 0, false
	}
	i := len(recordHead)
	from := i
	for ; i < len(rec) && rec[i] >= '0' && rec[i] <= '9'; i++ {
		d := uint64(rec[i] - '0')
		if seq > (1<<64-1-d)/10 {
			return 0, 0, false
		}
		seq = seq*10 + d
	}
	if i == from || len(rec)-i < len(mid)+len(timeLayout)+1 || string(rec[i:i+len(mid)]) != mid {
		return 0, 0, false
	}
	i += len(mid)
	var t time.Time
	if rec[i+len(timeLayout)] != '"' || t.UnmarshalText(rec[i:i+len(timeLayout)]) != nil {
		return 0, 0, false
	}
	return seq, nanos(t), true
}

// nanos is t in Unix nanoseconds, held within what 64 bits can say.
func nanos(t time.Time) int64 {
	switch y := t.UTC().Year(); {
	case y < 1678:
		return -1 << 63
	case y > 2261:
		return 1<<63 - 1
	default:
		return t.UnixNano()
	}
}
