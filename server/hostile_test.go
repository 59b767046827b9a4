package server

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/secret"
)

// hitTarget is a Vault as far as a KV read goes; it keeps the bytes that came.
type hitTarget struct {
	addr string

	mu    sync.Mutex
	conns []net.Conn
	raw   bytes.Buffer
	n     int // requests of secrets
}

func newTarget(t *testing.T) *hitTarget {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	x := &hitTarget{addr: "http://" + l.Addr().String()}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			x.mu.Lock()
			x.conns = append(x.conns, c)
			x.mu.Unlock()
			wg.Go(func() { x.talk(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		x.mu.Lock()
		for _, c := range x.conns {
			c.Close()
		}
		x.mu.Unlock()
		wg.Wait()
	})
	return x
}

func (x *hitTarget) Write(p []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.raw.Write(p)
}

func (x *hitTarget) talk(c net.Conn) {
	defer c.Close()
	br := bufio.NewReader(io.TeeReader(c, x))
	for {
		r, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		io.Copy(io.Discard, r.Body)
		body := `{"request_id":"x","data":{"ttl":3600,"k":"v"}}`
		if !strings.HasSuffix(r.URL.Path, "/lookup-self") {
			x.mu.Lock()
			x.n++
			x.mu.Unlock()
		}
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "+strconv.Itoa(len(body))+"\r\n\r\n"+body)
	}
}

// take gives the bytes and the number of requests since the last call.
func (x *hitTarget) take() (string, int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	raw, n := x.raw.String(), x.n
	x.raw.Reset()
	x.n = 0
	return raw, n
}

// under is a server under attack.
type under struct {
	*server
	t      *testing.T
	addr   string
	target *hitTarget
	token  string
}

func newUnder(t *testing.T) *under {
	t.Helper()
	u := &under{server: newServer(t), t: t, target: newTarget(t)}
	apply(t, u.server,
		&object.Target{Name: "vault-a", Type: "vault", Address: u.target.addr, Auth: &object.VaultAuth{Method: "token", Token: secret.New("target-token")}},
		&object.Mount{Path: "secret", Type: "vault", Target: "vault-a", Engine: "kv", KVVersion: 2},
		&object.Policy{Name: "app", Rules: `path "secret/*" { capabilities = ["read", "list", "create", "update", "patch"] }`}, appRole, ci)
	key, err := identities{u.estate}.AddKey(t.Context(), "test", "ci", "", 0)
	if err != nil {
		t.Fatal(err)
	}
	u.token = key.AccessID + ".." + key.Key.Reveal()
	ln, err := listen(t.Context(), "127.0.0.1:0", nil, 100, nil)
	if err != nil {
		t.Fatal(err)
	}
	u.addr = ln.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	front := u.httpServer()
	go func() { ended <- serveUntil(ctx, front, ln) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return u
}

// send writes bytes, ends its side of the connection, and reads every answer.
func (u *under) send(wire string) (codes []int, bodies string) { return u.exchange(wire, false) }

// exchange is send; it may wait for the first answer before it ends its side, as one does who means to get it.
func (u *under) exchange(wire string, waits bool) (codes []int, bodies string) {
	u.t.Helper()
	c, err := net.Dial("tcp", u.addr)
	if err != nil {
		u.t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	written := make(chan struct{})
	go func() {
		defer close(written)
		io.WriteString(c, wire)
		if !waits {
			c.(*net.TCPConn).CloseWrite()
		}
	}()
	br := bufio.NewReader(c)
	for {
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			return codes, bodies
		}
		if resp.StatusCode == http.StatusContinue {
			continue
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		codes, bodies = append(codes, resp.StatusCode), bodies+string(b)
		if waits {
			<-written
			c.(*net.TCPConn).CloseWrite()
		}
	}
}

// newest is the newest record of a request.
func (u *under) newest() *audit.Record {
	u.t.Helper()
	var got *audit.Record
	err := u.trail.Query(u.t.Context(), audit.Query{Limit: 5}, func(r *audit.Record) error {
		if got == nil && r.Stage == audit.StageResponse {
			got = r
		}
		return nil
	})
	if err != nil {
		u.t.Fatal(err)
	}
	return got
}

func TestSmuggling(t *testing.T) {
	u := newUnder(t)
	auth := "Host: x\r\nX-Vault-Token: " + u.token + "\r\n"
	inner := "GET /v1/secret/data/smuggled HTTP/1.1\r\n" + auth + "\r\n"
	sized := func(headers, body string) string {
		return "PUT /v1/secret/data/a HTTP/1.1\r\n" + auth + headers + "\r\n" + body
	}
	for _, tt := range []struct {
		what, wire string
		code       int // of the first answer; 0: any 4xx or 5xx, or none
		requests   int // that may reach the target at most
	}{
		{"a request as it should be", "GET /v1/secret/data/a HTTP/1.1\r\n" + auth + "\r\n", 200, 1},
		{"two requests after one another", "GET /v1/secret/data/a HTTP/1.1\r\n" + auth + "\r\n" + inner, 200, 2},
		{"two different lengths", sized("Content-Length: 2\r\nContent-Length: 40\r\n", "{}"+inner), 400, 0},
		{"two lengths in one line", sized("Content-Length: 2, 40\r\n", "{}"+inner), 400, 0},
		{"a length and chunks", sized("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", "2\r\n{}\r\n0\r\n\r\n"+inner), 0, 1},
		{"chunks and a length", sized("Transfer-Encoding: chunked\r\nContent-Length: 400\r\n", "2\r\n{}\r\n0\r\n\r\n"+inner), 0, 1},
		{"chunks twice", sized("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "2\r\n{}\r\n0\r\n\r\n"+inner), 0, 0},
		{"chunks and identity", sized("Transfer-Encoding: chunked, identity\r\n", "2\r\n{}\r\n0\r\n\r\n"+inner), 0, 0},
		{"chunks in odd letters", sized("Transfer-Encoding: xchunked\r\n", "2\r\n{}\r\n0\r\n\r\n"+inner), 0, 0},
		{"chunks behind a vertical tab", sized("Transfer-Encoding: \x0bchunked\r\n", "2\r\n{}\r\n0\r\n\r\n"+inner), 0, 0},
		{"a space before the colon", sized("Transfer-Encoding : chunked\r\n", "2\r\n{}\r\n0\r\n\r\n"+inner), 400, 0},
		{"a folded line", sized("X-A: b\r\n Transfer-Encoding: chunked\r\nContent-Length: 2\r\n", "{}"), 0, 1},
		{"a chunk of a length that overflows", sized("Transfer-Encoding: chunked\r\n", "10000000000000002\r\n{}\r\n0\r\n\r\n"+inner), 0, 0},
		{"a chunk that ends in a bare line feed", sized("Transfer-Encoding: chunked\r\n", "2\n{}\n0\n\n"+inner), 0, 0},
		{"a chunk of a negative length", sized("Transfer-Encoding: chunked\r\n", "-2\r\n{}\r\n0\r\n\r\n"+inner), 0, 0},
		{"a negative length", sized("Content-Length: -2\r\n", "{}"+inner), 400, 0},
		{"a length with a sign", sized("Content-Length: +2\r\n", "{}"+inner), 400, 0},
		{"a length in hexadecimal", sized("Content-Length: 0x2\r\n", "{}"+inner), 400, 0},
		{"a body of a read", "GET /v1/secret/data/a HTTP/1.1\r\n" + auth + "Content-Length: " + strconv.Itoa(len(inner)) + "\r\n\r\n" + inner, 200, 1},
		{"an absolute target", "GET http://x/v1/secret/data/a HTTP/1.1\r\n" + auth + "\r\n", 400, 0},
		{"an absolute target elsewhere", "GET http://169.254.169.254/v1/secret/data/a HTTP/1.1\r\n" + auth + "\r\n", 400, 0},
		{"an authority", "CONNECT 127.0.0.1:8200 HTTP/1.1\r\n" + auth + "\r\n", 400, 0},
		{"a star", "OPTIONS * HTTP/1.1\r\n" + auth + "\r\n", 0, 0},
		{"a request line of two lines", "GET /v1/secret/data/a\r\nX: y HTTP/1.1\r\n" + auth + "\r\n", 400, 0},
		{"a carriage return in the target", "GET /v1/secret/data/a\rHost: y HTTP/1.1\r\n" + auth + "\r\n", 400, 0},
		{"a version of its own", "GET /v1/secret/data/a HTTP/1.9\r\n" + auth + "\r\n", 0, 1},
		{"HTTP/2 in the clear", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0, 0},
		{"an upgrade to it", "GET /v1/secret/data/a HTTP/1.1\r\n" + auth + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", 200, 1},
		{"two hosts", "GET /v1/secret/data/a HTTP/1.1\r\n" + auth + "Host: y\r\n\r\n", 400, 0},
		{"no host", "GET /v1/secret/data/a HTTP/1.1\r\nX-Vault-Token: " + u.token + "\r\n\r\n", 400, 0},
		{"a host with a path", "GET /v1/secret/data/a HTTP/1.1\r\nHost: x/../y\r\nX-Vault-Token: " + u.token + "\r\n\r\n", 400, 0},
		{"a zero in a header", "GET /v1/secret/data/a HTTP/1.1\r\n" + auth + "X-A: a\x00b\r\n\r\n", 400, 0},
		{"headers without an end", "GET /v1/secret/data/a HTTP/1.1\r\n" + auth + strings.Repeat("X-A: "+strings.Repeat("a", 1000)+"\r\n", 200) + "\r\n", 431, 0},
		{"a target without an end", "GET /v1/secret/data/" + strings.Repeat("a", 200_000) + " HTTP/1.1\r\n" + auth + "\r\n", 431, 0},
		{"a long target", "GET /v1/secret/data/" + strings.Repeat("a", 20_000) + " HTTP/1.1\r\n" + auth + "\r\n", 400, 0},
		{"TLS on a plain port", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, 0},
		{"rubbish", "\x00\x01\x02\r\n\r\n", 400, 0},
	} {
		u.target.take()
		before := u.trail.Head().Seq
		codes, bodies := u.exchange(tt.wire, tt.code == 200)
		raw, n := u.target.take()
		if n > tt.requests {
			t.Errorf("%s: %d requests reached the target, want at most %d:\n%q", tt.what, n, tt.requests, raw)
		}
		if tt.requests < 2 && strings.Contains(raw, "smuggled") {
			t.Errorf("%s: the second request reached the target:\n%q", tt.what, raw)
		}
		first := 0
		if len(codes) > 0 {
			first = codes[0]
		}
		if tt.code != 0 && first != tt.code {
			t.Errorf("%s: got %v %q, want first %d", tt.what, codes, bodies, tt.code)
		}
		if tt.code != 200 && !(first == 200 && tt.code == 0 && tt.requests == 1) {
			if first > 0 && first < 400 {
				t.Errorf("%s: got %v %q", tt.what, codes, bodies)
			}
			waitFor(t, tt.what+": it is recorded", func() bool { return u.trail.Head().Seq > before })
		}
	}
}

func TestWhatCanNotBeReadIsRecorded(t *testing.T) {
	u := newUnder(t)
	auth := "Host: x\r\nX-Vault-Token: " + u.token + "\r\n"
	good := "GET /v1/secret/data/a HTTP/1.1\r\n" + auth + "\r\n"
	for what, wire := range map[string]string{
		"at once":                   "rubbish\r\n\r\n",
		"after a good request":      good + "rubbish\r\n\r\n",
		"after one of the slow way": "GET /v1/secret/data/a HTTP/1.1\r\nExpect: x\r\n" + auth + "\r\n" + good + "rubbish\r\n\r\n",
		"that stops in the middle":  "GET /v1/secret/data/a HTTP/1.1\r\nHost",
	} {
		before := u.trail.Head().Seq
		u.send(wire)
		waitFor(t, what, func() bool {
			rec := u.newest()
			return rec != nil && rec.Seq > before && rec.Status == audit.Refused && rec.Error == "what came could not be read as an HTTP request" && rec.ClientAddr == "127.0.0.1"
		})
	}
	before := u.trail.Head().Seq
	for range 3 {
		if codes, _ := u.exchange(good+good, true); len(codes) != 2 {
			t.Errorf("got %v", codes)
		}
	}
	if n := u.trail.Head().Seq - before; n != 6 {
		t.Errorf("six good requests: got %d records", n)
	}
}

func TestNothingOfAClientsHeadersReachesATarget(t *testing.T) {
	u := newUnder(t)
	u.target.take()
	codes, bodies := u.exchange("GET /v1/secret/data/a HTTP/1.1\r\nHost: evil.example\r\nX-Vault-Token: "+u.token+"\r\n"+
		"Connection: X-Vault-Token, close\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Host: evil\r\nForwarded: for=evil\r\nX-Vault-Namespace: root\r\n"+
		"Cookie: evil\r\nProxy-Authorization: evil\r\nTE: trailers\r\nTrailer: X-Evil\r\nKeep-Alive: 5\r\nX-Http-Method-Override: DELETE\r\n"+
		"X-Original-Url: /v1/sys/seal\r\nX-Rewrite-Url: /v1/sys/seal\r\nX-Vault-Policy-Override: true\r\nUser-Agent: evil\r\nReferer: evil\r\n\r\n", true)
	if len(codes) != 1 || codes[0] != 200 {
		t.Fatalf("got %v %s", codes, bodies)
	}
	raw, n := u.target.take()
	_, raw, _ = strings.Cut(raw, "GET /v1/secret/data/a HTTP/1.1\r\n")
	if n != 1 || raw == "" {
		t.Fatalf("got %d requests, %q", n, raw)
	}
	for _, bad := range []string{"evil", "1.2.3.4", u.token, "sys/seal", "Override", "Trailer"} {
		if strings.Contains(raw, bad) {
			t.Errorf("%q reached the target:\n%s", bad, raw)
		}
	}
	if !strings.Contains(raw, "Host: "+strings.TrimPrefix(u.target.addr, "http://")+"\r\n") || !strings.Contains(raw, "X-Vault-Token: target-token\r\n") {
		t.Errorf("the target got %q", raw)
	}
}

func TestTheOtherDoorIsAsStrict(t *testing.T) {
	u := newUnder(t)
	auth := "Host: x\r\nAuthorization: Bearer " + u.token + "\r\n"
	post := func(headers, body string) string {
		return "POST /api/v1/usc/get HTTP/1.1\r\n" + auth + headers + "\r\n" + body
	}
	inner := "GET /v1/secret/data/smuggled HTTP/1.1\r\n" + auth + "\r\n"
	for what, wire := range map[string]string{
		"two different lengths":    post("Content-Length: 2\r\nContent-Length: 40\r\n", "{}"+inner),
		"a negative length":        post("Content-Length: -2\r\n", "{}"+inner),
		"chunks in odd letters":    post("Transfer-Encoding: xchunked\r\n", "2\r\n{}\r\n0\r\n\r\n"+inner),
		"an absolute target":       "GET http://x/api/v1/status HTTP/1.1\r\n" + auth + "\r\n",
		"dots":                     "GET /api/v1/../../v1/secret/data/a HTTP/1.1\r\n" + auth + "\r\n",
		"encoded dots":             "GET /api/v1/%2e%2e/%2e%2e/v1/secret/data/a HTTP/1.1\r\n" + auth + "\r\n",
		"another method":           "BREW /api/v1/status HTTP/1.1\r\n" + auth + "\r\n",
		"a body that is too large": post("Content-Length: 99999999999\r\n", "{}"),
		"a length that overflows":  post("Content-Length: 99999999999999999999999\r\n", "{}"),
		"a zero in the target":     "GET /api/v1/sta\x00tus HTTP/1.1\r\n" + auth + "\r\n",
	} {
		u.target.take()
		before := u.trail.Head().Seq
		codes, bodies := u.send(wire)
		if len(codes) == 0 || codes[0] < 400 || len(codes) > 1 {
			t.Errorf("%s: got %v %s", what, codes, bodies)
		}
		if raw, n := u.target.take(); n != 0 {
			t.Errorf("%s: %q reached the target", what, raw)
		}
		waitFor(t, what+": it is recorded", func() bool { return u.trail.Head().Seq > before })
	}
}

func TestSlowClientsAreCutOff(t *testing.T) {
	u := newUnder(t)
	u.cfg.Limits.ReadHeaderTimeout = 300 * time.Millisecond
	ln, err := listen(t.Context(), "127.0.0.1:0", nil, 100, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	front := u.httpServer()
	go func() { ended <- serveUntil(ctx, front, ln) }()
	defer func() { stop(); <-ended }()
	for what, wire := range map[string]string{
		"nothing":             "",
		"half a request line": "GET /v1/sec",
		"half the headers":    "GET /v1/secret/data/a HTTP/1.1\r\nHost: x\r\nX-A: b\r\n",
	} {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(5 * time.Second))
		io.WriteString(c, wire)
		stopped := make(chan struct{})
		go func() { // a header a tenth of a second, so that it never pauses for long
			defer close(stopped)
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for range 60 {
				<-tick.C
				if wire == "" {
					return
				}
				if _, err := io.WriteString(c, "X"); err != nil {
					return
				}
			}
		}()
		start := time.Now()
		io.Copy(io.Discard, c)
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("%s: the connection was held for %v", what, took)
		}
		c.Close()
		<-stopped
	}
}
