package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
)

// condition is what must hold for a rule to count beside that it matches: its "when" and its "valid".
type condition struct {
	when     cel.Program // nil: there is none
	text     string
	params   bool // when looks at the parameters
	op       bool // when looks at the operation
	from     time.Time
	until    time.Time
	uses     int64 // 0: any number
	usesName string
}

// Why a rule does not count.
const (
	notYet         = "the rule is not valid yet"
	noMore         = "the rule is not valid any more"
	usedUp         = "the rule is used up"
	conditionFails = "the rule's condition does not hold"
)

// What a condition may cost: an expression that goes through a list for each element of another ends there.
const maxCost = 100_000

// environment is what an expression may name, made once.
//
//nolint:gochecknoglobals // it never changes
var environment = sync.OnceValues(func() (*cel.Env, error) {
	texts := cel.MapType(cel.StringType, cel.StringType)
	return cel.NewEnv(
		cel.Variable("time", cel.TimestampType),
		cel.Variable("address", cel.StringType),
		cel.Variable("op", cel.StringType),
		cel.Variable("path", cel.StringType),
		cel.Variable("params", cel.MapType(cel.StringType, cel.DynType)),
		cel.Variable("reason", cel.StringType),
		cel.Variable("ticket", cel.StringType),
		cel.Variable("identity.name", cel.StringType),
		cel.Variable("identity.id", cel.StringType),
		cel.Variable("identity.method", cel.StringType),
		cel.Variable("identity.metadata", texts),
		cel.Variable("identity.claims", texts),
		cel.Variable("identity.groups", cel.ListType(cel.StringType)),
		cel.Function("within", cel.MemberOverload("string_within_string", []*cel.Type{cel.StringType, cel.StringType}, cel.BoolType, cel.BinaryBinding(within))),
	)
})

// within says whether an address lies in a network: address.within("10.0.0.0/8").
func within(address, network ref.Val) ref.Val {
	text, _ := network.Value().(string)
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return types.NewErr("%q is no network", text)
	}
	text, _ = address.Value().(string)
	a, err := netip.ParseAddr(text)
	return types.Bool(err == nil && p.Contains(a.Unmap()))
}

// compileWhen compiles an expression.
func compileWhen(text string) (*condition, error) {
	env, err := environment()
	if err != nil {
		return nil, err
	}
	if len(text) > 4096 {
		return nil, errors.New("it is longer than 4096 bytes")
	}
	ast, issues := env.Compile(text)
	if issues.Err() != nil {
		e := issues.Errors()[0]
		return nil, fmt.Errorf("column %d: %s", e.Location.Column()+1, strings.TrimSpace(e.Message))
	}
	if !ast.OutputType().IsExactType(cel.BoolType) {
		return nil, fmt.Errorf("it is %s, and must be true or false", ast.OutputType())
	}
	c := &condition{text: text}
	for _, r := range ast.NativeRep().ReferenceMap() {
		c.params = c.params || r.Name == "params"
		c.op = c.op || r.Name == "op"
	}
	c.when, err = env.Program(ast, cel.CostLimit(maxCost))
	return c, err
}

// usesName is the same as long as what is counted is: comments, capabilities and the place in the text may change.
func (r *rule) usesName(pattern string) string {
	c := r.cond
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %d %d %d", r.Policy, pattern, c.text, c.from.Unix(), c.until.Unix(), c.uses))
	return hex.EncodeToString(sum[:16])
}

// holds says whether a rule counts for q; where it does not, why.
func (c *condition) holds(q *Question) (ok bool, why string) {
	ctx := q.context()
	switch now := ctx.Time; {
	case !c.from.IsZero() && now.Before(c.from):
		return false, notYet
	case !c.until.IsZero() && !now.Before(c.until):
		return false, noMore
	case c.uses > 0 && q.spent(c.usesName):
		return false, usedUp
	case c.when == nil:
		return true, ""
	}
	out, _, err := c.when.Eval(map[string]any{
		"time": ctx.Time, "address": address(ctx.Addr), "op": string(q.Op), "path": q.Path, "params": plain(q.Params),
		"reason": ctx.Reason, "ticket": ctx.Ticket,
		"identity.name": ctx.Identity, "identity.id": ctx.EntityID, "identity.method": ctx.Method,
		"identity.metadata": orEmpty(ctx.Metadata), "identity.claims": orEmpty(ctx.Claims), "identity.groups": ctx.Groups,
	})
	if err != nil {
		return false, fmt.Sprintf("the rule's condition can't be judged: %v", err)
	}
	if yes, isBool := out.Value().(bool); isBool && yes {
		return true, ""
	}
	return false, conditionFails
}

// current says whether the rule may count at a time.
func (c *condition) current(now time.Time) bool {
	return c == nil || (c.from.IsZero() || !now.Before(c.from)) && (c.until.IsZero() || now.Before(c.until))
}

func (q *Question) context() *Context {
	c := Context{}
	if q.Context != nil {
		c = *q.Context
	}
	if c.Time.IsZero() {
		c.Time = time.Now()
	}
	return &c
}

func address(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.Unmap().String()
}

func orEmpty(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

// plain turns the numbers of a request into numbers.
func plain(params map[string]any) map[string]any {
	out := make(map[string]any, len(params))
	for name, v := range params {
		out[name] = plainValue(v)
	}
	return out
}

func plainValue(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, _ := v.Float64() //nolint:errcheck // out of range is infinite
		return f
	case map[string]any:
		return plain(v)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = plainValue(v[i])
		}
		return out
	}
	return v
}

// parseWhen reads the key "when".
func (r *rule) parseWhen(pattern string, f field) *ParseError {
	if f.val.kind != stringNode {
		return wrong(f.line, "path %q: when must be a string with an expression", pattern)
	}
	c, err := compileWhen(f.val.text)
	if err != nil {
		return wrong(f.line, "path %q: when: %v", pattern, err)
	}
	if old := r.cond; old != nil {
		c.from, c.until, c.uses = old.from, old.until, old.uses
	}
	r.cond = c
	return nil
}

// parseValid reads the block "valid".
func (r *rule) parseValid(pattern string, f field) *ParseError {
	if f.val.kind != objectNode {
		return wrong(f.line, `path %q: valid must be a block: valid { until = "2027-01-01" }`, pattern)
	}
	if r.cond == nil {
		r.cond = &condition{}
	}
	seen := map[string]bool{}
	for _, v := range f.val.fields {
		if seen[v.key] {
			return twice(v)
		}
		seen[v.key] = true
		var ok bool
		switch v.key {
		case "from":
			r.cond.from, ok = moment(v.val)
		case "until":
			r.cond.until, ok = moment(v.val)
		case "uses":
			r.cond.uses, ok = count(v.val)
		default:
			return wrong(v.line, "path %q: valid: unknown key %q: use from, until and uses", pattern, v.key)
		}
		if !ok {
			return wrong(v.line, `path %q: valid: %s must be %s`, pattern, v.key,
				map[string]string{"uses": "a whole number from 1"}[v.key]+map[string]string{"from": aMoment, "until": aMoment}[v.key])
		}
	}
	if c := r.cond; !c.until.IsZero() && !c.from.Before(c.until) {
		return wrong(f.line, "path %q: valid: from is not before until", pattern)
	}
	return nil
}

const aMoment = `a day or a time: "2027-01-31" or "2027-01-31T17:00:00Z"`

func moment(n node) (time.Time, bool) {
	if n.kind != stringNode {
		return time.Time{}, false
	}
	for _, layout := range [...]string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, n.text); err == nil {
			return t.UTC(), true
		}
	}
	return time.Time{}, false
}

func count(n node) (int64, bool) {
	var out int64
	if n.kind != numberNode {
		return 0, false
	}
	_, err := fmt.Sscan(n.text, &out)
	return out, err == nil && out > 0 && out <= 1<<31
}
