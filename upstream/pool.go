package upstream

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"
)

const (
	maxIdle  = 64               // connections kept for the next request
	idleTime = time.Minute      // for so long; Vault itself closes them after five
	maxAge   = 10 * time.Minute // of a connection, so that a name which moved is found again
	bufSize  = 8 << 10
)

// pool keeps idle connections to one target.
type pool struct {
	addr    string
	tls     *tls.Config // nil: plain
	dialer  net.Dialer
	limit   time.Duration // for a connection to stand, TLS included
	timeout time.Duration // of a move on a connection

	mu     sync.Mutex
	idle   []*conn // the one used last at the end
	closed bool
}

// conn is one connection, used by one exchange at a time.
type conn struct {
	net.Conn
	sock   net.Conn // beneath TLS
	br     *bufio.Reader
	bw     *bufio.Writer
	born   time.Time
	since  time.Time // when it became idle
	reused bool

	left int64 // bytes that may still be read; negative: any number

	by      time.Time // the deadline that stands, but for an interruption
	quiet   stillness
	stopper func() // interrupt
}

// errTooMuch says that a target sent more header than is read.
var errTooMuch = errors.New("the header of the answer is too large")

// Read feeds br, within the limit that stands.
func (c *conn) Read(p []byte) (int, error) {
	if c.left < 0 {
		return c.Conn.Read(p)
	}
	if c.left == 0 {
		return 0, errTooMuch
	}
	n, err := c.Conn.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	return n, err
}

// dialError is a connection that could not be made: nothing was sent.
type dialError struct{ err error }

func (e *dialError) Error() string { return e.err.Error() }

func (e *dialError) Unwrap() error { return e.err }

// get returns an idle connection that still stands, or a new one. Where fresh it is new in any case.
// An error is a *dialError.
func (p *pool) get(ctx context.Context, fresh bool) (*conn, error) {
	for !fresh {
		c := p.pop()
		if c == nil {
			break
		}
		c.arm(ctx, p.timeout) // or an old deadline would speak for the other side
		if now := time.Now(); now.Sub(c.since) < idleTime && now.Sub(c.born) < maxAge && c.br.Buffered() == 0 && c.quiet.silent() {
			c.reused = true
			return c, nil
		}
		c.drop()
	}
	ctx, cancel := context.WithTimeout(ctx, p.limit)
	defer cancel()
	sock, err := p.dialer.DialContext(ctx, "tcp", p.addr)
	if err != nil {
		return nil, &dialError{err}
	}
	c := &conn{Conn: sock, sock: sock, born: time.Now()}
	c.stopper = c.interrupt
	c.quiet.watch(sock)
	if p.tls != nil {
		t := tls.Client(sock, p.tls)
		if err := t.HandshakeContext(ctx); err != nil {
			sock.Close()
			return nil, &dialError{err}
		}
		c.Conn = t
	}
	c.br, c.bw = bufio.NewReaderSize(c, bufSize), bufio.NewWriterSize(c.Conn, bufSize)
	return c, nil
}

func (p *pool) pop() *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.idle)
	if n == 0 {
		return nil
	}
	c := p.idle[n-1]
	p.idle[n-1] = nil
	p.idle = p.idle[:n-1]
	return c
}

// put keeps a connection on which nothing is under way.
func (p *pool) put(c *conn) {
	if !p.keep(c) {
		c.drop()
	}
}

func (p *pool) keep(c *conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.idle) >= maxIdle {
		return false
	}
	c.since = time.Now()
	p.idle = append(p.idle, c)
	return true
}

func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, c := range p.idle {
		c.drop()
	}
	p.idle = nil
}

// arm gives the target d from now for the next move on c, or up to a tenth less where a deadline stands that will do: setting
// one costs. ctx ends it earlier, see exchange.
func (c *conn) arm(ctx context.Context, d time.Duration) {
	at := time.Now().Add(d)
	if short := at.Sub(c.by); short < 0 || short > min(d/10, time.Second) {
		c.by = at
		c.SetDeadline(at) //nolint:errcheck // a closed connection shows itself at once
	}
	if ctx.Err() != nil {
		c.interrupt()
	}
}

// drop closes c. A target that doesn't read isn't waited for, as the farewell of TLS would.
func (c *conn) drop() { c.sock.Close() } //nolint:errcheck // there is nothing left to lose

// interrupt makes every read and write on c fail, now and later.
func (c *conn) interrupt() { c.SetDeadline(time.Unix(1, 0)) } //nolint:errcheck // as above
