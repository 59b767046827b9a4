package secret_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/bailiff-secrets/bailiff/internal/secret"
)

func TestValueIsNeverPrinted(t *testing.T) {
	const canary = "canary-5f1c"
	type nested struct {
		Inner struct{ v secret.Value }
		V     secret.Value
	}
	n := nested{V: secret.New(canary)}
	n.Inner.v = secret.New(canary)

	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+"\n", n)
		fmt.Fprintf(&out, verb+"\n", &n)
		fmt.Fprintf(&out, verb+"\n", n.V)
	}
	if err := json.NewEncoder(&out).Encode(n); err != nil {
		t.Fatal(err)
	}
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "n", n, "v", n.V)
	if strings.Contains(out.String(), canary) || strings.Contains(out.String(), fmt.Sprintf("%x", canary)) {
		t.Errorf("the value was printed:\n%s", out.String())
	}
	if got := n.V.Reveal(); got != canary {
		t.Errorf("Reveal: got %q, want %q", got, canary)
	}
	if !(secret.Value{}).Empty() || !secret.New("").Empty() || n.V.Empty() {
		t.Error("Empty is wrong")
	}
}
