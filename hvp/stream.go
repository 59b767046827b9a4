package hvp

import (
	"errors"
	"io"
	"net/http"
	"strconv"

	"github.com/bailiff-secrets/bailiff/gate"
)

const copySize = 32 << 10

// stream passes on a target's answer. Where its body breaks, the connection is broken too, so that a part is never taken
// for the whole.
func (h *Handler) stream(w http.ResponseWriter, r *http.Request, q *gate.Request, resp *gate.Response) {
	raw := resp.Raw
	defer raw.Body.Close() //nolint:errcheck // its end was seen, or is given up
	buf := h.buffers.Get().(*[copySize]byte)
	defer h.buffers.Put(buf)

	n, err := readSome(raw.Body, buf[:])
	if broken(err) || raw.Code < 200 || raw.Code > 599 {
		h.fail(w, r, q, beforeFirst(err))
		return
	}
	copyHeaders(w.Header(), raw, n > 0)
	w.WriteHeader(raw.Code)
	var sent int64
	for {
		if n > 0 {
			if _, werr := w.Write(buf[:n]); werr != nil {
				if sent == 0 && resp.Abandon != nil {
					resp.Abandon()
				}
				panic(http.ErrAbortHandler)
			}
			sent += int64(n)
		}
		if err != nil {
			break
		}
		n, err = raw.Body.Read(buf[:])
	}
	if err := h.left(w, resp); err != nil {
		panic(http.ErrAbortHandler)
	}
	if broken(err) || raw.Length >= 0 && sent != raw.Length {
		h.logger.Warn("an answer broke off", "request_id", q.ID, "path", q.Path, "sent", sent)
		panic(http.ErrAbortHandler)
	}
}

// left waits until an answer that is worth ending if nobody gets it has left; where it has not, it is ended.
func (h *Handler) left(w http.ResponseWriter, resp *gate.Response) error {
	if resp.Abandon == nil {
		return nil
	}
	err := http.NewResponseController(w).Flush()
	if err != nil {
		resp.Abandon()
	}
	return err
}

func broken(err error) bool { return err != nil && !errors.Is(err, io.EOF) }

// beforeFirst is what to say where an answer broke before its first byte.
func beforeFirst(err error) error {
	if broken(err) {
		return err
	}
	return gate.Errorf(gate.TargetDown, "the target answered with a status that makes no sense")
}

// readSome reads until there is something to send, or an end.
func readSome(r io.Reader, p []byte) (n int, err error) {
	for n == 0 && err == nil {
		n, err = r.Read(p)
	}
	return n, err
}

// copyHeaders passes on what a client of Vault knows. Everything else about an answer is said by Bailiff itself.
func copyHeaders(to http.Header, raw *gate.Raw, body bool) {
	for _, f := range raw.Header {
		switch name := http.CanonicalHeaderKey(f.Name); name {
		case "Content-Type", "Retry-After", "Warning", "X-Vault-Index":
			to[name] = append(to[name], f.Value)
		}
	}
	if !body {
		return
	}
	if to["Content-Type"] == nil {
		to["Content-Type"] = []string{"application/octet-stream"} // or net/http would guess
	}
	if raw.Length >= 0 {
		to["Content-Length"] = []string{strconv.FormatInt(raw.Length, 10)}
	}
}
