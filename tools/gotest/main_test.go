package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	for _, tc := range []struct {
		name    string
		test    string // the body of a package's only test
		want    string // in the output
		without string // not in the output
		err     string // in the error
	}{
		{name: "a passed test shows one line", test: `t.Log("chatter")`, want: "ok  \tm\t", without: "chatter"},
		{name: "a failed test shows what it said", test: `t.Fatal("out of luck")`, want: "out of luck", without: "=== RUN", err: "exit status 1"},
		{name: "a skipped test fails the run", test: `t.Skip("not today")`, want: "ok  \tm\t", err: "1 skipped: m.TestIt"},
		{name: "a skipped subtest fails the run", test: `t.Run("sub", func(t *testing.T) { t.SkipNow() })`, err: "1 skipped: m.TestIt/sub"},
		{name: "a test that does not compile fails the run", test: `var unused int`, want: "declared and not used", err: "exit status 1"},
		{name: "a test that exits fails the run", test: `panic("gone")`, want: "panic: gone", err: "exit status 1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "go.mod"), "module m\n\ngo 1.26\n")
			write(t, filepath.Join(dir, "m_test.go"), "package m\n\nimport \"testing\"\n\nfunc TestIt(t *testing.T) {\n"+tc.test+"\n}\n")
			t.Chdir(dir)
			t.Setenv("GOFLAGS", "")
			var stdout, stderr strings.Builder
			err := run(t.Context(), []string{"./..."}, &stdout, &stderr)
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("error: got %v, want %q", err, tc.err)
			}
			if !strings.Contains(stdout.String(), tc.want) {
				t.Errorf("output: got\n%swant %q in it", stdout.String(), tc.want)
			}
			if tc.without != "" && strings.Contains(stdout.String(), tc.without) {
				t.Errorf("output: got\n%swant no %q in it", stdout.String(), tc.without)
			}
		})
	}
}

func TestTheLastLineIsGoTests(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "go.mod"), "module m\n\ngo 1.26\n")
	write(t, filepath.Join(dir, "m_test.go"), "package m\n\nimport \"testing\"\n\nfunc TestIt(t *testing.T) {}\n")
	t.Chdir(dir)
	t.Setenv("GOFLAGS", "")
	cmd := exec.Command("go", "test", "./...")
	want, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var got, stderr strings.Builder
	if err := run(t.Context(), []string{"./..."}, &got, &stderr); err != nil {
		t.Fatal(err)
	}
	field := func(s string) string { return strings.Join(strings.Fields(s)[:2], " ") }
	if field(got.String()) != field(string(want)) || strings.Count(got.String(), "\n") != 1 {
		t.Errorf("got %q, want as %q but for the time", got.String(), want)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
