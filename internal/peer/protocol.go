package peer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
)

// The limits of the PROXY protocol's header: of version 1 as its text says, of version 2 what is more than anybody sends.
const (
	maxLine = 107
	maxTail = 2048
)

var (
	errHeader  = errors.New("the connection of a proxy does not begin with a PROXY header that can be read")
	signature2 = []byte("\r\n\r\n\x00\r\nQUIT\n")
)

// readHeader reads a PROXY header, of version 1 or 2, and not a byte more. The address is not valid where the header says
// that the proxy speaks for itself.
func readHeader(r io.Reader) (netip.AddrPort, error) {
	var start [16]byte // of both versions the shortest is not shorter than 15
	if _, err := io.ReadFull(r, start[:12]); err != nil {
		return netip.AddrPort{}, errHeader
	}
	if bytes.Equal(start[:12], signature2) {
		if _, err := io.ReadFull(r, start[12:]); err != nil {
			return netip.AddrPort{}, errHeader
		}
		return readBinary(r, start[12:])
	}
	if !bytes.HasPrefix(start[:], []byte("PROXY ")) {
		return netip.AddrPort{}, errHeader
	}
	line := append(make([]byte, 0, maxLine), start[:12]...)
	var one [1]byte
	for !bytes.HasSuffix(line, []byte("\r\n")) {
		if len(line) == maxLine {
			return netip.AddrPort{}, errHeader
		}
		if _, err := io.ReadFull(r, one[:]); err != nil {
			return netip.AddrPort{}, errHeader
		}
		line = append(line, one[0])
	}
	return parseLine(string(line[:len(line)-2]))
}

// parseLine reads "PROXY TCP4 source destination sourceport destinationport".
func parseLine(line string) (netip.AddrPort, error) {
	words := strings.Split(line, " ")
	if len(words) >= 2 && words[1] == "UNKNOWN" {
		return netip.AddrPort{}, nil
	}
	if len(words) != 6 || words[1] != "TCP4" && words[1] != "TCP6" {
		return netip.AddrPort{}, errHeader
	}
	six := words[1] == "TCP6"
	from, err1 := endOf(words[2], words[4], six)
	_, err2 := endOf(words[3], words[5], six)
	if err1 != nil || err2 != nil {
		return netip.AddrPort{}, errHeader
	}
	return from, nil
}

func endOf(addr, port string, six bool) (netip.AddrPort, error) {
	a, err := netip.ParseAddr(addr)
	if err != nil || a.Zone() != "" || a.Is4() == six {
		return netip.AddrPort{}, errHeader
	}
	if len(port) > 1 && port[0] == '0' {
		return netip.AddrPort{}, errHeader
	}
	n := 0
	for _, c := range []byte(port) {
		if c < '0' || c > '9' || n > 65535 {
			return netip.AddrPort{}, errHeader
		}
		n = 10*n + int(c-'0')
	}
	if port == "" || n > 65535 {
		return netip.AddrPort{}, errHeader
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), nil //nolint:gosec // it is within bounds
}

// readBinary reads what follows the signature of version 2. head is its first four bytes.
func readBinary(r io.Reader, head []byte) (netip.AddrPort, error) {
	n := binary.BigEndian.Uint16(head[2:])
	if head[0]>>4 != 2 || head[0]&0xf > 1 || n > maxTail {
		return netip.AddrPort{}, errHeader
	}
	tail := make([]byte, n)
	if _, err := io.ReadFull(r, tail); err != nil {
		return netip.AddrPort{}, errHeader
	}
	if head[0]&0xf == 0 {
		return netip.AddrPort{}, nil // LOCAL
	}
	var size int
	switch head[1] {
	case 0x00:
		return netip.AddrPort{}, nil // UNSPEC
	case 0x11:
		size = 4
	case 0x21:
		size = 16
	default:
		return netip.AddrPort{}, errHeader
	}
	if len(tail) < 2*size+4 {
		return netip.AddrPort{}, errHeader
	}
	a, _ := netip.AddrFromSlice(tail[:size])
	return netip.AddrPortFrom(a.Unmap(), binary.BigEndian.Uint16(tail[2*size:])), nil
}

// conn is a connection of which a proxy said whose it is.
type conn struct {
	net.Conn
	remote net.Addr
	proxy  netip.Addr // not valid where the proxy speaks for itself
}

// RemoteAddr is the client's.
func (c *conn) RemoteAddr() net.Addr { return c.remote }

// NetConn is the connection itself.
func (c *conn) NetConn() net.Conn { return c.Conn }

// CloseWrite closes one direction, where the connection can.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
