package main_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	main "github.com/bailiff-secrets/bailiff/cmd/bailiff"
	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"bailiff": func() { os.Exit(main.Main()) }})
}

// TestScripts runs testdata/*.txtar: each is a test and shows how the commands are used. Scripts that say "vault" share one
// real Vault and keep apart by the paths of their secrets.
func TestScripts(t *testing.T) {
	vault := testenv.NewVault(t)
	bin := testenv.VaultBinary(t)
	pg := testenv.NewPostgres(t)
	tools := buildProof(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", env.Getenv("PATH")+string(filepath.ListSeparator)+tools)
			env.Setenv("VAULT_A", vault.Addr)
			env.Setenv("VAULT_A_TOKEN", vault.RootToken)
			env.Setenv("PG_ADDRESS", "postgres://"+pg.Addr+"/postgres?sslmode=disable")
			env.Setenv("PG_USER", pg.AdminUser)
			env.Setenv("PG_PASSWORD", pg.AdminPassword)
			return os.WriteFile(filepath.Join(env.WorkDir, "vault-a.token"), []byte(vault.RootToken+"\n"), 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits,
			"jwt":   jwt,
			"hvp": func(ts *testscript.TestScript, neg bool, args []string) {
				script := []string{"VAULT_ADDR=" + ts.Getenv("BAILIFF_ADDR"), "VAULT_TOKEN=" + ts.Getenv("BAILIFF_TOKEN"), bin}
				if err := ts.Exec("env", append(script, args...)...); (err != nil) != neg {
					ts.Fatalf("vault %s: %v", strings.Join(args, " "), err)
				}
			},
			"serve":  serve,
			"become": become,
			"lend":   lend,
			"freeport": func(ts *testscript.TestScript, _ bool, args []string) {
				port, err := testenv.FreePort(1)
				ts.Check(err)
				ts.Setenv(args[0], strconv.Itoa(port))
			},
			"answers": func(ts *testscript.TestScript, neg bool, args []string) {
				answers(ts, args)
			},
			"vault": func(ts *testscript.TestScript, neg bool, args []string) {
				runVault(ts, neg, bin, args)
			},
		},
	})
}

// buildProof builds the program that checks proofs, and gives its directory.
func buildProof(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", dir, "../bailiff-proof").CombinedOutput()
	if err != nil {
		t.Fatalf("go build bailiff-proof: %v\n%s", err, out)
	}
	return dir
}

// exits runs a command that must end with the given exit status: exits 3 bailiff …
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

// runVault runs the vault command against the Vault itself.
func runVault(ts *testscript.TestScript, neg bool, bin string, args []string) {
	script := []string{"VAULT_ADDR=" + ts.Getenv("VAULT_A"), "VAULT_TOKEN=" + ts.Getenv("VAULT_A_TOKEN"), bin}
	err := ts.Exec("env", append(script, args...)...)
	if (err != nil) != neg {
		ts.Fatalf("vault %s: %v", strings.Join(args, " "), err)
	}
}

var exported = regexp.MustCompile(`BAILIFF_ADDR=(\S+) BAILIFF_TOKEN=(\S+)`)

// serve starts a dev server that governs the Vault, waits for what it says, and lets the script act as its administrator.
// The tokens are in ADMIN and READER.
func serve(ts *testscript.TestScript, _ bool, args []string) {
	out := start(ts, append([]string{"server", "--dev", "--listen", "127.0.0.1:0", "--vault", ts.Getenv("VAULT_A"),
		"--vault-token-file", ts.MkAbs("vault-a.token")}, args...))
	var found [][]string
	for lines := bufio.NewScanner(out); len(found) < 2 && lines.Scan(); {
		if m := exported.FindStringSubmatch(lines.Text()); m != nil {
			found = append(found, m)
		}
	}
	if len(found) < 2 {
		ts.Fatalf("the server ended before it was ready")
	}
	go io.Copy(io.Discard, out)
	ts.Setenv("BAILIFF_ADDR", found[0][1])
	ts.Setenv("BAILIFF_TOKEN", found[0][2])
	ts.Setenv("ADMIN", found[0][2])
	ts.Setenv("READER", found[1][2])
}

// start runs bailiff in the background until the script ends.
func start(ts *testscript.TestScript, args []string) io.Reader {
	cmd := exec.Command("bailiff", args...)
	path, err := lookPath(ts.Getenv("PATH"), "bailiff")
	ts.Check(err)
	cmd.Path, cmd.Err = path, nil
	cmd.Dir = ts.Getenv("WORK")
	cmd.Env = []string{"PATH=" + ts.Getenv("PATH"), "HOME=" + ts.Getenv("WORK"), "TMPDIR=" + ts.Getenv("TMPDIR")}
	stderr, err := os.Create(filepath.Join(ts.Getenv("WORK"), "server.log"))
	ts.Check(err)
	cmd.Stderr = stderr
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	ts.Defer(func() {
		cmd.Process.Signal(os.Interrupt)
		killer := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
		defer killer.Stop()
		if err := cmd.Wait(); err != nil {
			ts.Logf("the server ended with %v", err)
		}
		stderr.Close()
	})
	return out
}

func lookPath(path, name string) (string, error) {
	for _, dir := range filepath.SplitList(path) {
		if file := filepath.Join(dir, name); exists(file) {
			return file, nil
		}
	}
	return "", fmt.Errorf("%s is not in %s", name, path)
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// become makes BAILIFF_TOKEN that of the access key in a file that "identity create --format json" or bootstrap wrote.
func become(ts *testscript.TestScript, _ bool, args []string) {
	text := ts.ReadFile(args[0])
	if m := regexp.MustCompile(`BAILIFF_TOKEN=(\S+)`).FindStringSubmatch(text); m != nil {
		ts.Setenv("BAILIFF_TOKEN", m[1])
		return
	}
	id := regexp.MustCompile(`"access_id": "([^"]+)"`).FindStringSubmatch(text)
	key := regexp.MustCompile(`"access_key": "([^"]+)"`).FindStringSubmatch(text)
	if id == nil || key == nil {
		ts.Fatalf("%s holds no access key", args[0])
	}
	ts.Setenv("BAILIFF_TOKEN", id[1]+".."+key[1])
}

// lend asks for a credential as Vault's clients do, and keeps its lease id in a variable: lend PATH NAME
func lend(ts *testscript.TestScript, _ bool, args []string) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, ts.Getenv("BAILIFF_ADDR")+"/v1/"+args[0], http.NoBody)
	ts.Check(err)
	req.Header.Set("X-Vault-Token", ts.Getenv("BAILIFF_TOKEN"))
	resp, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	var lent struct {
		LeaseID string `json:"lease_id"`
	}
	ts.Check(json.NewDecoder(resp.Body).Decode(&lent))
	if lent.LeaseID == "" {
		ts.Fatalf("no lease: the answer is %s", resp.Status)
	}
	ts.Setenv(args[1], lent.LeaseID)
}

// answers starts a server from a configuration file and waits until it is ready: answers server.hcl ADDR
func answers(ts *testscript.TestScript, args []string) {
	go io.Copy(io.Discard, start(ts, []string{"server", "--config", ts.MkAbs(args[0])}))
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, args[1]+"/readyz", http.NoBody)
		ts.Check(err)
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	ts.Fatalf("the server did not get ready:\n%s", ts.ReadFile("server.log"))
}
