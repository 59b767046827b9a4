package testenv

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// processServers are the servers that the tests of one process share. They end with the process: by [Main], or else by
// their watchdogs.
type processServers struct {
	env      func() (*Env, error)
	vault    func() (*VaultServer, error)
	postgres func() (*PostgresServer, error)

	mu     sync.Mutex
	builds map[string]func() (string, error) // by build tags
}

var shared = newProcessServers()

func newProcessServers() *processServers {
	s := &processServers{builds: map[string]func() (string, error){}}
	s.env = sync.OnceValues(func() (*Env, error) { return New(os.Stderr) })
	s.vault = sync.OnceValues(func() (*VaultServer, error) {
		env, err := s.env()
		if err != nil {
			return nil, err
		}
		return env.StartVault(context.Background(), VaultOptions{})
	})
	s.postgres = sync.OnceValues(func() (*PostgresServer, error) {
		env, err := s.env()
		if err != nil {
			return nil, err
		}
		return env.StartPostgres(context.Background())
	})
	return s
}

// Main runs a package's tests and then ends the servers that they shared. It is for TestMain:
//
//	func TestMain(m *testing.M) { testenv.Main(m) }
//
// A package that has no TestMain leaks nothing either, but its servers end a moment after it.
func Main(m *testing.M) {
	code := m.Run()
	if env, err := shared.env(); err == nil {
		if err := env.Close(); err != nil {
			_, _ = os.Stderr.WriteString("testenv: " + err.Error() + "\n")
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// Shared returns the Env that the tests of this process share.
func Shared(t testing.TB) *Env {
	t.Helper()
	env, err := shared.env()
	if err != nil {
		t.Fatal(err)
	}
	return env
}

// Vault returns the Vault server that the tests of this process share. Tests keep apart by using paths and mounts of
// their own.
func Vault(t testing.TB) *VaultServer {
	t.Helper()
	v, err := shared.vault()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// NewVault returns a Vault server that only this test uses.
func NewVault(t testing.TB) *VaultServer {
	t.Helper()
	v, err := Shared(t).StartVault(t.Context(), VaultOptions{})
	if err != nil {
		t.Fatal(err)
	}
	CloseAfter(t, v.Process)
	return v
}

// Postgres returns the PostgreSQL server that the tests of this process share. Tests keep apart by using databases and
// role names of their own.
func Postgres(t testing.TB) *PostgresServer {
	t.Helper()
	s, err := shared.postgres()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// NewPostgres returns a PostgreSQL server that only this test uses.
func NewPostgres(t testing.TB) *PostgresServer {
	t.Helper()
	s, err := Shared(t).StartPostgres(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// Not CloseAfter: the test may have restarted it.
	t.Cleanup(func() { closeProcess(t, s.Process) })
	return s
}

// CloseAfter ends the process when the test ends, and shows the end of its log if the test failed.
func CloseAfter(t testing.TB, p *Process) {
	t.Helper()
	t.Cleanup(func() { closeProcess(t, p) })
}

func closeProcess(t testing.TB, p *Process) {
	if t.Failed() {
		t.Logf("the last lines of %s:\n%s", p.command.Name, p.LogTail(15))
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

// VaultBinary returns the path of the Vault program.
func VaultBinary(t testing.TB) string {
	t.Helper()
	bin, err := Shared(t).VaultBinary(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// ToolBinary returns the path of the program that the module test/servers/NAME is for.
func ToolBinary(t testing.TB, name string) string {
	t.Helper()
	bin, err := Shared(t).ToolBinary(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// BuildBailiff builds cmd/bailiff with the given build tags, once in a process, and returns the program's path.
func BuildBailiff(t testing.TB, tags ...string) string {
	t.Helper()
	env := Shared(t)
	key := strings.Join(tags, ",")
	shared.mu.Lock()
	build, ok := shared.builds[key]
	if !ok {
		build = sync.OnceValues(func() (string, error) { return env.BailiffBinary(context.Background(), tags...) })
		shared.builds[key] = build
	}
	shared.mu.Unlock()
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// cliTimeout bounds one run of a client program.
const cliTimeout = time.Minute

// VaultCLI runs Vault's own command line in a home directory of the test's own. The variables, such as VAULT_ADDR=… and
// VAULT_TOKEN=…, are all that it gets besides PATH. A non-zero status is a result, not a failure.
func VaultCLI(t testing.TB, env []string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	return RunCLI(t, "", VaultBinary(t), env, args...)
}

// RunCLI runs a client program with the given standard input in a home directory of the test's own, as [VaultCLI] does.
func RunCLI(t testing.TB, stdin, program string, env []string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), cliTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(cleanEnviron(t.TempDir()), env...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("run %s %s: %v, %v", program, strings.Join(args, " "), err, ctx.Err())
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// NewBailiff returns a Bailiff that only this test uses, with its first administrator.
func NewBailiff(t testing.TB, o BailiffOptions) *BailiffServer {
	t.Helper()
	BuildBailiff(t, o.Tags...)
	b, err := Shared(t).StartBailiff(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeProcess(t, b.Process) }) // the process that runs then: the test may have restarted it
	return b
}
