package h1_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bailiff-secrets/bailiff/internal/h1"
)

// handler does what the last part of a path says.
func handler(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	w.Header().Set("Content-Type", "text/plain")
	switch name {
	case "none":
		w.WriteHeader(http.StatusNoContent)
	case "silent":
	case "late-header":
		w.WriteHeader(http.StatusTeapot)
		w.Header().Set("X-Late", "1")
		w.WriteHeader(http.StatusOK)
	case "split":
		w.Header().Set("X-Odd", "a\r\nX-Injected: b")
	case "length":
		w.Header().Set("Content-Length", "5")
		io.WriteString(w, "12345") //nolint:errcheck // as a handler does
	case "short":
		w.Header().Set("Content-Length", "5")
		io.WriteString(w, "123") //nolint:errcheck // as a handler does
	case "long":
		w.Header().Set("Content-Length", "2")
		io.WriteString(w, "12") //nolint:errcheck // as a handler does
		if _, err := io.WriteString(w, "345"); !errors.Is(err, http.ErrContentLength) {
			panic("no error")
		}
	case "abort":
		io.WriteString(w, "part") //nolint:errcheck // as a handler does
		panic(http.ErrAbortHandler)
	case "panic":
		panic("boom")
	case "flush":
		io.WriteString(w, "one") //nolint:errcheck // as a handler does
		if err := http.NewResponseController(w).Flush(); err != nil {
			panic(err)
		}
		io.WriteString(w, "two") //nolint:errcheck // as a handler does
	case "large":
		for range 100 {
			w.Write(bytes.Repeat([]byte("x"), 10_000)) //nolint:errcheck // as a handler does
		}
	case "huge":
		w.Write(bytes.Repeat([]byte("x"), 200_000)) //nolint:errcheck // as a handler does
	case "ignore":
		io.WriteString(w, "ignored") //nolint:errcheck // as a handler does
	case "close":
		w.Header().Set("Connection", "close")
	default:
		b, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s %s %q %d %q %v", r.Method, r.RequestURI, r.URL.Path, r.Host, r.Header, r.ContentLength, b, err) //nolint:errcheck // as a handler does
	}
}

func behind(h http.HandlerFunc) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
}

// serving starts s and returns its address.
func serving(t *testing.T, s interface {
	Serve(l net.Listener) error
	Close() error
}, wrap func(net.Listener) net.Listener,
) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if wrap != nil {
		l = wrap(l)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close() //nolint:errcheck // it may be closed already
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return addr
}

// talk sends text and returns everything that comes back, without dates, until the other side closes or is silent for a while.
func talk(t *testing.T, addr, text string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	br := bufio.NewReader(c)
	for n := strings.Count(text, " HTTP/1."); n > 0; n-- {
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			fmt.Fprintf(&out, "(%v)", err)
			break
		}
		body, err := io.ReadAll(resp.Body)
		if resp.Header.Get("Date") == "" && resp.StatusCode != http.StatusBadRequest {
			t.Error("an answer without a date")
		}
		resp.Header.Del("Date")
		sum := string(body)
		if len(sum) > 1000 {
			sum = strconv.Itoa(len(sum)) + " bytes"
		}
		fmt.Fprintf(&out, "%s %v length %d chunks %v close %v: %s (%v)\n", resp.Status, resp.Header, resp.ContentLength, resp.TransferEncoding, resp.Close, sum, err)
		if resp.Close {
			break
		}
	}
	return out.String()
}

// request is a request with the header lines more.
func request(line string, more ...string) string {
	return line + " HTTP/1.1\r\nHost: x\r\n" + join(more) + "\r\n"
}

func join(lines []string) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l + "\r\n")
	}
	return b.String()
}

// TestLikeNetHTTP sends the same bytes to net/http and to this package before net/http.
func TestLikeNetHTTP(t *testing.T) {
	body := strings.Repeat("b", 5000)
	scripts := map[string]string{
		"a read":                            request("GET /v1/a", "X-A: 1", "x-a: 2"),
		"a query and escapes":               request("GET /v1/a%2Fb?x=1"),
		"two in a row":                      request("GET /v1/a") + request("LIST /v1/b"),
		"a plain one, then an odd one":      request("GET /v1/a") + request("GET /v2/a") + request("GET /v1/c"),
		"an odd one, then a plain one":      request("HEAD /v1/none") + request("GET /v1/c"),
		"a body":                            request("PUT /v1/a", "Content-Length: 3") + "abc" + request("GET /v1/b"),
		"a body in chunks":                  request("PUT /v1/a", "Transfer-Encoding: chunked") + "3\r\nabc\r\n0\r\n\r\n" + request("GET /v1/b"),
		"a large body":                      request("PUT /v1/a", "Content-Length: 5000") + body + request("GET /v1/b"),
		"a body of none":                    request("POST /v1/a", "Content-Length: 0"),
		"a body that nobody reads":          request("PUT /v1/ignore", "Content-Length: 5000") + body + request("GET /v1/b"),
		"a huge body that nobody reads":     request("PUT /v1/ignore", "Content-Length: 1000000") + strings.Repeat("c", 1000000),
		"nothing to say":                    request("GET /v1/none") + request("GET /v1/silent"),
		"headers that come late":            request("GET /v1/late-header"),
		"a header that would be two":        request("GET /v1/split"),
		"a length":                          request("GET /v1/length") + request("GET /v1/a"),
		"less than was said":                request("GET /v1/short") + request("GET /v1/a"),
		"more than was said":                request("GET /v1/long") + request("GET /v1/a"),
		"a panic":                           request("GET /v1/panic"),
		"a flush":                           request("GET /v1/flush") + request("GET /v1/a"),
		"a large answer":                    request("GET /v1/large") + request("GET /v1/a"),
		"a huge write":                      request("GET /v1/huge") + request("GET /v1/a"),
		"a handler that closes":             request("GET /v1/close") + request("GET /v1/a"),
		"a client that closes":              request("GET /v1/a", "Connection: close"),
		"HTTP/1.0":                          "GET /v1/a HTTP/1.0\r\n\r\n",
		"Expect":                            request("PUT /v1/a", "Expect: nonsense", "Content-Length: 0"),
		"no host":                           "GET /v1/a HTTP/1.1\r\n\r\n",
		"two lengths":                       request("PUT /v1/a", "Content-Length: 3", "Content-Length: 4") + "abcd",
		"a length and chunks":               request("PUT /v1/a", "Content-Length: 3", "Transfer-Encoding: chunked") + "0\r\n\r\n",
		"a folded line":                     request("GET /v1/a", "X-A: 1", " 2"),
		"a name with a blank":               request("GET /v1/a", "X-A : 1"),
		"a control character":               request("GET /v1/a", "X-A: \x01"),
		"bare line feeds":                   "GET /v1/a HTTP/1.1\nHost: x\n\n",
		"an absolute target":                request("GET http://y/v1/a"),
		"a header too large for one buffer": request("GET /v1/a", "X-A: "+strings.Repeat("a", 9000)) + request("GET /v1/b"),
		"not HTTP at all":                   "hello HTTP/1.\r\n\r\n",
	}
	ours := serving(t, h1.New(behind(handler), "/v1/"), nil)
	theirs := serving(t, behind(handler), nil)
	for name, text := range scripts {
		want, got := talk(t, theirs, text), talk(t, ours, text)
		if name != "a large answer" && name != "a huge write" && name != "a large body" { // which are cut into chunks otherwise
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-net/http +h1):\n%s", name, diff)
			}
		} else if got == "" || strings.Count(want, "\n") != strings.Count(got, "\n") {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

// TestSlowHead ends connections that take too long to say what they want.
func TestSlowHead(t *testing.T) {
	s := behind(handler)
	s.ReadHeaderTimeout = 100 * time.Millisecond
	addr := serving(t, h1.New(s, "/v1/"), nil)
	for _, text := range []string{"", "GE", "GET /v1/a HTTP/1.1\r\nHost: x\r\n"} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, text)                        //nolint:errcheck // what comes back counts
		c.SetReadDeadline(time.Now().Add(time.Minute)) //nolint:errcheck // as above
		start := time.Now()
		if b, err := io.ReadAll(c); err != nil || len(b) > 0 || time.Since(start) > 30*time.Second {
			t.Errorf("%q: got %q, %v after %v; want the end after a tenth of a second", text, b, err, time.Since(start))
		}
		c.Close()
	}
}

func TestAHeadInPieces(t *testing.T) {
	addr := serving(t, h1.New(behind(handler), "/v1/"), nil)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	br := bufio.NewReader(c)
	for range 2 {
		for _, b := range []byte(request("PUT /v1/echo", "Content-Length: 3") + "abc") {
			if _, err := c.Write([]byte{b}); err != nil {
				t.Fatal(err)
			}
		}
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		if resp.Body.Close(); err != nil || !strings.Contains(string(b), `"abc" <nil>`) {
			t.Errorf("got %s, %v", b, err)
		}
	}
}

// TestAClientThatGoesAway shows that a handler learns of it.
func TestAClientThatGoesAway(t *testing.T) {
	begun, ended := make(chan struct{}), make(chan error)
	addr := serving(t, h1.New(behind(func(_ http.ResponseWriter, r *http.Request) {
		begun <- struct{}{}
		<-r.Context().Done()
		ended <- r.Context().Err()
	}), "/v1/"), nil)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(c, request("GET /v1/a")+request("GET /v1/b")) //nolint:errcheck // the handler shows it
	<-begun
	c.Close()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestShutdown lets what is under way end, closes what is idle, and takes nothing new.
func TestShutdown(t *testing.T) {
	begun, on := make(chan struct{}), make(chan struct{})
	s := h1.New(behind(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/wait" {
			begun <- struct{}{}
			<-on
		}
		io.WriteString(w, "done") //nolint:errcheck // the client shows it
	}), "/v1/")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	idle, busy := dial(t, l), dial(t, l)
	io.WriteString(idle, request("GET /v1/a")) //nolint:errcheck // the answer shows it
	if resp, err := http.ReadResponse(bufio.NewReader(idle), nil); err != nil || resp.ContentLength != 4 {
		t.Fatalf("got %v, %v", resp, err)
	}
	io.WriteString(busy, request("GET /v1/wait")) //nolint:errcheck // the handler shows it
	<-begun
	down := make(chan error, 1)
	go func() { down <- s.Shutdown(context.Background()) }()
	if _, err := idle.Read(make([]byte, 1)); err == nil {
		t.Error("the idle connection was not closed")
	}
	select {
	case err := <-down:
		t.Errorf("it was down before the handler had ended: %v", err)
	default:
	}
	close(on)
	resp, err := http.ReadResponse(bufio.NewReader(busy), nil)
	if err != nil || !resp.Close {
		t.Errorf("got %v, %v; want an answer that says it is the last", resp, err)
	}
	if err := <-down; err != nil {
		t.Error(err)
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
	if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
		c.Close()
		t.Error("it still takes connections")
	}
}

func dial(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	return dialAddr(t, l.Addr().String())
}

func dialAddr(t testing.TB, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestTLS serves HTTP/1.1 and HTTP/2, and tells handlers of the connection in each way that a request can take.
func TestTLS(t *testing.T) {
	pair := httptest.NewUnstartedServer(nil)
	pair.StartTLS()
	defer pair.Close()
	config := &tls.Config{Certificates: pair.TLS.Certificates, NextProtos: []string{"h2", "http/1.1"}, ClientAuth: tls.RequestClientCert}
	addr := serving(t, h1.New(behind(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %v", r.Proto, r.TLS != nil && r.TLS.HandshakeComplete) //nolint:errcheck // the client shows it
	}), "/v1/"), func(l net.Listener) net.Listener { return tls.NewListener(h1.Limit(l, 10), config) })
	for _, c := range []struct {
		h2         bool
		path, want string
	}{{false, "/v1/a", "HTTP/1.1 true"}, {false, "/v2/a", "HTTP/1.1 true"}, {true, "/v1/a", "HTTP/2.0 true"}} {
		tr := pair.Client().Transport.(*http.Transport).Clone() //nolint:errcheck // it is one
		tr.ForceAttemptHTTP2 = c.h2
		if !c.h2 {
			tr.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
			tr.TLSClientConfig.NextProtos = []string{"http/1.1"}
		}
		resp, err := (&http.Client{Transport: tr}).Get("https://" + addr + c.path) //nolint:noctx // a test has its own end
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		tr.CloseIdleConnections()
		if err != nil || string(b) != c.want {
			t.Errorf("%+v: got %s, %v", c, b, err)
		}
	}
}

// TestLimit holds back a connection too many until another is closed.
func TestLimit(t *testing.T) {
	addr := serving(t, h1.New(behind(handler), "/v1/"), func(l net.Listener) net.Listener { return h1.Limit(l, 1) })
	first, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(first, request("GET /v1/a")) //nolint:errcheck // the answer shows it
	if _, err := first.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	second, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	io.WriteString(second, request("GET /v1/a"))                  //nolint:errcheck // the answer shows it
	second.SetReadDeadline(time.Now().Add(50 * time.Millisecond)) //nolint:errcheck // as above
	if _, err := second.Read(make([]byte, 1)); err == nil {
		t.Error("the second connection was served beside the first")
	}
	first.Close()
	second.SetReadDeadline(time.Now().Add(30 * time.Second)) //nolint:errcheck // as above
	if _, err := second.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
}
