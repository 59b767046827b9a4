package h1

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"syscall"
	"time"
)

// readRoom is how long the head of a plain request may be.
const readRoom = 8 << 10

// conn is one connection. But for what mu guards it belongs to its own goroutine.
type conn struct {
	s      *Server
	net    net.Conn
	raw    syscall.RawConn
	base   context.Context // of every request on it
	remote string
	tls    *tls.ConnectionState
	head   head

	buf        []byte // what was read; [start:end] has not been taken yet
	start, end int
	headBuf    []byte // the head of an answer
	answer     response

	readBy, writeBy time.Time // the deadlines that stand, where they are known

	mu   sync.Mutex
	busy time.Time       // since when a handler is at work; zero: none
	ctx  *requestContext // of that handler
	shut bool            // no further request is handled: the server or the client has ended
}

// serve handles requests until the connection ends or is handed on.
func (cn *conn) serve() {
	ours := true
	defer func() {
		if ours {
			cn.net.Close()
		}
		cn.s.forget(cn)
	}()
	if t, ok := cn.net.(*tls.Conn); ok {
		if err := cn.handshake(t); err != nil {
			return
		}
		if cn.tls.NegotiatedProtocol == "h2" {
			ours = false
			cn.s.handOn(cn, t)
			return
		}
	}
	for first := true; ; first = false {
		n, err := cn.await(first)
		if err != nil {
			return
		}
		if n == 0 || !cn.head.parse(string(cn.buf[cn.start:cn.start+n]), cn.s.prefix) {
			ours = false
			cn.s.handOn(cn, cn.net)
			return
		}
		cn.start += n
		if !cn.one() {
			return
		}
	}
}

func (cn *conn) handshake(t *tls.Conn) error {
	if d := cn.s.behind.ReadHeaderTimeout; d > 0 {
		cn.net.SetDeadline(time.Now().Add(d)) //nolint:errcheck // a connection that is closed shows that below
	}
	ctx, cancel := context.WithCancel(cn.base)
	defer cancel()
	err := t.HandshakeContext(ctx)
	if err != nil {
		cn.s.logf("http: TLS handshake error from %s: %v", cn.remote, err)
		return err
	}
	cn.net.SetDeadline(time.Time{}) //nolint:errcheck // as above
	state := t.ConnectionState()
	cn.tls = &state
	return nil
}

// await reads the head of the next request and returns how long it is; 0 where what has come is not a plain one, or will
// not be one.
func (cn *conn) await(first bool) (int, error) {
	if cn.start == cn.end {
		cn.start, cn.end = 0, 0
		if first {
			cn.by(&cn.readBy, cn.net.SetReadDeadline, cn.s.behind.ReadHeaderTimeout)
		} else {
			if !cn.rest() {
				return 0, net.ErrClosed
			}
			cn.by(&cn.readBy, cn.net.SetReadDeadline, cn.s.idle())
		}
		if err := cn.fill(); err != nil {
			return 0, err
		}
	}
	for waited := first; ; waited = true {
		if n := headLength(cn.buf[cn.start:cn.end]); n > 0 {
			return n, nil
		}
		if cn.start > 0 {
			cn.end = copy(cn.buf, cn.buf[cn.start:cn.end])
			cn.start = 0
		}
		if cn.end == len(cn.buf) || !promising(cn.buf[:cn.end]) || bareLine(cn.buf[:cn.end]) {
			return 0, nil
		}
		if !waited {
			cn.by(&cn.readBy, cn.net.SetReadDeadline, cn.s.behind.ReadHeaderTimeout)
		}
		if err := cn.fill(); err != nil {
			if errors.Is(err, io.EOF) {
				return 0, nil // net/http says what there is to say of half a request
			}
			return 0, err
		}
	}
}

// promising tells whether b may become the head of a plain request.
func promising(b []byte) bool {
	for i, c := range b {
		switch {
		case c == ' ':
			return known(string(b[:i]))
		case c < 'A' || c > 'Z' || i > 6:
			return false
		}
	}
	return true
}

// bareLine tells whether a line in b ends without a carriage return, as net/http takes it too.
func bareLine(b []byte) bool {
	for from := 0; ; {
		i := bytes.IndexByte(b[from:], '\n')
		if i < 0 {
			return false
		}
		if i += from; i == 0 || b[i-1] != '\r' {
			return true
		}
		from = i + 1
	}
}

// rest tells whether to wait for another request.
func (cn *conn) rest() bool {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	return !cn.shut
}

func (cn *conn) fill() error {
	n, err := cn.net.Read(cn.buf[cn.end:])
	cn.end += n
	if n > 0 {
		return nil
	}
	return err
}

// take reads for a body.
func (cn *conn) take(p []byte) (int, error) {
	if cn.start < cn.end {
		n := copy(p, cn.buf[cn.start:cn.end])
		cn.start += n
		return n, nil
	}
	return cn.net.Read(p)
}

// someTime stands for a deadline that a handler has set.
func someTime() time.Time { return time.Unix(1, 0) }

// by sets a deadline of d from now; without one where d is not positive. Setting one costs, so that one which is less than a
// second (and less than a tenth of d) short is left as it is.
func (cn *conn) by(stands *time.Time, set func(time.Time) error, d time.Duration) {
	if d <= 0 {
		if !stands.IsZero() {
			*stands = time.Time{}
			set(time.Time{}) //nolint:errcheck // a connection that is closed shows that at once
		}
		return
	}
	at := time.Now().Add(d)
	if short := at.Sub(*stands); stands.IsZero() || short < 0 || short > min(time.Second, d/10) {
		*stands = at
		set(at) //nolint:errcheck // as above
	}
}

// one handles one request and tells whether the connection can go on.
func (cn *conn) one() bool {
	ctx := &requestContext{Context: cn.base}
	defer ctx.cancel()
	var room http.Request
	room.Method, room.URL, room.RequestURI, room.Host = cn.head.method, cn.head.url, cn.head.target, cn.head.host
	room.Proto, room.ProtoMajor, room.ProtoMinor = "HTTP/1.1", 1, 1
	room.Header, room.RemoteAddr, room.TLS = cn.head.header, cn.remote, cn.tls
	room.Body, room.ContentLength = http.NoBody, cn.head.length
	w := &cn.answer
	clear(w.header)
	*w = response{cn: cn, header: w.header}
	if cn.head.length > 0 {
		w.body = &body{cn: cn, left: cn.head.length}
		room.Body = w.body
		cn.by(&cn.readBy, cn.net.SetReadDeadline, cn.s.behind.ReadTimeout)
	}
	cn.by(&cn.writeBy, cn.net.SetWriteDeadline, cn.s.behind.WriteTimeout)
	if !cn.begin(ctx) {
		return false
	}
	defer w.free()
	ok := cn.handle(w, room.WithContext(ctx))
	cn.done()
	if !ok {
		return false
	}
	err := w.finish()
	whole := w.body == nil || w.body.discard(maxDiscard)
	switch {
	case err != nil:
		return false
	case !whole || w.close:
		if !whole {
			cn.linger()
		}
		return false
	}
	return true
}

// handle calls the handler, and tells whether it ended as it should.
func (cn *conn) handle(w *response, r *http.Request) (ok bool) {
	defer func() {
		if p := recover(); p != nil && p != http.ErrAbortHandler { //nolint:errorlint // as net/http has it
			cn.s.logf("http: panic serving %s: %v\n%s", cn.remote, p, debug.Stack())
		}
	}()
	cn.s.handler.ServeHTTP(w, r)
	return true
}

// begin notes that a handler is at work, unless no request is to be handled any more.
func (cn *conn) begin(ctx *requestContext) bool {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	if cn.shut {
		return false
	}
	cn.busy, cn.ctx = time.Now(), ctx
	return true
}

func (cn *conn) done() {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	cn.busy, cn.ctx = time.Time{}, nil
}

// linger closes the connection so that a client which is still sending gets the answer before it learns of that.
func (cn *conn) linger() {
	half, ok := cn.net.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	cn.net.SetReadDeadline(time.Now().Add(500 * time.Millisecond)) //nolint:errcheck // a connection that is closed shows that below
	io.Copy(io.Discard, cn.net)                                    //nolint:errcheck // it is read to be forgotten
}

// look ends the context of a handler that has been at work for a while and whose client has gone.
func (cn *conn) look(now time.Time) {
	cn.mu.Lock()
	waiting := !cn.busy.IsZero() && now.Sub(cn.busy) >= lookEvery/2
	cn.mu.Unlock()
	if !waiting || !gone(cn.raw) {
		return
	}
	cn.mu.Lock()
	defer cn.mu.Unlock()
	cn.shut = true
	if cn.ctx != nil {
		cn.ctx.cancel()
	}
}
