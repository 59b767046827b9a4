package upstream_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/upstream"
)

// stuck is a target that answers nothing until it is released.
func stuck(t *testing.T) (f *fake, arrived chan struct{}, release func()) {
	arrived, released := make(chan struct{}, 64), make(chan struct{})
	f = newFake(t, func(c net.Conn, s *seen) {
		arrived <- struct{}{}
		<-released
		answerOK(c, s)
	})
	release = sync.OnceFunc(func() { close(released) })
	t.Cleanup(release)
	return f, arrived, release
}

func TestTargetHasAtMostSoManyRequests(t *testing.T) {
	f, arrived, release := stuck(t)
	b := backendOf(t, f, 2, func(c *upstream.Config) { c.MaxInFlight, c.MaxQueue = 2, 1 })
	results := make(chan error, 3)
	ask := func() {
		resp, err := b.Serve(t.Context(), read("data/a"))
		if err == nil {
			resp.Raw.Body.Close()
		}
		results <- err
	}
	go ask()
	go ask()
	<-arrived
	<-arrived
	ctx, cancel := context.WithCancel(t.Context())
	waits := make(chan error, 1)
	go func() {
		for {
			_, err := b.Serve(ctx, read("data/a"))
			var said *gate.Error
			if !errors.As(err, &said) { // the request below may have been the one in the queue
				waits <- err
				return
			}
		}
	}()

	// The two places are taken and one request waits: the next is refused at once.
	eventually(t, "a request is refused", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		_, err := b.Serve(ctx, read("data/a"))
		if ctx.Err() != nil {
			return false // it got into the queue before the other
		}
		if said := wantKind(t, err, gate.TooMany); said.After <= 0 {
			t.Errorf("got After %v, want when to try again", said.After)
		}
		return true
	})
	if n := len(f.all("GET /v1/secret/")); n != 2 {
		t.Errorf("got %d requests at the target, want 2", n)
	}
	other := newFake(t, answerOK)
	mustServe(t, backendOf(t, other, 2), read("data/a")) // another target is not concerned

	cancel()
	if err := <-waits; err != context.Canceled {
		t.Errorf("the one that waited: got %v, want context.Canceled", err)
	}
	release()
	for range 2 {
		if err := <-results; err != nil {
			t.Errorf("the ones at the target: got %v, want no error", err)
		}
	}
	mustServe(t, b, read("data/a"))
}

func TestPlaceIsFreeAgainAfterAnyEnd(t *testing.T) {
	f := newFake(t, func(c net.Conn, s *seen) {
		if s.is("GET /v1/secret/bad") {
			c.Close()
			return
		}
		answerOK(c, s)
	})
	b := backendOf(t, f, 2, func(c *upstream.Config) { c.MaxInFlight, c.MaxQueue = 1, -1 })
	for range 3 {
		_, err := serve(t, b, read("bad"))
		wantKind(t, err, gate.TargetDown)
		mustServe(t, b, read("data/a"))
	}
}

func TestTargetThatIsDownIsLeftAloneAndFoundAgain(t *testing.T) {
	up := newFake(t, answerOK)
	b := backendOf(t, up, 2)
	mustServe(t, b, read("data/a"))

	// Its login stands, but from now on nobody listens there.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	f := serveFake(t, l, answerOnly)
	b = backendOf(t, f, 2)
	mustServe(t, b, read("data/a"))
	l.Close()
	f.mu.Lock()
	for _, c := range f.conns {
		c.Close()
	}
	f.mu.Unlock()
	for range 3 {
		_, err := serve(t, b, read("data/a"))
		wantKind(t, err, gate.TargetDown)
	}

	// It comes back; as it was found down three times it isn't asked by every request from now on.
	l, err = net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	again := serveFake(t, l, answerOnly)
	_, err = serve(t, b, read("data/a"))
	wantKind(t, err, gate.TargetDown)
	if n := again.connections(); n != 0 {
		t.Errorf("got %d connections right after it was found down, want none", n)
	}
	eventually(t, "the target is found again", func() bool {
		_, err := serve(t, b, read("data/a"))
		return err == nil
	})
	mustServe(t, b, read("data/a"))
}

// answerOnly answers everything, a lookup too.
func answerOnly(c net.Conn, s *seen) {
	if s.is("GET /v1/auth/token/lookup-self ") {
		c.Write([]byte(ok(alive)))
		return
	}
	answerOK(c, s)
}
