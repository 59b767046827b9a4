package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bailiff-secrets/bailiff/api"
	"github.com/bailiff-secrets/bailiff/internal/object"
)

// mountList adds --drift to the list of mounts.
func (a *app) mountList(list *cobra.Command) *cobra.Command {
	drift := false
	plain := list.RunE
	list.Long = `List mounts. With --drift, list where the declared mounts and those on the Vaults differ: one that is missing there, of another
type or KV version, or there and not declared ("ungoverned").`
	list.Example = "  bailiff mount list --format yaml\n  bailiff mount list --drift"
	list.RunE = func(cmd *cobra.Command, args []string) error {
		if !drift {
			return plain(cmd, args)
		}
		return ask(cmd.Context(), a, func(ctx context.Context, c *api.Client) ([]api.Drift, error) {
			found, err := c.Drift(ctx)
			if found == nil {
				found = []api.Drift{}
			}
			return found, err
		}, driftTable)
	}
	list.Flags().BoolVar(&drift, "drift", false, "show where Vaults differ from what is declared")
	return list
}

func driftTable(found []api.Drift) table {
	if len(found) == 0 {
		return table{note: "no drift"}
	}
	t := table{head: []string{"TARGET", "MOUNT", "ON THE VAULT", "DRIFT", "DETAIL"}}
	for _, d := range found {
		t.add(d.Target, or(d.Mount, "-"), or(d.RemotePath, "-"), d.Drift, d.Detail)
	}
	return t
}

func (a *app) discoverCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "discover TARGET",
		Short: "Propose declarations for what a Vault has",
		Long:  "Propose declarations for what a Vault has: mounts that nobody has declared, and a connector for its KV engines.",
		Example: `  bailiff discover vault-a > mounts.hcl
  bailiff discover vault-a --format json`,
		Args: exactly("TARGET"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(cmd.Context(), a, func(ctx context.Context, c *api.Client) (api.Discovered, error) {
				return c.Discover(ctx, args[0])
			}, func(d api.Discovered) table {
				if d.HCL == "" {
					return table{note: "# everything on " + d.Target + " is declared"}
				}
				var t table
				for line := range strings.Lines(strings.TrimRight(d.HCL, "\n")) {
					t.add(strings.TrimSuffix(line, "\n"))
				}
				return t
			})
		},
	}
	completeFirst(cmd, a.objectNames(object.KindTarget))
	a.formatFlag(cmd)
	return cmd
}
