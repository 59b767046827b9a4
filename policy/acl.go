package policy

import "strings"

// ACL is a compiled set of policies. It is immutable and safe for concurrent use; the zero ACL grants nothing.
type ACL struct {
	root     *Rule             // set where everything is allowed
	exact    map[string]*entry // by pattern
	exactDir map[string]*entry // of these the ones that end in a slash, without it
	prefixes prefixTable       // by pattern without the "*"
	dirs     map[string]*entry // of these the ones that end in a slash, without it
	segments *segment          // the patterns with "+"; nil where there are none
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
)

// Decide judges one operation on one path, which has no slash at its start and, unless it asks for it, none at its end.
// A list is judged with a slash at the end first and, where no rule matches that, without. The Decision's Rule is the
// one that contributed the capability or the deny, or the first for the pattern where none did. Nothing is allocated.
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
	var e *entry
	if op == List {
		e = a.findDir(strings.TrimSuffix(path, "/"))
	} else {
		e = a.find(path)
	}
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

// Capabilities answers as Vault's sys/capabilities does: what the rule for path grants, sorted; ["deny"] where that is
// nothing, and ["root"] where everything is allowed. Slashes at the start of path don't count; one at its end asks what
// a list of it is judged by.
func (a *ACL) Capabilities(path string) []string {
	if a.root != nil {
		return []string{"root"}
	}
	e := a.findRaw(strings.TrimLeft(path, "/"))
	if e == nil || !e.caps.grants() {
		return []string{capDeny.String()}
	}
	var words []string
	for c := capability(0); c < numCaps; c++ {
		if e.caps.has(c) {
			words = append(words, c.String())
		}
	}
	return words
}

// Mountable says whether anything at all is allowed at or below prefix, which ends in a slash: whether Vault would show
// the mount there to the caller. (Vault also shows a mount whose longest "*" pattern denies, where no policy has a "+".)
func (a *ACL) Mountable(prefix string) bool {
	if a.root != nil {
		return true
	}
	if e := a.findRaw(prefix); e != nil && e.caps.grants() {
		return true
	}
	for pattern, e := range a.exact {
		if strings.HasPrefix(pattern, prefix) && e.caps.grants() {
			return true
		}
	}
	for i := range a.prefixes {
		if strings.HasPrefix(a.prefixes[i].prefix, prefix) && a.prefixes[i].entry.caps.grants() {
			return true
		}
	}
	return a.segments != nil && a.segments.anyBelow(strings.TrimSuffix(prefix, "/"))
}

// findRaw finds what counts for a path that may end in a slash.
func (a *ACL) findRaw(path string) *entry {
	if dir, ok := strings.CutSuffix(path, "/"); ok {
		return a.findDir(dir)
	}
	return a.find(path)
}

// find finds what counts for path.
func (a *ACL) find(path string) *entry {
	if e := a.exact[path]; e != nil {
		return e
	}
	return a.findWild(path, false)
}

// findDir finds what counts for path and a slash, or else for path.
func (a *ACL) findDir(path string) *entry {
	if e := a.exactDir[path]; e != nil {
		return e
	}
	if e := a.exact[path]; e != nil {
		return e
	}
	if e := a.findWild(path, true); e != nil {
		return e
	}
	return a.findWild(path, false)
}

// findWild finds the most specific pattern with a wildcard for path or, with slash, for path and a slash.
func (a *ACL) findWild(path string, slash bool) *entry {
	var won *entry
	if slash {
		won = a.dirs[path]
	}
	if won == nil {
		won = a.prefixes.longest(path)
	}
	if a.segments == nil {
		return won
	}
	return a.segments.best(path, slash, won)
}
