package policy

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// Subject is who templates in patterns are filled in for.
type Subject struct {
	ID       string // of the entity; empty: there is none, and no template of an entity can be filled in
	Name     string
	Metadata map[string]string
	Aliases  []Alias
	Groups   []Group // that it is in, itself or through another group
}

// Alias is an entity's name in one auth method.
type Alias struct {
	Accessor string // of the mount
	ID       string
	Name     string
	Metadata map[string]string
	Custom   map[string]string // custom_metadata
}

// Group is one that an entity is in.
type Group struct {
	ID       string
	Name     string
	Metadata map[string]string
}

// template is a pattern with directives: text, directive, text, …, text.
type template struct{ parts []string }

var errUnbalanced = errors.New("unbalanced templating characters")

// parseTemplate splits a pattern. What a directive says isn't judged: as in Vault, a rule whose pattern can't be filled in
// is not there.
func parseTemplate(pattern string) (*template, error) {
	pieces := strings.Split(pattern, "{{")
	if strings.Contains(pieces[0], "}}") {
		return nil, errUnbalanced
	}
	t := &template{parts: pieces[:1:1]}
	for _, p := range pieces[1:] {
		two := strings.Split(p, "}}")
		if len(two) != 2 {
			return nil, errUnbalanced
		}
		t.parts = append(t.parts, strings.TrimSpace(two[0]), two[1])
	}
	return t, nil
}

// start is what every pattern that comes of t begins with and that stands for itself.
func (t *template) start() string {
	s := strings.TrimPrefix(t.parts[0], "/")
	if hasSegments(s) {
		s, _, _ = strings.Cut(s, "+")
	}
	return strings.TrimSuffix(s, "/")
}

// timed says whether a directive is about the time.
func (t *template) timed() bool {
	for i := 1; i < len(t.parts); i += 2 {
		if strings.HasPrefix(t.parts[i], "time.") {
			return true
		}
	}
	return false
}

// fill makes the pattern for s, without a leading slash; not ok where that can't be done. With wild the values that were
// filled in act as wildcards themselves.
func (t *template) fill(s *Subject, now time.Time) (pattern string, wild, ok bool) {
	var filled strings.Builder
	special := false
	for i, p := range t.parts {
		if i%2 == 0 {
			filled.WriteString(p)
			continue
		}
		v, ok := s.directive(p, now)
		if !ok {
			return "", false, false
		}
		filled.WriteString(v)
		special = special || strings.ContainsAny(v, "*+")
	}
	pattern = strings.TrimPrefix(filled.String(), "/")
	return pattern, special && wildcards(pattern) != wildcards(t.plain(s, now)), true
}

// plain is the pattern with values that are no wildcards.
func (t *template) plain(s *Subject, now time.Time) string {
	var plain strings.Builder
	none := strings.NewReplacer("*", "x", "+", "x")
	for i, p := range t.parts {
		if i%2 == 1 {
			p, _ = s.directive(p, now)
			p = none.Replace(p)
		}
		plain.WriteString(p)
	}
	return strings.TrimPrefix(plain.String(), "/")
}

// wildcards marks where the wildcards of a pattern stand.
func wildcards(pattern string) string {
	var marks []byte
	if hasSegments(pattern) {
		for s := range strings.SplitSeq(pattern, "/") {
			mark := byte('-')
			if strings.HasPrefix(s, "+") {
				mark = '+'
			}
			marks = append(marks, mark)
		}
	}
	if strings.HasSuffix(pattern, "*") {
		marks = append(marks, '*')
	}
	return string(marks)
}

// directive finds the value of what stands between braces.
func (s *Subject) directive(text string, now time.Time) (string, bool) {
	if rest, ok := strings.CutPrefix(text, "identity.entity."); ok {
		if s.ID == "" {
			return "", false
		}
		return s.entity(rest)
	}
	if rest, ok := strings.CutPrefix(text, "identity.groups."); ok {
		return s.group(rest)
	}
	if rest, ok := strings.CutPrefix(text, "time."); ok {
		return timeDirective(rest, now)
	}
	return "", false
}

func (s *Subject) entity(text string) (string, bool) {
	switch text {
	case "id":
		return s.ID, true
	case "name":
		return s.Name, s.Name != ""
	}
	if key, ok := strings.CutPrefix(text, "metadata."); ok {
		v, ok := s.Metadata[key]
		return v, ok
	}
	rest, ok := strings.CutPrefix(text, "aliases.")
	if !ok {
		return "", false
	}
	accessor, field, _ := strings.Cut(rest, ".")
	for i := range s.Aliases {
		if s.Aliases[i].Accessor == accessor {
			return s.Aliases[i].field(field)
		}
	}
	return "", false
}

func (a *Alias) field(text string) (string, bool) {
	switch text {
	case "id":
		return a.ID, a.ID != ""
	case "name":
		return a.Name, a.Name != ""
	}
	if key, ok := strings.CutPrefix(text, "metadata."); ok {
		v, ok := a.Metadata[key]
		return v, ok
	}
	if key, ok := strings.CutPrefix(text, "custom_metadata."); ok {
		v, ok := a.Custom[key]
		return v, ok
	}
	return "", false
}

func (s *Subject) group(text string) (string, bool) {
	by, rest, _ := strings.Cut(text, ".")
	which, field, ok := strings.Cut(rest, ".")
	if !ok || by != "ids" && by != "names" {
		return "", false
	}
	for i := range s.Groups {
		g := &s.Groups[i]
		if by == "ids" && g.ID != which || by == "names" && g.Name != which {
			continue
		}
		switch field {
		case "id":
			return g.ID, true
		case "name":
			return g.Name, g.Name != ""
		}
		key, ok := strings.CutPrefix(field, "metadata.")
		if !ok {
			return "", false
		}
		v, ok := g.Metadata[key]
		return v, ok
	}
	return "", false
}

// timeDirective is now, or a time from or before now, in seconds since 1970.
func timeDirective(text string, now time.Time) (string, bool) {
	parts := strings.SplitN(text, ".", 3)
	if parts[0] != "now" || len(parts) == 2 {
		return "", false
	}
	if len(parts) == 3 {
		d, err := time.ParseDuration(parts[2])
		switch {
		case err != nil:
			return "", false
		case parts[1] == "plus":
			now = now.Add(d)
		case parts[1] == "minus":
			now = now.Add(-d)
		default:
			return "", false
		}
	}
	return strconv.FormatInt(now.Unix(), 10), true
}
