package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bailiff-secrets/bailiff/audit/index"
	"github.com/bailiff-secrets/bailiff/internal/object"
)

func (a *app) auditWhoHad() *cobra.Command {
	var since, until string
	cmd := &cobra.Command{
		Use:   "who-had PATH",
		Short: "Say who had a secret or a role's credentials, how often, when and by which door",
		Long: `Say who had a secret or a role's credentials: how often they read it, wrote it, or were refused, the first time and the
last, and by which doors. PATH is the path of a secret, a secret's own name on a KV v2 mount, or a role ("database/creds/readonly");
with a * at its end it is every path that begins so. Who had it last comes first, then whoever only tried.`,
		Example: `  bailiff audit who-had secret/production/db-password --since 90d
  bailiff audit who-had 'database/creds/*' --since 2026-11-01 --format json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			holders, err := c.WhoHad(cmd.Context(), args[0], since, until)
			if err != nil {
				return err
			}
			return a.print(holders, holdersTable(holders))
		},
	}
	cmd.Flags().StringVar(&since, "since", "", "not before: 90d, 1h30m (ago), 2026-11-01, or a time in RFC 3339")
	cmd.Flags().StringVar(&until, "until", "", "before: the same")
	a.formatFlag(cmd)
	return cmd
}

func holdersTable(holders []index.Holder) table {
	t := table{}
	t.add("IDENTITY", "READS", "WRITES", "REFUSED", "FAILED", "FIRST", "LAST", "BY")
	for _, h := range holders {
		name := h.Identity
		if name == "" {
			name = "(not known)"
		}
		t.add(name, fmt.Sprint(h.Reads), fmt.Sprint(h.Writes), fmt.Sprint(h.Refused), fmt.Sprint(h.Failed),
			when(&h.First), when(&h.Last), strings.Join(h.Doors, ","))
	}
	return t
}

// question is "audit query" with one filter given by name.
func (a *app) question(use, short, long, example, param string) *cobra.Command {
	f := filter{}
	var limit int
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, Example: example, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			q := f.query()
			q.Set(param, args[0])
			records, err := allRecords(cmd.Context(), c, q, limit)
			if err != nil {
				return err
			}
			return a.print(records, recordsTable(records))
		},
	}
	f.flag(cmd, "since", "not before: 90d, 1h30m (ago), 2026-11-01, or a time in RFC 3339")
	f.flag(cmd, "until", "before: the same")
	cmd.Flags().IntVar(&limit, "limit", 100, "at most so many records")
	a.formatFlag(cmd)
	return cmd
}

func (a *app) auditPrincipal() *cobra.Command {
	return a.question("principal NAME", "Say whose a name on a target is or was",
		`Say which person, service or job a name on a target belongs to, and by which request it was made, also after it is gone.`,
		"  bailiff audit principal bl-readonly-k3v7c2q5xw6m4n1p", "principal")
}

func (a *app) auditIdentity() *cobra.Command {
	cmd := a.question("identity NAME", "Say what somebody did", "Say what an identity did, newest first.",
		"  bailiff audit identity alice --since 7d", "identity")
	completeFirst(cmd, a.objectNames(object.KindIdentity))
	return cmd
}

func (a *app) auditDenied() *cobra.Command {
	f := filter{}
	var limit int
	cmd := &cobra.Command{
		Use: "denied", Short: "Say who was denied what, and why", Args: cobra.NoArgs,
		Long:    "Say who was denied what, and why, newest first: requests that a policy did not allow, and callers who are not known.",
		Example: "  bailiff audit denied --since 1h",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			q := f.query()
			q.Set("status", "denied")
			records, err := allRecords(cmd.Context(), c, q, limit)
			if err != nil {
				return err
			}
			return a.print(records, recordsTable(records))
		},
	}
	f.flag(cmd, "identity", "only this identity")
	f.flag(cmd, "path", "only this path; with a * at the end every path that begins so")
	f.flag(cmd, "since", "not before: 90d, 1h30m (ago), 2026-11-01, or a time in RFC 3339")
	f.flag(cmd, "until", "before: the same")
	cmd.Flags().IntVar(&limit, "limit", 100, "at most so many records")
	complete(cmd, "identity", a.objectNames(object.KindIdentity))
	a.formatFlag(cmd)
	return cmd
}
