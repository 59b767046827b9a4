package h1

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	headRoom = 2 << 10  // in front of the body in a buffer
	bodyRoom = 34 << 10 // for the body
	tailRoom = 16       // for the end of a chunk and of the chunks
	// maxDiscard is how much of a body that nobody wanted is read, so that the connection can go on.
	maxDiscard = 256 << 10
)

// buffer holds an answer until it is sent: the head ends, and the body begins, at headRoom.
type buffer [headRoom + bodyRoom + tailRoom]byte

// errLength says that a handler's body was not as long as it had promised.
var errLength = errors.New("h1: the answer is not as long as it was said to be")

// response is the http.ResponseWriter of one request. Like net/http's it is used by one goroutine at a time.
type response struct {
	cn     *conn
	body   *body // of the request; nil: none
	header http.Header

	code   int
	head   []byte // as it is sent, without the lines about length
	length int64  // of the body as the handler said it, or -1
	wrote  int64  // bytes of the body taken so far

	buf     *buffer
	n       int  // bytes of the body in buf
	sent    bool // the head was
	chunked bool
	close   bool // the connection ends with this answer
	over    bool // the handler wanted to write more than it had said
	err     error
}

func (w *response) Header() http.Header { return w.header }

func (w *response) WriteHeader(code int) {
	if code < 100 || code > 999 {
		panic("h1: invalid status code " + strconv.Itoa(code))
	}
	if w.code != 0 || code < 200 {
		return
	}
	w.code, w.length = code, -1
	if v := w.header["Content-Length"]; len(v) == 1 {
		if n, err := strconv.ParseInt(v[0], 10, 64); err == nil && n >= 0 {
			w.length = n
		}
	}
	b := w.cn.headBuf[:0]
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(code), 10)
	b = append(b, ' ')
	b = append(b, http.StatusText(code)...)
	b = append(b, "\r\n"...)
	b = w.fields(b)
	b = append(b, "Date: "...)
	b = append(b, w.cn.s.date()...)
	b = append(b, "\r\n"...)
	w.head, w.cn.headBuf = b, b
}

// fields appends the handler's headers, sorted. Those about the connection and the length are this package's own.
func (w *response) fields(b []byte) []byte {
	var room [16]string
	names := room[:0]
	for name := range w.header {
		switch name {
		case "Content-Length", "Transfer-Encoding", "Date", "Trailer", "Upgrade":
		case "Connection":
			w.close = w.close || strings.EqualFold(w.header.Get(name), "close")
		default:
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if !validName(name) {
			continue
		}
		for _, v := range w.header[name] {
			b = append(b, name...)
			b = append(b, ": "...)
			b = appendValue(b, v)
			b = append(b, "\r\n"...)
		}
	}
	return b
}

func validName(name string) bool {
	for i := range len(name) {
		if !isToken(name[i]) {
			return false
		}
	}
	return name != ""
}

// appendValue appends v so that it stays on one line, as net/http does.
func appendValue(b []byte, v string) []byte {
	if strings.IndexByte(v, '\n') < 0 && strings.IndexByte(v, '\r') < 0 {
		return append(b, strings.Trim(v, " \t")...)
	}
	return append(b, strings.Trim(strings.NewReplacer("\r", " ", "\n", " ").Replace(v), " \t")...)
}

// bodiless tells whether an answer of this status has no body by its nature.
func (w *response) bodiless() bool {
	return w.code == http.StatusNoContent || w.code == http.StatusNotModified
}

func (w *response) Write(p []byte) (int, error) {
	if w.code == 0 {
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case w.err != nil:
		return 0, w.err
	case len(p) == 0:
		return 0, nil
	case w.bodiless():
		return 0, http.ErrBodyNotAllowed
	case w.length >= 0 && w.wrote+int64(len(p)) > w.length:
		w.over = true
		return 0, http.ErrContentLength
	}
	w.wrote += int64(len(p))
	if w.n+len(p) > bodyRoom {
		if w.flush(false); w.err != nil {
			return 0, w.err
		}
	}
	if len(p) > bodyRoom {
		w.put(p)
		return len(p), w.err
	}
	w.hold()
	w.n += copy(w.buf[headRoom+w.n:], p)
	return len(p), nil
}

func (w *response) hold() {
	if w.buf == nil {
		w.buf = w.cn.s.buffers.Get().(*buffer)
	}
}

// put sends p, which is a part of the body too large for the buffer.
func (w *response) put(p []byte) {
	if w.chunked {
		w.out(strconv.AppendInt(nil, int64(len(p)), 16), []byte("\r\n"), p, []byte("\r\n"))
		return
	}
	w.out(p)
}

func (w *response) out(parts ...[]byte) {
	for _, p := range parts {
		if w.err == nil {
			_, w.err = w.cn.net.Write(p)
		}
	}
}

// flush sends what is held in one piece. last says that nothing will follow.
func (w *response) flush(last bool) {
	if w.err != nil {
		return
	}
	w.hold()
	before := w.cn.headBuf[:0]
	if !w.sent {
		w.frame(last)
		before, w.sent = w.head, true
	}
	end := headRoom + w.n
	if w.chunked && w.n > 0 {
		before = append(strconv.AppendInt(before, int64(w.n), 16), "\r\n"...)
		end += copy(w.buf[end:], "\r\n")
	}
	if w.chunked && last {
		end += copy(w.buf[end:], "0\r\n\r\n")
	}
	start := headRoom - len(before)
	if start < 0 {
		w.out(before)
		start = headRoom
	} else {
		copy(w.buf[start:], before)
	}
	if start < end {
		w.out(w.buf[start:end])
	}
	w.n = 0
}

// frame ends the head with how the end of the body will be known, and settles the fate of the request's body: what is left of it is
// read here, as a client may not listen before it has sent it.
func (w *response) frame(last bool) {
	if w.body != nil && !w.body.discard(maxDiscard) {
		w.close = true
	}
	b := w.head
	switch {
	case w.bodiless():
	case w.length >= 0:
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, w.length, 10)
		b = append(b, "\r\n"...)
	case last:
		w.length = w.wrote
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, w.wrote, 10)
		b = append(b, "\r\n"...)
	default:
		w.chunked = true
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	if w.close || w.cn.s.closing() {
		w.close = true
		b = append(b, "Connection: close\r\n"...)
	}
	b = append(b, "\r\n"...)
	w.head, w.cn.headBuf = b, b
}

// finish sends the rest of the answer.
func (w *response) finish() error {
	if w.code == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.n > 0 || !w.sent || w.chunked {
		w.flush(true)
	}
	if w.err == nil && !w.bodiless() && w.length >= 0 && (w.over || w.wrote != w.length) {
		w.err = errLength
	}
	return w.err
}

// free gives the buffer back.
func (w *response) free() {
	if w.buf != nil {
		w.cn.s.buffers.Put(w.buf)
		w.buf = nil
	}
}

// FlushError sends what was written so far.
func (w *response) FlushError() error {
	if w.code == 0 {
		w.WriteHeader(http.StatusOK)
	}
	w.flush(false)
	return w.err
}

// Flush is FlushError for who doesn't want to know.
func (w *response) Flush() { w.FlushError() } //nolint:errcheck // the next write says it

// SetReadDeadline is for http.ResponseController.
func (w *response) SetReadDeadline(t time.Time) error {
	w.cn.readBy = someTime()
	return w.cn.net.SetReadDeadline(t)
}

// SetWriteDeadline is for http.ResponseController.
func (w *response) SetWriteDeadline(t time.Time) error {
	w.cn.writeBy = someTime()
	return w.cn.net.SetWriteDeadline(t)
}
