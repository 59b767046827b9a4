package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/bailiff-secrets/bailiff/api"
	"github.com/bailiff-secrets/bailiff/internal/object"
)

// revokeFlags are those of revoke.
type revokeFlags struct {
	in          api.RevocationRequest
	claims      []string
	dryRun, yes bool
}

func (a *app) revokeCommand() *cobra.Command {
	var f revokeFlags
	cmd := &cobra.Command{
		Use:   "revoke",
		Short: "End many leases at once: of an identity, a role, a target, …",
		Long: `End many leases at once: all that match every flag that is given. What would end is shown first, by target, and ended
once it is agreed to. From then on nobody can renew them, however many they are; leases that are issued later are not
meant. The command returns when the end is promised and durable; with --sync when the credentials are gone.

--dry-run only shows what would end.`,
		Example: `  bailiff revoke --identity alice --dry-run
  bailiff revoke --identity alice --reason 'laptop lost' --yes --sync
  bailiff revoke --mount database --role readonly
  bailiff revoke --claim job_id=123 --yes
  bailiff revoke --target pg-eu --yes`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if f.in.Claims, err = claims(f.claims); err != nil {
				return usage(cmd, err.Error())
			}
			if f.in.Selector.Empty() {
				return usage(cmd, "nothing is selected: give --identity, --role, --mount, --prefix, --producer, --target, --token or --claim")
			}
			if strings.Contains(f.in.Token, "..") {
				return hinted("bailiff lease show ID tells it", "--token takes an accessor, not a token: other users of a machine see the arguments of processes")
			}
			return a.revoke(cmd.Context(), f)
		},
	}
	for _, x := range []struct {
		to         *string
		name, help string
	}{
		{&f.in.Identity, "identity", "those of this identity"},
		{&f.in.Role, "role", "those of this role of its mount"},
		{&f.in.Mount, "mount", "those of this mount"},
		{&f.in.Prefix, "prefix", "those below this path"},
		{&f.in.Producer, "producer", "those made by this type of producer"},
		{&f.in.Target, "target", "those on this target"},
		{&f.in.Token, "token", "those issued to the token or access key with this accessor"},
		{&f.in.Reason, "reason", "why, for the trail"},
	} {
		cmd.Flags().StringVar(x.to, x.name, "", x.help)
	}
	cmd.Flags().StringArrayVar(&f.claims, "claim", nil, "those issued to a login with this claim, as name=value; several: with all of them")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "show what would end, and do nothing")
	cmd.Flags().BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&f.in.Sync, "sync", false, "wait until all have ended on their targets")
	complete(cmd, "identity", a.objectNames(object.KindIdentity))
	complete(cmd, "target", a.objectNames(object.KindTarget))
	complete(cmd, "mount", a.objectNames(object.KindMount))
	a.formatFlag(cmd)
	return cmd
}

// claims reads name=value.
func claims(list []string) (map[string]string, error) {
	var out map[string]string
	for _, claim := range list {
		name, value, ok := strings.Cut(claim, "=")
		if before, twice := out[name]; !ok || name == "" || twice && before != value {
			return nil, fmt.Errorf("--claim %q: write name=value, and each name once", claim)
		}
		if out == nil {
			out = make(map[string]string)
		}
		out[name] = value
	}
	return out, nil
}

func (a *app) revoke(ctx context.Context, f revokeFlags) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	if f.dryRun || !f.yes {
		p, err := c.PreviewRevocation(ctx, f.in)
		if err != nil {
			return err
		}
		if f.dryRun {
			return a.print(p, previewTable(p))
		}
		question := fmt.Sprintf("Revoke %s?", leasesOf(p.Leases))
		if err := a.agree(previewTable(p), question, "revoke "+leasesOf(p.Leases)); err != nil {
			return err
		}
	}
	r, err := c.RevokeMany(ctx, f.in)
	if err != nil {
		return err
	}
	return a.print(r, revocationTable(r))
}

func leasesOf(n int) string {
	if n == 1 {
		return "1 lease"
	}
	return strconv.Itoa(n) + " leases"
}

func previewTable(p api.RevocationPreview) table {
	t := table{note: leasesOf(p.Leases) + " would be revoked"}
	if p.Leases > 0 {
		t.head = []string{"TARGET", "LEASES", "PRINCIPALS"}
	}
	addTargets(&t, p.Targets)
	return t
}

func addTargets(t *table, targets []api.PreviewTarget) {
	for _, x := range targets {
		names := strings.Join(x.Principals, " ")
		if len(x.Principals) < x.Leases {
			names += " …"
		}
		t.add(x.Target, strconv.Itoa(x.Leases), names)
	}
}

func revocationTable(r api.Revocation) table {
	t := table{}
	t.add("revocation", r.ID)
	t.add("state", r.State)
	t.add("leases with", r.Selected)
	t.add("by", or(r.By, "-"))
	if r.Reason != "" {
		t.add("reason", r.Reason)
	}
	t.add("begun", when(&r.CreatedAt))
	marked := strconv.FormatInt(r.Marked, 10)
	if !r.Expanded {
		marked += " so far"
	}
	t.add("leases", marked)
	t.add("credentials gone", strconv.FormatInt(r.Revoked, 10))
	t.add("not gone yet", strconv.FormatInt(r.Open, 10))
	t.add("sessions closed", strconv.FormatInt(r.Sessions, 10))
	if r.DoneAt != nil {
		t.add("ended", when(r.DoneAt))
		t.add("took", took(r))
	} else {
		t.note = "It goes on by itself: bailiff revocation show " + r.ID
	}
	return t
}

func took(r api.Revocation) string { return (time.Duration(r.TookMS) * time.Millisecond).String() }

func (a *app) revocationCommand() *cobra.Command {
	return group("revocation", "Follow revocations of many leases", a.revocationList(), a.revocationShow())
}

func (a *app) revocationList() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List revocations that go on, and the newest that are done",
		Example: `  bailiff revocation list`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ask(cmd.Context(), a, func(ctx context.Context, c *api.Client) ([]api.Revocation, error) {
				return c.Revocations(ctx)
			}, revocationsTable)
		},
	}
	a.formatFlag(cmd)
	return cmd
}

func revocationsTable(list []api.Revocation) table {
	t := table{head: []string{"REVOCATION", "STATE", "LEASES WITH", "BY", "BEGUN", "GONE", "OPEN", "TOOK"}}
	for _, r := range list {
		end := "-"
		if r.DoneAt != nil {
			end = took(r)
		}
		t.add(r.ID, r.State, r.Selected, or(r.By, "-"), when(&r.CreatedAt), strconv.FormatInt(r.Revoked, 10), strconv.FormatInt(r.Open, 10), end)
	}
	return t
}

func (a *app) revocationShow() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show ID",
		Short:   "Show how far a revocation has come, and when it ended",
		Example: `  bailiff revocation show rv-k3v7c2q5xw6m4n1p`,
		Args:    exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(cmd.Context(), a, func(ctx context.Context, c *api.Client) (api.Revocation, error) {
				return c.Revocation(ctx, args[0])
			}, revocationTable)
		},
	}
	a.formatFlag(cmd)
	return cmd
}

func (a *app) leaseRetry() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "retry ID",
		Short:   "Try now to end a lease whose revocation failed",
		Example: `  bailiff lease retry database/creds/readonly/abc`,
		Args:    exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(cmd.Context(), a, func(ctx context.Context, c *api.Client) (map[string]any, error) {
				return map[string]any{"lease_id": args[0]}, c.RetryLease(ctx, args[0])
			}, func(map[string]any) table {
				return table{note: "is tried again: " + args[0]}
			})
		},
	}
	a.formatFlag(cmd)
	return cmd
}

func (a *app) leaseForce() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "force ID --reason WHY",
		Short: "Give up a lease whose credential can't be ended",
		Long: `Give up a lease: it counts as revoked, its target is not asked, and nobody tries again. Its credential may still be
alive: the trail keeps its name, its target, who gave it up and why. For a target that will never answer again.`,
		Example: `  bailiff lease force database/creds/readonly/abc --reason 'the server was scrapped'`,
		Args:    exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(cmd.Context(), a, func(ctx context.Context, c *api.Client) (api.LeaseForced, error) {
				return c.ForceLease(ctx, args[0], reason)
			}, func(l api.LeaseForced) table {
				return table{note: fmt.Sprintf("given up %s: %s may still be alive on %s", l.LeaseID, l.Principal, l.Target)}
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why (required)")
	require(cmd, "reason")
	a.formatFlag(cmd)
	return cmd
}
