package arch_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/bailiff-secrets/bailiff/internal/arch"
)

const module = "github.com/bailiff-secrets/bailiff/"

func TestImportsFollowTheRule(t *testing.T) {
	for _, tags := range []string{"", "faults"} {
		packages := list(t, tags)
		if len(packages) < 20 {
			t.Fatalf("got %d packages, want the whole module", len(packages))
		}
		for _, broken := range arch.Check(packages) {
			t.Error(broken)
		}
	}
}

// list asks the go command for the packages of the module.
func list(t *testing.T, tags string) []arch.Package {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-tags", tags, "-json=ImportPath,Imports", module+"...")
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, errOut.String())
	}
	var packages []arch.Package
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p arch.Package
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

func TestWhatBreaksTheRuleIsFound(t *testing.T) {
	for _, c := range []struct{ from, imported, want string }{
		{"policy", module + "gate", "policy imports gate: imports point down only"},
		{"internal/secret", module + "identity", "internal/secret imports identity: it may import nothing of ours"},
		{"identity", module + "server", "identity imports server: imports point down only"},
		{"api", module + "sys", "api imports sys: siblings do not import siblings"},
		{"broker", module + "upstream", "broker imports upstream: siblings do not import siblings"},
		{"store/sqlite", module + "store/postgres", "store/sqlite imports store/postgres: siblings do not import siblings"},
		{"store/sqlite", module + "store/storetest", "store/sqlite imports store/storetest: only tests may"},
		{"hvp", module + "internal/vpath/vpathtest", "hvp imports internal/vpath/vpathtest: only tests may"},
		{"producers/aws", module + "producers/postgres", "producers/aws imports producers/postgres: it may import only broker, internal/object, internal/secret of ours"},
		{"producers/aws", module + "gate", "producers/aws imports gate: it may import only broker, internal/object, internal/secret of ours"},
		{"producers/aws", module + "producers", "producers/aws imports producers: it may import only broker, internal/object, internal/secret of ours"},
		{"internal/object", module + "internal/seal", "internal/object imports internal/seal: it may import only internal/secret of ours"},
		{"internal/vpath/vpathtest", module + "internal/secret", "internal/vpath/vpathtest imports internal/secret: it may import nothing of ours"},
		{"server", module + "internal/testenv", "server imports internal/testenv: only deploy, test, tests may"},
		{"util", "strings", "util has no level in the table of internal/arch"},
		{"gate", module + "util", "gate imports util: that has no level in the table of internal/arch"},
		{"gate", "net/http", "gate imports net/http: it must never hear of HTTP"},
		{"broker/internal/due", "net/http/httptrace", "broker/internal/due imports net/http/httptrace: it must never hear of HTTP"},
		{"broker", "github.com/jackc/pgx/v5/pgxpool", "broker imports github.com/jackc/pgx/v5/pgxpool: only producers/postgres, store/postgres, tests may"},
		{"policy", "github.com/hashicorp/hcl/v2/hclsyntax", "policy imports github.com/hashicorp/hcl/v2/hclsyntax: only internal/config, tests may"},
		{"internal/config", "github.com/hashicorp/hcl", "internal/config imports github.com/hashicorp/hcl: only policy, tests may"},
		{"upstream", "github.com/hashicorp/vault/api", "upstream imports github.com/hashicorp/vault/api: only tests may"},
		{"usc", "github.com/some/thing", "usc imports github.com/some/thing: it has no home in the table of internal/arch"},
	} {
		got := arch.Check([]arch.Package{{ImportPath: module + c.from, Imports: []string{c.imported}}})
		if len(got) != 1 || got[0] != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestWhatFollowsTheRuleIsNot(t *testing.T) {
	for from, imports := range map[string]string{
		"cmd/bailiff":                  module + "server " + module + "api " + module + "internal/secret github.com/spf13/cobra net/http",
		"server":                       module + "producers " + module + "store/sqlite " + module + "hvp github.com/prometheus/client_golang/prometheus",
		"producers":                    module + "producers/postgres " + module + "broker",
		"producers/postgres":           module + "broker " + module + "internal/object " + module + "internal/secret github.com/jackc/pgx/v5",
		"producers/producertest":       module + "broker github.com/google/go-cmp/cmp",
		"api":                          module + "usc " + module + "broker " + module + "gate net/http",
		"hvp":                          module + "hvp/internal/wire " + module + "broker github.com/valyala/fasthttp",
		"audit":                        module + "policy " + module + "identity golang.org/x/sys/unix",
		"gate":                         module + "audit " + module + "policy " + module + "identity net/netip net/url",
		"policy":                       "github.com/hashicorp/hcl/hcl/parser strings",
		"internal/config":              module + "internal/object github.com/hashicorp/hcl/v2",
		"internal/testenv/cmd/servers": module + "internal/testenv",
		"deploy/demo":                  module + "internal/testenv",
		"test/bench":                   module + "internal/testenv github.com/jackc/pgx/v5",
	} {
		for _, broken := range arch.Check([]arch.Package{{ImportPath: module + from, Imports: strings.Fields(imports)}}) {
			t.Error(broken)
		}
	}
}
