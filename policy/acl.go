package policy

import "strings"

// ACL is a compiled set of policies as one caller has them. It is immutable and safe for concurrent use; the zero ACL
// grants nothing.
type ACL struct {
	root *Rule // set where everything is allowed
	tables
	touch []string       // what the patterns with templates begin with
	full  func() *tables // with the templates filled in; nil where there are none
}

// Why a Decision is as it is.
const (
	reasonRoot    = "the policy root allows everything"
	reasonHelp    = "help is open to every known caller"
	reasonGranted = "the rule grants it"
	reasonDenied  = "the rule denies it"
	reasonNotIn   = "the rule does not grant it"
	reasonNoRule  = "no rule matches the path"
	reasonNoOp    = "no capability allows this operation"
	reasonDepends = "the rule grants it under conditions"
)

// Decide judges one operation on one path, which has no slash at its start and, unless it asks for it, none at its end.
// A list is judged with a slash at the end first and, where no rule matches that, without. The Decision's Rule is the
// one that contributed the capability or the deny, or the first for the pattern where none did. Nothing is allocated.
// What it allows is allowed; where it does not and is Conditional, Judge must be asked.
func (a *ACL) Decide(op Operation, path string) Decision {
	switch {
	case a.root != nil:
		return Decision{Allowed: true, Sudo: true, Rule: a.root, Reason: reasonRoot}
	case op == Help:
		return Decision{Allowed: true, Reason: reasonHelp}
	}
	need, ok := needed(op)
	if !ok {
		return Decision{Reason: reasonNoOp}
	}
	e := a.lookup(op, path)
	if e != nil && len(e.cond) > 0 {
		return e.depends(op)
	}
	d := e.decide(need)
	if d.Allowed && e.limits != nil {
		d.Allowed, d.Conditional, d.Reason = false, true, reasonDepends
		d.NeedsParams = hasParams(op) && e.limits.params()
	}
	return d
}

// Judge answers one question with everything that counts.
func (a *ACL) Judge(q *Question) Decision {
	d := a.Decide(q.Op, q.Path)
	if d.Conditional {
		d = a.judge(q)
	}
	if !d.Allowed {
		d.Nearest = a.nearest(q)
	}
	return d
}

// judge decides where more than the capability counts.
func (a *ACL) judge(q *Question) Decision {
	need, _ := needed(q.Op)
	e := a.lookup(q.Op, q.Path)
	if d, there := e.judge(q, need); there {
		return d
	}
	for _, e := range a.collect(q.Op, q.Path)[1:] {
		if d, there := e.judge(q, need); there {
			return d
		}
	}
	return Decision{Reason: reasonNoRule}
}

// lookup finds what counts for an operation on path; nil where nothing does.
func (a *ACL) lookup(op Operation, path string) *entry {
	if op == List {
		dir := strings.TrimSuffix(path, "/")
		return a.tablesFor(dir).findDir(dir)
	}
	return a.tablesFor(path).find(path)
}

// decide judges by capabilities alone.
func (e *entry) decide(need capability) Decision {
	switch {
	case e == nil:
		return Decision{Reason: reasonNoRule}
	case e.caps.has(capDeny):
		return Decision{Rule: e.by[capDeny], Reason: reasonDenied}
	case !e.caps.has(need):
		return Decision{Sudo: e.caps.has(capSudo), Rule: e.first, Reason: reasonNotIn}
	}
	return Decision{Allowed: true, Sudo: e.caps.has(capSudo), Rule: e.by[need], Reason: reasonGranted}
}

// tablesFor is where path is looked up: with templates filled in where one could match.
func (a *ACL) tablesFor(path string) *tables {
	if a.full != nil {
		for _, start := range a.touch {
			if strings.HasPrefix(path, start) {
				return a.full()
			}
		}
	}
	return &a.tables
}

// all is every rule.
func (a *ACL) all() *tables {
	if a.full != nil {
		return a.full()
	}
	return &a.tables
}

// Capabilities answers as Vault's sys/capabilities does: what the rule for path grants, sorted; ["deny"] where that is
// nothing, and ["root"] where everything is allowed. Slashes at the start of path don't count; one at its end asks what
// a list of it is judged by.
func (a *ACL) Capabilities(path string) []string {
	if a.root != nil {
		return []string{"root"}
	}
	path = strings.TrimLeft(path, "/")
	e := a.tablesFor(path).findRaw(path)
	if e.onlyDeniesSometimes() {
		op, plain := Read, path
		if dir, ok := strings.CutSuffix(path, "/"); ok {
			op, plain = List, dir
		}
		e = nil
		for _, next := range a.collect(op, plain) {
			if !next.onlyDeniesSometimes() {
				e = next
				break
			}
		}
	}
	return e.words()
}

// words is what an entry grants, sorted; deny where that is nothing.
func (e *entry) words() []string { return e.may().words() }

// Mountable says whether anything at all is allowed at or below prefix, which ends in a slash: whether Vault would show
// the mount there to the caller. (Vault also shows a mount whose longest "*" pattern denies, where no policy has a "+".)
func (a *ACL) Mountable(prefix string) bool {
	if a.root != nil {
		return true
	}
	t := a.all()
	if e := t.findRaw(prefix); e != nil && e.may().grants() {
		return true
	}
	for pattern, e := range t.exact {
		if strings.HasPrefix(pattern, prefix) && e.may().grants() {
			return true
		}
	}
	for i := range t.prefixes {
		if strings.HasPrefix(t.prefixes[i].prefix, prefix) && t.prefixes[i].entry.may().grants() {
			return true
		}
	}
	return t.segments != nil && t.segments.anyBelow(strings.TrimSuffix(prefix, "/"))
}

// findRaw finds what counts for a path that may end in a slash.
func (t *tables) findRaw(path string) *entry {
	if dir, ok := strings.CutSuffix(path, "/"); ok {
		return t.findDir(dir)
	}
	return t.find(path)
}

// find finds what counts for path.
func (t *tables) find(path string) *entry {
	if e := t.exact[path]; e != nil {
		return e
	}
	return t.findWild(path, false)
}

// findDir finds what counts for path and a slash, or else for path.
func (t *tables) findDir(path string) *entry {
	if e := t.exactDir[path]; e != nil {
		return e
	}
	if e := t.exact[path]; e != nil {
		return e
	}
	if e := t.findWild(path, true); e != nil {
		return e
	}
	return t.findWild(path, false)
}

// findWild finds the most specific pattern with a wildcard for path or, with slash, for path and a slash.
func (t *tables) findWild(path string, slash bool) *entry {
	var won *entry
	if slash {
		won = t.dirs[path]
	}
	if won == nil {
		won = t.prefixes.longest(path)
	}
	if t.segments == nil {
		return won
	}
	return t.segments.best(path, slash, won)
}
