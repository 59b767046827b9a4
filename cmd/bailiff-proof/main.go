// Command bailiff-proof checks that a record is in an audit log, with no more than a proof and the log's public key. It talks to
// nobody.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/bailiff-secrets/bailiff/audit/merkle"
)

const usage = `usage: bailiff-proof -key FILE PROOF

Check that a record is in an audit log. PROOF is what "bailiff audit prove" printed and FILE holds the log's public key,
which "bailiff audit key" prints. The record goes to the standard output as it lies in the log.
Exit status 0: it is there; 1: that is not proved; 2: a mistake in the arguments.
`

var errUsage = errors.New("usage")

func main() {
	err := run(os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, errUsage):
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "bailiff-proof:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("bailiff-proof", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	keyFile := flags.String("key", "", "")
	if err := flags.Parse(args); err != nil || *keyFile == "" || flags.NArg() != 1 {
		return errUsage
	}
	text, err := os.ReadFile(*keyFile)
	if err != nil {
		return err
	}
	key, err := merkle.Key(string(text))
	if err != nil {
		return err
	}
	if text, err = os.ReadFile(flags.Arg(0)); err != nil {
		return err
	}
	proof, err := merkle.ParseProof(text)
	if err != nil {
		return err
	}
	c, err := proof.Check(key)
	if err != nil {
		return err
	}
	fmt.Fprintf(stderr, "record %d of %d is in the log %s\n", proof.Index+1, c.Size, c.Origin)
	_, err = fmt.Fprintf(stdout, "%s\n", proof.Record)
	return err
}
