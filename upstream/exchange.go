package upstream

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
	"strconv"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/vpath"
)

// answer is what came back. Its body must be closed. All that one exchange needs lies in one piece.
type answer struct {
	code   int
	kept   []gate.Field // the headers that mean something here, by their canonical names
	length int64        // of body, or -1
	body   *answerBody

	room struct {
		kept  [keptRoom]gate.Field
		body  answerBody
		plain plainBody
		resp  gate.Response
		raw   gate.Raw
	}
}

// header is the first value of a header, or empty.
func (a *answer) header(name string) string {
	for _, f := range a.kept {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// do sends k and returns when the header of the answer is there. An error is ctx's own, a *gate.Error that k.body gave, or
// of kind TargetDown or TargetSlow. Nothing is sent twice, but a safe call for which a connection that had been idle turns
// out to be closed.
func (c *client) do(ctx context.Context, k *call) (*answer, outcome, error) {
	a, cn, err := c.exchange(ctx, k, false)
	if err != nil && cn != nil && cn.reused && k.safe && k.body == nil && isClosed(err) && ctx.Err() == nil {
		a, _, err = c.exchange(ctx, k, true)
	}
	if err != nil {
		err, o := c.explain(ctx, err)
		return nil, o, err
	}
	if why := unfit(a); why != "" {
		a.body.Close() //nolint:errcheck // nothing is read from it
		return nil, reached, nonsense(c.name, why)
	}
	return a, reached, nil
}

// exchange sends k on one connection and reads the header of its answer. cn is nil where there was no connection.
func (c *client) exchange(ctx context.Context, k *call, fresh bool) (a *answer, cn *conn, err error) {
	cn, err = c.pool.get(ctx, fresh)
	if err != nil {
		return nil, nil, err
	}
	stop := afterwards(ctx, cn.stopper)
	cn.arm(ctx, c.timeout)
	a = &answer{}
	a.kept, a.body = a.room.kept[:0], &a.room.body
	sent, err := c.talk(ctx, cn, k, a)
	if err != nil {
		stop()
		cn.drop()
		return nil, cn, err
	}
	a.body.ctx, a.body.c, a.body.cn, a.body.stop = ctx, c, cn, stop
	a.body.again = a.body.again && sent
	return a, cn, nil
}

// afterwards is context.AfterFunc, which costs less where ctx can do it itself.
func afterwards(ctx context.Context, f func()) (stop func() bool) {
	if own, ok := ctx.(interface{ AfterFunc(f func()) func() bool }); ok {
		return own.AfterFunc(f)
	}
	return context.AfterFunc(ctx, f)
}

// talk writes k and reads the header of the answer. sent is false where the target answered before it had read all of k.
func (c *client) talk(ctx context.Context, cn *conn, k *call, a *answer) (sent bool, err error) {
	c.writeHead(cn.bw, k)
	werr := c.writeBody(ctx, cn, k)
	if werr == nil {
		werr = cn.bw.Flush()
	}
	var body *bodyError
	if errors.As(werr, &body) {
		return false, body.err
	}
	cn.arm(ctx, c.timeout)
	// A target that refuses a body may answer and close before it has read it.
	err = c.readHead(cn, a)
	if err != nil && werr != nil {
		err = werr
	}
	return werr == nil, err
}

// writeHead writes the request line and the headers, all made or checked by us. An error shows at the next flush.
func (c *client) writeHead(w *bufio.Writer, k *call) {
	put := func(parts ...string) {
		for _, s := range parts {
			w.WriteString(s) //nolint:errcheck // bufio keeps it for Flush
		}
	}
	put(k.method, " ", c.prefix, vpath.Escape(k.path))
	if k.query != "" {
		put("?", k.query)
	}
	put(" HTTP/1.1\r\nHost: ", c.host, "\r\n", c.fixed)
	if !k.token.Empty() {
		put("X-Vault-Token: ", k.token.Reveal(), "\r\n")
	}
	if k.index != "" {
		put("X-Vault-Index: ", k.index, "\r\n")
	}
	switch {
	case k.body == nil && (k.method == http.MethodGet || k.method == http.MethodDelete):
	case k.body == nil:
		put("Content-Length: 0\r\n")
	default:
		if k.contentType != "" {
			put("Content-Type: ", k.contentType, "\r\n")
		}
		if k.length < 0 {
			put("Transfer-Encoding: chunked\r\n")
		} else {
			put("Content-Length: ", strconv.FormatInt(k.length, 10), "\r\n")
		}
	}
	put("\r\n")
}

// bodyError is a request body that could not be read: the request is broken off, never ended.
type bodyError struct{ err error }

func (e *bodyError) Error() string { return e.err.Error() }

// writeBody copies k's body, exactly as long as it was said to be.
func (c *client) writeBody(ctx context.Context, cn *conn, k *call) error {
	if k.body == nil {
		return nil
	}
	var to io.Writer = cn.bw
	left := k.length
	if k.length < 0 {
		to = httputil.NewChunkedWriter(cn.bw)
	}
	buf := c.buffers.Get().(*[copySize]byte)
	defer c.buffers.Put(buf)
	for left != 0 {
		p := buf[:]
		if left > 0 {
			p = p[:min(left, copySize)]
		}
		n, err := k.body.Read(p)
		if n > 0 {
			left -= int64(n)
			cn.arm(ctx, c.timeout)
			if _, err := to.Write(p[:n]); err != nil {
				return err
			}
		}
		switch {
		case err == nil:
			left = max(left, -1)
		case errors.Is(err, io.EOF) && left <= 0:
			left = 0
		default:
			return &bodyError{readError(err)}
		}
	}
	if k.length < 0 {
		_, err := cn.bw.WriteString("0\r\n\r\n")
		return err
	}
	return nil
}

// maxInformational is how many 1xx answers may come before the one that counts.
const maxInformational = 5

// readHead reads the header of an answer, within its limit.
func (c *client) readHead(cn *conn, a *answer) error {
	cn.left = c.maxHeader
	if plainHead(cn.br, a) {
		a.room.plain = plainBody{br: cn.br, left: a.length}
		a.body.rc, a.body.ended, a.body.again = &a.room.plain, a.length == 0, true
		cn.left = -1
		return nil
	}
	for range maxInformational {
		resp, err := http.ReadResponse(cn.br, nil) //nolint:bodyclose // answerBody closes it
		if err != nil {
			return err
		}
		if resp.ProtoMajor != 1 {
			return errVersion
		}
		if resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			cn.left = -1
			a.take(resp)
			return nil
		}
	}
	return errTooMuch
}

// take is for an answer that net/http has read.
func (a *answer) take(resp *http.Response) {
	a.code, a.length, a.kept = resp.StatusCode, resp.ContentLength, a.room.kept[:0]
	for _, name := range [...]string{"Content-Type", "Cache-Control", "Retry-After", "Warning", "X-Vault-Index", "Content-Encoding", "Location"} {
		for _, v := range resp.Header[name] {
			a.kept = append(a.kept, gate.Field{Name: name, Value: v})
		}
	}
	a.body.rc = resp.Body
	a.body.ended = resp.Body == http.NoBody
	a.body.again = !resp.Close
	a.body.open = resp.ContentLength < 0 && len(resp.TransferEncoding) == 0
}

// errVersion says that a target answered in another version of HTTP than it was asked in.
var errVersion = errors.New("the answer is of another version of HTTP")

// readError is why a request body could not be read, in words for the client unless it has them already.
func readError(err error) error {
	var said *gate.Error
	if errors.As(err, &said) {
		return said
	}
	return &gate.Error{Kind: gate.Invalid, Msg: "the request body could not be read to its end", Err: err}
}

// answerBody is the body of an answer on its way to the client. It ends with io.EOF only where the target ended it, and
// the target's clock runs only while it is waited for. One goroutine reads and closes it.
type answerBody struct {
	ctx   context.Context // of the exchange
	c     *client
	cn    *conn
	stop  func() bool // ends ctx's hold on cn
	rc    io.ReadCloser
	done  func() // called once, by Close; may be nil
	ended bool   // it was read to its end
	again bool   // the connection can be used again then
	open  bool   // only the end of the connection would end it
	shut  bool
}

func (b *answerBody) Read(p []byte) (int, error) {
	b.cn.arm(b.ctx, b.c.timeout)
	n, err := b.rc.Read(p)
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		b.ended = true
	default:
		err, _ = b.c.explain(b.ctx, err)
	}
	return n, err
}

// Close ends the exchange. The connection is used again where the body was read to its end.
func (b *answerBody) Close() error {
	if b.shut {
		return nil
	}
	b.shut = true
	if b.stop() && b.ended && b.again {
		b.c.pool.put(b.cn)
	} else {
		b.cn.drop()
	}
	if b.done != nil {
		b.done()
	}
	return nil
}
