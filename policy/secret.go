package policy

import (
	"slices"
	"strings"
)

// kvPart is what one word in a "secret" block grants below one part of a KV v2 mount.
type kvPart struct {
	part string
	caps capSet
}

// kvGrants says what each word in a "secret" block stands for.
func kvGrants(word string) []kvPart {
	all := setOf(capDeny)
	switch word {
	case "read":
		return []kvPart{{"data", setOf(capRead)}, {"subkeys", setOf(capRead)}, {"metadata", setOf(capRead)}}
	case "list":
		return []kvPart{{"metadata", setOf(capList)}}
	case "create":
		return []kvPart{{"data", setOf(capCreate)}}
	case "update":
		return []kvPart{{"data", setOf(capUpdate)}, {"metadata", setOf(capCreate, capUpdate)}, {"undelete", setOf(capUpdate)}}
	case "patch":
		return []kvPart{{"data", setOf(capPatch)}, {"metadata", setOf(capPatch)}}
	case "delete":
		return []kvPart{{"data", setOf(capDelete)}, {"delete", setOf(capUpdate)}}
	case "destroy":
		return []kvPart{{"destroy", setOf(capUpdate)}, {"metadata", setOf(capDelete)}}
	case "deny":
		return []kvPart{{"data", all}, {"metadata", all}, {"subkeys", all}, {"delete", all}, {"undelete", all}, {"destroy", all}}
	}
	return nil
}

// addSecret adds the rules of one "secret" block, which stands for the paths of secrets in a KV v2 mount.
func (p *Policy) addSecret(pattern string, line int, body []field) *ParseError {
	mount, rest, ok := strings.Cut(strings.TrimPrefix(pattern, "/"), "/")
	var words []string
	var others []field
	seen := map[string]bool{}
	for _, f := range body {
		if seen[f.key] {
			return twice(f)
		}
		seen[f.key] = true
		var err *ParseError
		switch f.key {
		case "capabilities":
			words, err = parseNames(pattern, f)
		case "mount":
			if mount, rest, ok = f.val.text, strings.TrimPrefix(strings.TrimPrefix(pattern, "/"), f.val.text+"/"), true; f.val.kind != stringNode ||
				!strings.HasPrefix(strings.TrimPrefix(pattern, "/"), mount+"/") {
				err = wrong(f.line, "secret %q: mount must be a string that the pattern begins with", pattern)
			}
		case "comment", "when", "valid":
			others = append(others, f)
		default:
			err = wrong(f.line, "secret %q: unknown key %q: use capabilities, mount, when, valid and comment", pattern, f.key)
		}
		if err != nil {
			return err
		}
	}
	if !ok || mount == "" || rest == "" || strings.ContainsAny(mount, "+*{}") {
		return wrong(line, `secret %q: it begins with a mount: "secret/myapp/*"; where the mount's path has a slash, add mount = "…"`, pattern)
	}
	parts, err := kvParts(pattern, line, words)
	if err != nil {
		return err
	}
	for _, part := range parts {
		r := rule{Rule: Rule{Policy: p.name, Version: p.version, Line: line, Pattern: mount + "/" + part.part + "/" + rest}}
		if err := r.parsePattern(r.Pattern, line); err != nil {
			return err
		}
		if err := r.parseBody(r.Pattern, others); err != nil {
			return err
		}
		if r.caps = part.caps; r.caps.has(capDeny) {
			r.caps = setOf(capDeny)
		}
		if r.cond != nil && r.cond.uses > 0 { // they are counted together
			if r.caps.has(capDeny) {
				return wrong(line, "secret %q: a denial can't be used up", pattern)
			}
			r.cond.usesName = r.usesName("secret " + pattern)
		}
		p.rules = append(p.rules, r)
	}
	return nil
}

// kvParts unites what words grant, part by part in the order of their first mention.
func kvParts(pattern string, line int, words []string) ([]kvPart, *ParseError) {
	var out []kvPart
	for _, w := range words {
		grants := kvGrants(w)
		if grants == nil {
			return nil, wrong(line, "secret %q: unknown capability %q: use create, read, update, patch, delete, list, destroy and deny", pattern, w)
		}
		for _, g := range grants {
			i := slices.IndexFunc(out, func(p kvPart) bool { return p.part == g.part })
			if i < 0 {
				i = len(out)
				out = append(out, kvPart{part: g.part})
			}
			out[i].caps |= g.caps
		}
	}
	return out, nil
}
