package testenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// Env starts servers and ends them. Its methods may be called concurrently.
type Env struct {
	root     string    // the directory of Bailiff's go.mod
	cache    string    // where built servers are kept
	progress io.Writer // told what takes long

	mu     sync.Mutex
	procs  map[*Process]struct{}
	closed bool
}

// New returns an Env for the module that the working directory is in. Slow steps are told to progress, which may be nil.
func New(progress io.Writer) (*Env, error) {
	root, err := moduleRoot()
	if err != nil {
		return nil, err
	}
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}
	if progress == nil {
		progress = io.Discard
	}
	return &Env{root: root, cache: cache, progress: progress, procs: map[*Process]struct{}{}}, nil
}

// Root is the directory that holds the module's go.mod.
func (e *Env) Root() string { return e.root }

// CacheDir is the directory that holds what was built.
func (e *Env) CacheDir() string { return e.cache }

// Close stops every server that is still running and removes their directories. Nothing can be started afterwards.
func (e *Env) Close() error {
	e.mu.Lock()
	e.closed = true
	procs := make([]*Process, 0, len(e.procs))
	for p := range e.procs {
		procs = append(procs, p)
	}
	e.mu.Unlock()
	errs := make([]error, len(procs))
	var wg sync.WaitGroup
	for i, p := range procs {
		wg.Go(func() { errs[i] = p.Close() })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (e *Env) add(p *Process) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return errors.New("testenv: closed")
	}
	e.procs[p] = struct{}{}
	return nil
}

func (e *Env) remove(p *Process) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.procs, p)
}

// moduleRoot walks up from the working directory to the module that holds the servers' own modules.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, filepath.FromSlash(vaultModule), "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("find the module: no directory above this one holds " + vaultModule + "/go.mod")
		}
		dir = parent
	}
}

func cacheDir() (string, error) {
	if dir := os.Getenv("BAILIFF_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	if dir := os.Getenv("XDG_CACHE_HOME"); dir != "" {
		return filepath.Join(dir, "bailiff"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find the cache directory: %w; set BAILIFF_CACHE", err)
	}
	return filepath.Join(home, ".cache", "bailiff"), nil
}

// cleanEnviron is the environment that servers and clients start with: nothing of the caller's but PATH and the locale,
// and a home directory that is not the caller's.
func cleanEnviron(home string) []string {
	return []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + home,
		"TMPDIR=" + os.TempDir(),
		"LANG=C",
		"LC_ALL=C",
	}
}

// attempts calls start up to n times, until it succeeds or ctx ends: a port may be taken between choosing and using it.
func attempts[T any](ctx context.Context, n int, start func() (T, error)) (T, error) {
	var zero T
	var errs []error
	for range n {
		v, err := start()
		if err == nil {
			return v, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil || !errors.Is(err, errPortTaken) {
			break
		}
	}
	return zero, errors.Join(errs...)
}
