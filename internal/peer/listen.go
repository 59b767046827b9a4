package peer

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// headerWithin is how long a proxy may take for its header.
const headerWithin = 5 * time.Second

// Listen is l with the PROXY protocol, version 1 or 2, for connections that f trusts: they must begin with its header. All
// others are as they were, and a header from one of them is what it looks like to HTTP: rubbish. Close must be called.
func Listen(l net.Listener, f *Finder) net.Listener {
	p := &listener{Listener: l, finder: f, ready: make(chan net.Conn), done: make(chan struct{})}
	p.wg.Go(p.accept)
	return p
}

// listener reads headers beside one another, so that one that doesn't come holds up nobody else.
type listener struct {
	net.Listener
	finder *Finder
	ready  chan net.Conn
	done   chan struct{}
	once   sync.Once
	wg     sync.WaitGroup

	mu  sync.Mutex
	err error // of l, which has ended
}

func (p *listener) accept() {
	for {
		c, err := p.Listener.Accept()
		if err != nil {
			var again interface{ Temporary() bool }
			if errors.As(err, &again) && again.Temporary() {
				select {
				case <-time.After(5 * time.Millisecond):
					continue
				case <-p.done:
				}
			}
			p.mu.Lock()
			p.err = err
			p.mu.Unlock()
			p.once.Do(func() { close(p.done) })
			return
		}
		p.wg.Go(func() { p.begin(c) })
	}
}

// begin reads the header, where there must be one, and hands the connection on.
func (p *listener) begin(c net.Conn) {
	if ap, err := netip.ParseAddrPort(c.RemoteAddr().String()); err == nil && p.finder.Trusts(ap.Addr().Unmap()) {
		stop := make(chan struct{})
		ended := make(chan struct{})
		go func() { // a server that stops waits for no header
			defer close(ended)
			select {
			case <-p.done:
				c.SetReadDeadline(time.Unix(1, 0)) //nolint:errcheck // it is closed then
			case <-stop:
			}
		}()
		told, err := told(c, ap.Addr().Unmap())
		close(stop)
		<-ended
		if err != nil {
			c.Close() //nolint:errcheck // nothing was said on it
			return
		}
		c = told
	}
	select {
	case p.ready <- c:
	case <-p.done:
		c.Close() //nolint:errcheck // nothing was said on it
	}
}

func told(c net.Conn, proxy netip.Addr) (net.Conn, error) {
	if err := c.SetReadDeadline(time.Now().Add(headerWithin)); err != nil {
		return nil, err
	}
	from, err := readHeader(c)
	if err != nil {
		return nil, err
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		return nil, err
	}
	if !from.IsValid() {
		return c, nil
	}
	return &conn{Conn: c, remote: net.TCPAddrFromAddrPort(from), proxy: proxy}, nil
}

// Accept gives the next connection whose header was read.
func (p *listener) Accept() (net.Conn, error) {
	select {
	case c := <-p.ready:
		return c, nil
	case <-p.done:
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.err != nil {
			return nil, p.err
		}
		return nil, net.ErrClosed
	}
}

// Close ends the listener and every connection that it has not given out.
func (p *listener) Close() error {
	err := p.Listener.Close()
	p.once.Do(func() { close(p.done) })
	p.wg.Wait()
	return err
}
