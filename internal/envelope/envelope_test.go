package envelope_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bailiff-secrets/bailiff/internal/envelope"
)

func TestAnotherRequestsID(t *testing.T) {
	for body, want := range map[string]string{
		`{"request_id":"a","data":{"request_id":"a"}}`: `{"request_id":"new","data":{"request_id":"a"}}`,
		`{"request_id":"","data":null}`:                `{"request_id":"new","data":null}`,
		`{"data":{"request_id":"a"}}`:                  `{"data":{"request_id":"a"}}`,
		`{"request_id":"a`:                             `{"request_id":"a`,
		`{"request_id":5}`:                             `{"request_id":5}`,
		`no JSON`:                                      `no JSON`,
		``:                                             ``,
	} {
		if got := string(envelope.WithRequestID([]byte(body), "new")); got != want {
			t.Errorf("%s: got %s, want %s", body, got, want)
		}
	}
}

func TestMarshalEscapesAsVaultDoes(t *testing.T) {
	got, err := envelope.Marshal(map[string]string{"k": "<a&b>\u2028"})
	if want := `{"k":"\u003ca\u0026b\u003e\u2028"}` + "\n"; err != nil || string(got) != want {
		t.Errorf("got %s and %v, want %s", got, err, want)
	}
}

func FuzzWithRequestID(f *testing.F) {
	f.Add(`{"request_id":"a","lease_id":"","data":{"k":"v"}}`, "new")
	f.Add(`{"request_id":"a\"b","data":null}`, `"`)
	f.Fuzz(func(t *testing.T, body, id string) {
		var before, after map[string]any
		if json.Unmarshal([]byte(body), &before) != nil || strings.Contains(body, `\`) || strings.Count(body, "request_id") > 1 {
			return // only what Vault or Bailiff writes is meant
		}
		out := envelope.WithRequestID([]byte(body), id)
		if err := json.Unmarshal(out, &after); err != nil {
			t.Fatalf("%s became %s: %v", body, out, err)
		}
		delete(before, "request_id")
		delete(after, "request_id")
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("something else has changed:\n%s", diff)
		}
	})
}
