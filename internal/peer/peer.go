// Package peer finds out who a request comes from, past the proxies that are trusted to say so.
//
// A proxy says it in the header X-Forwarded-For, or with the PROXY protocol before the first byte of a connection. What
// anybody else says is not listened to: the address of a client that can choose its address is no address.
package peer

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// Peer is where a request comes from.
type Peer struct {
	Addr  netip.Addr // of the client; not valid on a Unix socket
	Proxy netip.Addr // of the trusted proxy that named it, the nearest one; not valid where the client came by itself
}

// ErrForwarded is returned where a trusted proxy names a client in a way that can't be understood.
var ErrForwarded = errors.New("X-Forwarded-For, from a trusted proxy, can't be read")

// maxHops is how many addresses of X-Forwarded-For are looked at.
const maxHops = 32

// Finder finds Peers. It is immutable; the zero value trusts nobody.
type Finder struct {
	Trusted []netip.Prefix // the proxies that say who a client is
}

// Of says where r comes from. X-Forwarded-For is read from its right end: whoever a trusted proxy names is the client, unless
// that is a trusted proxy itself. Where all are, the first of them is.
func (f *Finder) Of(r *http.Request) (Peer, error) {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return Peer{}, nil //nolint:nilerr // a Unix socket
	}
	p := Peer{Addr: ap.Addr().Unmap()}
	if len(f.Trusted) == 0 {
		return p, nil
	}
	if hop, ok := r.Context().Value(hopKey{}).(netip.Addr); ok {
		p.Proxy = hop
	}
	if !f.Trusts(p.Addr) {
		return p, nil
	}
	return f.forwarded(p, r.Header["X-Forwarded-For"])
}

// Trusts tells whether a is one of the proxies.
func (f *Finder) Trusts(a netip.Addr) bool {
	for _, t := range f.Trusted {
		if t.Contains(a) {
			return true
		}
	}
	return false
}

// forwarded goes from p, a trusted proxy, to whoever stands before it.
func (f *Finder) forwarded(p Peer, lines []string) (Peer, error) {
	hops := 0
	for i := len(lines) - 1; i >= 0; i-- {
		line := lines[i]
		for line != "" {
			at := strings.LastIndexByte(line, ',')
			entry := strings.TrimSpace(line[at+1:])
			line = line[:max(at, 0)]
			addr, ok := parse(entry)
			if hops++; !ok || hops > maxHops {
				return Peer{}, ErrForwarded
			}
			if !p.Proxy.IsValid() {
				p.Proxy = p.Addr
			}
			p.Addr = addr
			if !f.Trusts(addr) {
				return p, nil
			}
		}
	}
	return p, nil
}

// parse reads an address, with or without a port.
func parse(s string) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")); err == nil && a.Zone() == "" {
		return a.Unmap(), true
	}
	if ap, err := netip.ParseAddrPort(s); err == nil && ap.Addr().Zone() == "" {
		return ap.Addr().Unmap(), true
	}
	return netip.Addr{}, false
}

type hopKey struct{}

// ConnContext is for http.Server: it lets Of know the proxy that opened a connection of Listen.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	for c != nil {
		if told, ok := c.(*conn); ok {
			if told.proxy.IsValid() {
				return context.WithValue(ctx, hopKey{}, told.proxy)
			}
			return ctx
		}
		inner, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return ctx
		}
		c = inner.NetConn()
	}
	return ctx
}
