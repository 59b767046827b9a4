package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/bailiff-secrets/bailiff/api"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/policy"
)

// How the files of policies and of their tests end.
const (
	policyEnd = ".hcl"
	testEnd   = ".test.hcl"
)

// policyName is the name of the policy in a file: "app" of "policies/app.hcl".
func policyName(file string) string {
	return strings.TrimSuffix(strings.TrimSuffix(filepath.Base(file), ".json"), policyEnd)
}

// policyFiles lists files, and those in directories, that hold policies or, with tests, their tests.
func policyFiles(args []string, tests bool) ([]string, error) {
	var out []string
	for _, arg := range args {
		err := filepath.WalkDir(arg, func(name string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir():
			case name == arg, strings.HasSuffix(name, testEnd) == tests && strings.HasSuffix(name, policyEnd):
				out = append(out, name)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("there is no file that ends in %s in %s", map[bool]string{true: testEnd, false: policyEnd}[tests], strings.Join(args, ", "))
	}
	return out, nil
}

// readPolicy parses the policy in a file.
func readPolicy(file string) (*policy.Policy, string, error) {
	b, err := os.ReadFile(file) //nolint:gosec // the caller names it
	if err != nil {
		return nil, "", err
	}
	p, err := policy.Parse(policyName(file), 0, string(b))
	var at *policy.ParseError
	if errors.As(err, &at) {
		err = fmt.Errorf("%s:%d: %s", file, at.Line, at.Msg)
	}
	return p, string(b), err
}

func (a *app) policyFmt() *cobra.Command {
	var check bool
	cmd := &cobra.Command{
		Use:   "fmt FILE|DIR…",
		Short: "Write policies in one form, comments kept",
		Long: `Write policies in the form that vault policy fmt gives them, comments kept. What is changed is named. With --check
nothing is written, and the exit status is 1 where something would be.`,
		Example: "  bailiff policy fmt policies/\n  bailiff policy fmt --check policies/",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			files, err := policyFiles(args, false)
			if err != nil {
				return err
			}
			changed := 0
			for _, file := range files {
				_, text, err := readPolicy(file)
				if err != nil {
					return err
				}
				out, err := policy.Format(text)
				if err != nil {
					return fmt.Errorf("%s: %w", file, err)
				}
				if out == text {
					continue
				}
				changed++
				fmt.Fprintln(a.stdout, plain(file))
				if !check {
					if err := rewrite(file, out); err != nil {
						return err
					}
				}
			}
			if check && changed > 0 {
				return fmt.Errorf("%d of %d files are not formatted", changed, len(files))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&check, "check", false, "write nothing")
	return cmd
}

// rewrite replaces a file as a whole, with the mode that it has.
func rewrite(file, text string) error {
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	tmp := file + ".tmp"
	if err := os.WriteFile(tmp, []byte(text), info.Mode().Perm()); err != nil {
		return err
	}
	return os.Rename(tmp, file)
}

// fileFinding is a finding with its file.
type fileFinding struct {
	File string `json:"file"`
	policy.Finding
}

func (a *app) policyLint() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "lint FILE|DIR…",
		Short:   "Look for rules that hardly do what they seem to",
		Long:    "Look for rules that hardly do what they seem to. Exit status 1 where something was found.",
		Example: "  bailiff policy lint policies/ --format json",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			files, err := policyFiles(args, false)
			if err != nil {
				return err
			}
			found := []fileFinding{}
			t := table{}
			for _, file := range files {
				p, _, err := readPolicy(file)
				if err != nil {
					return err
				}
				for _, f := range policy.Lint(p, time.Now()) {
					found = append(found, fileFinding{file, f})
					t.add(fmt.Sprintf("%s:%d: %s", file, f.Line, f.Msg))
				}
			}
			if err := a.print(found, t); err != nil {
				return err
			}
			if len(found) > 0 {
				return fmt.Errorf("%d findings in %d files", len(found), len(files))
			}
			return nil
		},
	}
	a.formatFlag(cmd)
	return cmd
}

// suiteResult is what came of one file of tests.
type suiteResult struct {
	File         string           `json:"file"`
	Expectations int              `json:"expectations"`
	Failures     []policy.Failure `json:"failures"`
}

func (a *app) policyTest() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "test FILE|DIR…",
		Short: "Run the tests beside policies",
		Long: `Run the tests in files that end in .test.hcl. The tests of app.test.hcl are about the policy in app.hcl beside it, or
about those that its "policies" names. No server is asked. Exit status 1 where an expectation does not hold.

  policies = ["app", "ops"]
  test "the application reads its own" {
    identity { name = "ci"  metadata = { team = "red" }  groups = ["ops"] }
    at     = "2026-11-24T12:00:00Z"
    from   = "10.0.0.7"
    params = { ttl = "1h" }
    allow  = ["read secret/data/app/x", "list secret/metadata/app"]
    deny   = ["read secret/data/other"]
  }`,
		Example: "  bailiff policy test policies/",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			files, err := policyFiles(args, true)
			if err != nil {
				return err
			}
			var results []suiteResult
			t := table{}
			failed, all := 0, 0
			for _, file := range files {
				r, err := runSuite(file)
				if err != nil {
					return err
				}
				results = append(results, r)
				failed, all = failed+len(r.Failures), all+r.Expectations
				for _, f := range r.Failures {
					t.add(fmt.Sprintf("%s:%d: %s: want %s %s: %s", file, f.Line, f.Test, f.Want, f.Sentence, f.Why))
				}
			}
			if failed == 0 {
				t.note = fmt.Sprintf("ok: %d expectations in %d files", all, len(files))
			}
			if err := a.print(results, t); err != nil {
				return err
			}
			if failed > 0 {
				return fmt.Errorf("%d of %d expectations do not hold", failed, all)
			}
			return nil
		},
	}
	a.formatFlag(cmd)
	return cmd
}

// runSuite runs one file of tests against the policies beside it.
func runSuite(file string) (suiteResult, error) {
	b, err := os.ReadFile(file) //nolint:gosec // the caller names it
	if err != nil {
		return suiteResult{}, err
	}
	s, err := policy.ParseSuite(file, string(b))
	var at *policy.ParseError
	if errors.As(err, &at) {
		return suiteResult{}, fmt.Errorf("%s:%d: %s", file, at.Line, at.Msg)
	}
	if err != nil {
		return suiteResult{}, err
	}
	if len(s.Policies) == 0 {
		s.Policies = []string{strings.TrimSuffix(filepath.Base(file), testEnd)}
	}
	var policies []*policy.Policy
	for _, name := range s.Policies {
		if name == object.PolicyDefault {
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), name+policyEnd)); errors.Is(err, fs.ErrNotExist) {
				p, err := policy.Parse(name, 0, policy.Default)
				if err != nil {
					return suiteResult{}, err
				}
				policies = append(policies, p)
				continue
			}
		}
		p, _, err := readPolicy(filepath.Join(filepath.Dir(file), name+policyEnd))
		if err != nil {
			return suiteResult{}, err
		}
		policies = append(policies, p)
	}
	failures, err := s.Run(policies)
	if err != nil {
		return suiteResult{}, fmt.Errorf("%s: %w", file, err)
	}
	if failures == nil {
		failures = []policy.Failure{}
	}
	return suiteResult{file, s.Tests(), failures}, nil
}

func (a *app) policyDiff() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "diff A B",
		Short: "Say what two policies differ in",
		Long: `Say what two policies differ in: patterns, capabilities, conditions; not how they are written. A and B are files, names
of policies on the server, or a name with a version: app@3.`,
		Example: "  bailiff policy diff app app.hcl\n  bailiff policy diff app@3 app@4 --format json",
		Args:    exactly("A", "B"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var two [2]*policy.Policy
			for i, arg := range args {
				var err error
				if two[i], err = a.policyOf(cmd.Context(), arg); err != nil {
					return err
				}
			}
			changes := policy.Diff(two[0], two[1])
			if changes == nil {
				changes = []policy.Change{}
			}
			t := table{}
			for _, c := range changes {
				for _, r := range c.Before {
					t.add("-", c.Pattern, strings.Join(r.Capabilities, " "), strings.Join(r.Conditions, "; "))
				}
				for _, r := range c.After {
					t.add("+", c.Pattern, strings.Join(r.Capabilities, " "), strings.Join(r.Conditions, "; "))
				}
			}
			if len(changes) == 0 {
				t.note = "they say the same"
			}
			return a.print(changes, t)
		},
	}
	a.formatFlag(cmd)
	return cmd
}

// policyOf finds a policy in a file or on the server.
func (a *app) policyOf(ctx context.Context, arg string) (*policy.Policy, error) {
	if _, err := os.Stat(arg); err == nil {
		p, _, err := readPolicy(arg)
		return p, err
	}
	c, err := a.client()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	name, version, _ := strings.Cut(arg, "@")
	list, err := c.PolicyVersions(ctx, name)
	if err != nil {
		return nil, err
	}
	for _, v := range list.Versions {
		if version == "" && v.Stands || version != "" && version == fmt.Sprint(v.Version) {
			return policy.Parse(name, v.Version, v.Rules)
		}
	}
	return nil, fmt.Errorf("there is no file and no policy %q", arg)
}

func (a *app) policyImpact() *cobra.Command {
	var in api.ImpactRequest
	cmd := &cobra.Command{
		Use:   "impact FILE…",
		Short: "Say which recorded requests would be decided otherwise",
		Long: `Ask the requests that were made since a time of the policies as they would be with those in the files, which stand for
the policies of their names, and list exactly who would gain and lose what. Nothing is changed. What depends on parameters,
on wrapping or on a condition is said to depend: these are not recorded. Identities are asked about with the policies that
they have now.`,
		Example: "  bailiff policy impact app.hcl --since 30d",
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args)+len(in.Delete) == 0 {
				return usage(cmd, "give files with policies, or --delete")
			}
			for _, file := range args {
				_, text, err := readPolicy(file)
				if err != nil {
					return err
				}
				in.Policies = append(in.Policies, api.PolicyText{Name: strings.ToLower(policyName(file)), Rules: text})
			}
			slices.SortFunc(in.Policies, func(a, b api.PolicyText) int { return strings.Compare(a.Name, b.Name) })
			return ask(cmd.Context(), a, func(ctx context.Context, c *api.Client) (api.Impact, error) { return c.Impact(ctx, in) }, func(i api.Impact) table {
				t := table{note: fmt.Sprintf("%d requests asked about", i.Requests)}
				if len(i.Flips) > 0 {
					t.head = []string{"IDENTITY", "OP", "PATH", "TIMES", "LAST", "BEFORE", "AFTER", "RULE"}
				}
				for _, f := range i.Flips {
					t.add(f.Identity, string(f.Op), f.Path, fmt.Sprint(f.Times), when(&f.Last), f.Before, f.After, placeOf(f.Rule))
				}
				return t
			})
		},
	}
	cmd.Flags().StringSliceVar(&in.Delete, "delete", nil, "as if these policies were deleted")
	cmd.Flags().StringVar(&in.Since, "since", "30d", "requests since then: 30d, 1h30m (ago), 2026-11-01, or a time in RFC 3339")
	cmd.Flags().StringVar(&in.Until, "until", "", "requests before then: the same")
	complete(cmd, "delete", a.objectNames(object.KindPolicy))
	a.formatFlag(cmd)
	return cmd
}
