// Command engines measures policy engines that others have made, on rules and questions that it reads from its input. It is a
// module of its own, so that nobody who builds Bailiff fetches them.
//
// Neither has Vault's meaning: of all patterns that match, any one that allows is enough for them, and a "+" of ours stands
// for more than one segment in Cedar. Their answers are counted, so that a ruleset that lets nothing pass is seen.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/cedar-policy/cedar-go"
	"github.com/open-policy-agent/opa/v1/rego"
)

// input is what shall be measured.
type input struct {
	Rules []struct {
		Pattern string   `json:"pattern"`
		Caps    []string `json:"caps"`
	} `json:"rules"`
	Questions []struct {
		Op   string `json:"op"`
		Path string `json:"path"`
	} `json:"questions"`
	For time.Duration `json:"for"` // nanoseconds, of each engine
}

// result is what came of one engine.
type result struct {
	Name    string        `json:"name"`
	P50     time.Duration `json:"p50"`
	Mean    time.Duration `json:"mean"`
	P99     time.Duration `json:"p99"`
	Asked   int           `json:"asked"`
	Allowed int           `json:"allowed"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "engines:", err)
		os.Exit(1)
	}
}

func run() error {
	var in input
	if err := json.NewDecoder(os.Stdin).Decode(&in); err != nil {
		return err
	}
	var out []result
	for _, engine := range []func(*input) (result, error){cedarEngine, opaEngine} {
		r, err := engine(&in)
		if err != nil {
			return err
		}
		out = append(out, r)
	}
	return json.NewEncoder(os.Stdout).Encode(out)
}

// measure asks the questions in turn until the time is over.
func (in *input) measure(name string, ask func(op, path string) (bool, error)) (result, error) {
	r := result{Name: name}
	var took []time.Duration
	begin := time.Now()
	for i := 0; time.Since(begin) < in.For; i++ {
		q := in.Questions[i%len(in.Questions)]
		start := time.Now()
		ok, err := ask(q.Op, q.Path)
		took = append(took, time.Since(start))
		if err != nil {
			return r, fmt.Errorf("%s: %w", name, err)
		}
		if ok {
			r.Allowed++
		}
	}
	var sum time.Duration
	for _, t := range took {
		sum += t
	}
	slices.Sort(took)
	r.Asked, r.Mean, r.P50, r.P99 = len(took), sum/time.Duration(len(took)), took[len(took)/2], took[len(took)*99/100]
	return r, nil
}

func cedarEngine(in *input) (result, error) {
	var text strings.Builder
	for _, r := range in.Rules {
		actions := make([]string, len(r.Caps))
		for i, c := range r.Caps {
			actions[i] = fmt.Sprintf("Action::%q", c)
		}
		condition := fmt.Sprintf("resource.path == %q", r.Pattern)
		if strings.ContainsAny(r.Pattern, "+*") {
			condition = fmt.Sprintf("resource.path like %q", strings.ReplaceAll(r.Pattern, "+", "*"))
		}
		fmt.Fprintf(&text, "permit (principal, action in [%s], resource) when { %s };\n", strings.Join(actions, ", "), condition)
	}
	policies, err := cedar.NewPolicySetFromBytes("rules.cedar", []byte(text.String()))
	if err != nil {
		return result{}, fmt.Errorf("cedar: %w", err)
	}
	who := cedar.NewEntityUID("User", "ci")
	return in.measure("cedar-go", func(op, path string) (bool, error) {
		what := cedar.NewEntityUID("Path", cedar.String(path))
		entities := cedar.EntityMap{what: cedar.Entity{UID: what, Attributes: cedar.NewRecord(cedar.RecordMap{"path": cedar.String(path)})}}
		ok, _ := cedar.Authorize(policies, entities, cedar.Request{Principal: who, Action: cedar.NewEntityUID("Action", cedar.String(op)), Resource: what, Context: cedar.NewRecord(nil)})
		return bool(ok), nil
	})
}

const module = `package bailiff

default allow := false

allow if {
	input.op in data.exact[input.path]
}

allow if {
	some r in data.globs
	input.op in r.caps
	glob.match(r.glob, ["/"], input.path)
}
`

func opaEngine(in *input) (result, error) {
	exact, globs := map[string]any{}, []any{}
	for _, r := range in.Rules {
		caps := make([]any, len(r.Caps))
		for i, c := range r.Caps {
			caps[i] = c
		}
		if !strings.ContainsAny(r.Pattern, "+*") {
			exact[r.Pattern] = caps
			continue
		}
		glob := strings.ReplaceAll(r.Pattern, "+", "*")
		if before, ok := strings.CutSuffix(r.Pattern, "*"); ok {
			glob = strings.ReplaceAll(before, "+", "*") + "**"
		}
		globs = append(globs, map[string]any{"glob": glob, "caps": caps})
	}
	ctx := context.Background()
	query, err := rego.New(rego.Query("data.bailiff.allow"), rego.Module("bailiff.rego", module),
		rego.Data(map[string]any{"exact": exact, "globs": globs})).PrepareForEval(ctx)
	if err != nil {
		return result{}, fmt.Errorf("opa: %w", err)
	}
	return in.measure("OPA", func(op, path string) (bool, error) {
		set, err := query.Eval(ctx, rego.EvalInput(map[string]any{"op": op, "path": path}))
		return set.Allowed(), err
	})
}
