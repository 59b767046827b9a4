package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bailiff-secrets/bailiff/api"
)

// The exit statuses.
const (
	exitOK     = 0
	exitLocal  = 1 // wrong usage, or something on this side
	exitServer = 2 // the server refused or failed, or could not be reached
	exitDenied = 3 // the caller is not known, or may not
)

const about = `Bailiff governs secrets where they already live and lends short-lived ones where they don't.

Client commands read from the environment:
  BAILIFF_ADDR         the server's address (default http://127.0.0.1:8280)
  BAILIFF_TOKEN        the credential: <access id>..<access key>
  BAILIFF_TOKEN_FILE   a file that holds it, which others must not be able to read
  BAILIFF_CACERT       a file with the CA certificate of the server, in PEM form
  VAULT_TOKEN          the credential where neither of the above is set
  BAILIFF_CLIENT_CERT  a file with a certificate of your own, in PEM form; BAILIFF_CLIENT_KEY has its key
Without any of these credentials the token counts that bailiff login has kept in ~/.bailiff-token.

Exit status: 0 done, 1 wrong usage or a local failure, 2 the server refused, failed or could not be reached, 3 denied.`

// run runs one command and returns its exit status. It is the only place that prints errors.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, env func(string) (string, bool)) int {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr, env: env}
	root := a.root()
	root.SetArgs(dashes(args))
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	var child *childError
	if errors.As(err, &child) {
		return child.code()
	}
	for _, line := range lines(err.Error()) {
		fmt.Fprintf(stderr, "bailiff: %s\n", plain(line))
	}
	if hint := hintOf(err, a.addr()); hint != "" {
		fmt.Fprintf(stderr, "hint: %s\n", plain(hint))
	}
	var said *api.Error
	if errors.As(err, &said) && said.RequestID != "" {
		fmt.Fprintf(stderr, "request: %s\n", plain(said.RequestID))
	}
	return statusOf(err)
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "bailiff",
		Short:         "A dynamic secrets broker and governance layer over Vault",
		Long:          about,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage(cmd, err.Error())
	})
	root.AddCommand(a.loginCommand(), a.logoutCommand(), a.authCommand(), a.serverCommand(), a.bootstrapCommand(), a.applyCommand(), a.uscCommand(), a.auditCommand(),
		a.leaseCommand(), a.revokeCommand(), a.revocationCommand(), a.reconcileCommand(), a.discoverCommand(), a.recoverCommand(), a.identityCommand(), a.ciCommand(), a.statusCommand(), a.versionCommand(), a.importCommand())
	for _, k := range listedKinds {
		root.AddCommand(a.objectCommand(k))
	}
	return root
}

// group makes a command that has only subcommands.
func group(use, short string, sub ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, RunE: func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usage(cmd, fmt.Sprintf("unknown command %q", args[0]))
		}
		return cmd.Help()
	}}
	cmd.AddCommand(sub...)
	return cmd
}

// hintError is an error with advice.
type hintError struct {
	msg, hint string
	err       error
}

func (e *hintError) Error() string { return e.msg }

func (e *hintError) Unwrap() error { return e.err }

func hinted(hint, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &hintError{msg: err.Error(), hint: hint, err: errors.Unwrap(err)}
}

// usage says what is wrong with a command line and where its help is.
func usage(cmd *cobra.Command, msg string) error {
	return hinted(cmd.CommandPath()+" --help shows how it is used", "%s", msg)
}

// exactly wants one argument a name.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return usage(cmd, "missing argument: "+names[len(args)])
		case len(args) > len(names):
			return usage(cmd, fmt.Sprintf("unexpected argument %q", args[len(names)]))
		}
		return nil
	}
}

func hintOf(err error, addr string) string {
	var local *hintError
	var said *api.Error
	var net *url.Error
	switch {
	case errors.As(err, &local):
		return local.hint
	case errors.As(err, &said):
		return said.Hint
	case errors.As(err, &net):
		return "is a server running at " + addr + "? BAILIFF_ADDR says where to find it"
	case strings.HasPrefix(err.Error(), "unknown command"):
		return "bailiff help lists the commands"
	case strings.HasPrefix(err.Error(), "required flag"):
		return "--help shows how it is used"
	}
	return ""
}

func statusOf(err error) int {
	var said *api.Error
	var net *url.Error
	switch {
	case errors.As(err, &said):
		switch said.Kind {
		case api.Denied, api.Unauthenticated, api.Forbidden:
			return exitDenied
		}
		return exitServer
	case errors.As(err, &net):
		return exitServer
	}
	return exitLocal
}
