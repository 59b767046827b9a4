package hvp

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
)

// How long the body of a request may take: between two pieces, and as a whole. A client that sends slowly must not keep a
// place at a target.
const (
	bodyPause = 30 * time.Second
	bodyWhole = 5 * time.Minute
)

// body gives q the body of a write, limited. Other operations have none: Vault doesn't look at it either.
func (h *Handler) body(w http.ResponseWriter, q *gate.Request, r *http.Request) *limited {
	if !writes(q.Op) || r.ContentLength == 0 || r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	q.ContentType = r.Header.Get("Content-Type")
	l := &limited{h: h, r: r.Body, clock: http.NewResponseController(w), last: q.Start.Add(bodyWhole)}
	l.left.Store(h.maxBody)
	q.Body, q.BodyLen = l, r.ContentLength
	return l
}

func (h *Handler) tooLarge() string {
	return "the request body is larger than " + strconv.FormatInt(h.maxBody, 10) + " bytes"
}

// extend sets when the client must have sent more; the zero time is never.
func extend(clock *http.ResponseController, deadline time.Time) {
	clock.SetReadDeadline(deadline) //nolint:errcheck // a server without deadlines has its own ways
}

// limited fails with gate.TooLarge where a body goes on past the limit: it never ends early. Whoever sends it on may do so
// from another goroutine.
type limited struct {
	h     *Handler
	r     io.Reader
	clock *http.ResponseController
	last  time.Time    // the body must be there by then
	left  atomic.Int64 // negative when the body is too large
}

func (l *limited) Read(p []byte) (int, error) {
	left := l.left.Load()
	if left < 0 {
		return 0, l.tooLarge()
	}
	if int64(len(p)) > left+1 {
		p = p[:left+1] // one byte more than may come, to see it come
	}
	deadline := time.Now().Add(bodyPause)
	if deadline.After(l.last) {
		deadline = l.last
	}
	extend(l.clock, deadline)
	n, err := l.r.Read(p)
	if errors.Is(err, io.EOF) {
		extend(l.clock, time.Time{}) // from here on net/http watches for the client's going away, which may take long
	}
	if left -= int64(n); left < 0 {
		l.left.Store(-1)
		return n - 1, l.tooLarge()
	}
	l.left.Store(left)
	switch {
	case err == nil || errors.Is(err, io.EOF):
		return n, err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return n, &gate.Error{Kind: gate.Invalid, Msg: "the request body did not come in time", Err: err}
	default:
		return n, &gate.Error{Kind: gate.Invalid, Msg: "the request body could not be read to its end", Err: err}
	}
}

func (l *limited) over() bool { return l.left.Load() < 0 }

func (l *limited) tooLarge() error { return &gate.Error{Kind: gate.TooLarge, Msg: l.h.tooLarge()} }
