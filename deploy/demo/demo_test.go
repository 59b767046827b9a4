package main

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestTheDemoPlaysToItsEnd(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	err = run(t.Context(), newScreen(file, func(string) string { return "" }), false)
	if _, seekErr := file.Seek(0, io.SeekStart); seekErr != nil {
		t.Fatal(seekErr)
	}
	out, readErr := io.ReadAll(file)
	if readErr != nil {
		t.Fatal(readErr)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if n := strings.Count(string(out), "[ok]"); n < 40 {
		t.Errorf("got %d ticks, want at least 40", n)
	}
}

func TestWords(t *testing.T) {
	for _, tc := range []struct {
		line string
		want []string // nil: an error
	}{
		{"vault kv get secret/x", []string{"vault", "kv", "get", "secret/x"}},
		{"psql  -c 'select 1'", []string{"psql", "-c", "select 1"}},
		{"a 'b c'd ''", []string{"a", "b cd", ""}},
		{"", nil},
		{"a 'b", nil},
	} {
		got, err := words(tc.line)
		if (err != nil) != (tc.want == nil) || !slices.Equal(got, tc.want) {
			t.Errorf("words(%q): got %q, %v, want %q", tc.line, got, err, tc.want)
		}
	}
}
