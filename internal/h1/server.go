package h1

import (
	"context"
	"crypto/tls"
	"errors"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// lookEvery is how often busy connections are looked at for clients that have gone.
const lookEvery = 100 * time.Millisecond

// Server serves listeners. Serve, Shutdown and Close may be called once each, from any goroutine.
type Server struct {
	behind  *http.Server
	handler http.Handler
	prefix  string
	rest    *handed // the connections that behind serves
	buffers sync.Pool
	now     atomic.Pointer[date]
	ending  atomic.Bool
	base    context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup // of connections, and of the one who looks at them

	mu       sync.Mutex
	conns    map[*conn]struct{}
	listener net.Listener
}

type date struct {
	second int64
	text   string
}

// New makes a Server in front of behind, whose Handler gets every request and whose timeouts count here too. Only requests
// whose target begins with prefix ("/v1/") are served here.
func New(behind *http.Server, prefix string) *Server {
	s := &Server{behind: behind, handler: behind.Handler, prefix: prefix, conns: make(map[*conn]struct{})}
	s.buffers.New = func() any { return new(buffer) }
	s.base, s.cancel = context.WithCancel(context.WithValue(context.Background(), http.ServerContextKey, behind))
	s.rest = &handed{conns: make(chan net.Conn), done: make(chan struct{})}
	behind.Handler = http.HandlerFunc(s.serveRest)
	next := behind.ConnContext
	behind.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if r, ok := c.(*resumed); ok {
			ctx, c = context.WithValue(ctx, resumedKey{}, r), r.Conn
		}
		if next != nil {
			ctx = next(ctx, c)
		}
		return ctx
	}
	return s
}

type resumedKey struct{}

// serveRest says of the requests on a connection that was handed on what net/http can't see.
func (s *Server) serveRest(w http.ResponseWriter, r *http.Request) {
	if c, ok := r.Context().Value(resumedKey{}).(*resumed); ok && r.TLS == nil {
		r.TLS = c.tls
	}
	s.handler.ServeHTTP(w, r)
}

// Serve takes connections from l until Shutdown or Close is called, and returns http.ErrServerClosed then, or what l failed with.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	s.listener = l
	s.mu.Unlock()
	s.rest.addr = l.Addr()
	failed := make(chan error, 1)
	go func() { failed <- s.behind.Serve(s.rest) }()
	s.wg.Go(s.watch)
	err := s.accept(l)
	if s.ending.Load() {
		err = http.ErrServerClosed
	} else {
		s.cancel()
	}
	s.rest.end()
	if e := <-failed; !errors.Is(e, http.ErrServerClosed) && !errors.Is(e, net.ErrClosed) {
		err = errors.Join(err, e)
	}
	return err
}

// accept is net/http's loop.
func (s *Server) accept(l net.Listener) error {
	var pause time.Duration
	for {
		c, err := l.Accept()
		if err != nil {
			var again interface{ Temporary() bool }
			if s.ending.Load() || !errors.As(err, &again) || !again.Temporary() {
				return err
			}
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			s.logf("http: Accept error: %v; retrying in %v", err, pause)
			select {
			case <-time.After(pause):
			case <-s.base.Done():
				return err
			}
			continue
		}
		pause = 0
		s.begin(c)
	}
}

// begin serves c here, or leaves it to net/http where it can't be watched.
func (s *Server) begin(c net.Conn) {
	raw := rawOf(c)
	if !watches || raw == nil {
		s.wg.Go(func() { s.rest.put(c) })
		return
	}
	base := context.WithValue(s.base, http.LocalAddrContextKey, c.LocalAddr())
	if f := s.behind.ConnContext; f != nil {
		base = f(base, c)
	}
	cn := &conn{s: s, net: c, raw: raw, base: base, remote: c.RemoteAddr().String(), buf: make([]byte, readRoom)}
	cn.head.header, cn.answer.header = make(http.Header, 8), make(http.Header, 8)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending.Load() {
		c.Close()
		return
	}
	s.conns[cn] = struct{}{}
	s.wg.Go(cn.serve)
}

// rawOf is the socket beneath c, or nil.
func rawOf(c net.Conn) syscall.RawConn {
	for {
		if sc, ok := c.(syscall.Conn); ok {
			raw, err := sc.SyscallConn()
			if err != nil {
				return nil
			}
			return raw
		}
		inner, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return nil
		}
		c = inner.NetConn()
	}
}

func (s *Server) forget(cn *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, cn)
}

// handOn gives c to the server behind, with what was read of it.
func (s *Server) handOn(cn *conn, c net.Conn) {
	c.SetDeadline(time.Time{}) //nolint:errcheck // a connection that is closed shows that at once
	if cn.start < cn.end {
		c = &resumed{Conn: c, read: cn.buf[cn.start:cn.end], tls: cn.tls}
	}
	s.rest.put(c)
}

// watch looks at busy connections until the server has ended.
func (s *Server) watch() {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	var all []*conn
	for {
		select {
		case <-s.base.Done():
			return
		case now := <-t.C:
			all = s.each(all[:0])
			for _, cn := range all {
				cn.look(now)
			}
			clear(all)
		}
	}
}

func (s *Server) each(to []*conn) []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	for cn := range s.conns {
		to = append(to, cn)
	}
	return to
}

// Shutdown takes no further connections and requests, lets handlers end, and returns when all have, or with ctx's error.
func (s *Server) Shutdown(ctx context.Context) error {
	s.end(false)
	behind := make(chan error, 1)
	go func() { behind <- s.behind.Shutdown(ctx) }()
	here := make(chan struct{})
	go func() {
		t := time.NewTicker(5 * time.Millisecond)
		defer t.Stop()
		for len(s.each(nil)) > 0 && ctx.Err() == nil {
			s.end(false) // connections that have become idle
			<-t.C
		}
		close(here)
	}()
	err := <-behind
	<-here
	if err == nil && ctx.Err() != nil && len(s.each(nil)) > 0 {
		err = ctx.Err()
	}
	if err == nil {
		s.cancel()
		s.wg.Wait()
	}
	return err
}

// Close ends every connection at once.
func (s *Server) Close() error {
	s.end(true)
	s.cancel()
	err := s.behind.Close()
	s.wg.Wait()
	return err
}

// end closes the listener and the connections that are idle, or all.
func (s *Server) end(all bool) {
	s.ending.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener != nil {
		s.listener.Close()
	}
	for cn := range s.conns {
		cn.mu.Lock()
		cn.shut = true
		if all || cn.busy.IsZero() {
			cn.net.Close()
		}
		if all && cn.ctx != nil {
			cn.ctx.cancel()
		}
		cn.mu.Unlock()
	}
}

func (s *Server) closing() bool { return s.ending.Load() }

func (s *Server) idle() time.Duration {
	if s.behind.IdleTimeout > 0 {
		return s.behind.IdleTimeout
	}
	return s.behind.ReadTimeout
}

// date is the value of a Date header.
func (s *Server) date() string {
	now := time.Now()
	if d := s.now.Load(); d != nil && d.second == now.Unix() {
		return d.text
	}
	d := &date{second: now.Unix(), text: now.UTC().Format(http.TimeFormat)}
	s.now.Store(d)
	return d.text
}

func (s *Server) logf(format string, args ...any) {
	if s.behind.ErrorLog != nil {
		s.behind.ErrorLog.Printf(format, args...)
		return
	}
	log.Printf(format, args...)
}

// handed is a net.Listener of connections that were begun elsewhere.
type handed struct {
	addr  net.Addr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

// put waits until c is taken; it is closed where nobody will.
func (h *handed) put(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.done:
		c.Close()
	}
}

func (h *handed) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

func (h *handed) Close() error {
	h.end()
	return nil
}

func (h *handed) end() { h.once.Do(func() { close(h.done) }) }

func (h *handed) Addr() net.Addr { return h.addr }

// resumed is a connection of which some was read already.
type resumed struct {
	net.Conn
	read []byte
	tls  *tls.ConnectionState
}

func (r *resumed) Read(p []byte) (int, error) {
	if len(r.read) > 0 {
		n := copy(p, r.read)
		r.read = r.read[n:]
		return n, nil
	}
	return r.Conn.Read(p)
}

// NetConn is the connection itself.
func (r *resumed) NetConn() net.Conn { return r.Conn }

// CloseWrite lets net/http say that an answer is over while the client still sends.
func (r *resumed) CloseWrite() error {
	if half, ok := r.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
