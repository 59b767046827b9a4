package audit_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bailiff-secrets/bailiff/audit"
)

// limitedDir names the variable that makes the test binary a child which runs out of room in the directory it holds.
const limitedDir = "AUDIT_TEST_LIMITED_DIR"

// TestLimitedFile runs out of room for real, in a child whose files may not grow beyond a limit.
func TestLimitedFile(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), limitedDir+"="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("child: %v\n%s", err, out)
	}
	sound(t, dir)
}

// limitedChild is the child; what it returns is its exit code.
func limitedChild(dir string) int {
	signal.Ignore(unix.SIGXFSZ)
	if err := limited(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func limited(dir string) error {
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &was); err != nil {
		return err
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 20_000, Max: was.Max}); err != nil {
		return err
	}
	l, err := audit.Open(audit.Config{Dir: dir, ReserveBytes: -1})
	if err != nil {
		return err
	}
	defer l.Close()
	n := 0
	for err == nil {
		err = l.Append(context.Background(), &audit.Record{Detail: strings.Repeat("x", 1000)})
		n++
	}
	if !errors.Is(err, audit.ErrNoRoom) || n < 10 {
		return fmt.Errorf("append %d: got %w, want ErrNoRoom after some", n, err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &was); err != nil {
		return err
	}
	if err := l.Append(context.Background(), served(n)); err != nil {
		return fmt.Errorf("append once there is room: %w", err)
	}
	if h := l.Head(); h.Seq != uint64(n) {
		return fmt.Errorf("head: got %v, want record %d", h, n)
	}
	return l.Close()
}

// TestFullVolume fills a volume for real, where a volume can be made.
func TestFullVolume(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Logf("no volume can be made here (%v): the limit of TestLimitedFile is what was tested", err)
		return
	}
	defer func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) }()
	ballast := filepath.Join(dir, "ballast")
	put(t, ballast, make([]byte, 128<<10))
	logDir := filepath.Join(dir, "audit")
	fillUp(t, logDir, func() error { return os.Remove(ballast) })
}

// fillUp appends until there is no room, makes room, and appends again.
func fillUp(t testing.TB, dir string, makeRoom func() error) {
	t.Helper()
	l, err := audit.Open(audit.Config{Dir: dir, ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	n := 0
	for ; err == nil; n++ {
		r := served(n)
		r.Detail = strings.Repeat("x", 1000)
		err = l.Append(t.Context(), r)
	}
	n--
	refused(t, err, audit.ErrNoRoom)
	refused(t, l.Append(t.Context(), &audit.Record{Detail: strings.Repeat("x", 1000)}), audit.ErrNoRoom)
	if err := makeRoom(); err != nil {
		t.Fatal(err)
	}
	write(t, l, served(n))
	if got := len(find(t, l, audit.Query{})); n == 0 || got != n+1 {
		t.Errorf("got %d records, want %d", got, n+1)
	}
	closeLog(t, l)
	if r := sound(t, dir); r.Records != uint64(n+1) {
		t.Errorf("verify: got %d records, want %d", r.Records, n+1)
	}
}
