package upstream_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/upstream"
)

// hold leaves a connection open without saying more, until the test ends or the other side closes it.
func hold(c net.Conn) { io.Copy(io.Discard, c) }

func TestHostileTargets(t *testing.T) {
	const secretText = "s3cr3t-5be1"
	head := "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
	say := func(wire string) func(net.Conn) {
		return func(c net.Conn) {
			io.WriteString(c, wire)
			c.Close()
		}
	}
	tests := []struct {
		what  string
		serve func(net.Conn)
		kind  gate.Kind
		body  bool // the error is in the middle of the body
	}{
		{"closes without a word", func(c net.Conn) { c.Close() }, gate.TargetDown, false},
		{"never answers", hold, gate.TargetSlow, false},
		{"stops inside the header", func(c net.Conn) { io.WriteString(c, head); hold(c) }, gate.TargetSlow, false},
		{"stops inside the body", func(c net.Conn) { io.WriteString(c, head+"Content-Length: 10\r\n\r\nabc"); hold(c) }, gate.TargetSlow, true},
		{"stops inside a chunk", func(c net.Conn) {
			io.WriteString(c, head+"Transfer-Encoding: chunked\r\n\r\na\r\nabc")
			hold(c)
		}, gate.TargetSlow, true},
		{"ends the body early", say(head + "Content-Length: 10\r\n\r\nabc"), gate.TargetDown, true},
		{"ends inside a chunk", say(head + "Transfer-Encoding: chunked\r\n\r\na\r\nabc"), gate.TargetDown, true},
		{"ends before the last chunk", say(head + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"), gate.TargetDown, true},
		{"says two lengths", say(head + "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc"), gate.TargetDown, false},
		{"says a negative length", say(head + "Content-Length: -1\r\n\r\nabc"), gate.TargetDown, false},
		{"says a length that is no number", say(head + "Content-Length: +3\r\n\r\nabc"), gate.TargetDown, false},
		{"says no length", say(head + "\r\nabc"), gate.TargetDown, false},
		{"says a chunk that is no number", say(head + "Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n"), gate.TargetDown, true},
		{"says an encoding of transfer that is none", say(head + "Transfer-Encoding: chunked, gzip\r\n\r\nabc"), gate.TargetDown, false},
		{"answers what is not HTTP", say(secretText + "\r\n\r\n"), gate.TargetDown, false},
		{"answers HTTP/2", say("HTTP/2.0 200 OK\r\nContent-Length: 3\r\n\r\nabc"), gate.TargetDown, false},
		{"answers a header line without a colon", say("HTTP/1.1 200 OK\r\n" + secretText + "\r\n\r\n"), gate.TargetDown, false},
		{"answers too much header", func(c net.Conn) {
			line := "X-Bomb: " + strings.Repeat("x", 8<<10) + "\r\n"
			io.WriteString(c, head)
			for {
				if _, err := io.WriteString(c, line); err != nil {
					return
				}
			}
		}, gate.TargetDown, false},
		{"answers a header line without an end", func(c net.Conn) {
			io.WriteString(c, head+"X-Bomb: ")
			for {
				if _, err := io.WriteString(c, strings.Repeat("x", 8<<10)); err != nil {
					return
				}
			}
		}, gate.TargetDown, false},
		{"answers informational answers without an end", func(c net.Conn) {
			for {
				if _, err := io.WriteString(c, "HTTP/1.1 103 Early Hints\r\n\r\n"); err != nil {
					return
				}
			}
		}, gate.TargetDown, false},
		{"switches protocols", say("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nabc"), gate.TargetDown, false},
		{"answers a status that is none", say("HTTP/1.1 999 X\r\nContent-Length: 0\r\n\r\n"), gate.TargetDown, false},
		{"answers in an encoding", say(head + "Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc"), gate.TargetDown, false},
		{"answers a page", say("HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 6\r\n\r\n<html>"), gate.TargetDown, false},
		{"answers a picture with a script in it", say("HTTP/1.1 200 OK\r\nContent-Type: image/svg+xml\r\nContent-Length: 5\r\n\r\n<svg>"), gate.TargetDown, false},
		{"is sealed", say(refuse(503, "Vault is sealed")), gate.TargetDown, false},
		{"is a standby that does not serve", say(refuse(473, "")), gate.TargetDown, false},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			var log bytes.Buffer
			f := newFake(t, func(c net.Conn, _ *seen) { tt.serve(c) })
			b := backendOf(t, f, 2, timeout(300*time.Millisecond), func(c *upstream.Config) {
				c.Logger = slog.New(slog.NewTextHandler(&log, nil))
			})
			got, err := serve(t, b, read("data/a"))
			if tt.body {
				if err != nil {
					t.Fatalf("Serve: %v", err)
				}
				if err = got.err; !strings.HasPrefix("abc", got.body) {
					t.Errorf("got %q, want no more than was sent", got.body)
				}
			}
			said := wantKind(t, err, tt.kind)
			if text := said.Msg + said.Hint + log.String(); strings.Contains(text, secretText) || strings.Contains(text, canary) {
				t.Errorf("what the target said, or the token, is told on: %s", text)
			}
			if said.Err != nil && strings.Contains(said.Err.Error(), secretText) {
				t.Errorf("what the target said is in the cause: %v", said.Err)
			}
			if n := len(f.all("GET /v1/secret/data/a ")); n > 2 {
				t.Errorf("got %d requests, want at most 2", n)
			}
			f.waitClosed(t, f.connections())
		})
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	for _, code := range []string{"301", "302", "303", "307", "308"} {
		catcher := newBareFake(t, answerOK)
		f := newFake(t, func(c net.Conn, _ *seen) {
			io.WriteString(c, "HTTP/1.1 "+code+" X\r\nLocation: "+catcher.addr+"/v1/secret/data/a\r\nContent-Length: 0\r\n\r\n")
		})
		_, err := serve(t, backendOf(t, f, 2), read("data/a"))
		if said := wantKind(t, err, gate.TargetDown); strings.Contains(said.Msg, catcher.addr) {
			t.Errorf("the answer names the other address: %s", said.Msg)
		}
		if n := catcher.connections(); n != 0 {
			t.Errorf("after a %s: got %d connections elsewhere, want none", code, n)
		}
	}
}

func TestWritesAreNeverSentTwice(t *testing.T) {
	f := newFake(t, func(c net.Conn, s *seen) {
		if s.is("PUT ") {
			c.Close()
			return
		}
		answerOK(c, s)
	})
	b := backendOf(t, f, 2)
	mustServe(t, b, read("data/a")) // leaves an idle connection
	_, err := serve(t, b, write("data/a", strings.NewReader("{}"), 2))
	wantKind(t, err, gate.TargetDown)
	if n := len(f.all("PUT ")); n != 1 {
		t.Errorf("got %d writes, want 1", n)
	}
}

func TestReadsThatMayIssueAreNeverSentTwice(t *testing.T) {
	first := true
	f := newFake(t, func(c net.Conn, s *seen) {
		if first {
			first = false
			answerOK(c, s)
			return
		}
		c.Close()
	})
	b := backendOf(t, f, 0)
	mustServe(t, b, read("creds/ro"))
	_, err := serve(t, b, read("creds/ro"))
	wantKind(t, err, gate.TargetDown)
	if n := len(f.all("GET /v1/secret/creds/ro ")); n != 2 {
		t.Errorf("got %d reads, want 2", n)
	}
}

func TestConnectionClosedWhileIdleIsNotUsed(t *testing.T) {
	f := newFake(t, answerOK)
	b := backendOf(t, f, 2)
	mustServe(t, b, read("data/a"))
	f.mu.Lock()
	for _, c := range f.conns {
		c.Close()
	}
	f.mu.Unlock()
	// A write can't be tried again: it succeeds only where it went to a new connection at once.
	mustServe(t, b, write("data/a", strings.NewReader("{}"), 2))
	if n := len(f.all("PUT ")); n != 1 {
		t.Errorf("got %d writes, want 1", n)
	}
}

func TestConnectionWithUnaskedBytesIsNotUsed(t *testing.T) {
	f := newFake(t, func(c net.Conn, s *seen) {
		wire := ok("own")
		if s.conn == 1 {
			wire += ok("somebody else's")
		}
		io.WriteString(c, wire)
	})
	b := backendOf(t, f, 2)
	for range 3 {
		if got := mustServe(t, b, read("data/a")); got.body != "own" {
			t.Fatalf("got %q, want the answer to this request", got.body)
		}
	}
}

func TestConnectionsAreUsedAgain(t *testing.T) {
	f := newFake(t, answerOK)
	b := backendOf(t, f, 2)
	for range 20 {
		mustServe(t, b, read("data/a"))
		mustServe(t, b, write("data/a", strings.NewReader("{}"), 2))
	}
	if n := f.connections(); n != 1 {
		t.Errorf("got %d connections for 41 requests in a row, want 1", n)
	}
}

func TestClientGoesAway(t *testing.T) {
	for _, body := range []bool{false, true} {
		arrived := make(chan struct{})
		f := newFake(t, func(c net.Conn, _ *seen) {
			if body {
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
			}
			close(arrived)
			hold(c)
		})
		b := backendOf(t, f, 2)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-arrived
			time.AfterFunc(50*time.Millisecond, cancel) // most likely when the answer is being waited for
		}()
		start := time.Now()
		resp, err := b.Serve(ctx, read("data/a"))
		if err == nil {
			_, err = io.ReadAll(resp.Raw.Body)
			resp.Raw.Body.Close()
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("it took %v to end, want at once", took)
		}
		f.waitClosed(t, f.connections())
	}
}

func TestBodyIsReadOnlyOnce(t *testing.T) {
	f := newFake(t, answerOK)
	b := backendOf(t, f, 2)
	resp, err := b.Serve(t.Context(), read("data/a"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Raw.Body.Close()
	resp.Raw.Body.Close()
	mustServe(t, b, read("data/a"))
}

func TestNothingIsLeftRunning(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	t.Run("inner", func(t *testing.T) {
		f := newFake(t, answerOK)
		b := backendOf(t, f, 2)
		for range 5 {
			mustServe(t, b, read("data/a"))
		}
		g := newFake(t, func(c net.Conn, _ *seen) { hold(c) })
		_, err := serve(t, backendOf(t, g, 2, timeout(50*time.Millisecond)), read("data/a"))
		wantKind(t, err, gate.TargetSlow)
	})
}
