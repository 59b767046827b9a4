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
	q.Mount = ""
	for _, f := range m.fields(&q) {
		if f.want != "" {
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

// field is one exact filter: its name in JSON and what a query wants there.
type field struct{ name, want string }

func (m *matcher) fields(q *Query) [11]field {
	return [...]field{
		{"identity", q.Identity}, {"access_id", q.AccessID}, {"op", q.Op}, {"status", q.Status}, {"via", q.Via},
		{"stage", q.Stage}, {"lease_id", q.LeaseID}, {"principal", q.Principal}, {"request_id", q.RequestID},
		{"target", q.Target}, {"mount", q.Mount},
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
	for _, f := range [...]struct{ want, got string }{
		{q.Identity, r.Identity}, {q.AccessID, r.AccessID}, {q.Op, r.Op}, {q.Status, string(r.Status)}, {q.Via, r.Via},
		{q.Stage, string(r.Stage)}, {q.LeaseID, r.LeaseID}, {q.Principal, r.Principal}, {q.RequestID, r.RequestID},
		{q.Target, r.Target}, {strings.TrimSuffix(q.Mount, "/"), strings.TrimSuffix(r.Mount, "/")},
	} {
		if f.want != "" && f.want != f.got {
			return false
		}
	}
	if !q.Since.IsZero() && r.Time.Before(q.Since) || !q.Until.IsZero() && !r.Time.Before(q.Until) {
		return false
	}
	return q.Path == "" || m.matchesPath(r.Path) || m.matchesPath(secretPath(r))
}

func (m *matcher) matchesPath(path string) bool {
	if m.prefix {
		return path != "" && strings.HasPrefix(path, m.path)
	}
	return path != "" && path == m.path
}

// secretPath is the path of the secret that r is about when its mount is KV v2, or "".
func secretPath(r *Record) string {
	mount := strings.TrimSuffix(r.Mount, "/") + "/"
	rest, ok := strings.CutPrefix(r.Path, mount)
	if mount == "/" || !ok {
		return ""
	}
	kind, name, ok := strings.Cut(rest, "/")
	if !ok {
		return ""
	}
	switch kind {
	case "data", "metadata", "delete", "undelete", "destroy", "subkeys":
		return mount + name
	}
	return ""
}
