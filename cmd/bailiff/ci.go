package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/bailiff-secrets/bailiff/internal/secret"
)

// job is what "ci run" does: log in, fetch, run, and end what was lent.
type job struct {
	app   *app
	login login
	env   []string // NAME=PATH#FIELD
	files []string // NAME=PATH#FIELD
	alive time.Duration
}

func (a *app) ciCommand() *cobra.Command {
	return group("ci", "Give a job of a CI system short-lived credentials", a.ciRun())
}

func (a *app) ciRun() *cobra.Command {
	j := &job{app: a}
	cmd := &cobra.Command{
		Use:   "run [flags] -- COMMAND [ARG…]",
		Short: "Run a command with credentials that end with it",
		Long: `Run a command with credentials that end with it. Bailiff logs in with the job's own token, puts what is asked for into the
command's environment or into files, renews it while the command runs, and ends every lease and the login when the command
ends, however it ends. When bailiff itself is killed, all of it ends within --alive.

The job's token comes from GitHub Actions (where the job has "permissions: id-token: write"), from the variable that --jwt-env
names (GitLab: id_tokens), or from a file. Without --auth the credential in BAILIFF_TOKEN is used, for a token of the job's own.
What was used to log in is taken out of the command's environment. The exit status is the command's.`,
		Example: `  bailiff ci run --auth jwt --role deploy --env DB_USER=database/creds/app#username --env DB_PASSWORD=database/creds/app#password -- make test
  bailiff ci run --auth gitlab --role deploy --jwt-env VAULT_ID_TOKEN --file KUBECONFIG=secret/ci/kube#config -- ./deploy.sh`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return j.run(cmd.Context(), args) },
	}
	f := cmd.Flags()
	f.StringVar(&j.login.mount, "auth", "", "path of the auth method to log in at (\"jwt\", \"gitlab\"); empty: BAILIFF_TOKEN is used")
	f.StringVar(&j.login.role, "role", "", "role of the auth method")
	f.StringVar(&j.login.jwtEnv, "jwt-env", "", "variable that holds the job's token")
	f.StringVar(&j.login.jwtFile, "jwt-file", "", "file that holds the job's token")
	f.StringVar(&j.login.audience, "audience", "", "audience to ask GitHub Actions for; default: the server's address")
	f.StringArrayVar(&j.env, "env", nil, "NAME=PATH#FIELD: a variable of the command; may be given several times")
	f.StringArrayVar(&j.files, "file", nil, "NAME=PATH#FIELD: a file with the value, and a variable with the file's name; may be given several times")
	f.DurationVar(&j.alive, "alive", 2*time.Minute, "how long the login lives on when bailiff is killed; it is renewed while the command runs")
	return cmd
}

func (j *job) run(ctx context.Context, args []string) error {
	wants, err := parseWants(j.env, j.files)
	if err != nil {
		return err
	}
	if j.alive < 2*time.Second {
		return errors.New("--alive must be at least 2s")
	}
	program, err := exec.LookPath(args[0])
	if err != nil {
		return err
	}
	s, err := j.login.begin(ctx, j.app, j.alive)
	if err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	defer s.end()
	dir, err := os.MkdirTemp("", "bailiff-ci-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	given, err := s.fetch(ctx, wants, dir)
	if err != nil {
		return err
	}
	renewing, stop := context.WithCancel(context.WithoutCancel(ctx)) // a signal is the command's to obey
	done := make(chan struct{})
	go func() { defer close(done); s.keep(renewing) }()
	err = runChild(j.app, program, args, append(j.login.clean(os.Environ()), given...))
	stop()
	<-done
	return err
}

// want is one value that the command is to have.
type want struct {
	name, path, field string
	file              bool
}

func parseWants(env, files []string) ([]want, error) {
	var out []want
	for i, list := range [][]string{env, files} {
		flag := [...]string{"--env", "--file"}[i]
		for _, text := range list {
			name, rest, ok := strings.Cut(text, "=")
			path, field, ok2 := strings.Cut(rest, "#")
			if !ok || !ok2 || name == "" || path == "" || field == "" || strings.ContainsAny(name, "\x00=") {
				return nil, hinted(flag+" DB_PASSWORD=database/creds/app#password", "%s %q: want NAME=PATH#FIELD", flag, text)
			}
			out = append(out, want{name: name, path: strings.Trim(path, "/"), field: field, file: flag == "--file"})
		}
	}
	return out, nil
}

// runChild runs the command and passes signals on to it. An exit status of the command is this program's.
func runChild(a *app, program string, args, env []string) error {
	cmd := &exec.Cmd{Path: program, Args: args, Env: env, Stdin: a.stdin, Stdout: a.stdout, Stderr: a.stderr, SysProcAttr: dieWithParent()}
	// A command dies with the thread that started it: this one stays until the command has ended.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			_ = cmd.Process.Signal(s) // it may have ended meanwhile
		case err := <-ended:
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				return &childError{exit}
			}
			return err
		}
	}
}

// childError is the end of a command that did not end well: it has said why itself.
type childError struct{ exit *exec.ExitError }

func (e *childError) Error() string { return "the command ended with " + e.exit.Error() }

// code is the exit status by which a shell would tell it.
func (e *childError) code() int {
	if ws, ok := e.exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return e.exit.ExitCode()
}

// writeFile keeps a value for the command alone, and gives the file's name.
func writeFile(dir, name string, value secret.Value) (string, error) {
	path := filepath.Join(dir, filepath.Base(name))
	return path, os.WriteFile(path, []byte(value.Reveal()), 0o600)
}
