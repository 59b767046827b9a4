package policy

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"
)

func jsonNumber(text string) any { return json.Number(text) }

// Change is a pattern for which two policies differ.
type Change struct {
	Pattern string  `json:"pattern"`
	Before  []Right `json:"before,omitempty"` // empty: the pattern is new
	After   []Right `json:"after,omitempty"`  // empty: it is gone
}

// Diff lists what differs between two policies in what they say, not in how it is written: patterns, capabilities and
// conditions. Templates are compared as they are written.
func Diff(before, after *Policy) []Change {
	a, b := byPattern(before), byPattern(after)
	var out []Change
	for pattern, was := range a {
		if is := b[pattern]; !slices.EqualFunc(was, is, sameRight) {
			out = append(out, Change{pattern, was, is})
		}
	}
	for pattern, is := range b {
		if _, ok := a[pattern]; !ok {
			out = append(out, Change{pattern, nil, is})
		}
	}
	slices.SortFunc(out, func(a, b Change) int { return cmp.Compare(a.Pattern, b.Pattern) })
	return out
}

func byPattern(p *Policy) map[string][]Right {
	out := map[string][]Right{}
	if p == nil {
		return out
	}
	entries := map[string]*entry{}
	for i := range p.rules {
		r := &p.rules[i]
		e := entries[r.Pattern]
		if e == nil {
			e = &entry{pattern: r.Pattern}
			entries[r.Pattern] = e
		}
		e.add(r)
	}
	for pattern, e := range entries {
		out[pattern] = e.rights()
	}
	return out
}

func sameRight(a, b Right) bool {
	return slices.Equal(a.Capabilities, b.Capabilities) && slices.Equal(a.Conditions, b.Conditions)
}

// Flip is a recorded request that would be decided otherwise.
type Flip struct {
	Identity string    `json:"identity"`
	Op       Operation `json:"op"`
	Path     string    `json:"path"`
	Times    int       `json:"times"` // how often it was recorded
	Last     time.Time `json:"last"`
	Before   string    `json:"before"` // allowed, denied, or depends: on a condition, on parameters or on wrapping
	After    string    `json:"after"`
	Rule     *Rule     `json:"rule,omitempty"` // that decides afterwards
}

// Replay asks recorded requests of two sets of policies. It is for one goroutine at a time.
type Replay struct {
	before, after func(identity string) *ACL
	pairs         map[string]pair
	seen          map[recorded]*Flip // nil: it is decided as before
	requests      int
}

type pair struct{ before, after *ACL }

type recorded struct {
	identity, path string
	op             Operation
}

// NewReplay makes a Replay; before and after find what an identity's policies come to, and nil for one who isn't there any more.
func NewReplay(before, after func(identity string) *ACL) *Replay {
	return &Replay{before: before, after: after, pairs: map[string]pair{}, seen: map[recorded]*Flip{}}
}

// Add asks about one recorded request.
func (r *Replay) Add(identity string, op Operation, path string, at time.Time) {
	p, ok := r.pairs[identity]
	if !ok {
		p = pair{r.before(identity), r.after(identity)}
		r.pairs[identity] = p
	}
	if p.before == nil || p.after == nil {
		return
	}
	r.requests++
	key := recorded{identity, path, op}
	f, ok := r.seen[key]
	if !ok {
		f = p.flip(key)
		r.seen[key] = f
	}
	if f == nil {
		return
	}
	f.Times++
	if at.After(f.Last) {
		f.Last = at
	}
}

func (p pair) flip(k recorded) *Flip {
	before, after := p.before.Decide(k.op, k.path), p.after.Decide(k.op, k.path)
	if before.word() == after.word() { // parameters and conditions are not recorded
		return nil
	}
	return &Flip{Identity: k.identity, Op: k.op, Path: k.path, Before: before.word(), After: after.word(), Rule: after.Rule}
}

func (d Decision) word() string {
	switch {
	case d.Allowed:
		return "allowed"
	case d.Conditional:
		return "depends"
	}
	return "denied"
}

// Requests is how many requests were asked about.
func (r *Replay) Requests() int { return r.requests }

// Flips lists what would be decided otherwise, by identity, path and operation.
func (r *Replay) Flips() []Flip {
	out := []Flip{}
	for _, f := range r.seen {
		if f != nil {
			out = append(out, *f)
		}
	}
	slices.SortFunc(out, func(a, b Flip) int {
		return cmp.Or(cmp.Compare(a.Identity, b.Identity), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Op, b.Op))
	})
	return out
}
