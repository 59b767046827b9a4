// Package policy decides: Vault's ACL language, parsed, compiled and evaluated without any I/O.
package policy

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
