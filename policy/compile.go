package policy

import (
	"cmp"
	"slices"
	"strings"
)

// entry is what all rules for one pattern come to.
type entry struct {
	caps  capSet         // united; with deny among them nothing else counts
	first *Rule          // the first rule for the pattern
	by    [numCaps]*Rule // the first rule that contributed a capability
	rank  int            // among all patterns with a wildcard: the higher wins
}

func (e *entry) merge(r *rule) {
	if e.first == nil {
		e.first = &r.Rule
	}
	e.caps |= r.caps
	for c := range e.by {
		if e.by[c] == nil && r.caps.has(capability(c)) {
			e.by[c] = &r.Rule
		}
	}
}

// builder collects the rules of all policies by their pattern.
type builder struct {
	exact    map[string]*entry // by pattern
	prefix   map[string]*entry // by pattern without the "*" at its end
	segments map[string]*entry // by pattern, a "*" at its end included
}

// Compile merges policies into an ACL. A nil policy grants nothing. The order of the policies matters only for which
// rule a Decision names where several say the same.
func Compile(policies ...*Policy) *ACL {
	b := builder{exact: map[string]*entry{}, prefix: map[string]*entry{}, segments: map[string]*entry{}}
	for _, p := range policies {
		switch {
		case p == nil:
		case p.name == Root:
			return &ACL{root: &Rule{Policy: p.name, Version: p.version, Pattern: "*"}}
		default:
			for i := range p.rules {
				b.add(&p.rules[i])
			}
		}
	}
	b.rank()
	acl := &ACL{
		exact:    b.exact,
		exactDir: dirs(b.exact),
		prefixes: newPrefixTable(b.prefix),
		dirs:     dirs(b.prefix),
	}
	for pattern, e := range b.segments {
		if acl.segments == nil {
			acl.segments = &segment{}
		}
		acl.segments.insert(pattern, e)
	}
	acl.segments.freeze()
	return acl
}

func (b *builder) add(r *rule) {
	table, key := b.exact, r.Pattern
	if hasSegments(r.Pattern) {
		table = b.segments
	} else if p, ok := strings.CutSuffix(r.Pattern, "*"); ok {
		table, key = b.prefix, p
	}
	e := table[key]
	if e == nil {
		e = &entry{}
		table[key] = e
	}
	e.merge(r)
}

// hasSegments says that a segment of pattern begins with "+". As in Vault, it is then compared segment by segment, even
// where that segment goes on and so stands for itself.
func hasSegments(pattern string) bool {
	return pattern == "+" || strings.HasPrefix(pattern, "+/") || strings.Contains(pattern, "/+")
}

// wild is a pattern with a wildcard and what orders it.
type wild struct {
	first int    // where the first wildcard stands
	star  bool   // it ends in "*"
	plus  int    // how many segments are "+"
	text  string // without the "*" at its end
	entry *entry
}

// rank orders all patterns with a wildcard from the least to the most specific.
func (b *builder) rank() {
	all := make([]wild, 0, len(b.prefix)+len(b.segments))
	for text, e := range b.prefix {
		all = append(all, wild{first: len(text), star: true, text: text, entry: e})
	}
	for pattern, e := range b.segments {
		w := wild{first: strings.Index(pattern, "+"), entry: e}
		w.text, w.star = strings.CutSuffix(pattern, "*")
		for s := range strings.SplitSeq(w.text, "/") {
			if s == "+" {
				w.plus++
			}
		}
		all = append(all, w)
	}
	slices.SortFunc(all, compareWild)
	for i, w := range all {
		w.entry.rank = i
	}
}

// compareWild is negative where a yields to b.
func compareWild(a, b wild) int {
	if c := cmp.Compare(a.first, b.first); c != 0 {
		return c
	}
	if a.star != b.star {
		if a.star {
			return -1
		}
		return 1
	}
	return cmp.Or(
		cmp.Compare(b.plus, a.plus),
		cmp.Compare(len(a.text), len(b.text)),
		cmp.Compare(a.text, b.text),
	)
}

// dirs keeps the keys that end in a slash, and drops that slash.
func dirs(in map[string]*entry) map[string]*entry {
	out := map[string]*entry{}
	for k, e := range in {
		if dir, ok := strings.CutSuffix(k, "/"); ok {
			out[dir] = e
		}
	}
	return out
}
