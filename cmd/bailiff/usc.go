package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/bailiff-secrets/bailiff/api"
	"github.com/bailiff-secrets/bailiff/internal/object"
)

func (a *app) uscCommand() *cobra.Command {
	return group("usc", "List, read and change secrets that stay where they are",
		a.uscList(), a.uscGet(), a.uscCreate(), a.uscUpdate(), a.uscDelete())
}

// uscFlags gives a command -n and --format.
func (a *app) uscFlags(cmd *cobra.Command, name *string) {
	cmd.Args = cobra.NoArgs
	cmd.Flags().StringVarP(name, "usc-name", "n", "", "name of the connector (required)")
	complete(cmd, "usc-name", a.objectNames(object.KindConnector))
	require(cmd, "usc-name")
	a.formatFlag(cmd)
}

// idFlag gives a command -s/--secret-id.
func (a *app) idFlag(cmd *cobra.Command, id *string) {
	cmd.Flags().StringVarP(id, "secret-id", "s", "", "the secret, as usc list shows it (required)")
	complete(cmd, "secret-id", a.secretIDs)
	require(cmd, "secret-id")
}

func require(cmd *cobra.Command, flag string) {
	if err := cmd.MarkFlagRequired(flag); err != nil {
		panic(err) // there is no such flag: wrong in the program, and seen by its first test
	}
}

const valueHelp = `the value; it may be given more than once:
key=value    one key
key=@file    one key, whose value is what the file holds
@file        a file with a JSON object, or with text that becomes the key "value"
-            the same, from standard input
{…}          a JSON object, or its base64 form`

func (a *app) uscList() *cobra.Command {
	var in api.USCList
	cmd := &cobra.Command{
		Use:   "list -n CONNECTOR",
		Short: "List the secrets of a connector",
		Long: `List the secrets of a connector. Folders that you may not list are left out and counted.
A KV v2 secret whose latest version is deleted is listed as well, as in Vault.`,
		Example: `  bailiff usc list -n demo-vault-usc
  bailiff usc list -n demo-vault-usc --path secret/myapp --flat`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ask(cmd.Context(), a, func(ctx context.Context, c *api.Client) (api.USCListed, error) {
				return c.ListSecrets(ctx, in)
			}, listedTable)
		},
	}
	a.uscFlags(cmd, &in.Name)
	cmd.Flags().StringVar(&in.Path, "path", "", "only this folder and what is below it")
	cmd.Flags().BoolVar(&in.Flat, "flat", false, "do not look into folders")
	complete(cmd, "path", a.secretIDs)
	return cmd
}

func listedTable(l api.USCListed) table {
	t := table{head: []string{"SECRET ID", "TYPE"}}
	for _, e := range l.Secrets {
		t.add(e.SecretID, e.Type)
	}
	if l.Omitted > 0 {
		t.note = fmt.Sprintf("%d left out: you may not list them, or their names can't be asked for", l.Omitted)
	}
	if l.Truncated {
		t.note = "there may be more: a limit was reached; list a folder with --path"
	}
	return t
}

func (a *app) uscGet() *cobra.Command {
	var in api.USCGet
	var field string
	cmd := &cobra.Command{
		Use:   "get -n CONNECTOR -s SECRET",
		Short: "Read a secret",
		Long:  `Read a secret. With --format json or yaml its value is the base64 form of a JSON object, whatever it holds.`,
		Example: `  bailiff usc get -n demo-vault-usc -s secret/myapp/db-password
  bailiff usc get -n demo-vault-usc -s secret/myapp/db-password --version 2 --format json
  bailiff usc get -n demo-vault-usc -s secret/myapp/db-password --field password`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			got, err := c.GetSecret(cmd.Context(), in)
			if err != nil {
				return err
			}
			return a.printSecret(got, field)
		},
	}
	a.uscFlags(cmd, &in.Name)
	a.idFlag(cmd, &in.SecretID)
	cmd.Flags().StringVar(&in.Version, "version", "", "a version of it (KV v2); default the latest")
	cmd.Flags().StringVar(&field, "field", "", "print the value of this key alone, and nothing else")
	cmd.Flags().SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "version-id" {
			name = "version"
		}
		return pflag.NormalizedName(name)
	})
	return cmd
}

func (a *app) printSecret(got api.USCSecret, field string) error {
	raw, err := base64.StdEncoding.DecodeString(got.Value)
	if err != nil {
		return errors.New("the server's answer holds no base64 value")
	}
	var values map[string]json.RawMessage
	if err := json.Unmarshal(raw, &values); err != nil {
		return errors.New("the server's answer holds no keys and values")
	}
	if field != "" {
		v, ok := values[field]
		if !ok {
			return fmt.Errorf("the secret has no key %q", field)
		}
		_, err := fmt.Fprintln(a.stdout, text(v))
		return err
	}
	t := table{head: []string{"KEY", "VALUE"}}
	keys := make([]string, 0, len(values))
	for k := range values {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		t.add(k, text(values[k]))
	}
	if m := got.Metadata; m.Version > 0 {
		t.note = "version " + strconv.FormatInt(m.Version, 10) + ", written " + when(m.Updated)
	}
	return a.print(got, t)
}

// text is a JSON string without its quotes, and any other JSON as it is.
func text(v json.RawMessage) string {
	var s string
	if json.Unmarshal(v, &s) == nil && len(v) > 0 && v[0] == '"' {
		return s
	}
	return string(v)
}

func (a *app) uscCreate() *cobra.Command {
	var in api.USCCreate
	var values []string
	cmd := &cobra.Command{
		Use:   "create -n CONNECTOR -s SECRET -v VALUE",
		Short: "Make a secret that is not there yet",
		Long: `Make a secret that is not there yet. A value on the command line can be seen by other users of the machine and
stays in the shell's history: prefer a file or standard input.`,
		Example: `  pass show app | bailiff usc create -n demo-vault-usc -s secret/myapp/token -v -
  bailiff usc create -n demo-vault-usc -s secret/myapp/tls -v cert=@cert.pem -v key=@key.pem
  bailiff usc create -n demo-vault-usc -s secret/myapp/token -v token=s3cr3t`,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if in.Value, err = readValue(values, a.stdin); err != nil {
				return err
			}
			return ask(cmd.Context(), a, func(ctx context.Context, c *api.Client) (api.USCWritten, error) {
				return c.CreateSecret(ctx, in)
			}, writtenTable)
		},
	}
	a.uscFlags(cmd, &in.Name)
	cmd.Flags().StringVarP(&in.SecretName, "secret-name", "s", "", "the secret to make, in the form in which usc list shows others (required)")
	complete(cmd, "secret-name", a.secretIDs)
	require(cmd, "secret-name")
	cmd.Flags().SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "secret-id" {
			name = "secret-name"
		}
		return pflag.NormalizedName(name)
	})
	valueFlag(cmd, &values)
	return cmd
}

func (a *app) uscUpdate() *cobra.Command {
	var in api.USCUpdate
	var values []string
	cmd := &cobra.Command{
		Use:   "update -n CONNECTOR -s SECRET -v VALUE",
		Short: "Replace the keys and values of a secret",
		Long: `Replace the keys and values of a secret that is there: keys that are not given are gone afterwards.
On KV v2 this makes a new version, and a change by somebody else in between is a conflict.`,
		Example: `  bailiff usc update -n demo-vault-usc -s secret/myapp/token -v token=n3w
  bailiff usc update -n demo-vault-usc -s secret/myapp/token -v @token.json --expect-version 3`,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if in.Value, err = readValue(values, a.stdin); err != nil {
				return err
			}
			return ask(cmd.Context(), a, func(ctx context.Context, c *api.Client) (api.USCWritten, error) {
				return c.UpdateSecret(ctx, in)
			}, writtenTable)
		},
	}
	a.uscFlags(cmd, &in.Name)
	a.idFlag(cmd, &in.SecretID)
	valueFlag(cmd, &values)
	cmd.Flags().Int64Var(&in.Expect, "expect-version", 0, "fail unless this version (KV v2) stands now")
	return cmd
}

func (a *app) uscDelete() *cobra.Command {
	var in api.USCDelete
	cmd := &cobra.Command{
		Use:   "delete -n CONNECTOR -s SECRET",
		Short: "Delete a secret",
		Long: `Delete a secret. On KV v2 the latest version is deleted, which "vault kv undelete" brings back;
with --all-versions everything is gone for good. On KV v1 there is only one version.`,
		Example: `  bailiff usc delete -n demo-vault-usc -s secret/myapp/token`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ask(cmd.Context(), a, func(ctx context.Context, c *api.Client) (api.USCWritten, error) {
				return c.DeleteSecret(ctx, in)
			}, func(w api.USCWritten) table { return table{note: "deleted " + w.Name} })
		},
	}
	a.uscFlags(cmd, &in.Name)
	a.idFlag(cmd, &in.SecretID)
	cmd.Flags().BoolVar(&in.AllVersions, "all-versions", false, "every version and the metadata, for good (KV v2)")
	return cmd
}

func valueFlag(cmd *cobra.Command, values *[]string) {
	cmd.Flags().StringArrayVarP(values, "value", "v", nil, valueHelp)
	require(cmd, "value")
}

func writtenTable(w api.USCWritten) table {
	t := table{note: "written " + w.SecretID}
	if w.Version != "" {
		t.note += ", version " + w.Version
	}
	return t
}

// maxValue is the most that is read of a file or of standard input, in bytes.
const maxValue = 2 << 20

func readAll(r io.Reader, name string) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxValue+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(b) > maxValue {
		return nil, fmt.Errorf("%s holds more than %d bytes", name, maxValue)
	}
	return bytes.TrimPrefix(b, []byte("\xef\xbb\xbf")), nil
}
