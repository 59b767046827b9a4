package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/bailiff-secrets/bailiff/api"
	"github.com/bailiff-secrets/bailiff/internal/object"
)

// listedKinds are those that have list and show and nothing else: apply makes them.
var listedKinds = [...]object.Kind{object.KindTarget, object.KindMount, object.KindProducer, object.KindConnector,
	object.KindPolicy, object.KindRole, object.KindNotify}

func (a *app) objectCommand(kind object.Kind) *cobra.Command {
	plural := string(kind) + "s"
	switch kind {
	case object.KindPolicy:
		return group("policy", "Ask about policies, write, test and compare them",
			append([]*cobra.Command{a.objectList(kind, "policies"), a.objectShow(kind)}, a.policyCommands()...)...)
	case object.KindMount:
		return group("mount", "Show mounts", a.mountList(a.objectList(kind, plural)), a.objectShow(kind))
	case object.KindNotify:
		plural = "webhooks"
	}
	return group(string(kind), "Show "+plural, a.objectList(kind, plural), a.objectShow(kind))
}

func (a *app) objectList(kind object.Kind, plural string) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List " + plural,
		Example: "  bailiff " + string(kind) + " list --format yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ask(cmd.Context(), a, func(ctx context.Context, c *api.Client) ([]api.Object, error) {
				list, err := c.Objects(ctx, kind)
				if list == nil {
					list = []api.Object{}
				}
				return list, err
			}, objectsTable)
		},
	}
	a.formatFlag(cmd)
	return cmd
}

func objectsTable(list []api.Object) table {
	t := table{head: []string{"NAME", "VERSION", "UPDATED", "BY", "SOURCE"}}
	for _, o := range list {
		t.add(o.Name, strconv.FormatInt(o.Version, 10), when(&o.UpdatedAt), or(o.UpdatedBy, "-"), or(o.Source, "-"))
	}
	return t
}

func (a *app) objectShow(kind object.Kind) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show NAME",
		Short:   "Show one " + string(kind),
		Example: "  bailiff " + string(kind) + " show " + exampleName(kind),
		Args:    exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(cmd.Context(), a, func(ctx context.Context, c *api.Client) (api.Object, error) {
				return c.Object(ctx, kind, args[0])
			}, objectTable)
		},
	}
	completeFirst(cmd, a.objectNames(kind))
	a.formatFlag(cmd)
	return cmd
}

func exampleName(kind object.Kind) string {
	switch kind {
	case object.KindTarget:
		return "vault-a"
	case object.KindMount:
		return "secret"
	case object.KindProducer:
		return "database/readonly"
	case object.KindConnector:
		return "demo-vault-usc"
	case object.KindIdentity:
		return "ci"
	case object.KindNotify:
		return "ops"
	default:
		return "app"
	}
}

// objectTable shows an object field by field.
func objectTable(o api.Object) table {
	t := table{}
	t.add("kind", string(o.Kind))
	t.add("name", o.Name)
	t.add("version", strconv.FormatInt(o.Version, 10))
	t.add("updated", when(&o.UpdatedAt)+" by "+or(o.UpdatedBy, "-"))
	t.add("source", or(o.Source, "-"))
	var body map[string]json.RawMessage
	if err := json.Unmarshal(o.Body, &body); err != nil {
		t.add("body", string(o.Body))
		return t
	}
	keys := make([]string, 0, len(body))
	for k := range body {
		if k != "name" && k != "kind" {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		for i, line := range lines(text(body[k])) {
			if i > 0 {
				k = ""
			}
			t.add(k, line)
		}
	}
	return t
}

// statusTable shows a flat or nested JSON object as dotted names and values.
func statusTable(raw json.RawMessage) table {
	t := table{}
	flatten(&t, "", raw)
	return t
}

func flatten(t *table, name string, raw json.RawMessage) {
	var object map[string]json.RawMessage
	if json.Unmarshal(raw, &object) != nil || object == nil {
		t.add(name, text(raw))
		return
	}
	keys := make([]string, 0, len(object))
	for k := range object {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		below := k
		if name != "" {
			below = fmt.Sprintf("%s.%s", name, k)
		}
		flatten(t, below, object[k])
	}
}
