package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bailiff-secrets/bailiff/api"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/policy"
)

// policyCommands are those beside list and show.
func (a *app) policyCommands() []*cobra.Command {
	return []*cobra.Command{
		a.policyExplain(), a.policyWhoCan(), a.policyWhatCan(), a.policyUnused(), a.policyImpact(), a.policyVersions(), a.policyRollback(),
		a.policyDiff(), a.policyFmt(), a.policyLint(), a.policyTest(),
	}
}

// asked is the flags of a question.
type asked struct {
	q  api.PolicyQuestion
	at string
}

func (q *asked) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&q.q.From, "from", "", "as if from this address")
	cmd.Flags().StringVar(&q.at, "at", "", "as if at this time: RFC 3339, 2026-11-01, or 2h (ago)")
	cmd.Flags().StringVar(&q.q.WrapTTL, "wrap-ttl", "", "as if the answer were to be wrapped for so long")
	cmd.Flags().StringVar(&q.q.Reason, "reason", "", "as if this reason were given")
	cmd.Flags().StringVar(&q.q.Ticket, "ticket", "", "as if this ticket were given")
}

func (a *app) policyExplain() *cobra.Command {
	var q asked
	cmd := &cobra.Command{
		Use:   "explain [OP PATH]",
		Short: "Say what comes of a request, and why",
		Long: `Say what comes of a request by an identity, and why: the rule that decides, every rule that matches, and for a refusal
the nearest rule that would have allowed it and the policies that would.

With --request the question is about a request that was made: its id is in the answer's X-Bailiff-Request-Id header and in
Vault's request_id. The record tells what came of it; the rest is what would come of it now.`,
		Example: `  bailiff policy explain --identity ci read secret/data/a
  bailiff policy explain --request 1f0c2a6e-…
  bailiff policy explain --identity ann --at 2026-11-24T03:00:00Z --from 10.0.0.7 read secret/data/prod/db`,
		Args: cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (q.q.RequestID == "") != (len(args) == 2) || q.q.RequestID == "" && q.q.Identity == "" {
				return usage(cmd, "give --identity with OP and PATH, or --request alone")
			}
			if err := q.take(args); err != nil {
				return err
			}
			return ask(cmd.Context(), a, func(ctx context.Context, c *api.Client) (api.PolicyExplanation, error) {
				return c.Explain(ctx, q.q)
			}, explanationTable)
		},
	}
	cmd.Flags().StringVar(&q.q.Identity, "identity", "", "whose request")
	cmd.Flags().StringVar(&q.q.Token, "token-accessor", "", "by this token of the identity; without it by what every login gives")
	cmd.Flags().StringVar(&q.q.RequestID, "request", "", "the id of a request that was made")
	q.flags(cmd)
	complete(cmd, "identity", a.objectNames(object.KindIdentity))
	a.formatFlag(cmd)
	return cmd
}

// take reads OP and PATH, and the time.
func (q *asked) take(args []string) error {
	if len(args) == 2 {
		q.q.Op, q.q.Path = args[0], args[1]
	}
	if q.at == "" {
		return nil
	}
	var err error
	q.q.Time, err = moment("at", q.at)
	return err
}

func explanationTable(e api.PolicyExplanation) table {
	t := table{}
	if r := e.Record; r != nil {
		t.add("recorded", fmt.Sprintf("%s at %s from %s", r.Status, when(&r.Time), or(r.ClientAddr, "-")))
		t.add("recorded rule", or(ruleOf(*r), "-"))
		if r.Error != "" {
			t.add("recorded reason", r.Error)
		}
	}
	if e.Path == "" {
		return t
	}
	t.add("request", e.Op+" "+e.Path+" by "+e.Identity)
	answer := "denied"
	if e.Allowed {
		answer = "allowed"
	}
	t.add("now", answer+": "+e.Reason)
	t.add("rule", placeOf(e.Rule))
	if !e.Allowed {
		t.add("nearest", placeOf(e.Nearest))
	}
	for _, m := range e.Matches {
		word := "matches"
		if m.Counts {
			word = "counts"
		}
		t.add(word, strings.TrimSpace(placeOf(&m.Rule)+" ["+strings.Join(m.Capabilities, " ")+"] "+m.Condition))
	}
	if !e.Allowed {
		t.add("would allow", or(strings.Join(e.WouldAllow, " "), "no policy by itself"))
	}
	t.add("policies", strings.Join(e.Policies, " "))
	return t
}

func placeOf(r *policy.Rule) string {
	if r == nil {
		return "-"
	}
	return fmt.Sprintf("%s:%d (version %d) %q", r.Policy, r.Line, r.Version, r.Pattern)
}

func (a *app) policyWhoCan() *cobra.Command {
	var q asked
	cmd := &cobra.Command{
		Use:   "who-can OP PATH",
		Short: "List who may do something now",
		Long: `List every identity that may do something now, by its own policies and those of its groups, or by those of a token that
counts. Where it depends on a condition, on parameters or on wrapping that is said; with --at, --from and the like it is
decided.`,
		Example: "  bailiff policy who-can read secret/data/a",
		Args:    exactly("OP", "PATH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := q.take(args); err != nil {
				return err
			}
			return ask(cmd.Context(), a, func(ctx context.Context, c *api.Client) (api.WhoCan, error) { return c.WhoCan(ctx, q.q) }, func(w api.WhoCan) table {
				t := table{head: []string{"IDENTITY", "BY", "RULE", "DEPENDS"}, note: strconv.Itoa(w.Count) + " may"}
				for _, h := range w.Identities {
					by, depends := "every login", "no"
					if len(h.Tokens) > 0 {
						by = "tokens " + strings.Join(h.Tokens, " ")
					}
					if h.Depends {
						depends = or(h.When, "yes")
					}
					t.add(h.Name, by, placeOf(h.Rule), depends)
				}
				return t
			})
		},
	}
	q.flags(cmd)
	a.formatFlag(cmd)
	return cmd
}

func (a *app) policyWhatCan() *cobra.Command {
	var q api.PolicyQuestion
	cmd := &cobra.Command{
		Use:     "what-can IDENTITY",
		Short:   "List the rules that an identity has",
		Example: "  bailiff policy what-can ci",
		Args:    exactly("IDENTITY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			q.Identity = args[0]
			return ask(cmd.Context(), a, func(ctx context.Context, c *api.Client) (api.WhatCan, error) { return c.WhatCan(ctx, q) }, func(w api.WhatCan) table {
				t := table{head: []string{"PATTERN", "CAPABILITIES", "POLICY", "CONDITIONS"}}
				for _, r := range w.Rules {
					t.add(r.Pattern, strings.Join(r.Capabilities, " "), fmt.Sprintf("%s:%d", r.Policy, r.Line), or(strings.Join(r.Conditions, "; "), "-"))
				}
				return t
			})
		},
	}
	cmd.Flags().StringVar(&q.Token, "token-accessor", "", "by this token of the identity; without it by what every login gives")
	completeFirst(cmd, a.objectNames(object.KindIdentity))
	a.formatFlag(cmd)
	return cmd
}

func (a *app) policyUnused() *cobra.Command {
	var since, name string
	cmd := &cobra.Command{
		Use:     "unused",
		Short:   "List rules that nothing was granted by",
		Example: "  bailiff policy unused --since 90d --policy app",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ask(cmd.Context(), a, func(ctx context.Context, c *api.Client) ([]api.UnusedRule, error) {
				return c.Unused(ctx, since, name)
			}, func(list []api.UnusedRule) table {
				t := table{head: []string{"POLICY", "LINE", "PATTERN", "CAPABILITIES"}}
				for _, r := range list {
					t.add(r.Policy, strconv.Itoa(r.Line), r.Pattern, strings.Join(r.Capabilities, " "))
				}
				return t
			})
		},
	}
	cmd.Flags().StringVar(&since, "since", "90d", "not since then: 90d, 1h30m (ago), 2026-11-01, or a time in RFC 3339")
	cmd.Flags().StringVar(&name, "policy", "", "only of this policy")
	complete(cmd, "policy", a.objectNames(object.KindPolicy))
	a.formatFlag(cmd)
	return cmd
}

func (a *app) policyVersions() *cobra.Command {
	var version int64
	cmd := &cobra.Command{
		Use:     "versions NAME",
		Short:   "List the versions of a policy, or show one",
		Example: "  bailiff policy versions app\n  bailiff policy versions app --version 3",
		Args:    exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(cmd.Context(), a, func(ctx context.Context, c *api.Client) ([]api.PolicyVersion, error) {
				out, err := c.PolicyVersions(ctx, args[0])
				if err != nil || version == 0 {
					return out.Versions, err
				}
				for _, v := range out.Versions {
					if v.Version == version {
						return []api.PolicyVersion{v}, nil
					}
				}
				return nil, fmt.Errorf("policy %q has no version %d", args[0], version)
			}, func(list []api.PolicyVersion) table {
				if version != 0 {
					t := table{}
					for _, line := range lines(strings.ReplaceAll(strings.TrimRight(list[0].Rules, "\n"), "\t", "    ")) {
						t.add(line)
					}
					return t
				}
				t := table{head: []string{"VERSION", "WRITTEN", "BY", "SOURCE", "STANDS"}}
				for _, v := range list {
					t.add(strconv.FormatInt(v.Version, 10), when(&v.At), or(v.By, "-"), or(v.Source, "-"), strconv.FormatBool(v.Stands))
				}
				return t
			})
		},
	}
	cmd.Flags().Int64Var(&version, "version", 0, "show the text of this version")
	completeFirst(cmd, a.objectNames(object.KindPolicy))
	a.formatFlag(cmd)
	return cmd
}

func (a *app) policyRollback() *cobra.Command {
	var version, over int64
	cmd := &cobra.Command{
		Use:   "rollback NAME --version N",
		Short: "Make an earlier version of a policy the next one",
		Long: `Make an earlier version of a policy the next one. A policy that is declared in a file is only changed until the next
apply: change the file too.`,
		Example: "  bailiff policy rollback app --version 3 --over 5",
		Args:    exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			in := api.RollbackRequest{Version: version}
			if cmd.Flags().Changed("over") {
				in.CAS = &over
			}
			return ask(cmd.Context(), a, func(ctx context.Context, c *api.Client) (api.RollbackRequest, error) {
				return in, c.RollbackPolicy(ctx, args[0], in)
			}, func(api.RollbackRequest) table {
				return table{note: fmt.Sprintf("policy %s is as it was in version %d", args[0], version)}
			})
		},
	}
	cmd.Flags().Int64Var(&version, "version", 0, "the version that shall be the next one (required)")
	cmd.Flags().Int64Var(&over, "over", 0, "only if this version stands; 0: only if none does")
	require(cmd, "version")
	completeFirst(cmd, a.objectNames(object.KindPolicy))
	a.formatFlag(cmd)
	return cmd
}
