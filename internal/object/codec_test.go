package object_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/google/go-cmp/cmp"
)

var sameSecret = cmp.Comparer(func(a, b secret.Value) bool { return a.Reveal() == b.Reveal() })

func TestEncodeAndDecodeAreInverse(t *testing.T) {
	for _, r := range estate() {
		v, err := object.Decode(r)
		if err != nil {
			t.Fatalf("Decode %s %s: %v", r.Kind, r.Name, err)
		}
		enc, err := object.Encode(v)
		if err != nil {
			t.Fatalf("Encode %s %s: %v", r.Kind, r.Name, err)
		}
		if enc.Kind != r.Kind || enc.Name != r.Name {
			t.Errorf("got %s %q, want %s %q", enc.Kind, enc.Name, r.Kind, r.Name)
		}
		again, err := object.Decode(enc)
		if err != nil {
			t.Fatalf("Decode again %s %s: %v", r.Kind, r.Name, err)
		}
		if d := cmp.Diff(v, again, sameSecret); d != "" {
			t.Errorf("%s %s (-first +again):\n%s", r.Kind, r.Name, d)
		}
		if strings.Contains(string(enc.Body), canary) {
			t.Errorf("%s %s: the body holds a secret: %s", r.Kind, r.Name, enc.Body)
		}
	}
}

func TestDecodeFillsInSecretsAndNames(t *testing.T) {
	v, err := object.Decode(rec("target", "v", `{"type":"vault","auth":{"method":"token"}}`, "token="+canary, "password=p"))
	if err != nil {
		t.Fatal(err)
	}
	got := v.(*object.Target)
	if got.Name != "v" || got.Auth.Token.Reveal() != canary || got.Password.Reveal() != "p" {
		t.Errorf("got name %q, token %q, password %q", got.Name, got.Auth.Token.Reveal(), got.Password.Reveal())
	}
	v, err = object.Decode(rec("producer", "team/db/ro", `{}`))
	if err != nil {
		t.Fatal(err)
	}
	if p := v.(*object.Producer); p.Mount != "team/db" || p.Name != "ro" {
		t.Errorf("got mount %q, name %q", p.Mount, p.Name)
	}
}

func TestEncodeRefusesWhatIsNoObject(t *testing.T) {
	if _, err := object.Encode(42); err == nil {
		t.Error("42 was encoded")
	}
}

func TestDuration(t *testing.T) {
	tests := []struct {
		json string
		want time.Duration
		ok   bool
	}{
		{`"1h30m"`, 90 * time.Minute, true},
		{`"90"`, 90 * time.Second, true},
		{`90`, 90 * time.Second, true},
		{`""`, 0, true},
		{`null`, 0, true},
		{`"soon"`, 0, false},
		{`true`, 0, false},
		{`{}`, 0, false},
	}
	for _, tt := range tests {
		var d object.Duration
		err := json.Unmarshal([]byte(tt.json), &d)
		if (err == nil) != tt.ok || time.Duration(d) != tt.want {
			t.Errorf("%s: got %v and error %v, want %v, ok %v", tt.json, d, err, tt.want, tt.ok)
		}
	}
	text, err := json.Marshal(object.Mount{DefaultTTL: object.Duration(90 * time.Minute)})
	if err != nil || !strings.Contains(string(text), `"default_ttl":"1h30m0s"`) || strings.Contains(string(text), "max_ttl") {
		t.Errorf("got %s, %v", text, err)
	}
}
