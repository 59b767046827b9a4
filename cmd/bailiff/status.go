package main

import (
	"context"
	"encoding/json"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bailiff-secrets/bailiff/api"
)

func (a *app) statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "Show how the server is",
		Example: "  bailiff status --format json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ask(cmd.Context(), a, func(ctx context.Context, c *api.Client) (json.RawMessage, error) {
				return c.Status(ctx)
			}, statusTable)
		},
	}
	a.formatFlag(cmd)
	return cmd
}

// build says what this binary is.
type build struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Go      string `json:"go"`
	OS      string `json:"os"`
}

func (a *app) versionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Show what this binary is",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			b := build{Version: buildVersion(), Commit: commit(), Go: runtime.Version(), OS: runtime.GOOS + "/" + runtime.GOARCH}
			t := table{}
			t.add("bailiff", b.Version)
			t.add("commit", or(b.Commit, "-"))
			t.add("go", b.Go+" "+b.OS)
			return a.print(b, t)
		},
	}
	a.formatFlag(cmd)
	return cmd
}

// buildVersion is what the linker set, else the module's version.
func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "dev"
}

func commit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}

func lines(s string) []string { return strings.Split(strings.TrimRight(s, "\n"), "\n") }
