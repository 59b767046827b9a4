package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/bailiff-secrets/bailiff/api"
	"github.com/bailiff-secrets/bailiff/internal/object"
)

// completionTime is how long a shell waits for names from the server.
const completionTime = 2 * time.Second

type completion = func(cmd *cobra.Command, typed string) []string

// complete gives a flag the words that a shell offers for it.
func complete(cmd *cobra.Command, flag string, words completion) {
	err := cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		found := beginningWith(words(cmd, typed), typed)
		if len(found) == 1 && strings.HasSuffix(found[0], "/") { // a folder: what is in it comes next
			return found, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
		}
		return found, cobra.ShellCompDirectiveNoFileComp
	})
	if err != nil {
		panic(err) // the flag isn't there, or has words already: wrong in the program, and seen by its first test
	}
}

// completeFirst gives a command's first argument the words that a shell offers for it.
func completeFirst(cmd *cobra.Command, words completion) {
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return beginningWith(words(cmd, typed), typed), cobra.ShellCompDirectiveNoFileComp
	}
}

func beginningWith(words []string, typed string) []string {
	var out []string
	for _, w := range words {
		if strings.HasPrefix(w, typed) {
			out = append(out, w)
		}
	}
	return out
}

// objectNames offers the names of a kind's objects. Completion is silent: where they can't be had there are none.
func (a *app) objectNames(kind object.Kind) completion {
	return func(cmd *cobra.Command, _ string) []string {
		return fromServer(cmd, a, func(ctx context.Context, c *api.Client) []string {
			list, err := c.Objects(ctx, kind)
			if err != nil {
				return nil
			}
			var names []string
			for _, o := range list {
				names = append(names, o.Name)
			}
			return names
		})
	}
}

// secretIDs offers what lies in the folder that is being typed, on the connector that -n names.
func (a *app) secretIDs(cmd *cobra.Command, typed string) []string {
	name, err := cmd.Flags().GetString("usc-name")
	if err != nil || name == "" {
		return nil
	}
	folder := typed[:strings.LastIndex(typed, "/")+1]
	return fromServer(cmd, a, func(ctx context.Context, c *api.Client) []string {
		list, err := c.ListSecrets(ctx, api.USCList{Name: name, Path: folder, Flat: true})
		if err != nil {
			return nil
		}
		var ids []string
		for _, e := range list.Secrets {
			ids = append(ids, e.SecretID)
		}
		return ids
	})
}

func fromServer(cmd *cobra.Command, a *app, call func(context.Context, *api.Client) []string) []string {
	c, err := a.client()
	if err != nil {
		return nil
	}
	defer c.Close()
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completionTime)
	defer cancel()
	return call(ctx, c)
}
