package testenv

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/lockedfile"
)

// progressEvery is how often a slow step says that it is still at work.
const progressEvery = 10 * time.Second

// lock makes dir and takes its lock, for which it waits. Other processes that want the same thing built wait meanwhile.
func (e *Env) lock(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the cache: %w", err)
	}
	unlock, err = lockedfile.MutexAt(filepath.Join(dir, ".lock")).Lock()
	if err != nil {
		return nil, fmt.Errorf("lock the cache: %w", err)
	}
	return unlock, nil
}

// run runs a slow command to its end and tells the progress writer every few seconds that it is still running.
func (e *Env) run(cmd *exec.Cmd, what string) error {
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	started := time.Now()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	e.tell("%s", what)
	for {
		select {
		case <-tick.C:
			e.tell("%s ... %.0f s", what, time.Since(started).Seconds())
		case err := <-done:
			if err != nil {
				return fmt.Errorf("%s: %w\n%s", what, err, tail(out.String(), 40))
			}
			e.tell("%s: done in %.0f s", what, time.Since(started).Seconds())
			return nil
		}
	}
}

func (e *Env) tell(format string, args ...any) {
	fmt.Fprintf(e.progress, "testenv: "+format+"\n", args...)
}

// BailiffBinary builds cmd/bailiff from the tree as it is, with the given build tags, and returns the program's path.
func (e *Env) BailiffBinary(ctx context.Context, tags ...string) (string, error) {
	// Two checkouts share the cache but not the program.
	sum := sha256.Sum256([]byte(e.root + "\x00" + strings.Join(tags, ",")))
	dir := filepath.Join(e.cache, "builds", hex.EncodeToString(sum[:8]))
	unlock, err := e.lock(dir)
	if err != nil {
		return "", err
	}
	defer unlock()
	bin := filepath.Join(dir, "bailiff")
	build := exec.CommandContext(ctx, "go", "build", "-tags", strings.Join(tags, ","), "-o", bin+".new", "./cmd/bailiff")
	build.Dir = e.root
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build bailiff: %w\n%s", err, tail(string(out), 40))
	}
	if err := os.Rename(bin+".new", bin); err != nil { // whoever runs the old file goes on running it
		return "", fmt.Errorf("keep the built bailiff: %w", err)
	}
	return bin, nil
}

func tail(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
