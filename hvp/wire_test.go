package hvp_test

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/internal/vpath"
	"github.com/bailiff-secrets/bailiff/internal/vpath/vpathtest"
	"github.com/bailiff-secrets/bailiff/upstream"
)

// recording is a target that remembers the request lines that arrive, byte for byte.
type recording struct {
	addr string

	mu    sync.Mutex
	lines []string
}

func newRecording(t *testing.T) *recording {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &recording{addr: "http://" + l.Addr().String()}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { r.talk(c) })
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return r
}

func (r *recording) talk(c net.Conn) {
	defer c.Close()
	br := bufio.NewReader(c)
	for {
		line, err := br.ReadString('\n')
		if err != nil {
			return
		}
		if !strings.HasPrefix(line, "GET /v1/auth/token/lookup-self ") {
			r.mu.Lock()
			r.lines = append(r.lines, strings.TrimSuffix(line, "\r\n"))
			r.mu.Unlock()
		}
		for line != "\r\n" {
			if line, err = br.ReadString('\n'); err != nil {
				return
			}
		}
		io.WriteString(c, answerTTL)
	}
}

const answerTTL = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 21\r\n\r\n" + `{"data":{"ttl":3600}}`

func (r *recording) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	lines := r.lines
	r.lines = nil
	return lines
}

// through is a gate before target, where Bailiff logs in with token ("t"), with nothing between that judges.
func through(t *testing.T, target *recording, token ...string) *doer {
	t.Helper()
	own := append(token, "t")[0]
	v, err := upstream.New(upstream.Config{
		Target: object.Target{Name: "vault-a", Type: "vault", Address: target.addr, Auth: &object.VaultAuth{Method: "token", Token: secret.New(own)}},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return &doer{serve: func(ctx context.Context, r *gate.Request) (*gate.Response, error) {
		mount, rest, _ := strings.Cut(r.Path, "/")
		r.Rest = rest
		return v.Mount(remote(mount), 2).Serve(ctx, r)
	}}
}

// remote is the target's name for a mount; its sys never passes, so here that has another.
func remote(mount string) string {
	if mount == "sys" {
		return "m-sys"
	}
	return mount
}

func TestOddPathsNeverArrive(t *testing.T) {
	target := newRecording(t)
	d := through(t, target)
	s := newServer(t, d)
	for _, odd := range vpathtest.Odd {
		_, before := d.counts()
		got := send(t, s, request("GET /v1/"+odd.Escaped, "X-Vault-Token: t"))
		if got.code != 400 {
			t.Errorf("%s (%.60q): got %d, want 400", odd.Why, odd.Escaped, got.code)
		}
		done, refused := d.counts()
		if done != 0 {
			t.Fatalf("%s (%.60q): it reached the gate", odd.Why, odd.Escaped)
		}
		// What net/http can't parse it refuses itself, before any handler.
		if parsed := got.header.Get("Cache-Control") == "no-store"; parsed != (refused == before+1) {
			t.Errorf("%s (%.60q): got %d refusals recorded", odd.Why, odd.Escaped, refused-before)
		}
	}
	if lines := target.take(); len(lines) != 0 {
		t.Errorf("got %q at the target, want nothing", lines)
	}
	if _, refused := d.counts(); refused < 60 {
		t.Errorf("got %d refusals recorded, want most of the %d", refused, len(vpathtest.Odd))
	}
}

func TestGoodPathsArriveAsTheyWereJudged(t *testing.T) {
	target := newRecording(t)
	d := through(t, target)
	s := newServer(t, d)
	for _, good := range vpathtest.Good {
		got := send(t, s, request("GET /v1/"+good.Escaped, "X-Vault-Token: t"))
		if got.code != 200 {
			t.Errorf("%.60q: got %d %s, want 200", good.Escaped, got.code, got.body)
			continue
		}
		if judged := d.last(t).Path; judged != good.Path {
			t.Errorf("%.60q: got %q judged, want %q", good.Escaped, judged, good.Path)
		}
		mount, rest, _ := strings.Cut(good.Path, "/")
		want := "GET /v1/" + strings.TrimSuffix(vpath.Escape(remote(mount)+"/"+rest), "/") + " HTTP/1.1"
		if lines := target.take(); len(lines) != 1 || lines[0] != want {
			t.Errorf("%.60q: got %q at the target, want %q", good.Escaped, lines, want)
		}
	}
}

func TestHeadersOfTheClientDoNotArrive(t *testing.T) {
	var got http.Header
	target := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/lookup-self") {
			got = r.Header.Clone()
		}
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"data":{"ttl":3600}}`)
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go target.Serve(l)
	t.Cleanup(func() { target.Close() })
	s := newServer(t, through(t, &recording{addr: "http://" + l.Addr().String()}))
	send(t, s, request("GET /v1/secret/a", "X-Vault-Token: client", "Authorization: Bearer client", "Cookie: a=b", "X-Forwarded-For: 1.2.3.4",
		"X-Vault-Policy-Override: true", "X-Vault-MFA: x", "X-Vault-No-Request-Forwarding: true", "Accept-Encoding: gzip", "User-Agent: evil",
		"Range: bytes=0-1", "If-None-Match: x", "Connection: X-Vault-Token", "Upgrade: h2c", "X-Vault-Index: i"))
	want := http.Header{"User-Agent": {"bailiff"}, "X-Vault-Request": {"true"}, "X-Vault-Token": {"t"}, "X-Vault-Index": {"i"}}
	for name := range got {
		if want[name] == nil {
			t.Errorf("%s arrived: %q", name, got[name])
		}
	}
	for name := range want {
		if got.Get(name) != want.Get(name) {
			t.Errorf("got %s: %q, want %q", name, got.Get(name), want.Get(name))
		}
	}
}
