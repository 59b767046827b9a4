package hvp_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/upstream"
)

// trivial is a gate that only asks a backend.
type trivial struct {
	serve func(ctx context.Context, r *gate.Request) (*gate.Response, error)
}

func (d trivial) Do(ctx context.Context, r *gate.Request) (*gate.Response, error) {
	r.ID = requestID
	return d.serve(ctx, r)
}

func (trivial) Refuse(_ context.Context, _ *gate.Request, kind gate.Kind, why string) error {
	return &gate.Error{Kind: kind, Msg: why}
}

// quiet is a ResponseWriter that costs nothing.
type quiet struct{ header http.Header }

func (q *quiet) Header() http.Header         { return q.header }
func (q *quiet) Write(p []byte) (int, error) { return len(p), nil }
func (q *quiet) WriteHeader(int)             {}

// BenchmarkHandler is the door alone: without net/http's server and without a target.
func BenchmarkHandler(b *testing.B) {
	body := bytes.Repeat([]byte("x"), 512)
	fields := []gate.Field{{Name: "Content-Type", Value: "application/json"}}
	h := newHandler(b, trivial{func(context.Context, *gate.Request) (*gate.Response, error) {
		return &gate.Response{Raw: &gate.Raw{Code: 200, Header: fields, Body: io.NopCloser(bytes.NewReader(body)), Length: 512}}, nil
	}})
	r, err := http.NewRequest(http.MethodGet, "/v1/secret/data/app/a", nil) //nolint:noctx // it has none
	if err != nil {
		b.Fatal(err)
	}
	r.RequestURI, r.RemoteAddr = "/v1/secret/data/app/a", "127.0.0.1:1234"
	r.Header.Set("X-Vault-Token", "t")
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(&quiet{http.Header{}}, r)
	}
}

// BenchmarkUpstream is a backend alone, with a target that costs nothing to speak of.
func BenchmarkUpstream(b *testing.B) {
	serve := plainTarget(b)
	b.ReportAllocs()
	for b.Loop() {
		resp, err := serve(b.Context(), &gate.Request{Op: "read", Rest: "data/app/a"})
		if err != nil {
			b.Fatal(err)
		}
		io.Copy(io.Discard, resp.Raw.Body)
		resp.Raw.Body.Close()
	}
}

// BenchmarkThrough is everything but the gate: a client that costs little, net/http's server, the door, a backend.
func BenchmarkThrough(b *testing.B) {
	serve := plainTarget(b)
	s := newServer(b, trivial{func(ctx context.Context, r *gate.Request) (*gate.Response, error) {
		r.Rest = strings.TrimPrefix(r.Path, "secret/")
		return serve(ctx, r)
	}})
	wire := []byte("GET /v1/secret/data/app/a HTTP/1.1\r\nHost: x\r\nX-Vault-Token: t\r\n\r\n")
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		c, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			b.Error(err)
			return
		}
		defer c.Close()
		buf := make([]byte, 8<<10)
		for pb.Next() {
			c.Write(wire)
			for n := 0; ; {
				k, err := c.Read(buf[n:])
				if err != nil {
					b.Error(err)
					return
				}
				if n += k; buf[n-1] == '\n' && n > 512 {
					break
				}
			}
		}
	})
}

// plainTarget is a mount of a target that answers each request with the same 512 bytes.
func plainTarget(b *testing.B) func(context.Context, *gate.Request) (*gate.Response, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go answerAlways(c)
		}
	}()
	v, err := upstream.New(upstream.Config{
		Target: object.Target{Name: "t", Type: "vault", Address: "http://" + l.Addr().String(), Auth: &object.VaultAuth{Method: "token", Token: secret.New("t")}},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(v.Close)
	return v.Mount("secret", 2).Serve
}

func answerAlways(c net.Conn) {
	defer c.Close()
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 512\r\n\r\n" +
		`{"data":{"ttl":0}}` + strings.Repeat(" ", 493) + "\n")
	buf := make([]byte, 4<<10)
	for {
		if _, err := c.Read(buf); err != nil { // one request a read: they are small and come one by one
			return
		}
		if _, err := c.Write(answer); err != nil {
			return
		}
	}
}
