package policy

import (
	"slices"
	"strings"
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
