package upstream_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/upstream"
)

func TestNew(t *testing.T) {
	tests := []struct {
		what   string
		change func(*object.Target)
		words  string
	}{
		{"an address of another scheme", func(t *object.Target) { t.Address = "ftp://x" }, "http:// or https://"},
		{"an address without a host", func(t *object.Target) { t.Address = "http://" }, "http:// or https://"},
		{"an address with a user", func(t *object.Target) { t.Address = "http://u:pass-9@x" }, "no user"},
		{"an address with a query", func(t *object.Target) { t.Address = "http://x/?a=b" }, "no user, query"},
		{"a namespace with a line end", func(t *object.Target) { t.Namespace = "a\r\nX: y" }, "can't be sent"},
		{"no way to log in", func(t *object.Target) { t.Auth = nil }, "how to log in"},
		{"an unknown way to log in", func(t *object.Target) { t.Auth.Method = "magic" }, `"magic"`},
		{"no token", func(t *object.Target) { t.Auth.Token = secret.Value{} }, "token is missing"},
		{"a token with a line end", func(t *object.Target) { t.Auth.Token = secret.New("a\nb") }, "can't be sent"},
		{"an AppRole without its id", func(t *object.Target) { t.Auth.Method = "approle" }, "role_id"},
		{"certificates that are none", func(t *object.Target) { t.Address, t.CACert = "https://x", "x" }, "no certificate"},
	}
	for _, tt := range tests {
		target := tokenTarget("http://127.0.0.1:1")
		tt.change(&target)
		_, err := upstream.New(upstream.Config{Target: target, Logger: slog.New(slog.DiscardHandler)})
		if err == nil || !strings.Contains(err.Error(), tt.words) {
			t.Errorf("%s: got error %v, want one with %q", tt.what, err, tt.words)
			continue
		}
		if strings.Contains(err.Error(), "pass-9") {
			t.Errorf("%s: the error holds the password: %v", tt.what, err)
		}
	}
	if _, err := upstream.New(upstream.Config{Target: tokenTarget("http://x")}); err == nil {
		t.Error("without a logger: got no error")
	}
}

// roleVault is a fake target with an AppRole login: it knows the one token that it gave last.
type roleVault struct {
	*fake
	logins, lookups atomic.Int64

	mu    sync.Mutex
	token string
	up    bool // logins succeed
}

func newRoleVault(t *testing.T) *roleVault {
	v := &roleVault{up: true}
	v.fake = newBareFake(t, v.serve)
	return v
}

func (v *roleVault) serve(c net.Conn, s *seen) {
	v.mu.Lock()
	known := s.header.Get("X-Vault-Token") == v.token && v.token != ""
	answer := refuse(403, "permission denied")
	switch {
	case s.is("PUT /v1/auth/my-role/login "):
		n := v.logins.Add(1)
		answer = refuse(400, "invalid role or secret ID")
		if v.up && string(s.body) == `{"role_id":"r","secret_id":"s-77"}` {
			v.token = fmt.Sprintf("hvs.%d", n)
			answer = ok(fmt.Sprintf(`{"auth":{"client_token":%q,"lease_duration":3600,"renewable":true}}`, v.token))
		}
	case s.is("GET /v1/auth/token/lookup-self "):
		v.lookups.Add(1)
		if known {
			answer = ok(`{"data":{"ttl":3600,"renewable":true}}`)
		}
	case s.is("GET /v1/secret/forbidden "):
		answer = refuse(403, "1 error occurred:\n\t* permission denied\n\n")
	case known:
		answer = ok(`{"data":{}}`)
	}
	v.mu.Unlock()
	io.WriteString(c, answer)
}

func (v *roleVault) kill() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.token = ""
}

func (v *roleVault) target() object.Target {
	return object.Target{
		Name: "vault-a", Type: "vault", Address: v.addr,
		Auth: &object.VaultAuth{Method: "approle", Mount: "my-role", RoleID: "r", SecretID: secret.New("s-77")},
	}
}

func TestOneLoginServesManyRequests(t *testing.T) {
	v := newRoleVault(t)
	b := newVault(t, upstream.Config{Target: v.target()}).Mount("secret", 2)
	together(t, 50, func() error {
		resp, err := b.Serve(t.Context(), read("data/a"))
		if err == nil {
			resp.Raw.Body.Close()
		}
		return err
	})
	if n := v.logins.Load(); n != 1 {
		t.Errorf("got %d logins for 50 requests at once, want 1", n)
	}
}

func TestDeadTokenIsReplacedOnce(t *testing.T) {
	v := newRoleVault(t)
	b := newVault(t, upstream.Config{Target: v.target()}).Mount("secret", 2)
	mustServe(t, b, read("data/a"))
	eventually(t, "the token may be doubted again", trustOver(time.Now()))
	v.kill()
	together(t, 50, func() error {
		resp, err := b.Serve(t.Context(), write("data/a", strings.NewReader("{}"), 2))
		if err != nil {
			return err
		}
		defer resp.Raw.Body.Close()
		if resp.Raw.Code != 200 {
			return fmt.Errorf("got status %d", resp.Raw.Code)
		}
		return nil
	})
	if logins, lookups := v.logins.Load(), v.lookups.Load(); logins != 2 || lookups != 1 {
		t.Errorf("got %d logins and %d lookups, want 2 and 1", logins, lookups)
	}
}

// trustOver is true when a token that was seen alive at start may be doubted.
func trustOver(start time.Time) func() bool {
	return func() bool { return time.Since(start) > 1100*time.Millisecond }
}

func TestRefusalThatIsNotTheTokensIsPassedOn(t *testing.T) {
	v := newRoleVault(t)
	b := newVault(t, upstream.Config{Target: v.target()}).Mount("secret", 2)
	mustServe(t, b, read("data/a"))
	eventually(t, "the token may be doubted again", trustOver(time.Now()))
	for range 5 {
		got := mustServe(t, b, read("forbidden"))
		if got.code != 403 || !strings.Contains(got.body, "1 error occurred") {
			t.Errorf("got %d %s, want the target's own refusal", got.code, got.body)
		}
	}
	if logins, lookups := v.logins.Load(), v.lookups.Load(); logins != 1 || lookups != 1 {
		t.Errorf("got %d logins and %d lookups for five refusals, want 1 and 1", logins, lookups)
	}
	if n := len(v.all("GET /v1/secret/forbidden ")); n != 5 {
		t.Errorf("got %d requests, want 5: none is repeated", n)
	}
}

func TestStreamedBodyIsNotSentAgain(t *testing.T) {
	v := newRoleVault(t)
	b := newVault(t, upstream.Config{Target: v.target()}).Mount("secret", 2)
	mustServe(t, b, read("data/a"))
	eventually(t, "the token may be doubted again", trustOver(time.Now()))
	v.kill()
	big := strings.Repeat("x", 100<<10)
	_, err := serve(t, b, write("data/a", strings.NewReader(big), int64(len(big))))
	said := wantKind(t, err, gate.TargetDown)
	if !strings.Contains(said.Msg, "once more") {
		t.Errorf("got %q, want words that say to try again", said.Msg)
	}
	got := mustServe(t, b, write("data/a", strings.NewReader(big), int64(len(big))))
	if got.code != 200 {
		t.Errorf("the second time: got %d, want 200", got.code)
	}
}

func TestLoginThatFailsIsNotTriedByEveryRequest(t *testing.T) {
	v := newRoleVault(t)
	v.up = false
	b := newVault(t, upstream.Config{Target: v.target()}).Mount("secret", 2)
	for range 50 {
		_, err := serve(t, b, read("data/a"))
		wantKind(t, err, gate.TargetDown)
	}
	if n := v.logins.Load(); n > 2 {
		t.Errorf("got %d logins for 50 requests, want at most 2", n)
	}
	if n := len(v.all("GET ")); n != 0 {
		t.Errorf("got %d requests without a login, want none", n)
	}
	v.mu.Lock()
	v.up = true
	v.mu.Unlock()
	eventually(t, "the login succeeds", func() bool { _, err := serve(t, b, read("data/a")); return err == nil })
}

func TestTargetThatStartsLater(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	v := newVault(t, upstream.Config{Target: tokenTarget("http://" + addr)})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- v.Run(ctx) }()
	b := v.Mount("secret", 2)
	start := time.Now()
	for range 20 {
		_, err := serve(t, b, read("data/a"))
		wantKind(t, err, gate.TargetDown)
	}
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("20 requests took %v to learn that the target is down", took)
	}
	if l, err = net.Listen("tcp", addr); err != nil {
		t.Fatal(err)
	}
	serveFake(t, l, answerOnly)
	eventually(t, "the target is used", func() bool { _, err := serve(t, b, read("data/a")); return err == nil })
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: got %v, want nil", err)
	}
}

func TestTokenIsNotLogged(t *testing.T) {
	var log lockedBuffer
	v := newRoleVault(t)
	b := newVault(t, upstream.Config{Target: v.target(), Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}).Mount("secret", 2)
	mustServe(t, b, read("data/a"))
	eventually(t, "the token may be doubted again", trustOver(time.Now()))
	v.kill()
	mustServe(t, b, read("data/a"))
	text := log.String()
	if !strings.Contains(text, "logged in") || !strings.Contains(text, "died") {
		t.Errorf("the log doesn't say what happened:\n%s", text)
	}
	if strings.Contains(text, "hvs.") || strings.Contains(text, "s-77") {
		t.Errorf("the log holds a secret:\n%s", text)
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// together runs f n times at once.
func together(t *testing.T, n int, f func() error) {
	t.Helper()
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if err := f(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}
