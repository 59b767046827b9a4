package audit_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/bailiff-secrets/bailiff/audit"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(limitedDir); dir != "" {
		os.Exit(limitedChild(dir))
	}
	goleak.VerifyTestMain(m)
}

// open opens a log that is closed at the end of the test.
func open(t testing.TB, cfg audit.Config) *audit.Log {
	t.Helper()
	if cfg.ReserveBytes == 0 {
		cfg.ReserveBytes = -1
	}
	l, err := audit.Open(cfg)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func closeLog(t testing.TB, l *audit.Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
}

// served is a short ordinary record that can be told from others by n.
func served(n int) *audit.Record {
	return &audit.Record{Stage: audit.StageResponse, Status: audit.OK, Op: "read", Path: fmt.Sprintf("secret/data/%d", n)}
}

// write appends records one by one.
func write(t testing.TB, l *audit.Log, records ...*audit.Record) {
	t.Helper()
	for _, r := range records {
		if err := l.Append(context.Background(), r); err != nil {
			t.Fatalf("append: %v", err)
		}
	}
}

// writeN appends n records served(0), served(1), … one by one.
func writeN(t testing.TB, l *audit.Log, n int) {
	t.Helper()
	for i := range n {
		write(t, l, served(i))
	}
}

// find returns what a query finds.
func find(t testing.TB, l *audit.Log, q audit.Query) []*audit.Record {
	t.Helper()
	var found []*audit.Record
	if err := l.Query(context.Background(), q, func(r *audit.Record) error {
		found = append(found, r)
		return nil
	}); err != nil {
		t.Fatalf("query %+v: %v", q, err)
	}
	return found
}

// paths returns the paths of what a query finds.
func paths(t testing.TB, l *audit.Log, q audit.Query) []string {
	t.Helper()
	var got []string
	for _, r := range find(t, l, q) {
		got = append(got, r.Path)
	}
	return got
}

// segments lists the files of a log, oldest first.
func segments(t testing.TB, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.audit"))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func put(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// sound fails the test unless the log verifies.
func sound(t testing.TB, dir string) audit.Report {
	t.Helper()
	r, err := audit.Verify(dir)
	if err != nil || !r.OK() {
		t.Fatalf("verify: got problem %q, error %v, want none", r.Problem, err)
	}
	return r
}

// until waits for a condition that another goroutine brings about.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("%s: not after 10 s", what)
		}
	}
}

// refused fails the test unless err is one that Append gives for this reason.
func refused(t testing.TB, err, why error) {
	t.Helper()
	if !errors.Is(err, audit.ErrUnwritable) || !errors.Is(err, why) {
		t.Fatalf("append: got %v, want ErrUnwritable because of %v", err, why)
	}
}
