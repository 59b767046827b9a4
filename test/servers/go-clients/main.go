// Command go-clients does what programs do with the two Go clients of Vault: it logs in with an AppRole and reads, writes,
// unwraps, and keeps a token and a lease alive until they end.
//
//	go-clients api|client-go
//
// VAULT_ADDR says where, ROLE_ID and SECRET_ID who, DATABASE which credentials. Each thing done is a line; the first that goes wrong ends it.
package main

import (
	"context"
	"fmt"
	"os"
	"time"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Second)
	err := run(ctx, os.Args[1:])
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: go-clients api|client-go")
	}
	switch args[0] {
	case "api":
		return official(ctx)
	case "client-go":
		return generated(ctx)
	}
	return fmt.Errorf("no client is called %q", args[0])
}

// want is an error where got is another than it should be.
func want(what string, got, want any) error {
	if fmt.Sprint(got) != fmt.Sprint(want) {
		return fmt.Errorf("%s: got %v, want %v", what, got, want)
	}
	fmt.Println(what)
	return nil
}
