package testenv

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
)

func spinPackages() packages {
	return packages{
		apt:  []string{"spin", "gcc", "libc6-dev"},
		dnf:  []string{"spin", "gcc"},
		apk:  []string{"spin", "gcc", "musl-dev"},
		brew: []string{"spin", "gcc"},
	}
}

// SpinBinary returns the path of Spin, the model checker, and installs the system's package of it and of a C compiler where
// either is missing.
func (e *Env) SpinBinary(ctx context.Context) (string, error) {
	if spin, ok := findSpin(); ok {
		return spin, nil
	}
	unlock, err := e.lock(filepath.Join(e.cache, "packages"))
	if err != nil {
		return "", err
	}
	defer unlock()
	if spin, ok := findSpin(); ok {
		return spin, nil
	}
	if err := e.install(ctx, spinPackages()); err != nil {
		return "", err
	}
	if spin, ok := findSpin(); ok {
		return spin, nil
	}
	return "", errors.New("spin and gcc were installed, but not found in PATH")
}

// findSpin looks for Spin and for the compiler that it needs.
func findSpin() (string, bool) {
	if !has("gcc") {
		return "", false
	}
	spin, err := exec.LookPath("spin")
	return spin, err == nil
}
