package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/bailiff-secrets/bailiff/api"
	"github.com/bailiff-secrets/bailiff/internal/object"
)

func (a *app) recoverCommand() *cobra.Command {
	return group("recover", "Go on after the store was restored from a backup", a.recoverPlan(), a.recoverConfirm())
}

func (a *app) recoverPlan() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Show which revocations are held, and why",
		Long: `Show which revocations are held, and why. A store that has gone back in time believes leases to be due that may have been
renewed since: nothing of it is revoked until "bailiff recover confirm".`,
		Example: `  bailiff recover plan
  bailiff recover plan --format json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ask(cmd.Context(), a, func(ctx context.Context, c *api.Client) (api.RecoverPlan, error) {
				return c.RecoverPlan(ctx)
			}, recoverTable)
		},
	}
	a.formatFlag(cmd)
	return cmd
}

func recoverTable(p api.RecoverPlan) table {
	if !p.Held {
		return table{note: "nothing is held"}
	}
	t := table{note: fmt.Sprintf("Held since %s: %s. %s would be revoked.", when(p.Since), p.Why, leasesOf(p.Count))}
	if p.Count == 0 {
		return t
	}
	t.head = []string{"LEASE", "STATE", "IDENTITY", "TARGET", "PRINCIPAL", "EXPIRED"}
	for _, l := range p.Leases {
		t.add(l.ID, l.State, or(l.Identity, "-"), l.Target, l.Principal, when(l.ExpiresAt))
	}
	if more := p.Count - len(p.Leases); more > 0 {
		t.add(fmt.Sprintf("… and %d more", more))
	}
	return t
}

func (a *app) recoverConfirm() *cobra.Command {
	var yes bool
	var reason string
	cmd := &cobra.Command{
		Use:   "confirm",
		Short: "Carry out what is held",
		Long:  `Carry out what is held: the leases that "bailiff recover plan" shows are revoked, and from then on every lease on time.`,
		Example: `  bailiff recover confirm
  bailiff recover confirm --yes --reason 'backup of 2026-11-20, checked'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.confirmRecovery(cmd.Context(), yes, reason) },
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the trail")
	a.formatFlag(cmd)
	return cmd
}

func (a *app) confirmRecovery(ctx context.Context, yes bool, reason string) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	if !yes {
		p, err := c.RecoverPlan(ctx)
		if err != nil {
			return err
		}
		if !p.Held {
			return a.print(p, recoverTable(p))
		}
		if err := a.agree(recoverTable(p), "Go on?", "revoke "+leasesOf(p.Count)); err != nil {
			return err
		}
	}
	p, err := c.Recover(ctx, reason)
	if err != nil {
		return err
	}
	t := table{note: fmt.Sprintf("%s are being revoked", leasesOf(p.Count))}
	return a.print(p, t)
}

func (a *app) reconcileCommand() *cobra.Command {
	var quarantine, remove bool
	cmd := &cobra.Command{
		Use:   "reconcile TARGET",
		Short: "Compare a target with its leases",
		Long: `Compare what is on a target with its leases: which principals of ours have none (orphans), and which leases have lost
their principal. Somebody else's accounts are never touched. Without a flag nothing is changed.`,
		Example: `  bailiff reconcile pg
  bailiff reconcile pg --quarantine
  bailiff reconcile pg --remove`,
		Args: exactly("TARGET"),
		RunE: func(cmd *cobra.Command, args []string) error {
			in := api.ReconcileRequest{}
			switch {
			case quarantine && remove:
				return usage(cmd, "--quarantine and --remove exclude each other")
			case quarantine:
				in.Action = "quarantine"
			case remove:
				in.Action = "remove"
			}
			return ask(cmd.Context(), a, func(ctx context.Context, c *api.Client) (json.RawMessage, error) {
				return c.Reconcile(ctx, args[0], in)
			}, statusTable)
		},
	}
	cmd.Flags().BoolVar(&quarantine, "quarantine", false, "shut orphans out, and keep them")
	cmd.Flags().BoolVar(&remove, "remove", false, "remove orphans")
	completeFirst(cmd, a.objectNames(object.KindTarget))
	a.formatFlag(cmd)
	return cmd
}
