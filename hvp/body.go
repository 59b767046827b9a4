package hvp

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"

	"github.com/bailiff-secrets/bailiff/gate"
)

// body gives q the body of a write, limited. Other operations have none: Vault doesn't look at it either.
func (h *Handler) body(q *gate.Request, r *http.Request) *limited {
	if !writes(q.Op) || r.ContentLength == 0 || r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	q.ContentType = r.Header.Get("Content-Type")
	l := &limited{h: h, r: r.Body}
	l.left.Store(h.maxBody)
	q.Body, q.BodyLen = l, r.ContentLength
	return l
}

func (h *Handler) tooLarge() string {
	return "the request body is larger than " + strconv.FormatInt(h.maxBody, 10) + " bytes"
}

// limited fails with gate.TooLarge where a body goes on past the limit: it never ends early. Whoever sends it on may do so
// from another goroutine.
type limited struct {
	h    *Handler
	r    io.Reader
	left atomic.Int64 // negative when the body is too large
}

func (l *limited) Read(p []byte) (int, error) {
	left := l.left.Load()
	if left < 0 {
		return 0, l.tooLarge()
	}
	if int64(len(p)) > left+1 {
		p = p[:left+1] // one byte more than may come, to see it come
	}
	n, err := l.r.Read(p)
	if left -= int64(n); left < 0 {
		l.left.Store(-1)
		return n - 1, l.tooLarge()
	}
	l.left.Store(left)
	if err != nil && !errors.Is(err, io.EOF) {
		return n, &gate.Error{Kind: gate.Invalid, Msg: "the request body could not be read to its end", Err: err}
	}
	return n, err
}

func (l *limited) over() bool { return l.left.Load() < 0 }

func (l *limited) tooLarge() error { return &gate.Error{Kind: gate.TooLarge, Msg: l.h.tooLarge()} }
