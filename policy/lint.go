package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Finding is something in a policy that hardly does what its author means.
type Finding struct {
	Line int    `json:"line"`
	Msg  string `json:"message"`
}

// Lint looks for rules that hardly do what their author means. It judges one policy by itself.
func Lint(p *Policy, now time.Time) []Finding {
	l := &linter{policy: p, now: now}
	for i := range p.rules {
		l.rule(&p.rules[i])
	}
	l.together()
	slices.SortStableFunc(l.found, func(a, b Finding) int { return cmp.Compare(a.Line, b.Line) })
	return l.found
}

type linter struct {
	policy *Policy
	now    time.Time
	found  []Finding
}

func (l *linter) say(line int, format string, args ...any) {
	f := Finding{line, fmt.Sprintf(format, args...)}
	if !slices.Contains(l.found, f) { // a secret has many paths
		l.found = append(l.found, f)
	}
}

func (l *linter) rule(r *rule) {
	body, star := strings.CutSuffix(r.Pattern, "*")
	switch {
	case strings.Contains(body, "*"):
		l.say(r.Line, `%q: a "*" that is not at the end stands for itself: use "+" for a segment`, r.Pattern)
	case star && body == "":
		l.say(r.Line, `"*" matches every path, sys/ and auth/ too`)
	}
	for s := range strings.SplitSeq(r.Pattern, "/") {
		if strings.HasPrefix(s, "+") && s != "+" {
			l.say(r.Line, `%q: a "+" that is not a whole segment stands for itself`, r.Pattern)
		}
	}
	if r.caps == 0 {
		l.say(r.Line, "%q: the rule grants nothing, and hides less specific rules for the same paths", r.Pattern)
	}
	if r.tmpl != nil {
		for i := 1; i < len(r.tmpl.parts); i += 2 {
			if !knownDirective(r.tmpl.parts[i]) {
				l.say(r.Line, "%q: nothing is called %q: the rule never counts", r.Pattern, r.tmpl.parts[i])
			}
		}
	}
	if c := r.cond; c != nil && !c.until.IsZero() && !l.now.Before(c.until) {
		l.say(r.Line, "%q: the rule was valid until %s", r.Pattern, c.until.Format(time.RFC3339))
	}
	if r.limits != nil {
		l.limits(r)
	}
}

func (l *linter) limits(r *rule) {
	for name, lists := range map[string]map[string][]any{"allowed_parameters": r.limits.allowed, "denied_parameters": r.limits.denied} {
		for param, values := range lists {
			for _, v := range values {
				if n, ok := v.(never); ok {
					l.say(r.Line, "%q: %s: %q: %s equals nothing in a request, as in Vault: only texts, truth values and lists of them do", r.Pattern, name, param, n.text)
				}
				if v == "*" {
					l.say(r.Line, `%q: %s: %q: the value "*" stands for itself: an empty list stands for any value`, r.Pattern, name, param)
				}
			}
		}
	}
	if _, all := r.limits.denied["*"]; all && len(r.limits.denied) > 1 {
		l.say(r.Line, `%q: denied_parameters: beside "*" nothing else counts`, r.Pattern)
	}
	for _, name := range r.limits.required {
		if name != strings.ToLower(name) {
			l.say(r.Line, "%q: required_parameters: %q is looked for as %q", r.Pattern, name, strings.ToLower(name))
		}
	}
	if r.caps&setOf(capRead, capCreate, capUpdate, capPatch) == 0 && r.limits.params() {
		l.say(r.Line, "%q: parameters count for create, read, update and patch alone", r.Pattern)
	}
}

// together looks at pairs of rules.
func (l *linter) together() {
	seen := map[string]*rule{}
	for i := range l.policy.rules {
		r := &l.policy.rules[i]
		first := seen[r.Pattern]
		switch {
		case first == nil:
			seen[r.Pattern] = r
		case first.Line != r.Line && r.cond == nil && first.cond == nil:
			l.say(r.Line, "%q: the rule of line %d has the same pattern: they count together", r.Pattern, first.Line)
		}
		if !r.caps.has(capDeny) || r.cond != nil {
			continue
		}
		for j := range l.policy.rules {
			o := &l.policy.rules[j]
			before, star := strings.CutSuffix(r.key, "*")
			if star && !hasSegments(r.key) && o.caps.grants() && o.key != r.key && strings.HasPrefix(o.key, before) {
				l.say(r.Line, "%q: the denial does not hold for %q, which line %d grants: the more specific pattern counts alone", r.Pattern, o.Pattern, o.Line)
			}
		}
	}
}

// knownDirective says whether a directive can be filled in for anybody.
func knownDirective(text string) bool {
	if rest, ok := strings.CutPrefix(text, "identity.entity."); ok {
		if rest == "id" || rest == "name" {
			return true
		}
		if key, ok := strings.CutPrefix(rest, "metadata."); ok {
			return key != ""
		}
		rest, ok = strings.CutPrefix(rest, "aliases.")
		accessor, field, _ := strings.Cut(rest, ".")
		return ok && accessor != "" && knownField(field, "id", "name", "metadata.", "custom_metadata.")
	}
	if rest, ok := strings.CutPrefix(text, "identity.groups."); ok {
		by, rest, _ := strings.Cut(rest, ".")
		which, field, _ := strings.Cut(rest, ".")
		return (by == "ids" || by == "names") && which != "" && knownField(field, "id", "name", "metadata.")
	}
	if rest, ok := strings.CutPrefix(text, "time."); ok {
		_, ok := timeDirective(rest, time.Time{})
		return ok
	}
	return false
}

func knownField(field string, known ...string) bool {
	return slices.ContainsFunc(known, func(k string) bool {
		return field == k || strings.HasSuffix(k, ".") && strings.HasPrefix(field, k) && field != k
	}) && !strings.HasSuffix(field, ".")
}
