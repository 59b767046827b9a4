package policy

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxText is the longest text of a policy, in bytes.
const MaxText = 256 << 10

// Parse reads a policy in HCL 1, or in JSON where the text begins with a brace. It is as strict as it can be: an unknown
// key, a key given twice, an unknown capability and what would narrow a decision and isn't evaluated (control groups, MFA)
// are a *ParseError with name as its File. A "*" that is not at the end of a pattern stands for itself, as does a "+" that
// is not a whole segment: Vault takes them so.
func Parse(name string, version int64, text string) (*Policy, error) {
	p := &Policy{name: name, version: version}
	if err := p.parse(text); err != nil {
		err.File, err.Msg = name, cut(err.Msg)
		return nil, err
	}
	return p, nil
}

func (p *Policy) parse(text string) *ParseError {
	if len(text) > MaxText {
		return wrong(0, "the text is longer than %d bytes", MaxText)
	}
	if !utf8.ValidString(text) {
		return wrong(0, "the text is not valid UTF-8")
	}
	top, err := readTree(text)
	if err != nil {
		return err
	}
	named := false
	for _, f := range top {
		switch {
		case f.key == "path":
			if err := addBlocks(f, p.addRule); err != nil {
				return err
			}
		case f.key == "secret":
			if err := addBlocks(f, p.addSecret); err != nil {
				return err
			}
		case f.key == "name" && named:
			return twice(f)
		case f.key == "name" && f.val.kind == stringNode:
			named = true
		case f.key == "name":
			return wrong(f.line, "name must be a string")
		default:
			return wrong(f.line, "unknown key %q: a policy holds path, secret and name", f.key).as("1 error occurred:\n\t* invalid key %q on line 0\n\n", f.key)
		}
	}
	return nil
}

// addBlocks adds the rules of one "path" or "secret" key: in HCL a block for one pattern, in JSON an object with a pattern
// for each key, or a list of such.
func addBlocks(f field, add func(pattern string, line int, body []field) *ParseError) *ParseError {
	for _, n := range f.val.each() {
		if n.kind != objectNode {
			return wrong(f.line, `%s must be a block: %s "a/b" { … }`, f.key, f.key)
		}
		for _, pattern := range n.fields {
			for _, body := range pattern.val.each() {
				if body.kind != objectNode {
					return wrong(pattern.line, "%s %q must be a block", f.key, pattern.key)
				}
				if err := add(pattern.key, pattern.line, body.fields); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (p *Policy) addRule(pattern string, line int, body []field) *ParseError {
	r := rule{Rule: Rule{Policy: p.name, Version: p.version, Line: line, Pattern: strings.TrimPrefix(pattern, "/")}}
	if err := r.parsePattern(pattern, line); err != nil {
		return err
	}
	if err := r.parseBody(pattern, body); err != nil {
		return err
	}
	p.rules = append(p.rules, r)
	return nil
}

func (r *rule) parsePattern(pattern string, line int) *ParseError {
	if strings.Contains(pattern, "{{") || strings.Contains(pattern, "}}") {
		var err error
		if r.tmpl, err = parseTemplate(pattern); err != nil {
			return wrong(line, "path %q: %v", pattern, err).as("failed to validate policy templating: %v", err)
		}
	}
	if strings.Contains(pattern, "+*") {
		return wrong(line, `path %q: "+*" is not a wildcard: "+" is a whole segment`, pattern).
			as("path %q: invalid use of wildcards ('+*' is forbidden)", strings.TrimPrefix(pattern, "/"))
	}
	if r.tmpl == nil {
		r.key = strings.TrimPrefix(pattern, "/")
	}
	return nil
}

// parseBody reads what stands between the braces of a rule.
func (r *rule) parseBody(pattern string, body []field) *ParseError {
	var l limits
	seen := make(map[string]bool, len(body))
	for _, f := range body {
		if seen[f.key] {
			return twice(f)
		}
		seen[f.key] = true
		var more capSet
		var err *ParseError
		switch f.key {
		case "when":
			err = r.parseWhen(pattern, f)
		case "valid":
			err = r.parseValid(pattern, f)
		default:
			more, err = parseKey(pattern, f, &l)
		}
		if err != nil {
			return err
		}
		r.caps |= more
	}
	if r.cond != nil && r.cond.uses > 0 {
		if r.caps.has(capDeny) {
			return wrong(r.Line, "path %q: a denial can't be used up", pattern)
		}
		r.cond.usesName = r.usesName("path " + r.Pattern)
	}
	if l.minWrap != 0 && l.maxWrap != 0 && l.maxWrap < l.minWrap {
		return wrong(r.Line, "path %q: max_wrapping_ttl is less than min_wrapping_ttl", pattern).as("max_wrapping_ttl cannot be less than min_wrapping_ttl")
	}
	if r.caps.has(capDeny) {
		r.caps = setOf(capDeny)
	} else if !l.empty() {
		r.limits = &l
	}
	return nil
}

func parseKey(pattern string, f field, l *limits) (capSet, *ParseError) {
	switch f.key {
	case "comment":
		return 0, nil
	case "capabilities":
		return parseCapabilities(pattern, f)
	case "policy":
		if f.val.kind != stringNode {
			return 0, wrong(f.line, "path %q: policy must be a string", pattern)
		}
		if f.val.text == "" {
			return 0, nil
		}
		caps, ok := shorthand(f.val.text)
		if !ok {
			return 0, wrong(f.line, "path %q: unknown policy %q: it is deny, read, write or sudo", pattern, f.val.text).
				as("path %q: invalid policy %q", pattern, f.val.text)
		}
		return caps, nil
	case "allowed_parameters", "denied_parameters", "required_parameters", "min_wrapping_ttl", "max_wrapping_ttl":
		return 0, l.parseLimit(pattern, f)
	case "control_group", "mfa_methods":
		return 0, wrong(f.line, "path %q: %s is not supported: without it the rule would allow more than it says", pattern, f.key)
	}
	return 0, wrong(f.line, "path %q: unknown key %q", pattern, f.key).as("1 error occurred:\n\t* path %q: invalid key %q on line %d\n\n", pattern, f.key, f.line)
}

func parseCapabilities(pattern string, f field) (capSet, *ParseError) {
	if f.val.kind != listNode {
		return 0, wrong(f.line, `path %q: capabilities must be a list: ["read", "list"]`, pattern)
	}
	var caps capSet
	for _, n := range f.val.list {
		if n.kind != stringNode {
			return 0, wrong(f.line, "path %q: a capability must be a string", pattern)
		}
		c, ok := parseCapability(n.text)
		if !ok {
			return 0, wrong(f.line, "path %q: unknown capability %q", pattern, n.text).as("path %q: invalid capability %q", pattern, n.text)
		}
		caps |= setOf(c)
	}
	return caps, nil
}

// cut shortens a message that repeats a long piece of the text.
func cut(msg string) string {
	const most = 300
	if len(msg) <= most {
		return msg
	}
	return strings.ToValidUTF8(msg[:most], "") + "…"
}

func wrong(line int, format string, args ...any) *ParseError {
	return &ParseError{Line: line, Msg: fmt.Sprintf(format, args...)}
}

func twice(f field) *ParseError { return wrong(f.line, "key %q is given twice", f.key) }
