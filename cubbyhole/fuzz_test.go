package cubbyhole_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/bailiff-secrets/bailiff/internal/document"
	"github.com/bailiff-secrets/bailiff/policy"
)

// FuzzBody writes any body: what is taken comes back as the same JSON, and nothing else is kept.
func FuzzBody(f *testing.F) {
	for _, body := range []string{`{"a":"b"}`, `{"a":1e400}`, `{"a":[{}],"a":2}`, `null`, `[1]`, `{"a":"\ud800"}`, `{}`, "{\"a\":\"\xff\"}", `{"a":1}{"b":2}`, ` { "a" : 12345678901234567890 } `} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		m := &memory{docs: map[string]document.Document{}}
		b := newBackend(t, m, everybody)
		if got := ask(t, b, "one", policy.Update, "x", body); got != "done" {
			if len(m.docs) != 0 {
				t.Errorf("%q: refused with %s, and kept", body, got)
			}
			return
		}
		got := ask(t, b, "one", policy.Read, "x", "")
		if strings.HasPrefix(got, "internal") {
			t.Fatalf("%q: it can't be read again: %s", body, got)
		}
		dec := json.NewDecoder(strings.NewReader(body))
		dec.UseNumber()
		var want map[string]any
		if err := dec.Decode(&want); err != nil {
			t.Fatalf("%q is no JSON object and was taken: %v", body, err)
		}
		text, err := json.Marshal(want)
		if err != nil || got != string(text) {
			t.Errorf("%q: got %s, want %s (%v)", body, got, text, err)
		}
	})
}
