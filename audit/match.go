package audit

import (
	"bytes"
	"math"
	"strings"
)

// matcher decides whether a record is wanted: first, cheaply, by bytes that its JSON must hold, then for sure.
type matcher struct {
	q       Query
	path    string // without the *
	prefix  bool   // Path ended in *
	needles [][]byte
	since   int64
	until   int64 // not in it
}

func newMatcher(q Query) matcher {
	m := matcher{q: q, since: math.MinInt64, until: math.MaxInt64}
	if !q.Since.IsZero() {
		m.since = nanos(q.Since)
	}
	if !q.Until.IsZero() {
		m.until = nanos(q.Until)
	}
	for _, f := range fields(&q, &Record{}) {
		if f.want != "" && f.name != "mount" { // its slash may be there or not
			m.needles = append(m.needles, appendField(nil, f.name, f.want))
		}
	}
	m.path, m.prefix = strings.CutSuffix(q.Path, "*")
	if q.Path != "" {
		m.addPath()
	}
	return m
}

// addPath adds what the JSON of any record with a matching path holds. The path may be one on a KV v2 mount, with a
// segment between mount and secret: only the first segment and the last are then sure to be there.
func (m *matcher) addPath() {
	begin, rest := m.path, ""
	if i := strings.IndexByte(m.path, '/'); i >= 0 {
		begin, rest = m.path[:i+1], m.path[i+1:]
	}
	needle := appendEscaped([]byte(`,"path":"`), begin)
	if rest == "" && !m.prefix {
		needle = append(needle, '"')
	}
	m.needles = append(m.needles, needle)
	if rest != "" && !m.prefix {
		last := rest[strings.LastIndexByte(rest, '/')+1:]
		m.needles = append(m.needles, append(appendEscaped([]byte{'/'}, last), '"'))
	}
}

// field is one exact filter: its name in JSON, what a query wants there, and what a record has.
type field struct{ name, want, got string }

// fields lists the exact filters of q, beside what r has.
func fields(q *Query, r *Record) [11]field {
	return [...]field{
		{"identity", q.Identity, r.Identity},
		{"access_id", q.AccessID, r.AccessID},
		{"op", q.Op, r.Op},
		{"status", q.Status, string(r.Status)},
		{"via", q.Via, r.Via},
		{"stage", q.Stage, string(r.Stage)},
		{"lease_id", q.LeaseID, r.LeaseID},
		{"principal", q.Principal, r.Principal},
		{"request_id", q.RequestID, r.RequestID},
		{"target", q.Target, r.Target},
		{"mount", strings.TrimSuffix(q.Mount, "/"), strings.TrimSuffix(r.Mount, "/")},
	}
}

// timed says whether the query is limited in time.
func (m *matcher) timed() bool { return m.since != math.MinInt64 || m.until != math.MaxInt64 }

// maybe is false only when b, a record or a run of frames, can't hold a record that is wanted.
func (m *matcher) maybe(b []byte) bool {
	for _, n := range m.needles {
		if !bytes.Contains(b, n) {
			return false
		}
	}
	return true
}

// record decides for sure.
func (m *matcher) record(r *Record) bool {
	q := &m.q
	for _, f := range fields(q, r) {
		if f.want != "" && f.want != f.got {
			return false
		}
	}
	if !q.Since.IsZero() && r.Time.Before(q.Since) || !q.Until.IsZero() && !r.Time.Before(q.Until) {
		return false
	}
	return q.Path == "" || m.matchesPath(r.Path, r.Mount)
}

// mayMatchPath is false only when rec can't have a path that is wanted. It looks at the JSON without decoding it.
func (m *matcher) mayMatchPath(rec []byte) bool {
	if m.q.Path == "" {
		return true
	}
	path, ok := rawField(rec, `,"path":"`)
	mount, ok2 := rawField(rec, `,"mount":"`)
	return !ok || !ok2 || m.matchesPath(string(path), string(mount))
}

// rawField is the value of a field of text, which is empty where rec has none; false where it can't be told without
// decoding. Inside of another value the quotes of name would be escaped.
func rawField(rec []byte, name string) ([]byte, bool) {
	i := bytes.Index(rec, []byte(name))
	if i < 0 {
		return nil, true
	}
	v := rec[i+len(name):]
	end := bytes.IndexByte(v, '"')
	if end < 0 || bytes.IndexByte(v[:end], '\\') >= 0 {
		return nil, false
	}
	return v[:end], true
}

// matchesPath says whether a record with this path, on this mount, is wanted.
func (m *matcher) matchesPath(path, mount string) bool {
	if path == "" {
		return false
	}
	if m.joined(path, "") {
		return true
	}
	mount, name, ok := secretName(path, mount)
	return ok && m.joined(mount, name)
}

// joined says whether the path a+b is wanted.
func (m *matcher) joined(a, b string) bool {
	if m.prefix && len(m.path) <= len(a) {
		return strings.HasPrefix(a, m.path)
	}
	rest, ok := strings.CutPrefix(m.path, a)
	if m.prefix {
		return ok && strings.HasPrefix(b, rest)
	}
	return ok && b == rest
}

// secretName parts the path of a secret on a KV v2 mount into the mount, with its slash, and the name of the secret.
func secretName(path, mount string) (prefix, name string, ok bool) {
	n := len(strings.TrimSuffix(mount, "/"))
	if n == 0 || len(path) <= n || path[n] != '/' || path[:n] != mount[:n] {
		return "", "", false
	}
	kind, name, ok := strings.Cut(path[n+1:], "/")
	if !ok {
		return "", "", false
	}
	switch kind {
	case "data", "metadata", "delete", "undelete", "destroy", "subkeys":
		return path[:n+1], name, true
	}
	return "", "", false
}
