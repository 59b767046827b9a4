package policy

import "time"

// A rule with a condition counts as if its condition were not there where it holds, and not at all where it does not. Its
// pattern counts all the same: a rule that grants something at times must not make way for a shorter pattern that grants
// more at others. Only a pattern that has nothing but denials, none of which holds, is as if it were not there.

// onlyDeniesSometimes says that the entry has no rule but denials with conditions.
func (e *entry) onlyDeniesSometimes() bool {
	if e == nil || e.first != nil {
		return false
	}
	for _, r := range e.cond {
		if !r.caps.has(capDeny) {
			return false
		}
	}
	return true
}

// may is all that the entry can grant now, whatever its conditions say.
func (e *entry) may() capSet {
	if e == nil {
		return 0
	}
	caps := e.caps
	if len(e.cond) == 0 {
		return caps
	}
	now := time.Now()
	for _, r := range e.cond {
		if !r.caps.has(capDeny) && r.cond.current(now) {
			caps |= r.caps
		}
	}
	return caps
}

// granting is the first rule with a capability, with a condition or without.
func (e *entry) granting(c capability) *Rule {
	if r := e.by[c]; r != nil {
		return r
	}
	for _, r := range e.cond {
		if r.caps.has(c) {
			return &r.Rule
		}
	}
	return e.first
}

// depends is the first answer for an entry with conditions: what must be known for the last one.
func (e *entry) depends(op Operation) Decision {
	if e.caps.has(capDeny) {
		return Decision{Rule: e.by[capDeny], Reason: reasonDenied}
	}
	d := Decision{Conditional: true, Rule: e.first, Reason: reasonDepends}
	if d.Rule == nil {
		d.Rule = &e.cond[0].Rule
	}
	judged := hasParams(op)
	d.NeedsParams = judged && e.limits != nil && e.limits.params()
	for _, r := range e.cond {
		d.NeedsParams = d.NeedsParams || judged && (r.cond.params || r.limits != nil && r.limits.params())
		d.NeedsOp = d.NeedsOp || r.cond.op
	}
	return d
}

// judge decides by an entry; there is false where it counts as not there.
func (e *entry) judge(q *Question, need capability) (d Decision, there bool) {
	now, skipped := e, skippedRule{}
	if len(e.cond) > 0 {
		now, skipped = e.effective(q, need)
	}
	if now.first == nil {
		return Decision{Rule: skipped.rule, Reason: skipped.why}, !e.onlyDeniesSometimes()
	}
	d = now.decide(need)
	switch {
	case d.Allowed:
		if why := now.limits.refuses(q); why != "" {
			d.Allowed, d.Reason = false, why
		} else {
			d.Uses = e.counted(d.Rule)
		}
	case d.Reason == reasonNotIn && skipped.grants:
		d.Rule, d.Reason = skipped.rule, skipped.why
	}
	return d, true
}

// skippedRule is the first rule whose condition does not hold; one that would have granted what is needed comes first.
type skippedRule struct {
	rule   *Rule
	why    string
	grants bool
}

// effective is the entry with the rules whose condition holds. Those that are counted come last, so that what is granted
// anyhow is not counted. A denial whose condition can't be judged holds.
func (e *entry) effective(q *Question, need capability) (*entry, skippedRule) {
	out, skipped := *e, skippedRule{}
	out.limits = e.limits.clone()
	for _, counted := range [...]bool{false, true} {
		for _, r := range e.cond {
			if counted != (r.cond.uses > 0) || counted && out.caps.has(need) {
				continue
			}
			ok, why := r.cond.holds(q)
			if ok || why != conditionFails && why != notYet && why != noMore && why != usedUp && r.caps.has(capDeny) {
				out.merge(r)
				continue
			}
			if grants := r.caps.has(need); skipped.rule == nil || grants && !skipped.grants {
				skipped = skippedRule{&r.Rule, why, grants}
			}
		}
	}
	return &out, skipped
}

// counted finds what must be taken for a rule to grant something.
func (e *entry) counted(by *Rule) *Uses {
	for _, r := range e.cond {
		if &r.Rule == by && r.cond.uses > 0 {
			return &Uses{Name: r.cond.usesName, Max: r.cond.uses}
		}
	}
	return nil
}
