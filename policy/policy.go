// Package policy decides: Vault's ACL language, parsed, compiled and evaluated without any I/O.
//
// Rules for the same pattern are merged, across policies too: their capabilities are united, and one deny leaves only
// deny. For a path exactly one pattern counts and different patterns are never united, so a deny on a shorter pattern
// yields to a more specific allow. The exact pattern wins; else, among the longest pattern ending in "*" and every
// pattern with a "+" segment, the one whose first wildcard comes later, then one without "*" at the end, then the one
// with fewer "+", then the longer, then the lexicographically larger.
package policy

import "fmt"

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

// Decision is the answer to one question.
type Decision struct {
	Allowed bool
	Sudo    bool  // the winning rule grants sudo as well
	Rule    *Rule // the rule that decided; nil where no rule matched
	Reason  string
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

// rule is one path block. Its pattern is text without a leading slash.
type rule struct {
	Rule
	caps capSet
}

// ParseError says where a policy's text is wrong.
type ParseError struct {
	File string // the name of the policy
	Line int    // counted from 1; 0 where it isn't known
	Msg  string
}

func (e *ParseError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("policy %q: %s", e.File, e.Msg)
	}
	return fmt.Sprintf("policy %q, line %d: %s", e.File, e.Line, e.Msg)
}
