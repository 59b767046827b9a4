package audit_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bailiff-secrets/bailiff/audit"
)

// limitedDir names the variable that makes the test binary a child which runs out of room in the directory it holds.
const limitedDir = "AUDIT_TEST_LIMITED_DIR"

// TestLimitedFile runs out of room for real, in a child whose files may not grow beyond a limit.
func TestLimitedFile(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0])
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
