package policy

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Index answers questions about everybody: it knows all policies at once. It is immutable and safe for concurrent use.
type Index struct {
	byName map[string]int32
	list   []*Policy
	acl    ACL                  // of the rules of all policies whose pattern is the same for everybody
	posts  map[*entry][]posting // which rules of which policies stand behind a pattern
	tmpl   []posting            // rules with a template
}

// posting is a rule and its policy's place in the list.
type posting struct {
	policy int32
	rule   *rule
}

// Member is somebody who may call, as far as rules can depend on it.
type Member struct {
	Name     string
	Token    string   // the accessor of the token that has these policies; empty: the identity itself has them
	Policies []string // names
	Context  *Context // what conditions can see of it; nil: nothing
	Subject  func() *Subject
}

// Members are everybody that an Index is asked about, with their policies found. They are immutable.
type Members struct {
	list []Member
	ids  [][]int32 // of each one's policies; nil where one of them is root
}

// Members finds the policies of members; what is not there grants nothing.
func (x *Index) Members(list []Member) *Members {
	out := &Members{list: list, ids: make([][]int32, len(list))}
	for i := range list {
		ids := make([]int32, 0, len(list[i].Policies))
		for _, name := range list[i].Policies {
			if name == Root {
				ids = nil
				break
			}
			if id, ok := x.byName[name]; ok {
				ids = append(ids, id)
			}
		}
		out.ids[i] = ids
	}
	return out
}

// Verdict is what comes of a question for somebody.
type Verdict struct {
	Allowed     bool
	Conditional bool   // it depends on a condition, on parameters or on wrapping
	Rule        *Rule  // that grants it
	When        string // the rule's condition, where it has one
}

// NewIndex makes an Index of all policies that count.
func NewIndex(policies []*Policy) *Index {
	x := &Index{byName: make(map[string]int32, len(policies)), list: policies, posts: map[*entry][]posting{}}
	b := newBuilder(policies)
	for i, p := range policies {
		x.byName[p.name] = int32(i) //nolint:gosec // there are not so many
		for j := range p.rules {
			r := &p.rules[j]
			at := posting{int32(i), r} //nolint:gosec // there are not so many
			if r.tmpl != nil {
				x.tmpl = append(x.tmpl, at)
				continue
			}
			e := b.entry(r.key)
			e.add(r)
			x.posts[e] = append(x.posts[e], at)
		}
	}
	x.acl.tables = b.tables()
	return x
}

// Policy finds one by name; nil where there is none.
func (x *Index) Policy(name string) *Policy {
	if i, ok := x.byName[name]; ok {
		return x.list[i]
	}
	return nil
}

// ranked is a rule that matches a path; of those that somebody has, only the ones with the lowest rank count.
type ranked struct {
	rank int
	rule *rule
}

// question is one question about everybody.
type question struct {
	*Index
	q     *Question
	need  capability
	rules [][]ranked // by policy, of those that match the path
	tmpl  map[int32][]*rule
	at    time.Time
	open  bool // nothing is asked of parameters, wrapping or conditions: whoever depends on them is Conditional
}

// WhoCan calls fn for each member that may do what q asks for, in their order. With a Context, Params or WrapTTL in q the
// answer is for these alone; without, a member for whom it depends on them is told with a Conditional verdict.
func (x *Index) WhoCan(q *Question, members *Members, fn func(*Member, Verdict)) {
	need, ok := needed(q.Op)
	if !ok {
		return
	}
	k := question{Index: x, q: q, at: q.context().Time, need: need, rules: make([][]ranked, len(x.list)), open: q.Context == nil && q.Params == nil && q.WrapTTL == 0}
	for rank, e := range x.acl.collect(q.Op, q.Path) {
		for _, at := range x.posts[e] {
			k.rules[at.policy] = append(k.rules[at.policy], ranked{rank, at.rule})
		}
	}
	for _, at := range x.tmpl {
		if strings.HasPrefix(q.Path, at.rule.tmpl.start()) {
			if k.tmpl == nil {
				k.tmpl = map[int32][]*rule{}
			}
			k.tmpl[at.policy] = append(k.tmpl[at.policy], at.rule)
		}
	}
	k.each(members, fn)
}

// each judges a set of policies once for all who have it, where nothing depends on who it is.
func (k *question) each(members *Members, fn func(*Member, Verdict)) {
	known := map[string]Verdict{}
	var key []byte
	var ids []int32
	for i, has := range members.ids {
		m := &members.list[i]
		key, ids = key[:0], ids[:0]
		personal := false
		for _, id := range has {
			rules, tmpl := k.rules[id] != nil, k.tmpl != nil && k.tmpl[id] != nil
			if !rules && !tmpl {
				continue
			}
			personal = personal || tmpl
			ids = append(ids, id)
			if rules {
				key = binary.LittleEndian.AppendUint32(key, uint32(id)) //nolint:gosec // it was made of a length
			}
		}
		var v Verdict
		switch {
		case has == nil:
			v = Verdict{Allowed: true, Rule: &Rule{Policy: Root, Pattern: "*"}}
		case len(ids) == 0, !personal && len(key) == 0:
		case personal && k.touched(m, ids) || !k.open:
			v = k.personal(m, ids)
		default:
			var ok bool
			if v, ok = known[string(key)]; !ok {
				v = k.judge(ids)
				known[string(key)] = v
			}
		}
		if v.Allowed || v.Conditional {
			fn(m, v)
		}
	}
}

// touched says whether a pattern with a template comes to one that matches the path.
func (k *question) touched(m *Member, ids []int32) bool {
	who := m.subject()
	for _, id := range ids {
		for _, r := range k.tmpl[id] {
			key, ok := r.fill(who, k.at)
			if ok && (matches(key, k.q.Path) || k.q.Op == List && matches(key, k.q.Path+"/")) {
				return true
			}
		}
	}
	return false
}

// judge unites the rules that count for a set of policies.
func (k *question) judge(ids []int32) Verdict {
	best := -1
	for _, id := range ids {
		for _, r := range k.rules[id] {
			if best < 0 || r.rank < best {
				best = r.rank
			}
		}
	}
	// A pattern with nothing but denials under conditions makes way for the next: seldom enough to look at all of them.
	var e entry
	denials := false // under conditions, before what counts where none of them holds
	for ; ; best++ {
		e = entry{}
		more := false
		for _, id := range ids {
			for _, r := range k.rules[id] {
				if r.rank == best {
					e.add(r.rule)
				}
				more = more || r.rank > best
			}
		}
		if !e.onlyDeniesSometimes() && (e.first != nil || len(e.cond) > 0) || !more {
			break
		}
		denials = denials || len(e.cond) > 0
	}
	return e.verdict(k.need, denials)
}

// verdict says what an entry grants where nothing but the operation is known.
func (e *entry) verdict(need capability, denials bool) Verdict {
	if e == nil || e.caps.has(capDeny) || !e.may().has(need) {
		return Verdict{}
	}
	v := Verdict{Rule: e.granting(need)}
	v.Conditional = denials || len(e.cond) > 0 || e.limits != nil
	v.Allowed = !v.Conditional
	for _, r := range e.cond {
		if &r.Rule == v.Rule {
			v.When = r.cond.words()
		}
	}
	return v
}

// personal compiles what matters of a member's rules.
func (k *question) personal(m *Member, ids []int32) Verdict {
	b := builder{exact: map[string]*entry{}, prefix: map[string]*entry{}, segments: map[string]*entry{}}
	n := 0
	for _, id := range ids {
		n += len(k.rules[id]) + len(k.tmpl[id])
	}
	b.spare = make([]entry, n)
	var who *Subject
	for _, id := range ids {
		for _, r := range k.rules[id] {
			b.add(r.rule, r.rule.key)
		}
		for _, r := range k.tmpl[id] {
			if who == nil {
				who = m.subject()
			}
			if key, ok := r.fill(who, k.at); ok {
				b.add(r, key)
			}
		}
	}
	acl := ACL{tables: b.tables()}
	if !k.open {
		q := *k.q
		q.Context = m.context(k.q.Context)
		d := acl.Judge(&q)
		return Verdict{Allowed: d.Allowed, Rule: d.Rule}
	}
	for i, e := range acl.collect(k.q.Op, k.q.Path) {
		if !e.onlyDeniesSometimes() {
			return e.verdict(k.need, i > 0)
		}
	}
	return Verdict{}
}

func (m *Member) subject() *Subject {
	if m.Subject != nil {
		if s := m.Subject(); s != nil {
			return s
		}
	}
	return &Subject{}
}

// context is a member's, at the time and from where the question says.
func (m *Member) context(asked *Context) *Context {
	out := Context{}
	if m.Context != nil {
		out = *m.Context
	}
	if asked != nil {
		out.Time, out.Addr, out.Reason, out.Ticket = asked.Time, asked.Addr, asked.Reason, asked.Ticket
	}
	return &out
}

// words say what a condition asks for.
func (c *condition) words() string {
	var parts []string
	if c.when != nil {
		parts = append(parts, "when "+strings.TrimSpace(c.text))
	}
	if !c.from.IsZero() {
		parts = append(parts, "from "+c.from.Format(time.RFC3339))
	}
	if !c.until.IsZero() {
		parts = append(parts, "until "+c.until.Format(time.RFC3339))
	}
	if c.uses > 0 {
		parts = append(parts, "uses "+strconv.FormatInt(c.uses, 10))
	}
	return strings.Join(parts, ", ")
}

// Right is one rule that somebody has.
type Right struct {
	Pattern      string   `json:"pattern"`
	Capabilities []string `json:"capabilities"`
	Policy       string   `json:"policy"`
	Version      int64    `json:"version"`
	Line         int      `json:"line"`
	Conditions   []string `json:"conditions,omitempty"` // in words
}

// Rights lists every rule of the ACL by its pattern, with templates filled in. What root may is one rule for "*".
func (a *ACL) Rights() []Right {
	if a.root != nil {
		return []Right{{Pattern: "*", Capabilities: []string{"root"}, Policy: a.root.Policy}}
	}
	var out []Right
	t := a.all()
	add := func(e *entry) { out = append(out, e.rights()...) }
	for _, e := range t.exact {
		add(e)
	}
	for i := range t.prefixes {
		add(t.prefixes[i].entry)
	}
	t.segments.each(add)
	slices.SortFunc(out, func(a, b Right) int {
		return cmp.Or(cmp.Compare(a.Pattern, b.Pattern), cmp.Compare(a.Policy, b.Policy), cmp.Compare(a.Line, b.Line))
	})
	return out
}

// rights are those of the rules together that have no condition, and those of each that has.
func (e *entry) rights() []Right {
	var out []Right
	if e.first != nil {
		r := Right{Pattern: e.pattern, Policy: e.first.Policy, Version: e.first.Version, Line: e.first.Line, Capabilities: e.caps.words()}
		if e.limits != nil {
			r.Conditions = e.limits.words()
		}
		out = append(out, r)
	}
	for _, c := range e.cond {
		r := Right{Pattern: e.pattern, Policy: c.Policy, Version: c.Version, Line: c.Line, Capabilities: c.caps.words(), Conditions: []string{c.cond.words()}}
		if c.limits != nil {
			r.Conditions = append(r.Conditions, c.limits.words()...)
		}
		out = append(out, r)
	}
	return out
}

func (s capSet) words() []string {
	if !s.grants() {
		return []string{capDeny.String()}
	}
	var out []string
	for c := capability(0); c < numCaps; c++ {
		if s.has(c) {
			out = append(out, c.String())
		}
	}
	return out
}

// words say what limits ask for.
func (l *limits) words() []string {
	var out []string
	if l.minWrap > 0 {
		out = append(out, "wrapped for at least "+l.minWrap.String())
	}
	if l.maxWrap > 0 {
		out = append(out, "wrapped for at most "+l.maxWrap.String())
	}
	if len(l.required) > 0 {
		out = append(out, "required parameters "+strings.Join(slices.Sorted(slices.Values(l.required)), ", "))
	}
	for _, p := range [...]struct {
		word string
		m    map[string][]any
	}{{"allowed parameters ", l.allowed}, {"denied parameters ", l.denied}} {
		if len(p.m) > 0 {
			names := make([]string, 0, len(p.m))
			for name, values := range p.m {
				if text, err := json.Marshal(values); err == nil && len(values) > 0 {
					name += "=" + string(text)
				}
				names = append(names, name)
			}
			slices.Sort(names)
			out = append(out, p.word+strings.Join(names, ", "))
		}
	}
	return out
}

// Rules lists the rules of a policy that grant something, or of all policies where name is empty, by policy and line.
func (x *Index) Rules(name string) []Match {
	var out []Match
	for _, p := range x.list {
		if name != "" && p.name != name {
			continue
		}
		for i := range p.rules {
			if r := &p.rules[i]; r.caps.grants() {
				out = append(out, Match{Rule: r.Rule, Capabilities: r.caps.words()})
			}
		}
	}
	slices.SortFunc(out, func(a, b Match) int { return cmp.Or(cmp.Compare(a.Policy, b.Policy), cmp.Compare(a.Line, b.Line)) })
	return out
}
