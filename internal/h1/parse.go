package h1

import (
	"bytes"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
)

// head is one request as it was read. What it holds is good until the next one is read into it.
type head struct {
	method string
	target string
	host   string
	url    *url.URL
	header http.Header
	length int64    // of the body
	values []string // what the slices in header are parts of
}

// parse reads the head of a request in text, which ends with its empty line, into h. It is false for what is not of the
// plainest kind:
//
//   - GET, LIST, PUT, POST, PATCH or DELETE, single spaces, a target of printable ASCII that begins with prefix, HTTP/1.1;
//   - lines that end in CR LF, names that are tokens, values without control characters, nothing folded;
//   - one Host; for a body one Content-Length of plain digits; a GET, LIST or DELETE without a body;
//   - nothing that concerns the connection: no Connection but keep-alive, no Transfer-Encoding, Expect, Upgrade, Trailer, TE.
//
// What it takes, net/http takes too, and in the same sense.
func (h *head) parse(text, prefix string) bool {
	line, rest, ok := strings.Cut(text, "\r\n")
	if !ok || !h.requestLine(line, prefix) {
		return false
	}
	clear(h.header)
	h.values = h.values[:0]
	h.host, h.length = "", -1
	for {
		line, rest, ok = strings.Cut(rest, "\r\n")
		switch {
		case !ok:
			return false
		case line == "":
			return rest == "" && h.whole()
		case !h.field(line):
			return false
		}
	}
}

func (h *head) requestLine(line, prefix string) bool {
	method, line, ok := strings.Cut(line, " ")
	if !ok || !known(method) {
		return false
	}
	target, ok := strings.CutSuffix(line, " HTTP/1.1")
	if !ok || !strings.HasPrefix(target, prefix) {
		return false
	}
	simple := true
	for i := range len(target) {
		switch c := target[i]; {
		case c <= ' ' || c >= 0x7f:
			return false
		case !plainInPath(c):
			simple = false
		}
	}
	h.method, h.target = method, target
	if simple {
		h.url = &url.URL{Path: target}
		return true
	}
	u, err := url.ParseRequestURI(target)
	h.url = u
	return err == nil && u.Host == "" && u.Scheme == "" && u.User == nil
}

func known(method string) bool {
	switch method {
	case "GET", "LIST", "PUT", "POST", "PATCH", "DELETE":
		return true
	}
	return false
}

// plainInPath tells whether c means itself in the path of a URL, however that is written.
func plainInPath(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '/' || c == '-' || c == '_' || c == '.'
}

// field takes one header line.
func (h *head) field(line string) bool {
	colon := strings.IndexByte(line, ':')
	if colon <= 0 {
		return false
	}
	name, value := line[:colon], strings.Trim(line[colon+1:], " \t")
	for i := range len(name) {
		if !isToken(name[i]) {
			return false
		}
	}
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	name = canonical(name)
	switch name {
	case "Host":
		if h.host != "" || !plainHost(value) {
			return false
		}
		h.host = value
		return true
	case "Content-Length":
		if h.length >= 0 || !h.setLength(value) {
			return false
		}
	case "Connection":
		if !strings.EqualFold(value, "keep-alive") {
			return false
		}
	case "Transfer-Encoding", "Expect", "Upgrade", "Trailer", "Te", "Proxy-Connection", "Keep-Alive", "Http2-Settings":
		return false
	}
	h.add(name, value)
	return true
}

func (h *head) setLength(value string) bool {
	if value == "" || len(value) > 18 {
		return false
	}
	for i := range len(value) {
		if value[i] < '0' || value[i] > '9' {
			return false
		}
	}
	n, err := strconv.ParseInt(value, 10, 64)
	h.length = n
	return err == nil
}

// add keeps one value. The slice of a name that comes once is a part of values, of which an append makes a copy.
func (h *head) add(name, value string) {
	if had, ok := h.header[name]; ok {
		h.header[name] = append(had, value)
		return
	}
	h.values = append(h.values, value)
	n := len(h.values)
	h.header[name] = h.values[n-1 : n : n]
}

// whole says whether the head can be served now that all of it was seen.
func (h *head) whole() bool {
	if h.host == "" {
		return false
	}
	if h.length < 0 {
		h.length = 0
	}
	switch h.method {
	case "GET", "LIST", "DELETE":
		return h.length == 0
	}
	return true
}

// plainHost tells whether a Host header is a name or an address with or without a port.
func plainHost(s string) bool {
	if s == "" || len(s) > 255 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !plainInPath(c) && c != ':' && c != '[' && c != ']' || c == '/' {
			return false
		}
	}
	return true
}

// isToken tells whether c may stand in the name of a header.
func isToken(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// canonical is name as net/http writes it. The names that clients of Vault send cost nothing.
func canonical(name string) string {
	switch name {
	case "Host", "User-Agent", "Accept-Encoding", "Content-Length", "Content-Type", "X-Vault-Token", "X-Vault-Request",
		"X-Vault-Namespace", "X-Vault-Index", "Authorization", "Accept", "Connection":
		return name
	case "host":
		return "Host"
	case "user-agent":
		return "User-Agent"
	case "x-vault-token":
		return "X-Vault-Token"
	case "accept":
		return "Accept"
	}
	return textproto.CanonicalMIMEHeaderKey(name)
}

var endOfHead = []byte("\r\n\r\n")

// headLength is how long the head at the start of b is, its empty line included; 0 where its end is not there yet.
func headLength(b []byte) int {
	i := bytes.Index(b, endOfHead)
	if i < 0 {
		return 0
	}
	return i + len(endOfHead)
}
