package testenv

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// toolModules holds a module for each program that is built from Go modules, so that their dependencies stay out of Bailiff's
// own and of one another's.
const toolModules = "test/servers"

// ToolBinary returns the path of the program that the module test/servers/NAME is for: its go.mod names it in its one tool
// line. It builds it first if the cache has none of these very versions.
func (e *Env) ToolBinary(ctx context.Context, name string) (string, error) {
	module := filepath.Join(e.root, filepath.FromSlash(toolModules), name)
	pkg, sum, err := readTool(module)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(e.cache, "servers", name+"-"+sum)
	bin := filepath.Join(dir, path.Base(pkg))
	if isExecutable(bin) {
		return bin, nil
	}
	unlock, err := e.lock(dir)
	if err != nil {
		return "", err
	}
	defer unlock()
	if isExecutable(bin) { // somebody else was building it
		return bin, nil
	}
	build := exec.CommandContext(ctx, "go", "build", "-mod=readonly", "-buildvcs=false", "-ldflags", "-s -w", "-o", bin+".new", pkg)
	build.Dir = module
	build.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=", "CGO_ENABLED=0", "GOOS=", "GOARCH=")
	if err := e.run(build, "building "+name); err != nil {
		return "", err
	}
	if err := os.Rename(bin+".new", bin); err != nil {
		return "", fmt.Errorf("keep the built %s: %w", name, err)
	}
	return bin, nil
}

// readTool finds the package that a module is for, and a digest of what it is built from.
func readTool(module string) (pkg, sum string, err error) {
	entries, err := os.ReadDir(module)
	if err != nil {
		return "", "", fmt.Errorf("read a tool's module: %w", err)
	}
	h := sha256.New()
	for _, entry := range entries {
		if !entry.Type().IsRegular() {
			continue
		}
		b, err := os.ReadFile(filepath.Join(module, entry.Name()))
		if err != nil {
			return "", "", fmt.Errorf("read a tool's module: %w", err)
		}
		h.Write(b)
		if entry.Name() != "go.mod" {
			continue
		}
		for line := range strings.Lines(string(b)) {
			if tool, ok := strings.CutPrefix(line, "tool "); ok {
				pkg = strings.TrimSpace(tool)
			}
		}
	}
	if pkg == "" {
		return "", "", fmt.Errorf("%s: no line names a tool", filepath.Join(module, "go.mod"))
	}
	return pkg, hex.EncodeToString(h.Sum(nil)[:6]), nil
}
