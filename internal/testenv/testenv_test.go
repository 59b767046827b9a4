package testenv_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

// childVariable makes this test binary the parent of servers that gets killed, instead of running its tests.
const childVariable = "BAILIFF_TESTENV_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		if err := child(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	testenv.Main(m)
}

// child starts a server of each kind, says where they are and waits to be killed.
func child() error {
	env, err := testenv.New(os.Stderr)
	if err != nil {
		return err
	}
	v, err := env.StartVault(context.Background(), testenv.VaultOptions{})
	if err != nil {
		return err
	}
	s, err := env.StartPostgres(context.Background())
	if err != nil {
		return err
	}
	fmt.Printf("%d %s\n%d %s\n", v.Pid(), v.Dir(), s.Pid(), s.Dir())
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func TestServersDieWithTheProcessThatStartedThem(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childVariable+"=1")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe() // held open: the child waits for ever
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	type server struct {
		pid int
		dir string
	}
	var servers []server
	for lines := bufio.NewScanner(stdout); len(servers) < 2 && lines.Scan(); {
		var s server
		if _, err := fmt.Sscan(lines.Text(), &s.pid, &s.dir); err != nil {
			t.Fatalf("the child wrote %q: %v", lines.Text(), err)
		}
		if !alive(s.pid) {
			t.Fatalf("server %d is not running, so its death would prove nothing", s.pid)
		}
		servers = append(servers, s)
	}
	if len(servers) != 2 {
		t.Fatalf("the child started %d servers, want 2", len(servers))
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	for _, s := range servers {
		eventually(t, func() error {
			if alive(s.pid) {
				return fmt.Errorf("server %d is still running", s.pid)
			}
			if _, err := os.Stat(s.dir); !os.IsNotExist(err) {
				return fmt.Errorf("its directory %s is still there", s.dir)
			}
			return nil
		})
	}
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

// eventually fails the test if check still returns an error after half a minute.
func eventually(t *testing.T, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal(err)
		}
	}
}

func TestTheVaultCommandLineTalksToTheVaultServer(t *testing.T) {
	v := testenv.Vault(t)
	env := []string{"VAULT_ADDR=" + v.Addr, "VAULT_TOKEN=" + v.RootToken}
	stdout, stderr, code := testenv.VaultCLI(t, env, "kv", "put", "secret/testenv", "a=b")
	if code != 0 {
		t.Fatalf("kv put: status %d\n%s%s", code, stdout, stderr)
	}
	stdout, stderr, code = testenv.VaultCLI(t, env, "kv", "get", "-field=a", "secret/testenv")
	if code != 0 || strings.TrimSpace(stdout) != "b" {
		t.Errorf("kv get: got %q, status %d, want b and 0\n%s", stdout, code, stderr)
	}
	if _, _, code = testenv.VaultCLI(t, env[:1], "kv", "get", "secret/testenv"); code != 2 {
		t.Errorf("kv get without a token: got status %d, want 2", code)
	}
	if testenv.Vault(t) != v {
		t.Error("a second call got another server")
	}
}

func TestNothingIsWrittenToTheHomeDirectory(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	v := testenv.NewVault(t)
	_, stderr, code := testenv.VaultCLI(t, []string{"VAULT_ADDR=" + v.Addr}, "login", v.RootToken)
	if code != 0 {
		t.Fatalf("login: status %d: %s", code, stderr)
	}
	entries, err := os.ReadDir(home)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.Contains(e.Name(), "vault") {
			t.Errorf("found %s in the home directory", e.Name())
		}
	}
}

func TestEachNewVaultIsAnother(t *testing.T) {
	a, b := testenv.NewVault(t), testenv.NewVault(t)
	if a.Addr == b.Addr || a.RootToken == b.RootToken {
		t.Errorf("got %s and %s, want two addresses and two tokens", a.Addr, b.Addr)
	}
	if err := a.Kill(); err != nil {
		t.Fatal(err)
	}
	if code := a.ExitCode(); code != 128+int(syscall.SIGKILL) {
		t.Errorf("exit status: got %d, want %d", code, 128+int(syscall.SIGKILL))
	}
	if resp, err := http.Get(a.Addr + "/v1/sys/health"); err == nil {
		resp.Body.Close()
		t.Error("the killed server answers")
	}
	resp, err := http.Get(b.Addr + "/v1/sys/health")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

func TestPostgresKeepsItsDataOverARestart(t *testing.T) {
	s := testenv.NewPostgres(t)
	sql := func(user, password, statements string) (string, error) {
		return s.SQL(t.Context(), user, password, "postgres", statements)
	}
	if _, err := sql(s.AdminUser, s.AdminPassword, "create role app login password 'pw'; create table t as select 7 as a; grant select on t to app"); err != nil {
		t.Fatal(err)
	}
	if _, err := sql("app", "wrong", "select 1"); err == nil {
		t.Fatal("a wrong password is let in")
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := sql("app", "pw", "select a from t")
	if err != nil || got != "7" {
		t.Errorf("after a restart: got %q, %v, want 7", got, err)
	}
}

func TestAClosedServerLeavesNothingBehind(t *testing.T) {
	t.Setenv("TMPDIR", emptyDirForAnybody(t))
	env, err := testenv.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := env.StartPostgres(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := env.Close(); err != nil {
		t.Fatal(err)
	}
	if alive(s.Pid()) {
		t.Error("the server is still running")
	}
	if _, err := os.Stat(s.Dir()); !os.IsNotExist(err) {
		t.Errorf("its directory: got %v, want none", err)
	}
	if _, err := env.StartPostgres(t.Context()); err == nil {
		t.Error("a closed Env starts servers")
	}
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "bailiff-postgres-*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left in the temporary directory: got %q, %v, want nothing", left, err)
	}
}

// emptyDirForAnybody is a directory that a server may use which runs as somebody else.
func emptyDirForAnybody(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "bailiff-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestAServerThatCannotStartSaysWhatItWrote(t *testing.T) {
	env := testenv.Shared(t)
	dir, err := env.NewDir("broken", nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := env.Start(testenv.Command{Name: "broken", Path: "/bin/sh", Args: []string{"-c", "echo out of luck; exit 3"}, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	testenv.CloseAfter(t, p)
	err = p.WaitReady(t.Context(), func(context.Context) error { return io.EOF })
	if err == nil || !strings.Contains(err.Error(), "status 3") || !strings.Contains(err.Error(), "out of luck") {
		t.Errorf("got %v, want the status and the log", err)
	}
}

func TestAStoppedServerLeavesItsDirectory(t *testing.T) {
	env := testenv.Shared(t)
	dir, err := env.NewDir("stopped", nil)
	if err != nil {
		t.Fatal(err)
	}
	script := "trap 'echo bye; exit 5' TERM; echo hello; while :; do sleep 0.05; done"
	c := testenv.Command{Name: "stopped", Path: "/bin/sh", Args: []string{"-c", script}, Dir: dir}
	for round := range 2 {
		p, err := env.Start(c)
		if err != nil {
			t.Fatal(err)
		}
		err = p.WaitReady(t.Context(), func(context.Context) error {
			if strings.Count(p.Log(), "hello") <= round {
				return io.EOF
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Stop(); err != nil {
			t.Fatal(err)
		}
		if code := p.ExitCode(); code != 5 {
			t.Errorf("exit status: got %d, want 5", code)
		}
	}
	log, err := os.ReadFile(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(log), "hello\nbye\nhello\nbye\n"; got != want {
		t.Errorf("log: got %q, want %q", got, want)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
}
