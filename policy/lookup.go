package policy

import (
	"maps"
	"slices"
	"strings"
)

// prefixTable finds the longest of many prefixes of a string.
type prefixTable []prefixRow

type prefixRow struct {
	prefix string
	parent int // the row of the longest other prefix of this one, or -1
	entry  *entry
}

func newPrefixTable(from map[string]*entry) prefixTable {
	t := make(prefixTable, 0, len(from))
	for _, p := range slices.Sorted(maps.Keys(from)) {
		parent := len(t) - 1
		for parent >= 0 && !strings.HasPrefix(p, t[parent].prefix) {
			parent = t[parent].parent
		}
		t = append(t, prefixRow{prefix: p, parent: parent, entry: from[p]})
	}
	return t
}

// longest finds the entry of the longest prefix of s, or nil. Of the rows not after s the last has every prefix of s as
// a prefix itself, or is one: what lies between a string and a prefix of it begins with that prefix.
func (t prefixTable) longest(s string) *entry {
	low, high := 0, len(t)
	for low < high {
		if mid := int(uint(low+high) >> 1); t[mid].prefix <= s {
			low = mid + 1
		} else {
			high = mid
		}
	}
	for i := low - 1; i >= 0; i = t[i].parent {
		if strings.HasPrefix(s, t[i].prefix) {
			return t[i].entry
		}
	}
	return nil
}

// segment is a node in the trie of the patterns that are compared segment by segment.
type segment struct {
	names map[string]*segment
	plus  *segment
	here  *entry            // of the pattern that ends here
	stars map[string]*entry // by what stands before the "*" in the last segment
	table prefixTable       // the same, frozen
}

// insert adds a pattern; the trie can't be searched before freeze.
func (n *segment) insert(pattern string, e *entry) {
	text, star := strings.CutSuffix(pattern, "*")
	for {
		name, rest, more := strings.Cut(text, "/")
		if !more && star {
			if n.stars == nil {
				n.stars = map[string]*entry{}
			}
			n.stars[name] = e
			return
		}
		n = n.child(name)
		if !more {
			n.here = e
			return
		}
		text = rest
	}
}

func (n *segment) child(name string) *segment {
	if name == "+" {
		if n.plus == nil {
			n.plus = &segment{}
		}
		return n.plus
	}
	if n.names == nil {
		n.names = map[string]*segment{}
	}
	if n.names[name] == nil {
		n.names[name] = &segment{}
	}
	return n.names[name]
}

func (n *segment) freeze() {
	if n == nil {
		return
	}
	n.table = newPrefixTable(n.stars)
	n.plus.freeze()
	for _, c := range n.names {
		c.freeze()
	}
}

// best finds the highest-ranking entry that matches path, or path and a slash, or returns won where that ranks higher.
func (n *segment) best(path string, slash bool, won *entry) *entry {
	name, rest, more := strings.Cut(path, "/")
	if !more && slash {
		more, slash = true, false
	}
	won = higher(won, n.table.longest(name))
	for _, c := range [...]*segment{n.names[name], n.plus} {
		switch {
		case c == nil:
		case more:
			won = c.best(rest, slash, won)
		default:
			won = higher(won, c.here)
		}
	}
	return won
}

func higher(a, b *entry) *entry {
	if a == nil || b != nil && b.rank > a.rank {
		return b
	}
	return a
}

// anyBelow says whether a pattern that matches the mount, or something below it, grants anything.
// mount has no slash at its end.
func (n *segment) anyBelow(mount string) bool {
	name, rest, more := strings.Cut(mount, "/")
	if !more {
		for before, e := range n.stars {
			if e.may().grants() && strings.HasPrefix(name, before) {
				return true
			}
		}
	}
	for _, c := range [...]*segment{n.names[name], n.plus} {
		if c != nil && (more && c.anyBelow(rest) || !more && c.any()) {
			return true
		}
	}
	return false
}

// any says whether a pattern that ends here or below grants anything.
func (n *segment) any() bool {
	if n.here != nil && n.here.may().grants() || n.plus != nil && n.plus.any() {
		return true
	}
	for _, e := range n.stars {
		if e.may().grants() {
			return true
		}
	}
	for _, c := range n.names {
		if c.any() {
			return true
		}
	}
	return false
}

// all lists the entries of every prefix of s.
func (t prefixTable) all(s string) []*entry {
	var out []*entry
	low, high := 0, len(t)
	for low < high {
		if mid := int(uint(low+high) >> 1); t[mid].prefix <= s {
			low = mid + 1
		} else {
			high = mid
		}
	}
	for i := low - 1; i >= 0; i = t[i].parent {
		if strings.HasPrefix(s, t[i].prefix) {
			out = append(out, t[i].entry)
		}
	}
	return out
}

// all adds every entry that best looks at and that matches.
func (n *segment) all(path string, slash bool, to []*entry) []*entry {
	name, rest, more := strings.Cut(path, "/")
	if !more && slash {
		more, slash = true, false
	}
	to = append(to, n.table.all(name)...)
	for _, c := range [...]*segment{n.names[name], n.plus} {
		switch {
		case c == nil:
		case more:
			to = c.all(rest, slash, to)
		case c.here != nil:
			to = append(to, c.here)
		}
	}
	return to
}

// each calls see for every entry.
func (n *segment) each(see func(*entry)) {
	if n == nil {
		return
	}
	if n.here != nil {
		see(n.here)
	}
	for i := range n.table {
		see(n.table[i].entry)
	}
	n.plus.each(see)
	for _, c := range n.names {
		c.each(see)
	}
}

// matches compares one pattern with a path.
func matches(pattern, path string) bool {
	text, star := strings.CutSuffix(pattern, "*")
	if !hasSegments(pattern) {
		return pattern == path || star && strings.HasPrefix(path, text)
	}
	for {
		want, moreText, more := strings.Cut(text, "/")
		got, morePath, morePathLeft := strings.Cut(path, "/")
		switch {
		case !more && star:
			return want == "+" || strings.HasPrefix(got, want)
		case want != "+" && want != got:
			return false
		case !more || !morePathLeft:
			return more == morePathLeft
		}
		text, path = moreText, morePath
	}
}
