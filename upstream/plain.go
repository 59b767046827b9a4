package upstream

import (
	"bufio"
	"bytes"
	"io"
	"net/http"

	"github.com/bailiff-secrets/bailiff/gate"
)

// keptRoom is how many headers of use an answer of the plainest kind has at most.
const keptRoom = 8

// plainHead reads the header of an answer of the plainest kind into a: HTTP/1.1, a length, nothing about the connection
// but keep-alive, all of it in the buffer. It is false for anything else, of which it has taken nothing: net/http reads that.
// What it takes, net/http takes too, and in the same sense.
func plainHead(br *bufio.Reader, a *answer) bool {
	head := wholeHead(br)
	if head == nil || !a.statusLine(head) {
		return false
	}
	a.length = -1
	n := len(head)
	for head = afterLine(head); len(head) > 2; head = afterLine(head) {
		if !a.line(head[:bytes.IndexByte(head, '\n')+1]) {
			return false
		}
	}
	if a.length < 0 {
		return false
	}
	br.Discard(n) //nolint:errcheck // that much is there
	return true
}

// wholeHead is the header, with its empty line, where all of it is in the buffer or comes to be; else nil.
func wholeHead(br *bufio.Reader) []byte {
	for n := 1; ; {
		if _, err := br.Peek(n); err != nil {
			return nil
		}
		b, _ := br.Peek(br.Buffered()) //nolint:errcheck // that much is there
		if i := bytes.Index(b, []byte("\r\n\r\n")); i >= 0 {
			return b[:i+4]
		}
		if n = len(b) + 1; n > br.Size() || bareLine(b) {
			return nil
		}
	}
}

// bareLine tells whether a line in b ends without a carriage return, as net/http takes it too.
func bareLine(b []byte) bool {
	for {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			return false
		}
		if i == 0 || b[i-1] != '\r' {
			return true
		}
		b = b[i+1:]
	}
}

func afterLine(b []byte) []byte { return b[bytes.IndexByte(b, '\n')+1:] }

// statusLine takes "HTTP/1.1 200 …" for the statuses whose answers have a body.
func (a *answer) statusLine(b []byte) bool {
	const version = "HTTP/1.1 "
	end := bytes.IndexByte(b, '\n')
	if len(b) < len(version)+5 || string(b[:len(version)]) != version || end < 0 || b[end-1] != '\r' {
		return false
	}
	code := 0
	for _, c := range b[len(version) : len(version)+3] {
		if c < '0' || c > '9' {
			return false
		}
		code = code*10 + int(c-'0')
	}
	rest := b[len(version)+3 : end-1]
	if code < 200 || code > 599 || code == http.StatusNoContent || code == http.StatusNotModified || len(rest) > 0 && rest[0] != ' ' || !plainValue(rest) {
		return false
	}
	a.code = code
	return true
}

// line takes one header line, with its end.
func (a *answer) line(b []byte) bool {
	colon := bytes.IndexByte(b, ':')
	if colon <= 0 || len(b) < 2 || b[len(b)-2] != '\r' {
		return false
	}
	name, value := b[:colon], bytes.Trim(b[colon+1:len(b)-2], " \t")
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	if !plainValue(value) {
		return false
	}
	switch string(name) {
	case "Content-Type", "Cache-Control", "Retry-After", "Warning", "X-Vault-Index", "Content-Encoding", "Location":
		return a.keep(name, value)
	case "Content-Length":
		return a.setLength(value)
	case "Date", "Strict-Transport-Security", "X-Content-Type-Options", "Vary", "Server":
		return true
	}
	return harmless(name)
}

// harmless tells whether a header that is of no use may be passed over. Those that mean something may come in other letters.
func harmless(name []byte) bool {
	for _, n := range [...]string{
		"Content-Type", "Cache-Control", "Retry-After", "Warning", "X-Vault-Index", "Content-Encoding", "Location", "Content-Length",
		"Transfer-Encoding", "Connection", "Trailer", "Upgrade", "Keep-Alive", "Proxy-Connection",
	} {
		if len(n) == len(name) && bytes.EqualFold(name, []byte(n)) {
			return false
		}
	}
	return true
}

func (a *answer) keep(name, value []byte) bool {
	if len(a.kept) == cap(a.kept) {
		return false
	}
	a.kept = append(a.kept, gate.Field{Name: known(name), Value: known(value)})
	return true
}

// known is string(b), which costs nothing for what nearly every answer holds.
func known(b []byte) string {
	switch string(b) {
	case "Content-Type":
		return "Content-Type"
	case "Cache-Control":
		return "Cache-Control"
	case "application/json":
		return "application/json"
	case "no-store":
		return "no-store"
	}
	return string(b)
}

func (a *answer) setLength(value []byte) bool {
	if a.length >= 0 || len(value) == 0 || len(value) > 18 {
		return false
	}
	var n int64
	for _, c := range value {
		if c < '0' || c > '9' {
			return false
		}
		n = n*10 + int64(c-'0')
	}
	a.length = n
	return true
}

func plainValue(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' || c >= 0x7f {
			return false
		}
	}
	return true
}

// plainBody is the body of an answer that says how long it is.
type plainBody struct {
	br   *bufio.Reader
	left int64
}

func (b *plainBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err := b.br.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	switch {
	case b.left == 0:
		err = io.EOF
	case err == io.EOF: //nolint:errorlint // as connections give it
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (b *plainBody) Close() error { return nil }
