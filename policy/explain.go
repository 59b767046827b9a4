package policy

import (
	"slices"
	"strings"
	"time"
)

// collect lists every entry that matches what an operation on path is judged by, the one that counts first.
func (a *ACL) collect(op Operation, path string) []*entry {
	t := a.tablesFor(path)
	var out []*entry
	add := func(es ...*entry) {
		for _, e := range es {
			if e != nil && !slices.Contains(out, e) {
				out = append(out, e)
			}
		}
	}
	if op == List {
		path = strings.TrimSuffix(path, "/")
		add(t.exactDir[path], t.exact[path])
		add(t.wilds(path, true)...)
	} else {
		add(t.exact[path])
	}
	add(t.wilds(path, false)...)
	return out
}

// wilds lists the entries of patterns with a wildcard that match, the most specific first.
func (t *tables) wilds(path string, slash bool) []*entry {
	out := t.prefixes.all(path)
	if slash && t.dirs[path] != nil {
		out = append(out, t.dirs[path])
	}
	if t.segments != nil {
		out = t.segments.all(path, slash, out)
	}
	slices.SortFunc(out, func(a, b *entry) int { return b.rank - a.rank })
	return out
}

// nearest finds the rule that would have allowed what q asks for: first among those that match the path and yield to the
// one that counts, then the one whose pattern goes the longest way with the path.
func (a *ACL) nearest(q *Question) *Rule {
	need, ok := needed(q.Op)
	if !ok {
		return nil
	}
	for _, e := range a.collect(q.Op, q.Path) {
		if d, there := e.judge(q, need); there && d.Allowed {
			return d.Rule
		}
	}
	return a.tablesFor(q.Path).closest(need, q.Path)
}

// closest finds the rule with a capability whose pattern shares the longest beginning with path, which is at least the
// first segment.
func (t *tables) closest(need capability, path string) *Rule {
	var won *Rule
	most := strings.Index(path, "/")
	if most < 0 {
		return nil
	}
	see := func(e *entry) {
		if caps := e.may(); !caps.grants() || !caps.has(need) {
			return
		}
		r := e.granting(need)
		n := common(r.Pattern, path)
		if n > most || n == most && won != nil && r.before(won) {
			won, most = r, n
		}
	}
	for _, e := range t.exact {
		see(e)
	}
	for i := range t.prefixes {
		see(t.prefixes[i].entry)
	}
	t.segments.each(see)
	return won
}

// before orders rules that are as good as one another, so that the same one is always named.
func (r *Rule) before(o *Rule) bool {
	if r.Pattern != o.Pattern {
		return r.Pattern < o.Pattern
	}
	return r.Policy < o.Policy
}

// common is how many bytes two texts begin with together.
func common(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// Explanation is a decision with all that it was made of.
type Explanation struct {
	Decision Decision
	Matches  []Match  // every rule of the caller's that matches, the ones that count first
	Others   []string // policies that the caller does not have and any one of which would allow it, by name
}

// Match is a rule that matches a path.
type Match struct {
	Rule
	Capabilities []string `json:"capabilities"`
	Counts       bool     `json:"counts"` // its pattern is the one that is judged by
	Condition    string   `json:"condition,omitempty"`
}

// maxOthers is how many policies are named that would allow something.
const maxOthers = 20

// Explain judges q for somebody with these policies and says why it comes out so.
func (x *Index) Explain(q *Question, policies []string, who *Subject) Explanation {
	mine := make([]*Policy, 0, len(policies))
	for _, name := range policies {
		if p := x.Policy(name); p != nil {
			mine = append(mine, p)
		}
	}
	acl := NewSet(mine...).For(who)
	out := Explanation{Decision: acl.Judge(q)}
	if acl.root != nil || q.Op == Help {
		return out
	}
	winner := -1
	for i, e := range acl.collect(q.Op, q.Path) {
		if need, ok := needed(q.Op); ok && winner < 0 {
			if _, there := e.judge(q, need); there {
				winner = i
			}
		}
		out.Matches = append(out.Matches, matchesOf(e, mine, who, winner == i)...)
	}
	if !out.Decision.Allowed {
		out.Others = x.others(q, policies, mine, who)
	}
	return out
}

// matchesOf lists the rules behind an entry.
func matchesOf(e *entry, policies []*Policy, who *Subject, counts bool) []Match {
	var out []Match
	if who == nil {
		who = &Subject{}
	}
	for _, p := range policies {
		for i := range p.rules {
			r := &p.rules[i]
			key := r.key
			if r.tmpl != nil {
				var ok bool
				if key, ok = r.fill(who, time.Now()); !ok {
					continue
				}
			}
			if key != e.pattern {
				continue
			}
			m := Match{Rule: r.Rule, Capabilities: r.caps.words(), Counts: counts}
			if r.cond != nil {
				m.Condition = r.cond.words()
			}
			out = append(out, m)
		}
	}
	return out
}

// others finds policies that, one added to those that the caller has, would allow it.
func (x *Index) others(q *Question, have []string, mine []*Policy, who *Subject) []string {
	seen := map[int32]bool{}
	var out []string
	for _, e := range x.acl.collect(q.Op, q.Path) {
		for _, at := range x.posts[e] {
			p := x.list[at.policy]
			if seen[at.policy] || slices.Contains(have, p.name) || len(out) == maxOthers {
				continue
			}
			seen[at.policy] = true
			if NewSet(append(slices.Clip(mine), p)...).For(who).Judge(q).Allowed {
				out = append(out, p.name)
			}
		}
	}
	slices.Sort(out)
	return out
}
