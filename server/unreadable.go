package server

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync/atomic"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/peer"
)

// unreadable keeps a record of requests that never become one: net/http answers what it can't read as HTTP by itself, and no
// door sees it. HTTP/2 is left out: its streams have no states of their own.
type unreadable struct {
	gate  gate.Doer
	peers *peer.Finder
}

// watched is a connection on which a request may have begun that no door has seen.
type watched struct {
	net.Conn
	begun atomic.Bool
}

// NetConn is the connection itself.
func (w *watched) NetConn() net.Conn { return w.Conn }

// CloseWrite closes one direction, where the connection can.
func (w *watched) CloseWrite() error {
	if half, ok := w.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// watching watches the connections of a listener.
type watching struct{ net.Listener }

func (w watching) Accept() (net.Conn, error) {
	c, err := w.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &watched{Conn: c}, nil
}

// watchedIn looks for the watched connection in c.
func watchedIn(c net.Conn) *watched {
	for c != nil {
		switch x := c.(type) {
		case *watched:
			return x
		case *tls.Conn:
			if x.ConnectionState().NegotiatedProtocol == "h2" {
				return nil
			}
		}
		inner, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return nil
		}
		c = inner.NetConn()
	}
	return nil
}

type watchedKey struct{}

// connContext is for http.Server.
func (u *unreadable) connContext(ctx context.Context, c net.Conn) context.Context {
	ctx = peer.ConnContext(ctx, c)
	if w := watchedIn(c); w != nil {
		ctx = context.WithValue(ctx, watchedKey{}, w)
	}
	return ctx
}

// connState is for http.Server. A connection becomes active when the first byte of a request is there.
func (u *unreadable) connState(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateActive, http.StateClosed:
	default:
		return
	}
	w := watchedIn(c)
	switch {
	case w == nil:
	case state == http.StateActive:
		w.begun.Store(true)
	case w.begun.Swap(false):
		ctx := peer.ConnContext(context.Background(), c)
		r := (&http.Request{RemoteAddr: c.RemoteAddr().String()}).WithContext(ctx)
		q := &gate.Request{Via: gate.HVP}
		if from, err := u.peers.Of(r); err == nil {
			q.ClientAddr, q.ProxyAddr = from.Addr, from.Proxy
		}
		// What is said to the client net/http has said already.
		u.gate.Refuse(ctx, q, gate.Invalid, "what came could not be read as an HTTP request") //nolint:errcheck // the gate has logged it
	}
}

// seen says that the request is with a door.
func seen(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if w, ok := r.Context().Value(watchedKey{}).(*watched); ok {
			w.begun.Store(false)
		}
		next.ServeHTTP(rw, r)
	})
}
