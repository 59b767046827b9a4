// Command servers makes sure that the real servers which tests need are there: it builds Vault and installs PostgreSQL
// where they are missing.
//
//	servers ensure vault postgres consul-template
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "servers:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, progress io.Writer) error {
	if len(args) < 2 || args[0] != "ensure" {
		return errors.New("usage: servers ensure (vault|postgres|NAME of a module in test/servers)")
	}
	env, err := testenv.New(progress)
	if err != nil {
		return err
	}
	for _, name := range args[1:] {
		var path string
		switch name {
		case "vault":
			path, err = env.VaultBinary(ctx)
		case "postgres":
			path, err = env.PostgresBinDir(ctx)
		default:
			path, err = env.ToolBinary(ctx, name)
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(progress, "%-8s %s\n", name, path)
	}
	return nil
}
