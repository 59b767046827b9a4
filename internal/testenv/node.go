package testenv

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// nodePackages are Node.js and its package manager.
func nodePackages() packages {
	return packages{apt: []string{"nodejs", "npm"}, dnf: []string{"nodejs", "npm"}, apk: []string{"nodejs", "npm"}, brew: []string{"node"}}
}

// NodeProgram returns the directory of the Node.js program test/servers/NAME with what its package-lock.json names. It
// installs that first if the cache has none of these very versions, and Node.js if there is none.
func (e *Env) NodeProgram(ctx context.Context, name string) (string, error) {
	if !has("npm") || !has("node") {
		if err := e.install(ctx, nodePackages()); err != nil {
			return "", err
		}
	}
	from := filepath.Join(e.root, filepath.FromSlash(toolModules), name)
	files, err := filepath.Glob(filepath.Join(from, "*.js*"))
	if err != nil || len(files) == 0 {
		return "", fmt.Errorf("%s holds no program for Node.js", from)
	}
	h := sha256.New()
	texts := make([][]byte, len(files))
	for i, file := range files {
		if texts[i], err = os.ReadFile(file); err != nil {
			return "", fmt.Errorf("read a program: %w", err)
		}
		h.Write(texts[i])
	}
	dir := filepath.Join(e.cache, "servers", name+"-"+hex.EncodeToString(h.Sum(nil)[:6]))
	unlock, err := e.lock(dir)
	if err != nil {
		return "", err
	}
	defer unlock()
	done := filepath.Join(dir, ".installed")
	if _, err := os.Stat(done); err == nil {
		return dir, nil
	}
	for i, file := range files {
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(file)), texts[i], 0o600); err != nil {
			return "", fmt.Errorf("keep a program: %w", err)
		}
	}
	install := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	install.Dir = dir
	if err := e.run(install, "installing "+name); err != nil {
		return "", err
	}
	return dir, os.WriteFile(done, nil, 0o600)
}

// NodeProgram returns the directory of the Node.js program test/servers/NAME, with its packages.
func NodeProgram(t testing.TB, name string) string {
	t.Helper()
	dir, err := Shared(t).NodeProgram(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
