// Command demo shows what Bailiff does, against two real Vault servers and a real PostgreSQL, and checks every step.
//
//	go run ./deploy/demo
//
// With KEEP=1 in the environment everything is left running until Ctrl-C.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, newScreen(os.Stdout, os.Getenv), os.Getenv("KEEP") != "")
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out *screen, keep bool) error {
	env, err := testenv.New(os.Stderr)
	if err != nil {
		return err
	}
	defer env.Close()
	home, err := env.NewDir("demo", nil)
	if err != nil {
		return err
	}
	defer os.RemoveAll(home)
	d := &demo{ctx: ctx, env: env, out: out, home: home}
	if err := d.play(); err != nil {
		return err
	}
	if !keep {
		return nil
	}
	d.explain()
	<-ctx.Done()
	return nil
}
