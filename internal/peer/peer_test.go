package peer_test

import (
	"bufio"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/peer"
)

func finder(t testing.TB, blocks ...string) *peer.Finder {
	t.Helper()
	f := &peer.Finder{}
	for _, b := range blocks {
		p, err := netip.ParsePrefix(b)
		if err != nil {
			t.Fatal(err)
		}
		f.Trusted = append(f.Trusted, p)
	}
	return f
}

func TestOf(t *testing.T) {
	const tooMany = "10.0.0.1"
	for _, tt := range []struct {
		what   string
		remote string
		lines  []string
		addr   string
		proxy  string
		fails  bool
	}{
		{what: "a client", remote: "192.0.2.7:1234", addr: "192.0.2.7"},
		{what: "a client that says it is another", remote: "192.0.2.7:1234", lines: []string{"198.51.100.1"}, addr: "192.0.2.7"},
		{what: "a client that says rubbish", remote: "192.0.2.7:1234", lines: []string{"x"}, addr: "192.0.2.7"},
		{what: "a proxy for itself", remote: "10.1.2.3:1", addr: "10.1.2.3"},
		{what: "a client behind a proxy", remote: "10.1.2.3:1", lines: []string{"192.0.2.7"}, addr: "192.0.2.7", proxy: "10.1.2.3"},
		{what: "a client that put something in front", remote: "10.1.2.3:1", lines: []string{"10.9.9.9, 198.51.100.1, 192.0.2.7"}, addr: "192.0.2.7", proxy: "10.1.2.3"},
		{what: "a client that put rubbish in front", remote: "10.1.2.3:1", lines: []string{"rubbish, 192.0.2.7"}, addr: "192.0.2.7", proxy: "10.1.2.3"},
		{what: "two proxies", remote: "10.1.2.3:1", lines: []string{"192.0.2.7, 10.4.5.6"}, addr: "192.0.2.7", proxy: "10.1.2.3"},
		{what: "two lines", remote: "10.1.2.3:1", lines: []string{"192.0.2.7", "10.4.5.6"}, addr: "192.0.2.7", proxy: "10.1.2.3"},
		{what: "nobody but proxies", remote: "10.1.2.3:1", lines: []string{"10.7.7.7, 10.4.5.6"}, addr: "10.7.7.7", proxy: "10.1.2.3"},
		{what: "with a port", remote: "10.1.2.3:1", lines: []string{"192.0.2.7:55"}, addr: "192.0.2.7", proxy: "10.1.2.3"},
		{what: "IPv6", remote: "[fd00::1]:1", lines: []string{"2001:db8::7"}, addr: "2001:db8::7", proxy: "fd00::1"},
		{what: "IPv6 in brackets", remote: "[fd00::1]:1", lines: []string{"[2001:db8::7]"}, addr: "2001:db8::7", proxy: "fd00::1"},
		{what: "IPv6 with a port", remote: "[fd00::1]:1", lines: []string{"[2001:db8::7]:99"}, addr: "2001:db8::7", proxy: "fd00::1"},
		{what: "IPv4 in IPv6 is IPv4", remote: "[::ffff:10.1.2.3]:1", lines: []string{"::ffff:192.0.2.7"}, addr: "192.0.2.7", proxy: "10.1.2.3"},
		{what: "a trusted IPv4 in IPv6 is no client", remote: "10.1.2.3:1", lines: []string{"192.0.2.7, ::ffff:10.4.5.6"}, addr: "192.0.2.7", proxy: "10.1.2.3"},
		{what: "a Unix socket", remote: "@"},
		{what: "rubbish from a proxy", remote: "10.1.2.3:1", lines: []string{"192.0.2.7, x"}, fails: true},
		{what: "an empty name from a proxy", remote: "10.1.2.3:1", lines: []string{"192.0.2.7, "}, fails: true},
		{what: "unknown from a proxy", remote: "10.1.2.3:1", lines: []string{"unknown"}, fails: true},
		{what: "a zone", remote: "[fd00::1]:1", lines: []string{"fe80::1%eth0"}, fails: true},
		{what: "too many", remote: "10.1.2.3:1", lines: []string{strings.Repeat(tooMany+",", 40) + tooMany}, fails: true},
	} {
		f := finder(t, "10.0.0.0/8", "fd00::/8")
		r := &http.Request{RemoteAddr: tt.remote, Header: http.Header{}}
		for _, l := range tt.lines {
			r.Header.Add("X-Forwarded-For", l)
		}
		p, err := f.Of(r)
		if (err != nil) != tt.fails || err != nil && !errors.Is(err, peer.ErrForwarded) {
			t.Errorf("%s: got %v", tt.what, err)
		}
		want := peer.Peer{}
		if tt.addr != "" {
			want.Addr = netip.MustParseAddr(tt.addr)
		}
		if tt.proxy != "" {
			want.Proxy = netip.MustParseAddr(tt.proxy)
		}
		if p != want {
			t.Errorf("%s: got %+v, want %+v", tt.what, p, want)
		}
	}
}

// v2 is a header of version 2.
func v2(t testing.TB, text string) string {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return "\r\n\r\n\x00\r\nQUIT\n" + string(b)
}

func TestTheProxyProtocol(t *testing.T) {
	const request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := finder(t, "127.0.0.0/8")
	srv := &http.Server{ConnContext: peer.ConnContext, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, err := f.Of(r)
		if err != nil {
			io.WriteString(w, err.Error())
			return
		}
		io.WriteString(w, p.Addr.String()+" by "+p.Proxy.String())
	})}
	pl := peer.Listen(l, f)
	var wg sync.WaitGroup
	wg.Go(func() { srv.Serve(pl) })
	t.Cleanup(func() { srv.Close(); wg.Wait() })
	for _, tt := range []struct {
		what, header string
		extra        string // a header line of the request
		want         string // empty: the connection is closed without a word
	}{
		{what: "version 1", header: "PROXY TCP4 192.0.2.7 10.0.0.1 56324 8280\r\n", want: "192.0.2.7 by 127.0.0.1"},
		{what: "version 1 with IPv6", header: "PROXY TCP6 2001:db8::7 fd00::1 56324 8280\r\n", want: "2001:db8::7 by 127.0.0.1"},
		{what: "version 1 for itself", header: "PROXY UNKNOWN\r\n", want: "127.0.0.1 by invalid IP"},
		{what: "version 1 for itself, with words", header: "PROXY UNKNOWN ffff:f:f:f ffff:f 65535 65535\r\n", want: "127.0.0.1 by invalid IP"},
		{what: "a client that forwards something", header: "PROXY TCP4 192.0.2.7 10.0.0.1 56324 8280\r\n", extra: "X-Forwarded-For: 198.51.100.1\r\n", want: "192.0.2.7 by 127.0.0.1"},
		{what: "a proxy behind a proxy", header: "PROXY TCP4 127.0.0.2 10.0.0.1 56324 8280\r\n", extra: "X-Forwarded-For: 198.51.100.1\r\n", want: "198.51.100.1 by 127.0.0.1"},
		{what: "version 2", header: v2(t, "21 11 000c c0000207 0a000001 dc04 2058"), want: "192.0.2.7 by 127.0.0.1"},
		{what: "version 2 with IPv6", header: v2(t, "21 21 0024 20010db8000000000000000000000007 fd000000000000000000000000000001 dc04 2058"), want: "2001:db8::7 by 127.0.0.1"},
		{what: "version 2 with more behind", header: v2(t, "21 11 0011 c0000207 0a000001 dc04 2058 0400021234"), want: "192.0.2.7 by 127.0.0.1"},
		{what: "version 2 for itself", header: v2(t, "20 00 0000"), want: "127.0.0.1 by invalid IP"},
		{what: "version 2 of no family", header: v2(t, "21 00 0000"), want: "127.0.0.1 by invalid IP"},
		{what: "none"},
		{what: "version 1 without its family", header: "PROXY\r\n"},
		{what: "version 1 that is too long", header: "PROXY UNKNOWN " + strings.Repeat("x", 200) + "\r\n"},
		{what: "version 1 without a carriage return", header: "PROXY TCP4 192.0.2.7 10.0.0.1 1 2\n"},
		{what: "version 1 with a name", header: "PROXY TCP4 example.com 10.0.0.1 1 2\r\n"},
		{what: "version 1 with the wrong family", header: "PROXY TCP4 2001:db8::7 fd00::1 1 2\r\n"},
		{what: "version 1 with a bad port", header: "PROXY TCP4 192.0.2.7 10.0.0.1 65536 2\r\n"},
		{what: "version 1 with a port of many digits", header: "PROXY TCP4 192.0.2.7 10.0.0.1 01 2\r\n"},
		{what: "version 1 with two spaces", header: "PROXY TCP4  192.0.2.7 10.0.0.1 1 2\r\n"},
		{what: "version 1 with a zone", header: "PROXY TCP6 fe80::1%lo fd00::1 1 2\r\n"},
		{what: "version 1 in small letters", header: "proxy TCP4 192.0.2.7 10.0.0.1 1 2\r\n"},
		{what: "version 3", header: v2(t, "31 11 000c c0000207 0a000001 dc04 2058")},
		{what: "version 2 of another command", header: v2(t, "22 11 000c c0000207 0a000001 dc04 2058")},
		{what: "version 2 of datagrams", header: v2(t, "21 12 000c c0000207 0a000001 dc04 2058")},
		{what: "version 2 of a Unix socket", header: v2(t, "21 31 0000")},
		{what: "version 2 that is too short", header: v2(t, "21 11 0008 c0000207 0a000001")},
		{what: "version 2 that is too long", header: v2(t, "21 11 ffff c0000207 0a000001")},
	} {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(4 * time.Second))
		io.WriteString(c, tt.header+strings.Replace(request, "\r\n\r\n", "\r\n"+tt.extra+"\r\n", 1))
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		got := ""
		if err == nil {
			b, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Error(err)
			}
			resp.Body.Close()
			got = string(b)
		}
		c.Close()
		if got != tt.want {
			t.Errorf("%s: got %q (%v), want %q", tt.what, got, err, tt.want)
		}
	}
}

// pipes is a listener of connections in memory, from an address.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	c, ok := <-p.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (p *pipes) Close() error { p.once.Do(func() { close(p.conns) }); return nil }

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

type from struct {
	net.Conn
	addr string
}

func (f from) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(f.addr)) }

func TestASlowProxyHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &pipes{conns: make(chan net.Conn)}
		pl := peer.Listen(l, finder(t, "10.0.0.0/8"))
		open := func(addr string) net.Conn {
			client, server := net.Pipe()
			l.conns <- from{server, addr}
			return client
		}
		slow := open("10.0.0.1:1")
		go io.WriteString(slow, "PROXY TCP4 ") //nolint:errcheck // it is cut off
		open("192.0.2.7:1")
		c, err := pl.Accept()
		if err != nil || c.RemoteAddr().String() != "192.0.2.7:1" {
			t.Fatalf("got %v, %v: a client by itself needs no header", c, err)
		}
		start := time.Now()
		if _, err := slow.Read(make([]byte, 1)); err == nil || time.Since(start) != 5*time.Second {
			t.Errorf("got %v after %v, want the connection closed after 5 s", err, time.Since(start))
		}
		waits := open("10.0.0.1:2")
		synctest.Wait()
		if err := pl.Close(); err != nil {
			t.Error(err)
		}
		if _, err := waits.Read(make([]byte, 1)); err == nil {
			t.Error("a connection that was not given out is left open")
		}
		if _, err := pl.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("after its end: got %v, want net.ErrClosed", err)
		}
	})
}

func FuzzHeader(f *testing.F) {
	f.Add("PROXY TCP4 192.0.2.7 10.0.0.1 56324 8280\r\n")
	f.Add("PROXY UNKNOWN\r\n")
	f.Add(v2(f, "21 11 000c c0000207 0a000001 dc04 2058"))
	f.Add(v2(f, "21 21 0024 20010db8000000000000000000000007 fd000000000000000000000000000001 dc04 2058"))
	f.Add(v2(f, "20 00 0000"))
	f.Fuzz(func(t *testing.T, header string) {
		const marker = "GET / HTTP/1.1"
		r := strings.NewReader(header + marker)
		ap, err := peer.ReadHeader(r)
		if err != nil {
			return
		}
		if ap.IsValid() && ap.Addr().Zone() != "" {
			t.Errorf("got a zone: %v", ap)
		}
		if rest, _ := io.ReadAll(r); len(rest) < len(marker) && !strings.HasSuffix(marker, string(rest)) {
			t.Errorf("it read on: %q is left", rest)
		}
	})
}

func FuzzForwardedFor(f *testing.F) {
	f.Add("192.0.2.7, 10.0.0.1")
	f.Add("[2001:db8::7]:1,,x")
	f.Fuzz(func(t *testing.T, line string) {
		fd := finder(t, "10.0.0.0/8")
		p, err := fd.Of(&http.Request{RemoteAddr: "10.1.2.3:1", Header: http.Header{"X-Forwarded-For": {line}}})
		if err == nil && (!p.Addr.IsValid() || p.Addr.Zone() != "" || p.Addr.Is4In6()) {
			t.Errorf("got %+v", p)
		}
	})
}
