package policy

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// limits is what a rule asks of a request beside its operation: Vault's parameter lists and wrapping times.
type limits struct {
	minWrap, maxWrap time.Duration    // zero: no such limit
	allowed, denied  map[string][]any // by parameter in small letters; no values: any value
	required         []string         // as they are written
}

// never is a value in a policy that equals none in a request, as a number does in Vault.
type never struct{ text string }

// params says whether the parameters of a request count.
func (l *limits) params() bool { return len(l.allowed) > 0 || len(l.denied) > 0 || len(l.required) > 0 }

// empty says that there is nothing to ask.
func (l *limits) empty() bool { return l.minWrap == 0 && l.maxWrap == 0 && !l.params() }

func (l *limits) clone() *limits {
	if l == nil {
		return nil
	}
	out := *l
	out.allowed, out.denied, out.required = cloneValues(l.allowed), cloneValues(l.denied), slices.Clone(l.required)
	return &out
}

func cloneValues(in map[string][]any) map[string][]any {
	if in == nil {
		return nil
	}
	out := make(map[string][]any, len(in))
	for k, v := range in {
		out[k] = slices.Clone(v)
	}
	return out
}

// merge adds the limits of another rule for the same pattern, as Vault does: what one leaves open is still closed by the
// other; values add up, but for "any"; of two wrapping times of a kind the shorter counts.
func (l *limits) merge(m *limits) *limits {
	if m == nil {
		return l
	}
	if l == nil {
		l = &limits{}
	}
	l.maxWrap, l.minWrap = shorter(l.maxWrap, m.maxWrap), shorter(l.minWrap, m.minWrap)
	l.allowed, l.denied = mergeValues(l.allowed, m.allowed), mergeValues(l.denied, m.denied)
	for _, name := range m.required {
		if !slices.Contains(l.required, name) {
			l.required = append(l.required, name)
		}
	}
	return l
}

func shorter(a, b time.Duration) time.Duration {
	if b > 0 && (a == 0 || b < a) {
		return b
	}
	return a
}

func mergeValues(into, from map[string][]any) map[string][]any {
	if len(from) == 0 {
		return into
	}
	if into == nil {
		into = make(map[string][]any, len(from))
	}
	for name, values := range from {
		have, ok := into[name]
		if len(values) == 0 || ok && len(have) == 0 {
			into[name] = nil
			continue
		}
		into[name] = append(slices.Clip(have), values...)
	}
	return into
}

// What a request can be refused for although its capability is there.
const (
	reasonWrap     = "the rule wants the answer wrapped, for another time"
	reasonNeverTTL = "the wrapping times of the rules for this pattern exclude one another"
	reasonRequired = "a parameter that the rule requires is missing"
	reasonForbids  = "the rule denies a parameter"
	reasonNotAmong = "a parameter, or its value, is not among those that the rule allows"
)

// refuses says why the limits refuse a request; nothing where they don't.
func (l *limits) refuses(q *Question) string {
	switch {
	case l == nil:
		return ""
	case l.maxWrap > 0 && (q.WrapTTL == 0 || q.WrapTTL > l.maxWrap), l.minWrap > 0 && (q.WrapTTL == 0 || q.WrapTTL < l.minWrap):
		return reasonWrap
	case l.minWrap != 0 && l.maxWrap != 0 && l.maxWrap < l.minWrap:
		return reasonNeverTTL
	case !hasParams(q.Op):
		return ""
	}
	for _, name := range l.required {
		if _, ok := q.Params[strings.ToLower(name)]; !ok {
			return reasonRequired
		}
	}
	switch {
	case len(q.Params) == 0:
		return ""
	case l.forbids(q.Params):
		return reasonForbids
	case !l.allows(q.Params):
		return reasonNotAmong
	}
	return ""
}

// hasParams says whether parameters are judged for an operation.
func hasParams(op Operation) bool { return op == Read || op == Create || op == Update || op == Patch }

func (l *limits) forbids(params map[string]any) bool {
	if len(l.denied) == 0 {
		return false
	}
	if _, all := l.denied["*"]; all {
		return true
	}
	for name, value := range params {
		if values, ok := l.denied[strings.ToLower(name)]; ok && among(value, values) {
			return true
		}
	}
	return false
}

func (l *limits) allows(params map[string]any) bool {
	_, all := l.allowed["*"]
	if len(l.allowed) == 0 || all && len(l.allowed) == 1 {
		return true
	}
	for name, value := range params {
		values, ok := l.allowed[strings.ToLower(name)]
		if !ok && !all || ok && !among(value, values) {
			return false
		}
	}
	return true
}

// among says whether value is one of values; none stand for any. Texts match with a "*" at either end.
func among(value any, values []any) bool {
	if len(values) == 0 {
		return true
	}
	text, isText := value.(string)
	for _, v := range values {
		if pattern, ok := v.(string); ok {
			if isText && glob(pattern, text) {
				return true
			}
			continue
		}
		if reflect.DeepEqual(v, value) {
			return true
		}
	}
	return false
}

// glob matches text with a pattern that may have a "*" at its start, its end or both. A "*" alone stands for itself.
func glob(pattern, text string) bool {
	if len(pattern) < 2 {
		return pattern == text
	}
	before, ends := strings.CutSuffix(pattern, "*")
	after, begins := strings.CutPrefix(pattern, "*")
	switch {
	case begins && ends:
		return strings.Contains(text, pattern[1:len(pattern)-1])
	case begins:
		return strings.HasSuffix(text, after)
	case ends:
		return strings.HasPrefix(text, before)
	}
	return pattern == text
}

// parseLimit reads one of the keys that limit a rule.
func (l *limits) parseLimit(pattern string, f field) *ParseError {
	var err *ParseError
	switch f.key {
	case "allowed_parameters":
		l.allowed, err = parseValues(pattern, f)
	case "denied_parameters":
		l.denied, err = parseValues(pattern, f)
	case "required_parameters":
		l.required, err = parseNames(pattern, f)
	case "min_wrapping_ttl":
		l.minWrap, err = parseWrap(pattern, f)
	case "max_wrapping_ttl":
		l.maxWrap, err = parseWrap(pattern, f)
	}
	return err
}

func parseValues(pattern string, f field) (map[string][]any, *ParseError) {
	if f.val.kind != objectNode {
		return nil, wrong(f.line, `path %q: %s must be a block: { "name" = ["value"] }`, pattern, f.key)
	}
	out := make(map[string][]any, len(f.val.fields))
	for _, p := range f.val.fields {
		name := strings.ToLower(p.key)
		if _, ok := out[name]; ok {
			return nil, twice(p)
		}
		list := p.val.list
		switch p.val.kind {
		case listNode:
		case objectNode: // which stands for a list with it alone
			list = []node{p.val}
		default:
			return nil, wrong(p.line, `path %q: %s: the values of %q must be a list`, pattern, f.key, p.key)
		}
		values := make([]any, 0, len(list))
		for _, n := range list {
			v, err := n.value(p.line, true)
			if err != nil {
				return nil, err
			}
			values = append(values, v)
		}
		out[name] = values
	}
	return out, nil
}

// value is what Vault compares with the JSON of a request. An object is a map only right inside a list.
func (n node) value(line int, inList bool) (any, *ParseError) {
	switch n.kind {
	case stringNode:
		return n.text, nil
	case boolNode:
		return n.truth, nil
	case numberNode:
		return never{n.text}, nil
	case listNode:
		out := make([]any, 0, len(n.list))
		for _, e := range n.list {
			v, err := e.value(line, true)
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
		return out, nil
	case objectNode:
		out := make(map[string]any, len(n.fields))
		for _, f := range n.fields {
			if _, ok := out[f.key]; ok {
				return nil, twice(f)
			}
			v, err := f.val.value(f.line, false)
			if err != nil {
				return nil, err
			}
			out[f.key] = v
		}
		if !inList {
			return never{fmt.Sprint(out)}, nil
		}
		return out, nil
	}
	return nil, wrong(line, "null is not a value that a parameter can be compared with")
}

func parseNames(pattern string, f field) ([]string, *ParseError) {
	if f.val.kind != listNode {
		return nil, wrong(f.line, `path %q: %s must be a list: ["name"]`, pattern, f.key)
	}
	var out []string
	for _, n := range f.val.list {
		if n.kind != stringNode && n.kind != numberNode {
			return nil, wrong(f.line, "path %q: %s must be a list of strings", pattern, f.key)
		}
		out = append(out, n.text)
	}
	return out, nil
}

func parseWrap(pattern string, f field) (time.Duration, *ParseError) {
	d, ok := vaultDuration(f.val)
	if !ok || d < 0 {
		return 0, wrong(f.line, `path %q: %s must be a duration: "90s", "15m" or a number of seconds`, pattern, f.key).
			as("error parsing %s: time: invalid duration %q", f.key, f.val.text)
	}
	return d, nil
}

// vaultDuration reads a number of seconds, or Go's words, or days.
func vaultDuration(n node) (time.Duration, bool) {
	text := n.text
	switch {
	case n.kind == stringNode && text == "":
		return 0, true
	case n.kind != stringNode && n.kind != numberNode:
		return 0, false
	}
	base := 10
	if n.kind == numberNode {
		base = 0
	}
	if s, err := strconv.ParseInt(text, base, 64); err == nil {
		return times(s, time.Second)
	}
	if n.kind == numberNode {
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || f < -1e9 || f > 1e9 {
			return 0, false
		}
		return time.Duration(f) * time.Second, true
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseInt(days, 10, 64); err == nil {
			return times(n, 24*time.Hour)
		}
		return 0, false
	}
	d, err := time.ParseDuration(text)
	return d, err == nil
}

func times(n int64, unit time.Duration) (time.Duration, bool) {
	most := int64(1<<63-1) / int64(unit)
	return time.Duration(n) * unit, n <= most && n >= -most
}
