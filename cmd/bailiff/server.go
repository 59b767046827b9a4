package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/bailiff-secrets/bailiff/server"
)

func (a *app) serverCommand() *cobra.Command {
	opts := server.Options{Stdout: a.stdout, Stderr: a.stderr, Env: a.env, Version: buildVersion()}
	cmd := &cobra.Command{
		Use:   "server (--config FILE | --dev)",
		Short: "Run a server",
		Long: `Run a server until it is interrupted. SIGHUP makes it read its certificate again.

With --dev everything is kept in a temporary directory that goes with the process; with --vault the mounts of a
Vault that runs already are governed at once. It prints how to use it. Do not use --dev for anything that matters.`,
		Example: `  bailiff server --config /etc/bailiff/bailiff.hcl
  bailiff server --dev --vault http://127.0.0.1:8200 --vault-token-file ./vault-token`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if opts.Dev == (opts.ConfigFile != "") {
				return usage(cmd, "give either --config FILE or --dev")
			}
			if !opts.Dev && (opts.DevVault != "" || opts.DevVaultTokenFile != "" || opts.DevListen != "") {
				return usage(cmd, "--vault, --vault-token-file and --listen go with --dev")
			}
			reload, stop := hangups(cmd.Context())
			defer stop()
			opts.Reload = reload
			return server.Run(cmd.Context(), opts)
		},
	}
	f := cmd.Flags()
	f.StringVar(&opts.ConfigFile, "config", "", "the configuration file")
	f.BoolVar(&opts.Dev, "dev", false, "run for trying out, without a configuration")
	f.StringVar(&opts.DevVault, "vault", "", "with --dev: address of a Vault to govern")
	f.StringVar(&opts.DevVaultTokenFile, "vault-token-file", "", "with --dev: file with a token for that Vault")
	f.StringVar(&opts.DevListen, "listen", "", "with --dev: address to listen on (default 127.0.0.1:8280)")
	return cmd
}

// hangups passes on SIGHUP until ctx ends or stop is called. While one waits to be taken, more of them are one.
func hangups(ctx context.Context) (reload <-chan struct{}, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 1)
	out := make(chan struct{}, 1)
	signal.Notify(signals, syscall.SIGHUP)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case <-signals:
				select {
				case out <- struct{}{}:
				default:
				}
			}
		}
	}()
	return out, func() {
		signal.Stop(signals)
		cancel()
		<-done
	}
}
