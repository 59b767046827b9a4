package main

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bailiff-secrets/bailiff/api"
)

func (a *app) authCommand() *cobra.Command {
	return group("auth", "Manage auth methods", a.authList(), a.authEnable(), a.authTune(), a.authDisable())
}

// methodTypes are the types of auth methods that a server can mount.
func methodTypes() []string {
	return []string{"approle", "aws", "cert", "jwt", "kubernetes", "ldap", "oidc", "userpass"}
}

// mountedMethod is an auth method as the server shows it.
type mountedMethod struct {
	Path        string `json:"path"`
	Type        string `json:"type"`
	Accessor    string `json:"accessor"`
	Description string `json:"description"`
	Config      struct {
		DefaultTTL int64  `json:"default_lease_ttl"` // seconds; 0: the system's
		MaxTTL     int64  `json:"max_lease_ttl"`
		TokenType  string `json:"token_type"`
	} `json:"config"`
}

func authMethods(ctx context.Context, c *api.Client) ([]mountedMethod, error) {
	got, err := c.Vault(ctx, http.MethodGet, "sys/auth", nil)
	if err != nil {
		return nil, err
	}
	var all map[string]mountedMethod
	if err := json.Unmarshal(got.Data, &all); err != nil {
		return nil, err
	}
	out := []mountedMethod{}
	for _, path := range slices.Sorted(maps.Keys(all)) {
		m := all[path]
		m.Path = path
		out = append(out, m)
	}
	return out, nil
}

func (a *app) authList() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the auth methods that are enabled",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ask(cmd.Context(), a, authMethods, func(list []mountedMethod) table {
				t := table{head: []string{"PATH", "TYPE", "ACCESSOR", "DESCRIPTION"}}
				for i := range list {
					t.add(list[i].Path, list[i].Type, list[i].Accessor, list[i].Description)
				}
				return t
			})
		},
	}
	a.formatFlag(cmd)
	return cmd
}

// mounting is what enable and tune say of a method.
type mounting struct {
	path, description, defaultTTL, maxTTL, tokenType, visibility string
}

func (m *mounting) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&m.description, "description", "", "what it is for")
	f.StringVar(&m.defaultTTL, "default-ttl", "", "how long its tokens live where a role says nothing, as 1h")
	f.StringVar(&m.maxTTL, "max-ttl", "", "how long they can live at most, as 24h")
	f.StringVar(&m.tokenType, "token-type", "", "service, batch, default-service or default-batch")
	f.StringVar(&m.visibility, "listing-visibility", "", "unauth or hidden")
	complete(cmd, "token-type", func(*cobra.Command, string) []string {
		return []string{"service", "batch", "default-service", "default-batch"}
	})
}

// fields are those that were given.
func (m *mounting) fields() map[string]any {
	out := map[string]any{}
	for name, v := range map[string]string{
		"default_lease_ttl": m.defaultTTL, "max_lease_ttl": m.maxTTL, "token_type": m.tokenType, "listing_visibility": m.visibility,
	} {
		if v != "" {
			out[name] = v
		}
	}
	return out
}

func (a *app) authEnable() *cobra.Command {
	var m mounting
	cmd := &cobra.Command{
		Use:   "enable TYPE",
		Short: "Enable an auth method: " + strings.Join(methodTypes(), ", "),
		Example: `  bailiff auth enable approle
  bailiff auth enable jwt --path github --description "GitHub Actions" --max-ttl 1h`,
		Args: exactly("TYPE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := strings.Trim(m.path, "/")
			if path == "" {
				path = args[0]
			}
			body := map[string]any{"type": args[0], "description": m.description, "config": m.fields()}
			return a.vaultDone(cmd.Context(), http.MethodPost, "sys/auth/"+path, body, "enabled "+args[0]+" at auth/"+path+"/", map[string]any{"path": path + "/", "type": args[0]})
		},
	}
	cmd.Flags().StringVar(&m.path, "path", "", "where to mount it; default its type")
	m.flags(cmd)
	completeFirst(cmd, func(*cobra.Command, string) []string { return methodTypes() })
	a.formatFlag(cmd)
	return cmd
}

func (a *app) authTune() *cobra.Command {
	var m mounting
	cmd := &cobra.Command{
		Use:     "tune PATH",
		Short:   "Change how an auth method is mounted",
		Example: "  bailiff auth tune github --max-ttl 30m",
		Args:    exactly("PATH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := strings.Trim(args[0], "/")
			body := m.fields()
			if cmd.Flags().Changed("description") {
				body["description"] = m.description
			}
			if len(body) == 0 {
				return usage(cmd, "there is nothing to change")
			}
			return a.vaultDone(cmd.Context(), http.MethodPost, "sys/auth/"+path+"/tune", body, "tuned auth/"+path+"/", map[string]any{"path": path + "/"})
		},
	}
	m.flags(cmd)
	completeFirst(cmd, a.methodPaths)
	a.formatFlag(cmd)
	return cmd
}

func (a *app) authDisable() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "disable PATH",
		Short: "Disable an auth method and end every token that it gave",
		Long:  "Disable an auth method. Every token that it gave ends at once, and with it what was issued to it; its roles and users are forgotten.",
		Args:  exactly("PATH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := strings.Trim(args[0], "/")
			return a.vaultDone(cmd.Context(), http.MethodDelete, "sys/auth/"+path, nil, "disabled auth/"+path+"/", map[string]any{"path": path + "/"})
		},
	}
	completeFirst(cmd, a.methodPaths)
	a.formatFlag(cmd)
	return cmd
}

// vaultDone sends what answers nothing, and prints what it did.
func (a *app) vaultDone(ctx context.Context, method, path string, body any, note string, v map[string]any) error {
	return a.tell(ctx, note, v, func(ctx context.Context, c *api.Client) error {
		_, err := c.Vault(ctx, method, path, body)
		return err
	})
}

// methodPaths offers the paths of auth methods.
func (a *app) methodPaths(cmd *cobra.Command, _ string) []string {
	return fromServer(cmd, a, func(ctx context.Context, c *api.Client) []string {
		list, err := authMethods(ctx, c)
		if err != nil {
			return nil
		}
		var out []string
		for i := range list {
			if list[i].Type != "token" {
				out = append(out, list[i].Path)
			}
		}
		return out
	})
}
