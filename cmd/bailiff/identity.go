package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/bailiff-secrets/bailiff/api"
	"github.com/bailiff-secrets/bailiff/internal/object"
)

func (a *app) identityCommand() *cobra.Command {
	return group("identity", "Manage identities and their access keys",
		a.identityCreate(), a.objectList(object.KindIdentity, "identities"), a.objectShow(object.KindIdentity),
		a.identityDisable(true), a.identityDisable(false), a.keyCommand())
}

func (a *app) identityCreate() *cobra.Command {
	var in api.IdentityRequest
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Make an identity with its first access key",
		Long:  "Make an identity with its first access key, which is shown this one time.",
		Example: `  bailiff identity create ci --role app --description "build pipelines"
  bailiff identity create ci --role app --metadata team=payments --format json`,
		Args: exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.showKey(cmd.Context(), func(ctx context.Context, c *api.Client) (api.NewKey, error) {
				return c.CreateIdentity(ctx, args[0], in)
			})
		},
	}
	cmd.Flags().StringArrayVar(&in.Roles, "role", nil, "a role to bind it to; may be given more than once")
	cmd.Flags().StringVar(&in.Description, "description", "", "what it is for")
	cmd.Flags().StringToStringVar(&in.Metadata, "metadata", nil, "key=value; may be given more than once")
	complete(cmd, "role", a.objectNames(object.KindRole))
	a.formatFlag(cmd)
	return cmd
}

// showKey makes an access key and prints it, this one time.
func (a *app) showKey(ctx context.Context, create func(context.Context, *api.Client) (api.NewKey, error)) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	key, err := create(ctx, c)
	if err != nil {
		return err
	}
	t := table{note: "The access key is shown only now. As a token, for bailiff and for vault:"}
	t.add("identity", key.Name)
	t.add("access id", key.AccessID)
	t.add("key id", key.KeyID)
	t.add("access key", key.AccessKey)
	if key.ExpiresAt != nil {
		t.add("expires", when(key.ExpiresAt))
	}
	if err := a.print(key, t); err != nil || a.format != "table" {
		return err
	}
	return a.printExports(key)
}

func (a *app) identityDisable(disabled bool) *cobra.Command {
	verb, short := "enable", "Let an identity call again"
	if disabled {
		verb, short = "disable", "Make every access key of an identity useless, at once"
	}
	cmd := &cobra.Command{
		Use:     verb + " NAME",
		Short:   short,
		Example: "  bailiff identity " + verb + " ci",
		Args:    exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.tell(cmd.Context(), verb+"d identity "+args[0], map[string]any{"name": args[0], "disabled": disabled},
				func(ctx context.Context, c *api.Client) error { return c.DisableIdentity(ctx, args[0], disabled) })
		},
	}
	completeFirst(cmd, a.objectNames(object.KindIdentity))
	a.formatFlag(cmd)
	return cmd
}

// tell makes a call that answers nothing, and prints what it did.
func (a *app) tell(ctx context.Context, note string, v map[string]any, call func(context.Context, *api.Client) error) error {
	return ask(ctx, a, func(ctx context.Context, c *api.Client) (map[string]any, error) {
		return v, call(ctx, c)
	}, func(map[string]any) table { return table{note: note} })
}

func (a *app) keyCommand() *cobra.Command {
	return group("key", "Manage the access keys of an identity",
		a.keyList(), a.keyCreate(), a.keyDisable(true), a.keyDisable(false), a.keyDelete())
}

func (a *app) keyList() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list IDENTITY",
		Short: "List the access keys of an identity",
		Args:  exactly("IDENTITY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(cmd.Context(), a, func(ctx context.Context, c *api.Client) ([]api.Key, error) {
				list, err := c.Keys(ctx, args[0])
				if list == nil {
					list = []api.Key{}
				}
				return list, err
			}, keysTable)
		},
	}
	completeFirst(cmd, a.objectNames(object.KindIdentity))
	a.formatFlag(cmd)
	return cmd
}

func keysTable(list []api.Key) table {
	t := table{head: []string{"KEY", "CREATED", "EXPIRES", "STATE", "NOTE"}}
	for _, k := range list {
		state := "enabled"
		if k.Disabled {
			state = "disabled"
		}
		t.add(k.ID, when(&k.CreatedAt), when(k.ExpiresAt), state, k.Note)
	}
	return t
}

func (a *app) keyCreate() *cobra.Command {
	var in api.KeyRequest
	cmd := &cobra.Command{
		Use:     "create IDENTITY",
		Short:   "Make a further access key, shown this one time",
		Example: `  bailiff identity key create ci --note "rotation" --ttl 720h`,
		Args:    exactly("IDENTITY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.showKey(cmd.Context(), func(ctx context.Context, c *api.Client) (api.NewKey, error) {
				return c.CreateKey(ctx, args[0], in)
			})
		},
	}
	cmd.Flags().StringVar(&in.Note, "note", "", "what it is for")
	cmd.Flags().StringVar(&in.TTL, "ttl", "", "how long it works, as 720h; default for ever")
	completeFirst(cmd, a.objectNames(object.KindIdentity))
	a.formatFlag(cmd)
	return cmd
}

func (a *app) keyDisable(disabled bool) *cobra.Command {
	verb, short := "enable", "Let an access key work again"
	if disabled {
		verb, short = "disable", "Make an access key useless, at once"
	}
	cmd := &cobra.Command{
		Use:   verb + " IDENTITY KEY",
		Short: short,
		Args:  exactly("IDENTITY", "KEY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.tell(cmd.Context(), verb+"d key "+args[1], map[string]any{"id": args[1], "disabled": disabled},
				func(ctx context.Context, c *api.Client) error { return c.DisableKey(ctx, args[0], args[1], disabled) })
		},
	}
	completeFirst(cmd, a.objectNames(object.KindIdentity))
	a.formatFlag(cmd)
	return cmd
}

func (a *app) keyDelete() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete IDENTITY KEY",
		Short: "Delete an access key, at once and for good",
		Args:  exactly("IDENTITY", "KEY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.tell(cmd.Context(), fmt.Sprintf("deleted key %s", args[1]), map[string]any{"id": args[1]},
				func(ctx context.Context, c *api.Client) error { return c.DeleteKey(ctx, args[0], args[1]) })
		},
	}
	completeFirst(cmd, a.objectNames(object.KindIdentity))
	a.formatFlag(cmd)
	return cmd
}
