package server

import (
	"context"
	"net/netip"
	"testing"
)

func TestTheTrueClientIsRecorded(t *testing.T) {
	u := newUnder(t)
	u.peers.Trusted = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	ln, err := listen(t.Context(), "127.0.0.1:0", nil, 100, u.peers)
	if err != nil {
		t.Fatal(err)
	}
	spoken := ln.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- serveUntil(ctx, u.httpServer(), ln) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	forwarding := u.addr
	request := func(path, extra string) string {
		return "GET " + path + " HTTP/1.1\r\nHost: x\r\nX-Vault-Token: " + u.token + "\r\n" + extra + "\r\n"
	}
	for _, tt := range []struct {
		what, addr, wire string
		code             int // 0: no answer
		client, proxy    string
	}{
		{"a proxy for itself", forwarding, request("/v1/secret/data/a", ""), 200, "127.0.0.1", ""},
		{"one that forwards", forwarding, request("/v1/secret/data/a", "X-Forwarded-For: 203.0.113.9, 192.0.2.7\r\n"), 200, "192.0.2.7", "127.0.0.1"},
		{"one that forwards, the slow way", forwarding, request("/v1/secret/data/a", "X-Forwarded-For: 192.0.2.7\r\nTE: trailers\r\n"), 200, "192.0.2.7", "127.0.0.1"},
		{"one that forwards rubbish", forwarding, request("/v1/secret/data/a", "X-Forwarded-For: rubbish\r\n"), 400, "", ""},
		{"one that forwards to the other door", forwarding, request("/api/v1/status", "X-Forwarded-For: 192.0.2.7\r\n"), 403, "192.0.2.7", "127.0.0.1"},
		{"one that forwards rubbish to the other door", forwarding, request("/api/v1/status", "X-Forwarded-For: rubbish\r\n"), 400, "", ""},
		{"the PROXY protocol", spoken, "PROXY TCP4 192.0.2.8 127.0.0.1 1 2\r\n" + request("/v1/secret/data/a", "X-Forwarded-For: 203.0.113.9\r\n"), 200, "192.0.2.8", "127.0.0.1"},
		{"the PROXY protocol, the slow way", spoken, "PROXY TCP4 192.0.2.8 127.0.0.1 1 2\r\n" + request("/v1/secret/data/a", "TE: trailers\r\n"), 200, "192.0.2.8", "127.0.0.1"},
		{"the PROXY protocol and rubbish", spoken, "PROXY TCP4 192.0.2.8 127.0.0.1 1 2\r\nrubbish\r\n\r\n", 400, "192.0.2.8", "127.0.0.1"},
		{"no header where there must be one", spoken, request("/v1/secret/data/a", ""), 0, "", ""},
	} {
		u.addr = tt.addr
		before := u.trail.Head().Seq
		codes, bodies := u.exchange(tt.wire, tt.code != 0)
		if len(codes) == 0 && tt.code == 0 {
			continue
		}
		if len(codes) != 1 || codes[0] != tt.code {
			t.Errorf("%s: got %v %s, want %d", tt.what, codes, bodies, tt.code)
			continue
		}
		waitFor(t, tt.what+": it is recorded", func() bool { return u.trail.Head().Seq > before })
		if rec := u.newest(); rec.ClientAddr != tt.client || rec.ProxyAddr != tt.proxy {
			t.Errorf("%s: got %q by %q recorded, want %q by %q", tt.what, rec.ClientAddr, rec.ProxyAddr, tt.client, tt.proxy)
		}
	}
}
