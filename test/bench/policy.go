package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/testenv"
	"github.com/bailiff-secrets/bailiff/policy"
)

// policyRule and policyQuestion are what every engine is given.
type policyRule struct {
	Pattern string   `json:"pattern"`
	Caps    []string `json:"caps"`
}

type policyQuestion struct {
	Op   string `json:"op"`
	Path string `json:"path"`
}

// engineResult is what came of one engine.
type engineResult struct {
	Name    string        `json:"name"`
	P50     time.Duration `json:"p50"`
	Mean    time.Duration `json:"mean"`
	P99     time.Duration `json:"p99"`
	Asked   int           `json:"asked"`
	Allowed int           `json:"allowed"`
}

// thousandRules are half exact, four in ten with a "*" and one in ten with a "+".
func thousandRules() (rules []policyRule, questions []policyQuestion) {
	for i := range 100 {
		for j := range 5 {
			rules = append(rules, policyRule{fmt.Sprintf("secret/data/team%d/app%d", i, j), []string{"read"}})
		}
		for j := range 4 {
			rules = append(rules, policyRule{fmt.Sprintf("secret/data/team%d/shared%d/*", i, j), []string{"read", "list"}})
		}
		rules = append(rules, policyRule{fmt.Sprintf("secret/+/group%d/*", i), []string{"read", "list"}})
	}
	for i := range 100 {
		questions = append(questions, policyQuestion{"read", fmt.Sprintf("secret/data/team%d/app3", i)},
			policyQuestion{"read", fmt.Sprintf("secret/data/team%d/shared2/db/password", i)}, policyQuestion{"read", fmt.Sprintf("secret/data/group%d/db/password", i)},
			policyQuestion{"delete", fmt.Sprintf("secret/data/team%d/app3", i)}, policyQuestion{"read", fmt.Sprintf("kv/data/team%d/app3", i)})
	}
	return rules, questions
}

func hcl(rules []policyRule) string {
	var b strings.Builder
	for _, r := range rules {
		fmt.Fprintf(&b, "path %q {\n  capabilities = [\"%s\"]\n}\n", r.Pattern, strings.Join(r.Caps, `", "`)) //nolint:errcheck // it never fails
	}
	return b.String()
}

// benchPolicy asks the same rules of Bailiff, of a real Vault and of two engines that others have made.
func benchPolicy(ctx context.Context, env *testenv.Env, o options, out io.Writer) error {
	rules, questions := thousandRules()
	text := hcl(rules)
	p, err := policy.Parse("bench", 1, text)
	if err != nil {
		return err
	}
	acl := policy.Compile(p)
	results := []engineResult{measureEngine("Bailiff", questions, o.seconds, func(q policyQuestion) bool {
		return acl.Decide(policy.Operation(q.Op), q.Path).Allowed
	})}
	vault, err := benchVaultPolicy(ctx, env, text, questions, o.seconds)
	if err != nil {
		return err
	}
	others, err := benchEngines(ctx, rules, questions, o.seconds)
	if err != nil {
		return err
	}
	results = append(append(results, vault), others...)
	fmt.Fprintf(out, "Decisions, 1,000 rules, 100 of them with +\n\n| engine | p50 µs | mean µs | p99 µs | allowed |\n|---|---|---|---|---|\n") //nolint:errcheck // see run
	for _, r := range results {
		fmt.Fprintf(out, "| %s | %.2f | %.2f | %.2f | %d %% |\n", r.Name, us(r.P50), us(r.Mean), us(r.P99), 100*r.Allowed/max(1, r.Asked)) //nolint:errcheck // see run
	}
	fmt.Fprintln(out) //nolint:errcheck // see run
	return nil
}

func us(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

func measureEngine(name string, questions []policyQuestion, long time.Duration, ask func(policyQuestion) bool) engineResult {
	r := engineResult{Name: name}
	var took []time.Duration
	begin := time.Now()
	for i := 0; time.Since(begin) < long && i < 5_000_000; i++ {
		q := questions[i%len(questions)]
		start := time.Now()
		ok := ask(q)
		took = append(took, time.Since(start))
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
	return r
}

// benchVaultPolicy asks sys/capabilities-self, a round trip each.
func benchVaultPolicy(ctx context.Context, env *testenv.Env, text string, questions []policyQuestion, long time.Duration) (engineResult, error) {
	v, err := env.StartVault(ctx, testenv.VaultOptions{})
	if err != nil {
		return engineResult{}, err
	}
	var failed error
	call := func(token, path string, in, out any) {
		body, err := json.Marshal(in)
		if err != nil {
			failed = err
			return
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPut, v.Addr+"/v1/"+path, bytes.NewReader(body))
		if err != nil {
			failed = err
			return
		}
		req.Header.Set("X-Vault-Token", token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			failed = err
			return
		}
		defer resp.Body.Close() //nolint:errcheck // read
		b, err := io.ReadAll(resp.Body)
		switch {
		case err != nil:
			failed = err
		case resp.StatusCode >= 300:
			failed = fmt.Errorf("%s: %d %s", path, resp.StatusCode, b)
		case out != nil:
			failed = json.Unmarshal(b, out)
		}
	}
	call(v.RootToken, "sys/policies/acl/bench", map[string]string{"policy": text}, nil)
	var made struct {
		Auth struct {
			ClientToken string `json:"client_token"`
		}
	}
	call(v.RootToken, "auth/token/create", map[string]any{"policies": []string{"bench"}}, &made)
	r := measureEngine("Vault 1.13, sys/capabilities-self, with the round trip", questions, long, func(q policyQuestion) bool {
		var answer struct{ Capabilities []string }
		if failed == nil {
			call(made.Auth.ClientToken, "sys/capabilities-self", map[string]string{"path": q.Path}, &answer)
		}
		return slices.Contains(answer.Capabilities, q.Op)
	})
	return r, failed
}

// benchEngines runs the program with the engines of others.
func benchEngines(ctx context.Context, rules []policyRule, questions []policyQuestion, long time.Duration) ([]engineResult, error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return nil, fmt.Errorf("find the module: %w", err)
	}
	in, err := json.Marshal(map[string]any{"rules": rules, "questions": questions, "for": long})
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "go", "run", ".")
	cmd.Dir = filepath.Join(strings.TrimSpace(string(root)), "test", "engines")
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
	answer, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("the engines of others: %w", err)
	}
	var out []engineResult
	return out, json.Unmarshal(answer, &out)
}
