package testenv_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

// aptGet stands for the package manager: it notes how it was called and what would have kept a service from starting.
const aptGet = `#!/bin/sh
{
	echo "$@"
	[ -x "$POLICY" ] && { "$POLICY"; echo "policy says $?"; }
	[ -e "$CLUSTER" ] && cat "$CLUSTER"
	echo "$DEBIAN_FRONTEND"
} >>"$NOTES"
case "$*" in *install*) exit "$STATUS";; esac
`

func TestInstallingOnDebianStartsNothing(t *testing.T) {
	const asked = "-q -y -o DPkg::Lock::Timeout=300 "
	for _, tc := range []struct {
		name   string
		policy string // that the machine has already; empty: none
		status string // that the package manager ends with
		want   string
	}{
		{
			name: "nothing is there", status: "0",
			want: asked + "update\npolicy says 101\ncreate_main_cluster = false\nnoninteractive\n" +
				asked + "install --no-install-recommends postgresql\npolicy says 101\ncreate_main_cluster = false\nnoninteractive\n",
		},
		{
			name: "the machine's own policy stays", policy: "#!/bin/sh\nexit 104\n", status: "0",
			want: asked + "update\npolicy says 104\ncreate_main_cluster = false\nnoninteractive\n" +
				asked + "install --no-install-recommends postgresql\npolicy says 104\ncreate_main_cluster = false\nnoninteractive\n",
		},
		{
			name: "the package manager fails", status: "100",
			want: asked + "update\npolicy says 101\ncreate_main_cluster = false\nnoninteractive\n" +
				asked + "install --no-install-recommends postgresql\npolicy says 101\ncreate_main_cluster = false\nnoninteractive\n",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			at := func(name string) string { return filepath.Join(dir, name) }
			script(t, at("bin/apt-get"), aptGet)
			if tc.policy != "" {
				script(t, at("sbin/policy-rc.d"), tc.policy)
			} else if err := os.Mkdir(at("sbin"), 0o755); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), "sh", "-c", testenv.DebianScript, "install",
				at("sbin/policy-rc.d"), testenv.PolicyText, at("etc/createcluster.conf"), testenv.ClusterText, "postgresql")
			cmd.Env = []string{"PATH=" + at("bin") + ":" + os.Getenv("PATH"), "NOTES=" + at("notes"), "STATUS=" + tc.status,
				"POLICY=" + at("sbin/policy-rc.d"), "CLUSTER=" + at("etc/createcluster.conf")}
			out, err := cmd.CombinedOutput()
			if failed := err != nil; failed != (tc.status != "0") {
				t.Errorf("got %v, want it to fail as the package manager does\n%s", err, out)
			}
			notes, err := os.ReadFile(at("notes"))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, string(notes)); diff != "" {
				t.Errorf("the package manager saw (-want +got):\n%s", diff)
			}
			left, err := os.ReadFile(at("sbin/policy-rc.d"))
			if string(left) != tc.policy || (err == nil) != (tc.policy != "") {
				t.Errorf("left as policy: %q, %v, want %q", left, err, tc.policy)
			}
			if _, err := os.Stat(at("etc/createcluster.conf")); !os.IsNotExist(err) {
				t.Errorf("left as cluster settings: %v, want none", err)
			}
		})
	}
}

func script(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.TrimLeft(text, "\n")), 0o755); err != nil {
		t.Fatal(err)
	}
}
