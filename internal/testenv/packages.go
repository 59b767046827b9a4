package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
)

// packages names one piece of software in each package manager's words.
type packages struct {
	apt, dnf, apk, brew []string
}

func postgresPackages() packages {
	return packages{
		apt:  []string{"postgresql", "postgresql-client"},
		dnf:  []string{"postgresql-server", "postgresql"},
		apk:  []string{"postgresql", "postgresql-client"},
		brew: []string{"postgresql"},
	}
}

// install installs packages with the system's package manager, and sees to it that none of their services starts.
func (e *Env) install(ctx context.Context, p packages) error {
	switch {
	case has("apt-get"):
		return e.installDebian(ctx, p.apt)
	case has("dnf"):
		return e.privileged(ctx, "dnf", append([]string{"install", "-y", "--setopt=install_weak_deps=False"}, p.dnf...)...)
	case has("apk"):
		return e.privileged(ctx, "apk", append([]string{"add", "--no-cache"}, p.apk...)...)
	case has("brew"):
		return e.run(exec.CommandContext(ctx, "brew", append([]string{"install"}, p.brew...)...), "installing with brew")
	}
	return fmt.Errorf("install %v: no known package manager on this %s machine; install it by hand", p.apt, runtime.GOOS)
}

func has(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}

// The files that keep Debian's packages from starting what they install. Each is laid down only where there is none.
const (
	policyPath   = "/usr/sbin/policy-rc.d"
	policyText   = "#!/bin/sh\nexit 101\n" // 101: the service must not be started
	clusterPath  = "/etc/postgresql-common/createcluster.conf"
	clusterText  = "create_main_cluster = false\n"
	debianScript = `
set -eu
export DEBIAN_FRONTEND=noninteractive UCF_FORCE_CONFFOLD=1
policy=$1 policy_text=$2 cluster=$3 cluster_text=$4; shift 4
laid=
trap 'for f in $laid; do rm -f "$f"; done' EXIT
trap 'exit 1' HUP INT TERM
if [ ! -e "$policy" ]; then laid="$laid $policy"; printf %s "$policy_text" >"$policy"; chmod 755 "$policy"; fi
if [ ! -e "$cluster" ]; then laid="$laid $cluster"; mkdir -p "$(dirname "$cluster")"; printf %s "$cluster_text" >"$cluster"; fi
apt-get -q -y -o DPkg::Lock::Timeout=300 update
apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "$@"
`
)

func (e *Env) installDebian(ctx context.Context, names []string) error {
	args := append([]string{"-c", debianScript, "install", policyPath, policyText, clusterPath, clusterText}, names...)
	return e.privileged(ctx, "sh", args...)
}

// privileged runs a command as root, through sudo where this process isn't root. It never asks for a password.
func (e *Env) privileged(ctx context.Context, program string, args ...string) error {
	if os.Geteuid() != 0 {
		if !has("sudo") {
			return errors.New("installing packages needs root, and there is no sudo")
		}
		program, args = "sudo", append([]string{"-n", program}, args...)
	}
	return e.run(exec.CommandContext(ctx, program, args...), "installing packages")
}
