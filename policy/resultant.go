package policy

import (
	"encoding/json"
	"time"
)

// Grant is what all rules for one pattern come to.
type Grant struct {
	Capabilities     []string // in Vault's order; ["deny"] where nothing is granted
	MinWrap, MaxWrap time.Duration
	Allowed, Denied  map[string][]any // parameters; values as encoding/json writes them
	Required         []string
}

// Root says whether everything is allowed.
func (a *ACL) Root() bool { return a.root != nil }

// Grants lists what the rules come to, by pattern: of exact patterns, and of those that end in "*", without it. As in Vault,
// patterns with "+" are not among them.
func (a *ACL) Grants() (exact, prefixes map[string]Grant) {
	t := a.all()
	exact, prefixes = make(map[string]Grant, len(t.exact)), make(map[string]Grant, len(t.prefixes))
	for pattern, e := range t.exact {
		exact[pattern] = e.grant()
	}
	for i := range t.prefixes {
		prefixes[t.prefixes[i].prefix] = t.prefixes[i].entry.grant()
	}
	return exact, prefixes
}

func (e *entry) grant() Grant {
	g := Grant{Capabilities: []string{capDeny.String()}}
	caps := e.may()
	if !caps.grants() {
		return g
	}
	g.Capabilities = nil
	for _, c := range [...]capability{capCreate, capDelete, capList, capRead, capSudo, capUpdate, capPatch} {
		if caps.has(c) {
			g.Capabilities = append(g.Capabilities, c.String())
		}
	}
	if l := e.limits; l != nil {
		g.MinWrap, g.MaxWrap, g.Required = l.minWrap, l.maxWrap, l.required
		g.Allowed, g.Denied = shown(l.allowed), shown(l.denied)
	}
	return g
}

func shown(in map[string][]any) map[string][]any {
	out := make(map[string][]any, len(in))
	for name, values := range in {
		out[name] = append([]any{}, values...)
	}
	return out
}

// MarshalJSON writes a number as it is in the policy.
func (n never) MarshalJSON() ([]byte, error) {
	if json.Valid([]byte(n.text)) {
		return []byte(n.text), nil
	}
	return json.Marshal(n.text)
}
