package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/h1"
	"github.com/bailiff-secrets/bailiff/internal/peer"
)

// front sends a request to the door that it names. It looks at the request target as it came: nothing is cleaned or
// redirected before a door has judged it.
type front struct {
	vault http.Handler // /v1/
	api   http.Handler // /api/v1/
	ready func(context.Context) error
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	target, _, _ := strings.Cut(r.RequestURI, "?")
	switch {
	case strings.HasPrefix(target, "/api/v1/"):
		f.api.ServeHTTP(w, r)
	case target == "/livez":
		plain(w, http.StatusOK, "ok")
	case target == "/readyz":
		f.readyz(w, r)
	case target == "/" || target == "/favicon.ico":
		plain(w, http.StatusNotFound, "This is Bailiff: /v1/ speaks Vault's API, /api/v1/ its own.")
	default:
		f.vault.ServeHTTP(w, r)
	}
}

func (f *front) readyz(w http.ResponseWriter, r *http.Request) {
	if err := f.ready(r.Context()); err != nil {
		plain(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	plain(w, http.StatusOK, "ok")
}

func plain(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	fmt.Fprintln(w, text) //nolint:errcheck // the client may be gone
}

// listen opens the front's listener. Past loopback it must be TLS, unless the configuration says otherwise in words, which
// is checked where the configuration is read. connections, where positive, may be open at a time;
// proxies, where not nil, are those that begin their connections with a header of the PROXY protocol.
func listen(ctx context.Context, address string, cert *certificate, connections int, proxies *peer.Finder) (net.Listener, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if connections > 0 {
		ln = watching{h1.Limit(ln, connections)} // beneath TLS, which HTTP/2 wants to see
	}
	if proxies != nil {
		ln = peer.Listen(ln, proxies)
	}
	if cert != nil {
		ln = tls.NewListener(ln, cert.config())
	}
	return ln, nil
}

// httpServing is what a listener is served by: net/http's own, or ours before it.
type httpServing interface {
	Serve(ln net.Listener) error
	Shutdown(ctx context.Context) error
	Close() error
}

// serveUntil serves until ctx ends, then lets requests under way end for a while.
func serveUntil(ctx context.Context, srv httpServing, ln net.Listener) error {
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(ln) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer cancel()
	err := srv.Shutdown(grace)
	if errors.Is(err, context.DeadlineExceeded) {
		err = srv.Close()
	}
	if e := <-failed; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	return err
}

// metricsServer is the second listener. It holds nothing secret, and must not be reachable by everyone all the same.
func metricsServer(h http.Handler) *http.Server {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", h)
	profiles(mux)
	return &http.Server{Handler: mux, ReadTimeout: 10 * time.Second, WriteTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
}
