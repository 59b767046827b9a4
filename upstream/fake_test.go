package upstream_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/internal/testenv"
	"github.com/bailiff-secrets/bailiff/policy"
	"github.com/bailiff-secrets/bailiff/upstream"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// canary is the token that Bailiff has at fake targets. It must never be seen anywhere else.
const canary = "hvs.canary-7d1f"

// seen is one request as it stood on the wire.
type seen struct {
	line   string // "GET /v1/secret/a HTTP/1.1"
	header http.Header
	body   []byte
	err    error // why the body could not be read to its end
	conn   int   // which connection it came on: 1, 2, …
}

func (s *seen) is(prefix string) bool { return strings.HasPrefix(s.line, prefix) }

// fake is a target that answers whatever a test wants, in bytes.
type fake struct {
	addr string

	mu    sync.Mutex
	conns []net.Conn
	got   []seen
}

const alive = `{"data":{"ttl":0,"renewable":false}}`

func ok(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

func refuse(code int, words string) string {
	body := fmt.Sprintf(`{"errors":[%q]}`, words)
	return fmt.Sprintf("HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", code, len(body), body)
}

// newFake starts a target. A lookup of the token says that it lives; serve answers all else by writing to the connection,
// and may close it.
func newFake(t *testing.T, serve func(c net.Conn, s *seen)) *fake {
	t.Helper()
	return newBareFake(t, func(c net.Conn, s *seen) {
		if s.is("GET /v1/auth/token/lookup-self ") {
			io.WriteString(c, ok(alive)) //nolint:errcheck // a test sees what is missing
			return
		}
		serve(c, s)
	})
}

func newBareFake(t *testing.T, serve func(c net.Conn, s *seen)) *fake {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveFake(t, l, serve)
}

func serveFake(t *testing.T, l net.Listener, serve func(c net.Conn, s *seen)) *fake {
	f := &fake{addr: "http://" + l.Addr().String()}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.conns = append(f.conns, c)
			n := len(f.conns)
			f.mu.Unlock()
			wg.Go(func() { f.talk(c, n, serve) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		f.mu.Lock()
		for _, c := range f.conns {
			c.Close()
		}
		f.mu.Unlock()
		wg.Wait()
	})
	return f
}

func (f *fake) talk(c net.Conn, n int, serve func(c net.Conn, s *seen)) {
	defer c.Close()
	var raw bytes.Buffer
	br := bufio.NewReader(io.TeeReader(c, &raw))
	for {
		raw.Reset()
		first, err := br.Peek(1) // fills raw
		if err != nil || len(first) == 0 {
			return
		}
		line, _, _ := strings.Cut(raw.String(), "\r\n")
		r, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		s := seen{line: line, header: r.Header, conn: n}
		s.header["Host"] = []string{r.Host}
		if len(r.TransferEncoding) > 0 {
			s.header["Transfer-Encoding"] = r.TransferEncoding
		}
		s.body, s.err = io.ReadAll(r.Body)
		f.mu.Lock()
		f.got = append(f.got, s)
		f.mu.Unlock()
		serve(c, &s)
	}
}

// all are the requests so far whose request line begins with prefix.
func (f *fake) all(prefix string) []seen {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []seen
	for _, s := range f.got {
		if s.is(prefix) {
			out = append(out, s)
		}
	}
	return out
}

func (f *fake) connections() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.conns)
}

// waitClosed waits until the other side has closed connection n.
func (f *fake) waitClosed(t *testing.T, n int) {
	t.Helper()
	f.mu.Lock()
	c := f.conns[n-1]
	f.mu.Unlock()
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.Copy(io.Discard, c); errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
		t.Errorf("connection %d is still open", n)
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

func tokenTarget(addr string) object.Target {
	return object.Target{
		Name: "vault-a", Type: "vault", Address: addr,
		Auth: &object.VaultAuth{Method: "token", Token: secret.New(canary)},
	}
}

func newVault(t *testing.T, cfg upstream.Config) *upstream.Vault {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	v, err := upstream.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

// backendOf is the mount "secret" of a fake target.
func backendOf(t *testing.T, f *fake, kv int, change ...func(*upstream.Config)) gate.Backend {
	t.Helper()
	cfg := upstream.Config{Target: tokenTarget(f.addr)}
	for _, c := range change {
		c(&cfg)
	}
	return newVault(t, cfg).Mount("secret", kv)
}

func timeout(d time.Duration) func(*upstream.Config) {
	return func(c *upstream.Config) { c.Target.Timeout = object.Duration(d) }
}

func read(rest string) *gate.Request {
	return &gate.Request{Op: policy.Read, Path: "secret/" + rest, Rest: rest}
}

// write is an update with a body of known length, or of unknown length where known is false.
func write(rest string, body io.Reader, length int64) *gate.Request {
	return &gate.Request{Op: policy.Update, Path: "secret/" + rest, Rest: rest, ContentType: "application/json", Body: body, BodyLen: length}
}

// answered is an answer read to its end.
type answered struct {
	code   int
	header []gate.Field
	length int64
	body   string
	err    error // of the body
}

func serve(t *testing.T, b gate.Backend, r *gate.Request) (answered, error) {
	t.Helper()
	resp, err := b.Serve(t.Context(), r)
	if err != nil {
		return answered{}, err
	}
	defer resp.Raw.Body.Close()
	body, err := io.ReadAll(resp.Raw.Body)
	return answered{resp.Raw.Code, resp.Raw.Header, resp.Raw.Length, string(body), err}, nil
}

func mustServe(t *testing.T, b gate.Backend, r *gate.Request) answered {
	t.Helper()
	a, err := serve(t, b, r)
	if err != nil {
		t.Fatalf("Serve: %v", err)
	}
	if a.err != nil {
		t.Fatalf("read the body: %v", a.err)
	}
	return a
}

func wantKind(t *testing.T, err error, kind gate.Kind) *gate.Error {
	t.Helper()
	var said *gate.Error
	if !errors.As(err, &said) {
		t.Fatalf("got error %v, want a *gate.Error", err)
	}
	if said.Kind != kind {
		t.Errorf("got kind %d (%v), want %d", said.Kind, err, kind)
	}
	return said
}

// eventually polls cond.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("not in 20 s: %s", what)
		}
		<-tick.C
	}
}
