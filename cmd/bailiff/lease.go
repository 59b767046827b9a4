package main

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/bailiff-secrets/bailiff/api"
	"github.com/bailiff-secrets/bailiff/internal/object"
)

func (a *app) leaseCommand() *cobra.Command {
	return group("lease", "List, show, renew and revoke leases", a.leaseList(), a.leaseShow(), a.leaseRenew(), a.leaseRevoke(),
		a.leaseRetry(), a.leaseForce())
}

// filter is the flags of a command that become a query.
type filter map[string]*string

func (f filter) flag(cmd *cobra.Command, name, help string) { f.flagAs(cmd, name, name, help) }

// flagAs is a flag whose name in the query is another.
func (f filter) flagAs(cmd *cobra.Command, flag, name, help string) {
	f[name] = cmd.Flags().String(flag, "", help)
}

func (f filter) query() url.Values {
	q := url.Values{}
	for name, v := range f {
		if *v != "" {
			q.Set(name, *v)
		}
	}
	return q
}

func (a *app) leaseList() *cobra.Command {
	f := filter{}
	var limit int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List leases that are not ended",
		Long: `List leases, by default those that are not ended: pending, active, revoking and stuck.
A stuck lease is one whose revocation failed often; its cause says why, and it is still tried.`,
		Example: `  bailiff lease list --identity ci
  bailiff lease list --state stuck --cause owns-objects --format json
  bailiff lease list --prefix database/creds/readonly`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ask(cmd.Context(), a, func(ctx context.Context, c *api.Client) ([]api.Lease, error) {
				return allLeases(ctx, c, f.query(), limit)
			}, leasesTable)
		},
	}
	f.flag(cmd, "prefix", "only ids that begin with this")
	f.flag(cmd, "identity", "only of this identity")
	f.flag(cmd, "target", "only on this target")
	f.flag(cmd, "mount", "only of this mount")
	f.flag(cmd, "role", "only of this role of its mount")
	f.flag(cmd, "producer", "only made by this type of producer")
	f.flag(cmd, "token", "only issued to the token or access key with this accessor")
	f.flag(cmd, "claim", "only issued to a login with this claim, as name=value")
	f.flag(cmd, "state", "pooled, pending, active, revoking, stuck, revoked, or several of them with commas")
	f.flag(cmd, "cause", "owns-objects, unreachable, forbidden, unknown")
	cmd.Flags().IntVar(&limit, "limit", 1000, "at most so many")
	complete(cmd, "identity", a.objectNames(object.KindIdentity))
	complete(cmd, "target", a.objectNames(object.KindTarget))
	complete(cmd, "state", words("pooled", "pending", "active", "revoking", "stuck", "revoked"))
	complete(cmd, "cause", words("owns-objects", "unreachable", "forbidden", "unknown"))
	a.formatFlag(cmd)
	return cmd
}

func words(list ...string) completion { return func(*cobra.Command, string) []string { return list } }

// allLeases asks page by page.
func allLeases(ctx context.Context, c *api.Client, q url.Values, limit int) ([]api.Lease, error) {
	all := []api.Lease{}
	for len(all) < limit {
		q.Set("limit", strconv.Itoa(min(limit-len(all), 1000)))
		page, err := c.Leases(ctx, q)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Leases...)
		if page.Next == 0 || len(page.Leases) == 0 {
			break
		}
		q.Set("after", strconv.FormatInt(page.Next, 10))
	}
	return all, nil
}

func leasesTable(list []api.Lease) table {
	t := table{head: []string{"LEASE", "STATE", "IDENTITY", "TARGET", "PRINCIPAL", "EXPIRES"}}
	for _, l := range list {
		state := l.State
		if l.Cause != "" {
			state += "(" + l.Cause + ")"
		}
		t.add(l.ID, state, or(l.Identity, "-"), l.Target, l.Principal, when(l.ExpiresAt))
	}
	return t
}

func (a *app) leaseShow() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show one lease",
		Args:  exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(cmd.Context(), a, func(ctx context.Context, c *api.Client) (api.Lease, error) {
				return c.Lease(ctx, args[0])
			}, leaseTable)
		},
	}
	a.formatFlag(cmd)
	return cmd
}

func leaseTable(l api.Lease) table {
	t := table{}
	t.add("lease", l.ID)
	t.add("state", l.State)
	if l.Cause != "" {
		t.add("cause", l.Cause)
		t.add("error", l.Error)
		t.add("attempts", strconv.Itoa(l.Attempt))
		t.add("next attempt", when(l.NextAt))
	}
	t.add("identity", or(l.Identity, "-"))
	t.add("target", l.Target)
	t.add("principal", l.Principal)
	t.add("issued", when(l.IssuedAt))
	t.add("expires", when(l.ExpiresAt))
	t.add("renewable until", when(l.MaxExpiresAt))
	t.add("issued to", or(l.Token, "-"))
	for _, name := range slices.Sorted(maps.Keys(l.Claims)) {
		t.add("claim "+name, l.Claims[name])
	}
	t.add("request", or(l.RequestID, "-"))
	return t
}

func (a *app) leaseRenew() *cobra.Command {
	var increment time.Duration
	cmd := &cobra.Command{
		Use:     "renew ID",
		Short:   "Renew a lease",
		Example: `  bailiff lease renew database/creds/readonly/abc --increment 1h`,
		Args:    exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if increment < 0 || increment%time.Second != 0 {
				return usage(cmd, "--increment is a positive number of whole seconds")
			}
			return ask(cmd.Context(), a, func(ctx context.Context, c *api.Client) (api.LeaseTerm, error) {
				return c.RenewLease(ctx, args[0], int64(increment/time.Second))
			}, func(l api.LeaseTerm) table {
				t := table{note: fmt.Sprintf("renewed %s for %s", l.LeaseID, time.Duration(l.Duration)*time.Second)}
				for _, w := range l.Warnings {
					t.add("warning", w)
				}
				return t
			})
		},
	}
	cmd.Flags().DurationVar(&increment, "increment", 0, "for how long from now, as 30m; default what its role gives")
	a.formatFlag(cmd)
	return cmd
}

func (a *app) leaseRevoke() *cobra.Command {
	var now bool
	cmd := &cobra.Command{
		Use:   "revoke ID",
		Short: "End a lease before its time",
		Long: `End a lease before its time. Without --sync the end is promised and durable when the command returns;
with it the credential is gone from its target.`,
		Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(cmd.Context(), a, func(ctx context.Context, c *api.Client) (map[string]any, error) {
				return map[string]any{"lease_id": args[0], "ended": now}, c.RevokeLease(ctx, args[0], now)
			}, func(map[string]any) table {
				if now {
					return table{note: "revoked " + args[0]}
				}
				return table{note: "will be revoked: " + args[0]}
			})
		},
	}
	cmd.Flags().BoolVar(&now, "sync", false, "wait until it has ended on its target")
	a.formatFlag(cmd)
	return cmd
}
