package engine_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

// TestAServerThatIsKilledAtAnyPointOfARotationKnowsThePasswords kills a server at every point of the rotation of a static
// role and of its own user, and starts it again: both passwords must be known.
func TestAServerThatIsKilledAtAnyPointOfARotationKnowsThePasswords(t *testing.T) {
	t.Parallel()
	s := newBailiff(t, testenv.BailiffOptions{Tags: []string{"faults"}})
	s.setUp()
	for _, path := range []string{"database/rotate-role/app", "database/rotate-root/pg"} {
		for _, point := range []string{
			"rotate-begin", "rotate-next-durable", "rotate-changed", "rotate-proven", "rotate-handed-over", "rotate-done",
		} {
			if point == "rotate-handed-over" && path == "database/rotate-role/app" {
				continue // it is not a step of that
			}
			if err := s.bailiff.Restart(t.Context(), "BAILIFF_FAULT="+point+":1"); err != nil {
				t.Fatal(err)
			}
			s.post(path)
			if err := s.bailiff.Restart(t.Context(), "BAILIFF_FAULT="); err != nil {
				t.Fatalf("%s, %s: %v", path, point, err)
			}
			s.credential("database/static-creds/app")
			s.credential("database/creds/ro")
			s.write("database/rotate-role/app")
			s.credential("database/static-creds/app")
		}
	}
	if s.login(s.admin, adminPassword) == nil {
		t.Error("the declared password of Bailiff's own user still works")
	}
}

// post asks a server that dies while it is asked.
func (s *side) post(path string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, s.addr+"/v1/"+path, strings.NewReader("{}"))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("X-Vault-Token", s.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return // it died, as it should
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body) //nolint:errcheck // it is for the message alone
	s.t.Errorf("%s: the server did not die: %d %s", path, resp.StatusCode, text)
}
