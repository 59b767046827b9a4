package h1_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/bailiff-secrets/bailiff/internal/h1"
)

type key struct{}

func TestContext(t *testing.T) {
	base := context.WithValue(context.Background(), key{}, "value")
	ctx, cancel := h1.NewContext(base)
	child, cancelChild := context.WithCancel(ctx)
	defer cancelChild()
	called, never := make(chan string, 4), func() { t.Error("a func that was stopped was called") }
	stop := context.AfterFunc(ctx, never)
	own := ctx.(interface{ AfterFunc(f func()) func() bool }) //nolint:errcheck // it has it
	stopOwn := own.AfterFunc(never)
	own.AfterFunc(func() { called <- "own" })
	kept := context.AfterFunc(ctx, func() { called <- "std" })
	if !stop() || !stopOwn() || stop() || stopOwn() {
		t.Error("a func can be stopped once")
	}
	if ctx.Err() != nil || child.Err() != nil || ctx.Value(key{}) != "value" || child.Value(key{}) != "value" {
		t.Error("it has ended, or lost its values")
	}
	cancel()
	cancel()
	<-ctx.Done()
	<-child.Done()
	if a, b := <-called, <-called; a == b {
		t.Errorf("got %s twice", a)
	}
	if !errors.Is(ctx.Err(), context.Canceled) || !errors.Is(child.Err(), context.Canceled) || kept() {
		t.Error("it has not ended as it should")
	}
	late := make(chan struct{})
	if own.AfterFunc(func() { close(late) })() {
		t.Error("what was called at once can't be stopped")
	}
	<-late
	unasked, cancel := h1.NewContext(base)
	cancel()
	<-unasked.Done()
}

// TestTheContextEndsWithTheRequest and is another one for the next.
func TestTheContextEndsWithTheRequest(t *testing.T) {
	contexts := make(chan context.Context, 2)
	addr := serving(t, h1.New(behind(func(_ http.ResponseWriter, r *http.Request) {
		if err := r.Context().Err(); err != nil {
			t.Error(err)
		}
		contexts <- r.Context()
	}), "/v1/"), nil)
	talk(t, addr, request("GET /v1/a")+request("GET /v1/b"))
	<-(<-contexts).Done()
	<-(<-contexts).Done()
}

func BenchmarkRead(b *testing.B) {
	for name, wrap := range map[string]bool{"net/http": false, "h1": true} {
		b.Run(name, func(b *testing.B) { benchRead(b, wrap) })
	}
}

func benchRead(b *testing.B, ours bool) {
	answer := []byte(`{"data":{}}`)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Length"] = []string{"11"}
		w.Write(answer) //nolint:errcheck // the client shows it
	}))
	l := s.Listener
	var stop func() error
	if ours {
		h := h1.New(s.Config, "/v1/")
		go h.Serve(l) //nolint:errcheck // it ends with the benchmark
		stop = h.Close
	} else {
		go s.Config.Serve(l) //nolint:errcheck // as above
		stop = s.Config.Close
	}
	defer stop() //nolint:errcheck // nothing is kept
	text := []byte(request("GET /v1/secret/data/a", "User-Agent: x", "X-Vault-Token: t", "X-Vault-Request: true"))
	c := dialAddr(b, l.Addr().String())
	in := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		c.Write(text) //nolint:errcheck // the answer shows it
		if _, err := c.Read(in); err != nil {
			b.Fatal(err)
		}
	}
}
