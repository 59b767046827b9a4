package e2e_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

func TestNobodyLearnsWhyACredentialIsRefused(t *testing.T) {
	s := newStage(t, testenv.BailiffOptions{})
	good := s.identity("good", adminRules)
	disabled := s.identity("disabled", adminRules)
	if _, stderr, code := s.bailiff(nil, "identity", "disable", "disabled"); code != 0 {
		t.Fatal(stderr)
	}
	id, key, _ := strings.Cut(good, "..")
	disabledID, _, _ := strings.Cut(disabled, "..")
	s.vault(good, "kv", "put", "secret/x", "k=v")

	var first *answer
	for _, tc := range []struct {
		name, token string
		accessID    string // that the record names
		identity    string // that the record names: only of somebody who proved it
	}{
		{name: "no token"},
		{name: "a token of no known form", token: "hvs.CAESIK"},
		{name: "half a token", token: id},
		{name: "half a token with the separator", token: id + "..", accessID: id},
		{name: "an access id that was never given out", token: flip(id) + ".." + key, accessID: flip(id)},
		{name: "a wrong access key", token: id + ".." + flip(key), accessID: id},
		{name: "another's access key", token: disabledID + ".." + key, accessID: disabledID},
		{name: "a disabled identity", token: disabled, accessID: disabledID, identity: "disabled"},
		{name: "a key with something behind it", token: good + "x", accessID: id},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := s.get(tc.token, "secret/data/x")
			if got.code != http.StatusForbidden {
				t.Errorf("status: got %d, want 403", got.code)
			}
			if want := `{"errors":["permission denied"]}` + "\n"; got.body != want {
				t.Errorf("body: got %q, want %q", got.body, want)
			}
			if first == nil {
				first = &got
			}
			if headers(got) != headers(*first) {
				t.Errorf("header: got %s, the first had %s", headers(got), headers(*first))
			}
			recs := s.records("--limit", "1", "--status", "denied")
			if len(recs) != 1 || recs[0].Path != "secret/data/x" || recs[0].Identity != tc.identity {
				t.Fatalf("recorded: got %+v, want a denied read of secret/data/x by %q", recs, tc.identity)
			}
			if tc.accessID != "" && recs[0].AccessID != "" && recs[0].AccessID != tc.accessID {
				t.Errorf("recorded access id: got %q, want %q", recs[0].AccessID, tc.accessID)
			}
		})
	}
	if got := s.get(good, "secret/data/x"); got.code != http.StatusOK {
		t.Errorf("the good token, last: got %d %s, want 200", got.code, got.body)
	}
	for _, text := range []string{key, flip(key)} {
		for _, found := range grep(t, s.b.Dir(), text) {
			t.Errorf("an access key stands in %s", found)
		}
	}
}

// flip changes the last character to another.
func flip(s string) string {
	last := byte('A')
	if s[len(s)-1] == 'A' {
		last = 'B'
	}
	return s[:len(s)-1] + string(last)
}

// headers is what a client can tell answers apart by, besides status and body.
func headers(a answer) string {
	var lines []string
	for name, values := range a.header {
		if name != "Date" && name != "X-Bailiff-Request-Id" { // which are another for each
			lines = append(lines, name+": "+strings.Join(values, ", "))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "; ")
}

// grep lists the files below dir that hold the text.
func grep(t *testing.T, dir, text string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if strings.Contains(string(b), text) {
			found = append(found, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// countingTarget is an address that counts who connects to it, and answers everybody like a Vault that knows one secret.
func countingTarget(t *testing.T) (addr string, connections *atomic.Int64) {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	connections = &atomic.Int64{}
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Connection", "close") // every request is a connection
			fmt.Fprint(w, `{"data":{"data":{"k":"v"},"metadata":{"version":1}},"auth":{"client_token":"t","lease_duration":0}}`)
		}),
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				connections.Add(1)
			}
		},
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() {
		srv.Close()
		<-done
	})
	return "http://" + l.Addr().String(), connections
}

func TestADeniedRequestNeverReachesItsTarget(t *testing.T) {
	addr, connections := countingTarget(t)
	s := &stage{t: t, b: testenv.NewBailiff(t, testenv.BailiffOptions{})}
	s.apply(fmt.Sprintf(`
target "counted" {
  type    = "vault"
  address = %q
  auth {
    method = "token"
    token  = "t"
  }
}
mount "counted" {
  type        = "vault"
  target      = "counted"
  remote_path = "counted"
  engine      = "kv"
  kv_version  = 2
}
connector "counted" {
  mount = "counted"
}
`, addr))
	token := s.identity("some", "path \"counted/data/mine\" {\n  capabilities = [\"read\"]\n}\n")
	reach := func(path string) (answer, int64) {
		before := connections.Load()
		a := s.get(token, path)
		return a, connections.Load() - before
	}
	if a, n := reach("counted/data/mine"); a.code != http.StatusOK || n == 0 {
		t.Fatalf("an allowed request: got %d and %d connections, want 200 and at least one; body %s", a.code, n, a.body)
	}
	for _, path := range []string{
		"counted/data/theirs", "counted/data/mine/below", "counted/metadata/mine", "counted/config", "counted/data/..%2Fdata%2Fmine",
		"counted/data/%2e%2e/data/mine", "counted//data/mine", "counted/data/mine%00", "counted/data/min%65%2F",
	} {
		if a, n := reach(path); a.code < 400 || n != 0 {
			t.Errorf("%s: got %d and %d connections, want it refused without one", path, a.code, n)
		}
	}
	before := connections.Load()
	_, stderr, code := s.b.CLI(t.Context(), token, nil, "usc", "get", "-n", "counted", "-s", "theirs")
	if code != 3 || connections.Load() != before {
		t.Errorf("bailiff usc get: got status %d and %d connections, want 3 and none\n%s", code, connections.Load()-before, stderr)
	}
	for _, method := range []string{http.MethodPut, http.MethodPost, http.MethodDelete, http.MethodPatch, "LIST"} {
		before := connections.Load()
		a, err := s.do(t.Context(), method, "/v1/counted/data/mine", token, `{"data":{}}`)
		if err != nil || a.code < 400 || connections.Load() != before {
			t.Errorf("%s: got %d, %v and %d connections, want it refused without one", method, a.code, err, connections.Load()-before)
		}
	}
}

func TestABodyOverTheLimit(t *testing.T) {
	s := newStage(t, testenv.BailiffOptions{Config: "limits {\n  max_body = \"1MiB\"\n}\n"})
	token := s.identity("writer", adminRules)
	for _, tc := range []struct {
		name string
		size int
		code int
	}{
		{"below the limit", 1<<20 - 1000, http.StatusOK},
		{"above the limit", 1<<20 + 1, http.StatusRequestEntityTooLarge},
		{"far above the limit", 8 << 20, http.StatusRequestEntityTooLarge},
	} {
		t.Run(tc.name, func(t *testing.T) {
			frame := `{"data":{"k":""}}`
			body := strings.Replace(frame, `""`, `"`+strings.Repeat("x", tc.size-len(frame))+`"`, 1)
			before := len(s.records("--status", "refused"))
			a, err := s.do(t.Context(), http.MethodPut, "/v1/secret/data/big", token, body)
			// A client that is still sending when the answer comes may see the connection closed instead.
			if closed := err != nil && tc.size > 2<<20; !closed && (err != nil || a.code != tc.code) {
				t.Errorf("got %d, %v, want %d: %.200s", a.code, err, tc.code, a.body)
			}
			refused := s.records("--status", "refused")
			if got, want := len(refused)-before, tc.code/http.StatusBadRequest; got != want {
				t.Fatalf("refusals recorded: got %d, want %d", got, want)
			}
			if tc.code != http.StatusOK && (!strings.Contains(refused[0].Path, "secret/data/big") || refused[0].Identity != "writer") {
				t.Errorf("recorded: got %q by %q, want the path and the writer", refused[0].Path, refused[0].Identity)
			}
		})
	}
	var errors struct{ Errors []string }
	a, err := s.do(t.Context(), http.MethodPut, "/v1/secret/data/big", token, strings.Repeat("x", 1<<20+1))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(a.body), &errors); err != nil || len(errors.Errors) == 0 {
		t.Errorf("the answer: got %q, want errors in JSON", a.body)
	}
}
