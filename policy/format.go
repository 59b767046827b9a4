package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"

	"github.com/hashicorp/hcl/hcl/printer"
)

// Format writes a policy's text as `vault policy fmt` does; comments stay. It must be one that Parse takes.
func Format(text string) (string, error) {
	if _, err := Parse("policy", 0, text); err != nil {
		return "", err
	}
	if strings.HasPrefix(strings.TrimLeftFunc(text, unicode.IsSpace), "{") {
		var out bytes.Buffer
		if err := json.Indent(&out, []byte(strings.TrimSpace(text)), "", "  "); err != nil {
			return "", fmt.Errorf("format: %w", err)
		}
		return out.String() + "\n", nil
	}
	out, err := printer.Format([]byte(text))
	if err != nil {
		return "", fmt.Errorf("format: %w", err)
	}
	return strings.TrimRight(string(out), "\n") + "\n", nil
}
