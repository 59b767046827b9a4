package policy

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"
)

// entry is what all rules for one pattern come to.
type entry struct {
	pattern string
	caps    capSet         // united; with deny among them nothing else counts
	first   *Rule          // the first rule for the pattern
	by      [numCaps]*Rule // the first rule that contributed a capability
	limits  *limits        // of all rules together; nil: none
	rank    int            // among all patterns with a wildcard: the higher wins
	cond    []*rule        // rules with a condition, which are not in the above
}

func (e *entry) add(r *rule) {
	if r.cond != nil {
		e.cond = append(e.cond, r)
		return
	}
	e.merge(r)
}

func (e *entry) merge(r *rule) {
	if e.first == nil {
		e.first = &r.Rule
		e.limits = r.limits.clone()
	} else {
		e.limits = e.limits.merge(r.limits)
	}
	e.caps |= r.caps
	for c := range e.by {
		if e.by[c] == nil && r.caps.has(capability(c)) {
			e.by[c] = &r.Rule
		}
	}
}

// tables is a compiled set of rules.
type tables struct {
	exact    map[string]*entry // by pattern
	exactDir map[string]*entry // of these the ones that end in a slash, without it
	prefixes prefixTable       // by pattern without the "*"
	dirs     map[string]*entry // of these the ones that end in a slash, without it
	segments *segment          // the patterns with "+"; nil where there are none
}

// Set is policies that somebody has together, compiled once for all who have the same. It is immutable and safe for
// concurrent use.
type Set struct {
	policies []*Policy
	acl      ACL  // of the rules whose pattern is the same for everybody
	timed    bool // a pattern depends on the time
}

// NewSet merges policies. A nil policy grants nothing. The order of the policies matters only for which rule a Decision
// names where several say the same.
func NewSet(policies ...*Policy) *Set {
	s := &Set{policies: policies}
	for _, p := range policies {
		switch {
		case p == nil:
		case p.name == Root:
			return &Set{acl: ACL{root: &Rule{Policy: p.name, Version: p.version, Pattern: "*"}}}
		default:
			for i := range p.rules {
				if t := p.rules[i].tmpl; t != nil {
					s.acl.touch = append(s.acl.touch, t.start())
					s.timed = s.timed || t.timed()
				}
			}
		}
	}
	slices.Sort(s.acl.touch)
	s.acl.touch = slices.Compact(s.acl.touch)
	s.acl.tables = compile(policies, nil, time.Time{})
	return s
}

// For is the ACL of one who has the policies; nil: nobody whose templates could be filled in. What depends on who it is, is
// compiled when a path is asked for that it could matter for.
func (s *Set) For(who *Subject) *ACL {
	if len(s.acl.touch) == 0 {
		return &s.acl
	}
	if who == nil {
		who = &Subject{}
	}
	a := s.acl
	if s.timed {
		a.full = func() *tables { t := compile(s.policies, who, time.Now()); return &t }
	} else {
		a.full = sync.OnceValue(func() *tables { t := compile(s.policies, who, time.Time{}); return &t })
	}
	return &a
}

// Templated says whether For depends on who it is for.
func (s *Set) Templated() bool { return len(s.acl.touch) > 0 }

// Compile merges policies into the ACL of nobody in particular: see NewSet.
func Compile(policies ...*Policy) *ACL { return NewSet(policies...).For(nil) }

// builder collects the rules of all policies by their pattern.
type builder struct {
	exact    map[string]*entry // by pattern
	prefix   map[string]*entry // by pattern without the "*" at its end
	segments map[string]*entry // by pattern, a "*" at its end included
	spare    []entry           // room for those to come
}

// compile makes the tables of policies, and fills in templates for who where that isn't nil.
func compile(policies []*Policy, who *Subject, now time.Time) tables {
	b := newBuilder(policies)
	for _, p := range policies {
		if p == nil {
			continue
		}
		for i := range p.rules {
			r := &p.rules[i]
			if r.tmpl == nil {
				b.add(r, r.key)
			} else if who != nil {
				if key, ok := r.fill(who, now); ok {
					b.add(r, key)
				}
			}
		}
	}
	return b.tables()
}

func newBuilder(policies []*Policy) *builder {
	n := 0
	for _, p := range policies {
		if p != nil {
			n += len(p.rules)
		}
	}
	return &builder{
		exact: make(map[string]*entry, n/2), prefix: make(map[string]*entry, n/2), segments: make(map[string]*entry, n/4), spare: make([]entry, n),
	}
}

// tables freezes what was built.
func (b *builder) tables() tables {
	b.rank()
	t := tables{
		exact:    b.exact,
		exactDir: dirs(b.exact),
		prefixes: newPrefixTable(b.prefix),
		dirs:     dirs(b.prefix),
	}
	for pattern, e := range b.segments {
		if t.segments == nil {
			t.segments = &segment{}
		}
		t.segments.insert(pattern, e)
	}
	t.segments.freeze()
	return t
}

// fill makes the pattern of r for who. A rule that would grant more because a value that was filled in acts as a wildcard
// is left out: nobody writes that on purpose, and whoever sets the value would choose what is granted.
func (r *rule) fill(who *Subject, now time.Time) (string, bool) {
	key, wild, ok := r.tmpl.fill(who, now)
	switch {
	case !ok, wild && !r.caps.has(capDeny):
		return "", false
	case wild:
		if at := strings.Index(key, "+*"); at >= 0 {
			key = key[:at] + "*"
		}
	}
	return key, true
}

func (b *builder) add(r *rule, pattern string) { b.entry(pattern).add(r) }

// entry finds or makes the one for a pattern.
func (b *builder) entry(pattern string) *entry {
	table, key := b.exact, pattern
	if hasSegments(pattern) {
		table = b.segments
	} else if p, ok := strings.CutSuffix(pattern, "*"); ok {
		table, key = b.prefix, p
	}
	e := table[key]
	if e == nil {
		e, b.spare = &b.spare[0], b.spare[1:] // there is one for each rule
		e.pattern = pattern
		table[key] = e
	}
	return e
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
