package auth_test

import (
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/auth"
	"github.com/bailiff-secrets/bailiff/internal/document"
)

func TestWhatIsOverIsRemoved(t *testing.T) {
	w := world(t, auth.Limits{})
	w.Must("POST", "sys/auth/approle", `{"type":"approle"}`)
	w.Must("PUT", "auth/approle/role/ci", `{}`)
	w.Must("PUT", "auth/approle/role/ci/secret-id", `{"ttl":"1h"}`)
	over := w.Must("PUT", "auth/approle/role/ci/secret-id", `{"ttl":"1s"}`).Text("data.secret_id")
	count := func() int {
		docs, err := w.DB.Documents(t.Context(), document.Query{Space: "auth"})
		if err != nil {
			t.Fatal(err)
		}
		return len(docs)
	}
	if err := w.Backend.Sweep(t.Context()); err != nil || count() != 4 {
		t.Fatalf("%d documents, want a role, its index and two secret ids: %v", count(), err)
	}
	for deadline := time.Now().Add(10 * time.Second); count() > 3 && time.Now().Before(deadline); {
		if err := w.Backend.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if count() != 3 {
		t.Errorf("%d documents are left, want 3", count())
	}
	if a := w.Send("PUT", "auth/approle/role/ci/secret-id/lookup", map[string]string{"secret_id": over}); a.Code != 204 {
		t.Errorf("got %d %v", a.Code, a.Body)
	}
}
