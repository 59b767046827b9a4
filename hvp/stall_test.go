package hvp_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
)

// pipes is a net.Listener of connections that live in memory, so that time may be a bubble's own.
type pipes struct {
	conns chan net.Conn
	once  *sync.Once
}

func (p pipes) Accept() (net.Conn, error) {
	c, ok := <-p.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (p pipes) Close() error {
	p.once.Do(func() { close(p.conns) })
	return nil
}

func (p pipes) Addr() net.Addr { return &net.UnixAddr{Name: "memory"} }

// overPipe serves one connection in a bubble and gives a test the client's end of it.
func overPipe(t *testing.T, d *doer, talk func(c net.Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := pipes{make(chan net.Conn), new(sync.Once)}
		s := &http.Server{Handler: newHandler(t, d)}
		ended := make(chan struct{})
		go func() { s.Serve(l); close(ended) }()
		client, server := net.Pipe()
		l.conns <- server
		talk(client)
		client.Close()
		s.Close()
		<-ended
	})
}

func readsBody() *doer {
	return &doer{serve: func(_ context.Context, r *gate.Request) (*gate.Response, error) {
		if _, err := io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		return &gate.Response{Status: gate.NoContent}, nil
	}}
}

func TestBodyThatStalls(t *testing.T) {
	overPipe(t, readsBody(), func(c net.Conn) {
		io.WriteString(c, "PUT /v1/secret/a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
		start := time.Now()
		a := readAnswer(t, c, "PUT")
		if took := time.Since(start); a.code != 400 || !strings.Contains(a.body, "in time") || took != 30*time.Second {
			t.Errorf("got %d %s after %v, want 400 after 30 s", a.code, a.body, took)
		}
	})
}

func TestBodyThatNobodyReadsStalls(t *testing.T) {
	for _, target := range []string{"GET /v1/secret/a", "PUT /v1/secret/a/", "GET /v1/sys/health"} {
		overPipe(t, &doer{}, func(c net.Conn) {
			io.WriteString(c, target+" HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
			start := time.Now()
			readAnswer(t, c, "GET")
			if took := time.Since(start); took > 31*time.Second {
				t.Errorf("%s: the connection was held for %v, want 30 s", target, took)
			}
		})
	}
}

func TestBodyThatTrickles(t *testing.T) {
	overPipe(t, readsBody(), func(c net.Conn) {
		stop := make(chan struct{})
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			io.WriteString(c, "PUT /v1/secret/a HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
			tick := time.NewTicker(20 * time.Second)
			defer tick.Stop()
			for {
				select {
				case <-stop:
					return
				case <-tick.C:
					if _, err := io.WriteString(c, "x"); err != nil {
						return
					}
				}
			}
		}()
		start := time.Now()
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Error(err)
		} else if took := time.Since(start); resp.StatusCode != 400 || took != 5*time.Minute {
			t.Errorf("got %d after %v, want 400 after 5 minutes", resp.StatusCode, took)
		}
		close(stop)
		c.Close()
		<-stopped
	})
}

func TestSlowTargetIsNoStall(t *testing.T) {
	d := readsBody()
	inner := d.serve
	d.serve = func(ctx context.Context, r *gate.Request) (*gate.Response, error) {
		resp, err := inner(ctx, r)
		select { // longer than the body might have paused
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(10 * time.Minute):
			return resp, err
		}
	}
	overPipe(t, d, func(c net.Conn) {
		io.WriteString(c, withBody("PUT /v1/secret/a", "{}"))
		if a := readAnswer(t, c, "PUT"); a.code != 204 {
			t.Errorf("got %d %s, want 204", a.code, a.body)
		}
	})
}
