// Package policy decides: Vault's ACL language, parsed, compiled and evaluated without any I/O.
//
// Rules for the same pattern are merged, across policies too: their capabilities are united, and one deny leaves only
// deny. For a path exactly one pattern counts and different patterns are never united, so a deny on a shorter pattern
// yields to a more specific allow. The exact pattern wins; else, among the longest pattern ending in "*" and every
// pattern with a "+" segment, the one whose first wildcard comes later, then one without "*" at the end, then the one
// with fewer "+", then the longer, then the lexicographically larger.
package policy

import (
	"fmt"
	"slices"
	"time"
)

// Operation is what a request wants to do with a path.
type Operation string

// The operations, named as Vault's capabilities. Help reads a path's documentation and is always allowed to a caller
// who is known, as in Vault.
const (
	Create Operation = "create"
	Read   Operation = "read"
	Update Operation = "update"
	Patch  Operation = "patch"
	Delete Operation = "delete"
	List   Operation = "list"
	Help   Operation = "help"
)

// Root is the name of the policy that allows everything. It stands alone: whatever else is compiled with it doesn't
// count, and neither does its text.
const Root = "root"

// Rule names the place in a policy that decided.
type Rule struct {
	Policy  string `json:"policy"`
	Version int64  `json:"version"`
	Line    int    `json:"line"`
	Pattern string `json:"pattern"`
}

// Question is everything that a decision can depend on.
type Question struct {
	Op      Operation
	Path    string         // as Decide takes it
	WrapTTL time.Duration  // the answer shall be wrapped for so long; zero: not at all
	Params  map[string]any // of the body, or of the query of a read: as encoding/json decodes them, with json.Number
	Context *Context       // who asks, when and from where; nil: nothing is known of it
	Spent   []string       // names of Uses that are used up
}

// Uses is what may be granted only so many times.
type Uses struct {
	Name string // of what is counted: the same as long as the rule is
	Max  int64
}

func (q *Question) spent(name string) bool { return slices.Contains(q.Spent, name) }

// Decision is the answer to one question.
type Decision struct {
	Allowed     bool
	Sudo        bool   // the winning rule grants sudo as well
	Conditional bool   // only of Decide: the capability is there, and Judge has the last word
	NeedsParams bool   // and it looks at Question.Params
	NeedsOp     bool   // and it must be known whether a write is a create
	Uses        *Uses  // only of Judge: it is allowed only if one of these is left, which is then taken; nil: it is not counted
	Rule        *Rule  // the rule that decided; nil where no rule matched
	Nearest     *Rule  // only of Judge: of a refusal, the nearest rule of the caller's that would have allowed it
	Reason      string // for the record; a client never sees it
}

// Why is the Reason and, of a refusal, the nearest rule that would have allowed it: for the record.
func (d Decision) Why() string {
	if d.Allowed || d.Nearest == nil {
		return d.Reason
	}
	n := d.Nearest
	return fmt.Sprintf("%s; the nearest that would: policy %q version %d, line %d: %q", d.Reason, n.Policy, n.Version, n.Line, n.Pattern)
}

// Policy is one parsed policy. It is immutable and safe for concurrent use.
type Policy struct {
	name    string
	version int64
	rules   []rule
}

// Name is the name that the policy was parsed under.
func (p *Policy) Name() string { return p.name }

// Version is the version that the policy was parsed as.
func (p *Policy) Version() int64 { return p.version }

// Templated says whether a pattern of it depends on who asks.
func (p *Policy) Templated() bool {
	return slices.ContainsFunc(p.rules, func(r rule) bool { return r.tmpl != nil })
}

// rule is one path block. Its pattern is as it is written.
type rule struct {
	Rule
	key    string // the pattern without a leading slash; empty where tmpl is set
	caps   capSet
	limits *limits    // nil: none
	tmpl   *template  // nil: the pattern is the same for everybody
	cond   *condition // nil: it counts always
}

// ParseError says where a policy's text is wrong.
type ParseError struct {
	File string // the name of the policy
	Line int    // counted from 1; 0 where it isn't known
	Msg  string

	vault string // as Vault words it; empty: as Msg
}

// Vault is what Vault says to the same text, as far as it says something better than nothing.
func (e *ParseError) Vault() string {
	if e.vault != "" {
		return "failed to parse policy: " + e.vault
	}
	return "failed to parse policy: " + e.Msg
}

// as adds Vault's words.
func (e *ParseError) as(format string, args ...any) *ParseError {
	e.vault = fmt.Sprintf(format, args...)
	return e
}

func (e *ParseError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("policy %q: %s", e.File, e.Msg)
	}
	return fmt.Sprintf("policy %q, line %d: %s", e.File, e.Line, e.Msg)
}
