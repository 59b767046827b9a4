package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/policy"
)

func (a *app) importCommand() *cobra.Command {
	return group("import", "Take over what another system has", a.importVault())
}

// imported is a set of policies that was compared: one by itself, or those of an entity.
type imported struct {
	Kind     string           `json:"kind"` // policy, entity
	Name     string           `json:"name"`
	Policies []string         `json:"policies"`
	Asked    int              `json:"asked"`
	Same     int              `json:"same"`
	Later    int              `json:"later"`             // the same as in later versions of Vault: lists that match without their slash
	Differ   []importedAnswer `json:"differ,omitempty"`  // of Same and Later the rest
	Problem  string           `json:"problem,omitempty"` // why it can't be taken over as it is
}

// importedAnswer is one path about which the two disagree.
type importedAnswer struct {
	Path    string   `json:"path"`
	Vault   []string `json:"vault"`
	Bailiff []string `json:"bailiff"`
}

func (a *app) importVault() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "vault --out DIR",
		Short: "Take over the policies and entities of a Vault, and show that they decide the same",
		Long: `Take over the policies, entities and groups of a Vault, as files for bailiff apply, and show case by case that what they
decide is the same: for each policy, and for all that an entity has together, paths are made of its patterns, and both the
Vault (by sys/capabilities, with a token made for it that ends at once) and Bailiff are asked. Nothing is left on the Vault.

VAULT_ADDR, VAULT_TOKEN and VAULT_CACERT name the Vault. An entity becomes an identity, and a role of the same name binds it
to its policies and those of its groups. What a rule asks of parameters is taken over, and can't be compared in this way.
Exit status 1 where something could not be taken over, or is decided otherwise.`,
		Example: "  VAULT_ADDR=https://vault.example:8200 VAULT_TOKEN=… bailiff import vault --out ./estate",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, err := a.vaultClient()
			if err != nil {
				return err
			}
			m := &importer{vault: v, policies: map[string]*policy.Policy{}, dir: dir}
			if err := m.run(cmd.Context()); err != nil {
				return err
			}
			if err := a.print(m.results, importTable(m.results)); err != nil {
				return err
			}
			return m.verdict()
		},
	}
	cmd.Flags().StringVar(&dir, "out", "", "the directory that the files are written to, which must not be there yet (required)")
	require(cmd, "out")
	a.formatFlag(cmd)
	return cmd
}

func importTable(list []imported) table {
	t := table{head: []string{"KIND", "NAME", "ASKED", "SAME", "LATER", "DIFFER", "PROBLEM"}}
	for _, r := range list {
		t.add(r.Kind, r.Name, strconv.Itoa(r.Asked), strconv.Itoa(r.Same), strconv.Itoa(r.Later), strconv.Itoa(len(r.Differ)), or(r.Problem, "-"))
	}
	return t
}

// importer reads a Vault.
type importer struct {
	vault    *vaultClient
	dir      string
	policies map[string]*policy.Policy
	estate   strings.Builder // the objects
	results  []imported
}

func (m *importer) run(ctx context.Context) error {
	if err := os.Mkdir(m.dir, 0o750); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(m.dir, "policies"), 0o750); err != nil {
		return err
	}
	if err := m.readPolicies(ctx); err != nil {
		return err
	}
	if err := m.readEntities(ctx); err != nil {
		return err
	}
	for i := range m.results {
		if err := m.compare(ctx, &m.results[i]); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(m.dir, "imported.hcl"), []byte(m.estate.String()), 0o600)
}

func (m *importer) verdict() error {
	problems, differ := 0, 0
	for _, r := range m.results {
		differ += len(r.Differ)
		if r.Problem != "" {
			problems++
		}
	}
	if problems+differ > 0 {
		return fmt.Errorf("%d could not be taken over, %d paths are decided otherwise", problems, differ)
	}
	return nil
}

func (m *importer) readPolicies(ctx context.Context) error {
	names, err := m.vault.list(ctx, "sys/policies/acl")
	if err != nil {
		return err
	}
	for _, name := range names {
		if name == policy.Root {
			continue
		}
		var out struct{ Data struct{ Policy string } }
		if err := m.vault.call(ctx, "GET", "sys/policies/acl/"+url.PathEscape(name), nil, &out); err != nil {
			return err
		}
		r := imported{Kind: "policy", Name: name, Policies: []string{name}}
		p, err := policy.Parse(name, 1, out.Data.Policy)
		var at *policy.ParseError
		switch {
		case errors.As(err, &at):
			r.Problem = fmt.Sprintf("line %d: %s", at.Line, at.Msg)
		case err != nil:
			return err
		case name == object.PolicyDefault && builtIn(p): // it is here already
			m.policies[name] = p
		default:
			m.policies[name] = p
			file := filepath.Join("policies", strings.ReplaceAll(name, "/", "-")+".hcl")
			if err := os.WriteFile(filepath.Join(m.dir, file), []byte(out.Data.Policy), 0o600); err != nil {
				return err
			}
			fmt.Fprintf(&m.estate, "policy %q {\n  rules = file(%q)\n}\n\n", name, filepath.ToSlash(file))
		}
		m.results = append(m.results, r)
	}
	return nil
}

// builtIn says that a policy says what the built-in one does.
func builtIn(p *policy.Policy) bool {
	ours, err := policy.Parse(object.PolicyDefault, 0, policy.Default)
	return err == nil && len(policy.Diff(ours, p)) == 0
}

// vaultEntity is what is read of an entity.
type vaultEntity struct {
	Name     string            `json:"name"`
	Policies []string          `json:"policies"`
	Metadata map[string]string `json:"metadata"`
	Groups   []string          `json:"group_ids"`
	Disabled bool              `json:"disabled"`
}

func (m *importer) readEntities(ctx context.Context) error {
	names, err := m.vault.list(ctx, "identity/entity/name")
	if err != nil {
		return err
	}
	groups := map[string][]string{}
	for _, name := range names {
		var out struct{ Data vaultEntity }
		if err := m.vault.call(ctx, "GET", "identity/entity/name/"+url.PathEscape(name), nil, &out); err != nil {
			return err
		}
		e := out.Data
		for _, id := range e.Groups {
			if _, known := groups[id]; !known {
				var g struct{ Data struct{ Policies []string } }
				if err := m.vault.call(ctx, "GET", "identity/group/id/"+url.PathEscape(id), nil, &g); err != nil {
					return err
				}
				groups[id] = g.Data.Policies
			}
			e.Policies = append(e.Policies, groups[id]...)
		}
		slices.Sort(e.Policies)
		e.Policies = slices.Compact(e.Policies)
		r := imported{Kind: "entity", Name: name, Policies: e.Policies}
		for _, p := range e.Policies {
			if m.policies[p] == nil && p != policy.Root {
				r.Problem = fmt.Sprintf("its policy %q is not taken over, or does not exist", p)
			}
		}
		if r.Problem == "" {
			if err := m.writeEntity(&e); err != nil {
				return err
			}
		}
		m.results = append(m.results, r)
	}
	return nil
}

func (m *importer) writeEntity(e *vaultEntity) error {
	list := func(v any) (string, error) { b, err := json.Marshal(v); return string(b), err }
	policies, err := list(e.Policies)
	if err != nil {
		return err
	}
	fmt.Fprintf(&m.estate, "identity %q {\n", e.Name)
	if len(e.Metadata) > 0 {
		m.estate.WriteString("  metadata = {\n")
		for _, k := range slices.Sorted(maps.Keys(e.Metadata)) {
			fmt.Fprintf(&m.estate, "    %q = %q\n", k, strings.ReplaceAll(e.Metadata[k], "${", "$${"))
		}
		m.estate.WriteString("  }\n")
	}
	if e.Disabled {
		m.estate.WriteString("  disabled = true\n")
	}
	m.estate.WriteString("}\n\n")
	if len(e.Policies) > 0 {
		fmt.Fprintf(&m.estate, "role %q {\n  policies   = %s\n  identities = [%q]\n}\n\n", e.Name, policies, e.Name)
	}
	return nil
}

// compare asks both sides what a set of policies grants.
func (m *importer) compare(ctx context.Context, r *imported) error {
	var list []*policy.Policy
	for _, name := range r.Policies {
		if p := m.policies[name]; p != nil {
			list = append(list, p)
		}
	}
	if r.Problem != "" || len(list) != len(r.Policies) || len(list) == 0 {
		return nil
	}
	var made struct {
		Auth struct {
			ClientToken string `json:"client_token"`
			Accessor    string `json:"accessor"`
		}
	}
	in := map[string]any{"policies": r.Policies, "no_default_policy": !slices.Contains(r.Policies, object.PolicyDefault), "no_parent": false, "ttl": "10m", "display_name": "bailiff-import"}
	if err := m.vault.call(ctx, "POST", "auth/token/create", in, &made); err != nil {
		return err
	}
	defer m.vault.call(context.WithoutCancel(ctx), "POST", "auth/token/revoke-accessor", map[string]string{"accessor": made.Auth.Accessor}, nil) //nolint:errcheck // it ends by itself soon
	ask := func(paths []string) (map[string]json.RawMessage, error) {
		var out struct{ Data map[string]json.RawMessage }
		err := m.vault.call(ctx, "POST", "sys/capabilities", map[string]any{"token": made.Auth.ClientToken, "paths": paths}, &out)
		return out.Data, err
	}
	acl := policy.Compile(list...)
	for paths := range slices.Chunk(policy.Samples(list...), 100) {
		answers, err := ask(paths)
		if err != nil {
			return err
		}
		for _, path := range paths {
			var vaults []string
			if err := json.Unmarshal(answers[path], &vaults); err != nil {
				return fmt.Errorf("what Vault says of %q: %w", path, err)
			}
			slices.Sort(vaults)
			ours := acl.Capabilities(path)
			r.Asked++
			switch {
			case slices.Equal(ours, vaults):
				r.Same++
			case strings.HasSuffix(path, "/") && slices.Equal(vaults, []string{"deny"}) && slices.Equal(ours, acl.Capabilities(strings.TrimSuffix(path, "/"))):
				r.Later++
			default:
				r.Differ = append(r.Differ, importedAnswer{path, vaults, ours})
			}
		}
	}
	return nil
}
