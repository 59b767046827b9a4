package object

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/bailiff-secrets/bailiff/internal/secret"
)

// Diff says what makes want out of now, in the order in which it is done: what is made, changed or stays, by Kinds and name;
// then what goes, the other way round. With prune, objects of Source "apply" that want lacks are deleted. The values of secrets
// are compared and never shown.
func Diff(now, want []Record, prune bool) Plan {
	have := make(map[key]Record, len(now))
	for _, rec := range now {
		have[keyOf(rec)] = rec
	}
	plan := Plan{Steps: []Step{}}
	wanted := make(map[key]bool, len(want))
	for _, rec := range sorted(want, 1) {
		k := keyOf(rec)
		wanted[k] = true
		old, there := have[k]
		plan.Steps = append(plan.Steps, step(old, rec, there))
	}
	if !prune {
		return plan
	}
	for _, rec := range sorted(now, -1) {
		if !wanted[keyOf(rec)] && rec.Source == SourceApply {
			plan.Steps = append(plan.Steps, Step{Action: Deleted, Kind: rec.Kind, Name: rec.Name, Version: rec.Version})
		}
	}
	return plan
}

// The sources of objects.
const (
	SourceApply = "apply" // declared in files
	SourceAPI   = "api"   // made by a request
)

// Inherit is want with what a declaration does not say and the object as it stands does: an identity's access id, and
// that it is disabled. What an apply writes is Inherit of the two, as what Diff compares.
func Inherit(now, want Record) Record {
	if want.Kind != KindIdentity {
		return want
	}
	old, err := Decode(now)
	if err != nil {
		return want
	}
	v, err := Decode(want)
	if err != nil {
		return want
	}
	was, is := old.(*Identity), v.(*Identity)
	if is.AccessID == "" {
		is.AccessID = was.AccessID
	}
	is.Disabled = is.Disabled || was.Disabled
	if rec, err := Encode(is); err == nil {
		want.Body = rec.Body
	}
	return want
}

func step(old, want Record, there bool) Step {
	s := Step{Action: Created, Kind: want.Kind, Name: want.Name}
	if !there {
		s.Changes = changes(nil, fields(want), nil, want.Secrets)
		return s
	}
	want = Inherit(old, want)
	s.Version = old.Version
	s.Changes = changes(fields(old), fields(want), old.Secrets, want.Secrets)
	if want.Source == SourceApply && old.Source != SourceApply {
		s.Changes = append(s.Changes, FieldChange{Field: "source", Old: quote(old.Source), New: quote(want.Source)})
	}
	s.Action = Updated
	if len(s.Changes) == 0 {
		s.Action = Unchanged
	}
	return s
}

// changes compares fields and secrets, by name.
func changes(old, now map[string]string, oldSecrets, nowSecrets map[string]secret.Value) []FieldChange {
	var out []FieldChange
	for _, name := range names(old, now) {
		if old[name] != now[name] {
			out = append(out, FieldChange{Field: name, Old: old[name], New: now[name]})
		}
	}
	for _, name := range names(oldSecrets, nowSecrets) {
		a, b := oldSecrets[name], nowSecrets[name]
		if a.Reveal() != b.Reveal() {
			out = append(out, FieldChange{Field: name, Old: a.String(), New: b.String()})
		}
	}
	slices.SortFunc(out, func(a, b FieldChange) int { return cmp.Compare(a.Field, b.Field) })
	return out
}

func names[V any](a, b map[string]V) []string {
	all := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.Sort(all)
	return slices.Compact(all)
}

// fields are a record's fields as JSON texts; those of a nested object under "outer.inner". The name is left out. Of a body
// that can't be decoded, which may hold a secret where none belongs, only a digest is shown.
func fields(rec Record) map[string]string {
	normal, err := Normal(rec)
	if err != nil {
		return map[string]string{"body": fmt.Sprintf(`"unreadable, sha256 %.12x"`, sha256.Sum256(rec.Body))}
	}
	out := map[string]string{}
	flatten(out, "", normal.Body)
	for _, name := range nameFields(rec.Kind) {
		delete(out, name)
	}
	return out
}

func nameFields(k Kind) []string {
	switch k {
	case KindMount:
		return []string{"path"}
	case KindProducer, KindStaticRole:
		return []string{"mount", "name"}
	default:
		return []string{"name"}
	}
}

func flatten(out map[string]string, prefix string, text json.RawMessage) {
	var inner map[string]json.RawMessage
	if trimmed := bytes.TrimSpace(text); len(trimmed) > 0 && trimmed[0] == '{' && json.Unmarshal(trimmed, &inner) == nil {
		for name, v := range inner {
			if prefix != "" {
				name = prefix + "." + name
			}
			flatten(out, name, v)
		}
		return
	}
	var flat bytes.Buffer
	if err := json.Compact(&flat, text); err != nil {
		flat.Reset()
		flat.Write(text)
	}
	if prefix != "" || flat.Len() > 0 {
		out[prefix] = flat.String()
	}
}

func quote(s string) string {
	text, err := compact(s)
	if err != nil {
		return `""`
	}
	return string(text)
}

// sorted orders records by kind and name; direction -1 turns the order round.
func sorted(list []Record, direction int) []Record {
	return slices.SortedFunc(slices.Values(list), func(a, b Record) int {
		return direction * cmp.Or(
			cmp.Compare(slices.Index(Kinds, a.Kind), slices.Index(Kinds, b.Kind)),
			cmp.Compare(a.Name, b.Name))
	})
}
