package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bailiff-secrets/bailiff/api"
	"github.com/bailiff-secrets/bailiff/internal/config"
	"github.com/bailiff-secrets/bailiff/internal/object"
)

// applyFlags are those of apply.
type applyFlags struct {
	path               string
	yes, prune, dryRun bool
	skipPreflight      bool
}

func (a *app) applyCommand() *cobra.Command {
	var f applyFlags
	cmd := &cobra.Command{
		Use:   "apply -f DIR",
		Short: "Bring about the objects that files declare",
		Long: `Bring about the targets, mounts, producers, connectors, policies, roles and identities that the *.hcl files
of a directory declare. The plan is shown first, and carried out once it is agreed to: all of it or nothing, and only
if nothing that it is about has changed meanwhile. A producer that is new or changed is tried on its target first: a
credential is made, used, renewed and revoked. Where there is nothing to do, the exit status is 0.`,
		Example: `  bailiff apply -f ./estate
  bailiff apply -f ./estate --dry-run
  bailiff apply -f ./estate --yes --prune`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.apply(cmd.Context(), f) },
	}
	cmd.Flags().StringVarP(&f.path, "file", "f", "", "a directory of *.hcl files, or one file (required)")
	cmd.Flags().BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&f.prune, "prune", false, "delete objects that came from files and are in them no more")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "show the plan and do nothing")
	cmd.Flags().BoolVar(&f.skipPreflight, "skip-preflight", false, "do not try new and changed producers on their targets")
	require(cmd, "file")
	a.formatFlag(cmd)
	return cmd
}

func (a *app) apply(ctx context.Context, f applyFlags) error {
	records, err := config.LoadObjects(f.path, a.env)
	if err != nil {
		return err
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	req := api.PlanRequest{Objects: inputs(records), Prune: f.prune, SkipPreflight: f.skipPreflight}
	plan, err := c.Plan(ctx, req)
	if err != nil {
		return err
	}
	todo := changesOf(plan)
	if f.dryRun || todo == 0 {
		return a.print(plan, planTable(plan, false))
	}
	if !f.yes {
		question := fmt.Sprintf("Carry out %d changes?", todo)
		if err := a.agree(planTable(plan, false), question, fmt.Sprintf("carry out %d changes", todo)); err != nil {
			return err
		}
	}
	req.Expect = make(map[string]int64, len(plan.Steps))
	for _, s := range plan.Steps {
		req.Expect[string(s.Kind)+"/"+s.Name] = s.Version
	}
	done, err := c.Apply(ctx, req)
	if err != nil {
		return err
	}
	t := planTable(done, true)
	if !f.yes {
		t.rows = nil // they were shown before it was agreed to
	}
	return a.print(done, t)
}

// inputs is what is sent. It is one of the edges at which a secret is written to a wire.
func inputs(records []object.Record) []api.ObjectInput {
	list := make([]api.ObjectInput, 0, len(records))
	for _, r := range records {
		in := api.ObjectInput{Kind: r.Kind, Name: r.Name, Body: r.Body}
		for field, v := range r.Secrets {
			if in.Secrets == nil {
				in.Secrets = make(map[string]string, len(r.Secrets))
			}
			in.Secrets[field] = v.Reveal()
		}
		list = append(list, in)
	}
	return list
}

// agree shows what would be done and asks, where somebody is there to answer.
func (a *app) agree(t table, question, what string) error {
	if !isTerminal(a.stdin) || a.format != "table" {
		return hinted("--yes carries it out without asking", "there is nobody to ask whether to %s", what)
	}
	if err := a.printTable(t); err != nil {
		return err
	}
	fmt.Fprintf(a.stderr, "%s [y/N] ", question)
	line, err := bufio.NewReader(io.LimitReader(a.stdin, 100)).ReadString('\n')
	if err != nil && line == "" {
		fmt.Fprintln(a.stderr)
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	}
	return errors.New("nothing was changed")
}

func isTerminal(r io.Reader) bool {
	f, ok := r.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func changesOf(p object.Plan) int {
	n := 0
	for _, s := range p.Steps {
		if s.Action != object.Unchanged {
			n++
		}
	}
	return n
}

// planTable shows a plan: + create, ~ update with its fields, - delete.
func planTable(p object.Plan, done bool) table {
	t := table{}
	count := map[object.Action]int{}
	for _, s := range p.Steps {
		count[s.Action]++
		mark, ok := map[object.Action]string{object.Created: "+", object.Updated: "~", object.Deleted: "-"}[s.Action]
		if !ok {
			continue
		}
		t.rows = append(t.rows, []string{mark + " " + string(s.Kind) + " " + s.Name})
		if s.Action != object.Updated {
			continue
		}
		for _, c := range s.Changes {
			t.rows = append(t.rows, fieldRows(c)...)
		}
	}
	for _, w := range p.Warnings {
		t.rows = append(t.rows, []string{"! " + w})
	}
	if changesOf(p) == 0 {
		t.note = fmt.Sprintf("Nothing to do: %d objects are as they are declared.", count[object.Unchanged])
		return t
	}
	form := "Plan: %d to create, %d to update, %d to delete, %d unchanged"
	if done {
		form = "Done: %d created, %d updated, %d deleted, %d unchanged"
	}
	t.note = fmt.Sprintf(form, count[object.Created], count[object.Updated], count[object.Deleted], count[object.Unchanged])
	return t
}

// fieldRows shows one field of an update: in one line, or line by line where it is a text of several.
func fieldRows(c object.FieldChange) [][]string {
	old, now := lines(text([]byte(c.Old))), lines(text([]byte(c.New)))
	if len(old) <= 1 && len(now) <= 1 {
		return [][]string{{"    " + c.Field + ": " + or(c.Old, "nothing") + " → " + or(c.New, "nothing")}}
	}
	rows := [][]string{{"    " + c.Field + ":"}}
	for _, line := range old {
		if !slices.Contains(now, line) {
			rows = append(rows, []string{"      - " + line})
		}
	}
	for _, line := range now {
		if !slices.Contains(old, line) {
			rows = append(rows, []string{"      + " + line})
		}
	}
	return rows
}
