package e2e_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

// canary is a value that must be found nowhere but where it was put and asked for.
const canary = "canary-8f1d6b0c-must-not-be-found"

func TestASecretIsNowhereButInItsAnswer(t *testing.T) {
	s := &stage{
		t: t, a: testenv.NewVault(t), z: testenv.NewVault(t), pg: testenv.NewPostgres(t),
		b: testenv.NewBailiff(t, testenv.BailiffOptions{Config: "log {\n  level = \"debug\"\n}\n"}),
	}
	s.apply(baseObjects + databaseObjects + producer("login", "1h"))
	token := s.identity("everybody", adminRules)

	s.vault(token, "kv", "put", "secret/canary", "value="+canary)
	if got := s.vault(token, "kv", "get", "secret/canary"); !strings.Contains(got, canary) {
		t.Fatalf("the canary is not even where it was put: %s", got)
	}
	s.vault(token, "kv", "put", "other/canary", "value="+canary)
	s.vault(token, "kv", "patch", "secret/canary", "more="+canary)
	for _, args := range [][]string{
		{"usc", "create", "-n", "usc", "-s", "canary/usc", "-v", "value=" + canary},
		{"usc", "get", "-n", "usc", "-s", "canary/usc"},
		{"usc", "update", "-n", "usc", "-s", "canary/usc", "-v", "value=" + canary + "2"},
		{"usc", "list", "-n", "usc"},
	} {
		if stdout, stderr, code := s.b.CLI(t.Context(), token, nil, args...); code != 0 {
			t.Fatalf("bailiff %s: status %d\n%s%s", args[1], code, stdout, stderr)
		}
	}
	// A body that Vault refuses, and its error, which may repeat it.
	if a, err := s.do(t.Context(), http.MethodPut, "/v1/secret/data/canary", token, `{"data":"`+canary+`"}`); err != nil || a.code != http.StatusBadRequest {
		t.Fatalf("a malformed write: got %d, %v, want 400", a.code, err)
	}
	lent := s.issue(token, "login")
	if err := s.login(lent); err != nil {
		t.Fatal(err)
	}
	s.vault(token, "lease", "revoke", "-sync", lent.lease)

	keyOf := func(token string) string { _, key, _ := strings.Cut(token, ".."); return key }
	for name, text := range map[string]string{
		"the canary": canary, "the lent password": lent.password, "a caller's access key": keyOf(token),
		"the administrator's access key": keyOf(s.b.Token), "the Vault token": s.a.RootToken, "the database's password": s.pg.AdminPassword,
	} {
		for _, found := range grep(t, s.b.Dir(), text) { // store, trail, log and configuration
			t.Errorf("%s stands in %s", name, found)
		}
		if strings.Contains(s.metrics(), text) {
			t.Errorf("%s stands in the metrics", name)
		}
		if strings.Contains(processArguments(t, s.b.Pid()), text) {
			t.Errorf("%s stands in the server's arguments", name)
		}
	}
	if found := grep(t, s.b.AuditDir(), lent.username); len(found) == 0 {
		t.Error("not even the lent user name was found in the trail: the search finds nothing")
	}
}

func (s *stage) metrics() string {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.b.MetricsAddr+"/metrics", http.NoBody)
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := httpClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(b), "bailiff_") {
		s.t.Fatalf("metrics: got %s, %v and\n%.500s", resp.Status, err, b)
	}
	return string(b)
}

func processArguments(t *testing.T, pid int) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestNoRecordNoSecret(t *testing.T) {
	s := newStage(t, testenv.BailiffOptions{})
	token := s.identity("reader", adminRules)
	s.vault(token, "kv", "put", "secret/x", "k="+canary)
	read := func() answer { return s.get(token, "secret/data/x") }
	if a := read(); a.code != http.StatusOK {
		t.Fatalf("before: got %d, want 200", a.code)
	}
	limit := func(bytes uint64) {
		t.Helper()
		lim := &unix.Rlimit{Cur: bytes, Max: unix.RLIM_INFINITY}
		if err := unix.Prlimit(s.b.Pid(), unix.RLIMIT_FSIZE, lim, nil); err != nil {
			t.Fatal(err)
		}
	}
	limit(1) // no file can grow any more, as on a full disk
	a := read()
	if a.code != http.StatusServiceUnavailable || strings.Contains(a.body, canary) {
		t.Errorf("a read that can't be recorded: got %d %s, want 503 and nothing released", a.code, a.body)
	}
	a, err := s.do(t.Context(), http.MethodPut, "/v1/secret/data/x", token, `{"data":{"k":"changed"}}`)
	if err != nil || a.code != http.StatusServiceUnavailable {
		t.Errorf("a write that can't be recorded: got %d %v, want 503", a.code, err)
	}
	direct := mustVault(t, vaultEnv(s.a.Addr, s.a.RootToken), "kv", "get", "-field=k", "secret/x")
	if strings.TrimSpace(direct) != canary {
		t.Errorf("the write that couldn't be recorded reached the target: it is %q there", direct)
	}
	a, err = s.do(t.Context(), http.MethodGet, "/v1/secret/data/x", "p-nobody..nothing", "")
	if err != nil || a.code < 400 {
		t.Errorf("a denial that can't be recorded: got %d, %v, want no success", a.code, err)
	}
	limit(unix.RLIM_INFINITY)
	if err := s.b.Restart(t.Context()); err != nil { // it need not come back by itself, but with a restart
		t.Fatal(err)
	}
	if a := read(); a.code != http.StatusOK || !strings.Contains(a.body, canary) {
		t.Errorf("afterwards: got %d %s, want the secret again", a.code, a.body)
	}
	stdout, stderr, code := s.bailiff(nil, "audit", "verify", "--dir", s.b.AuditDir())
	if code != 0 {
		t.Errorf("audit verify: status %d\n%s%s", code, stdout, stderr)
	}
}

func TestAChangedTrailIsFound(t *testing.T) {
	s := newStage(t, testenv.BailiffOptions{})
	token := s.identity("reader", adminRules)
	for i := range 5 {
		s.get(token, fmt.Sprintf("secret/data/x%d", i))
	}
	if err := s.b.Stop(); err != nil {
		t.Fatal(err)
	}
	verify := func() int {
		_, _, code := s.bailiff(nil, "audit", "verify", "--dir", s.b.AuditDir())
		return code
	}
	if code := verify(); code != 0 {
		t.Fatalf("audit verify of an honest trail: status %d", code)
	}
	changed := false
	for _, file := range grep(t, s.b.AuditDir(), "secret/data/x3") {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(b), "secret/data/x3", "secret/data/y3")), 0o600); err != nil {
			t.Fatal(err)
		}
		changed = true
	}
	if !changed {
		t.Fatalf("no file in %s names the path", filepath.Base(s.b.AuditDir()))
	}
	if code := verify(); code == 0 {
		t.Error("audit verify of a changed trail: status 0")
	}
	if err := os.RemoveAll(s.b.Dir()); err != nil {
		t.Fatal(err)
	}
}

func TestATargetThatIsDownOrSilentHurtsOnlyItself(t *testing.T) {
	s := newStage(t, testenv.BailiffOptions{})
	token := s.identity("reader", adminRules)
	s.vault(token, "kv", "put", "secret/x", "k=v")
	s.vault(token, "kv", "put", "other/x", "k=v")
	const patience = 15 * time.Second // the target's own time-out is 5 s
	try := func(t *testing.T, codes ...int) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		bad, err := s.do(ctx, http.MethodGet, "/v1/other/data/x", token, "")
		if err != nil {
			t.Fatalf("no answer within %s: %v", patience, err)
		}
		ok := false
		for _, c := range codes {
			ok = ok || bad.code == c
		}
		if !ok || !strings.Contains(bad.body, `"errors"`) {
			t.Errorf("its mount: got %d %s, want one of %v with errors", bad.code, bad.body, codes)
		}
		started := time.Now()
		good := s.get(token, "secret/data/x")
		if good.code != http.StatusOK || time.Since(started) > 3*time.Second {
			t.Errorf("another mount: got %d after %s, want 200 at once", good.code, time.Since(started))
		}
	}
	t.Run("silent", func(t *testing.T) {
		if err := s.z.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		try(t, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout)
		if err := s.z.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		eventually(t, patience, func() error {
			if a := s.get(token, "other/data/x"); a.code != http.StatusOK {
				return fmt.Errorf("after it went on: got %d %s, want 200", a.code, a.body)
			}
			return nil
		})
	})
	t.Run("down", func(t *testing.T) {
		if err := s.z.Kill(); err != nil {
			t.Fatal(err)
		}
		try(t, http.StatusBadGateway, http.StatusServiceUnavailable)
	})
}
