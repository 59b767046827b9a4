// Package models_test lets Spin visit every state of the models in docs/models.
package models_test

import (
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// visit lets Spin visit the states of lease.pml, built with the given definitions, and returns what it says.
func visit(t *testing.T, compile, run []string, defines ...string) string {
	t.Helper()
	env := testenv.Shared(t)
	spin, err := env.SpinBinary(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	dir := t.TempDir()
	command := func(program string, args ...string) string {
		cmd := exec.CommandContext(ctx, program, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	command(spin, append(defines, "-a", filepath.Join(env.Root(), "docs", "models", "lease.pml"))...)
	command("gcc", append(compile, "-w", "-O1", "-DCOLLAPSE", "-DMEMLIM=1500", "-o", "pan", "pan.c")...)
	return command(filepath.Join(dir, "pan"), append(run, "-E", "-m100000")...)
}

// states is how many states a visit that was not cut short has seen.
func states(t *testing.T, report string) (n, errors int) {
	t.Helper()
	m := regexp.MustCompile(`errors: (\d+)\s+(\d+) states, stored`).FindStringSubmatch(report)
	if m == nil {
		t.Fatalf("spin says nothing of states:\n%s", report)
	}
	if _, err := fmt.Sscan(m[1]+" "+m[2], &errors, &n); err != nil {
		t.Fatal(err)
	}
	if errors == 0 && (strings.Contains(report, "Search not completed") || strings.Contains(report, "max search depth too small")) {
		t.Fatalf("not every state was visited:\n%s", report)
	}
	return n, errors
}

func TestNoOrderOfStepsLosesALease(t *testing.T) {
	report := visit(t, []string{"-DSAFETY"}, nil)
	n, errors := states(t, report)
	if errors != 0 || n < 1_000_000 {
		t.Errorf("%d errors in %d states, want none in more than a million:\n%s", errors, n, report)
	}
	t.Logf("%d states", n)
}

func TestNoRunGoesOnForEver(t *testing.T) {
	report := visit(t, []string{"-DNP"}, []string{"-l"}, "-DTROUBLE=1", "-DRENEWALS=0")
	if n, errors := states(t, report); errors != 0 {
		t.Errorf("%d errors in %d states:\n%s", errors, n, report)
	}
}

func TestEveryDefenceIsNeeded(t *testing.T) {
	for broken, want := range map[int]string{
		1: "NO_ORPHAN", 2: "NO_ORPHAN", 3: "KEPT", 4: "KEPT", 5: "NO_ORPHAN", 6: "the end", 7: "NO_ORPHAN", 8: "KEPT", 9: "KEPT",
	} {
		report := visit(t, []string{"-DSAFETY"}, nil, fmt.Sprintf("-DBROKEN=%d", broken))
		if _, errors := states(t, report); errors == 0 {
			t.Errorf("with BROKEN %d nothing is found, want a violation of %s", broken, want)
			continue
		}
		signs := map[string]string{"NO_ORPHAN": "!(alive)||", "KEPT": "told<=now", "the end": "!(asked)"}
		if !strings.Contains(strings.ReplaceAll(report, " ", ""), signs[want]) {
			t.Errorf("with BROKEN %d want a violation of %s, got\n%s", broken, want, report)
		}
	}
}

func TestTheTableNamesFunctionsThatExist(t *testing.T) {
	root := testenv.Shared(t).Root()
	text, err := os.ReadFile(filepath.Join(root, "docs", "models", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile("`([a-z/]+)\\.([A-Z]\\w+)\\.(\\w+)`").FindAllStringSubmatch(string(text), -1)
	if len(names) < 15 {
		t.Errorf("the table names %d functions, want all of the steps", len(names))
	}
	for _, m := range names {
		there, err := methods(filepath.Join(root, filepath.FromSlash(m[1])))
		if err != nil {
			t.Error(err)
			continue
		}
		if !there[m[2]+"."+m[3]] {
			t.Errorf("the table names %s, which is not in the source", m[0])
		}
	}
}

// methods are the methods that a folder's files declare, as Type.Method.
func methods(dir string) (map[string]bool, error) {
	files, err := fs.Glob(os.DirFS(dir), "*.go")
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv == nil {
				continue
			}
			typ := fn.Recv.List[0].Type
			if star, ok := typ.(*ast.StarExpr); ok {
				typ = star.X
			}
			if id, ok := typ.(*ast.Ident); ok {
				found[id.Name+"."+fn.Name.Name] = true
			}
		}
	}
	return found, nil
}
