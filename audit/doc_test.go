package audit_test

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bailiff-secrets/bailiff/audit"
)

// TestThePageListsEveryField: docs/audit.md has a row for each field of a record, in the order in which they stand there.
func TestThePageListsEveryField(t *testing.T) {
	page, err := os.ReadFile("../docs/audit.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(page), "## A record\n")
	section, _, ok2 := strings.Cut(section, "\n## ")
	if !ok || !ok2 {
		t.Fatal("the page has no section about a record")
	}
	var got, want []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| .+ \\|$").FindAllStringSubmatch(section, -1) {
		got = append(got, m[1])
	}
	for f := range reflect.TypeFor[audit.Record]().Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "-" {
			want = append(want, name)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" || !slices.Contains(got, "rule") {
		t.Errorf("(-record +page):\n%s", diff)
	}
}
