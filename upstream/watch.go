package upstream

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
)

// The causes for which a watch ends an exchange.
var (
	errSlow    = errors.New("the target was silent for too long")
	errStalled = errors.New("the request body did not come in time")
)

// maxUpload is how many times its timeout a watch lets a request body take, however steadily it comes.
const maxUpload = 10

// watch ends an exchange in which nothing happens for too long. Its context is that of the exchange.
type watch struct {
	ctx     context.Context
	cancel  context.CancelCauseFunc
	timeout time.Duration
	timer   *time.Timer
	start   time.Time

	mu      sync.Mutex
	sending bool  // the answer has not begun
	reading bool  // it is the sender of the request body who is waited for
	bodyErr error // why the request body could not be read
}

func newWatch(ctx context.Context, timeout time.Duration) *watch {
	w := &watch{timeout: timeout, start: time.Now(), sending: true}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	w.timer = time.AfterFunc(timeout, w.expire)
	return w
}

func (w *watch) expire() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sending && w.reading {
		w.cancel(errStalled)
		return
	}
	w.cancel(errSlow)
}

// pause stops the clock: the next move is not the target's.
func (w *watch) pause() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sending = false
	w.timer.Stop()
}

func (w *watch) end() {
	w.pause()
	w.cancel(nil)
}

// beginRead is false when the request body is no longer wanted.
func (w *watch) beginRead() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reading = w.sending
	return w.sending
}

// endRead starts the clock anew, as something has come. err is what the read gave.
func (w *watch) endRead(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reading = false
	if !w.sending {
		return
	}
	if err != nil && !errors.Is(err, io.EOF) {
		w.bodyErr = readError(err)
		return
	}
	if time.Since(w.start) < maxUpload*w.timeout {
		w.timer.Reset(w.timeout)
	}
}

// readErr is why the request body could not be read, or nil.
func (w *watch) readErr() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.bodyErr
}

// readError is err in words for the client, unless it has them already.
func readError(err error) error {
	var said *gate.Error
	if errors.As(err, &said) {
		return said
	}
	return &gate.Error{Kind: gate.Invalid, Msg: "the request body could not be read to its end", Err: err}
}

// sentBody is a request body on its way to the target. The transport may read it from another goroutine and after the
// answer has come; from then on it is empty. Its reader stays with whoever made the request.
type sentBody struct {
	r io.Reader
	w *watch
}

func (b *sentBody) Read(p []byte) (int, error) {
	if !b.w.beginRead() {
		return 0, io.ErrClosedPipe
	}
	n, err := b.r.Read(p)
	b.w.endRead(err)
	return n, err
}

func (b *sentBody) Close() error { return nil }

// answerBody is the body of an answer on its way to the client. It ends with io.EOF only where the target ended it, and
// the clock runs only while the target is waited for. One goroutine reads and closes it.
type answerBody struct {
	rc   io.ReadCloser
	w    *watch
	name string
	done func() // called once, by Close; may be nil
	shut bool
}

func (b *answerBody) Read(p []byte) (int, error) {
	b.w.timer.Reset(b.w.timeout)
	n, err := b.rc.Read(p)
	b.w.timer.Stop()
	switch {
	case err == nil || errors.Is(err, io.EOF):
		return n, err
	case context.Cause(b.w.ctx) == errSlow:
		return n, gate.Errorf(gate.TargetSlow, "target %s stopped in the middle of an answer", b.name)
	default:
		return n, &gate.Error{Kind: gate.TargetDown, Msg: "target " + b.name + " broke off in the middle of an answer", Err: clean(err)}
	}
}

// Close ends the exchange. The connection is used again where the body was read to its end.
func (b *answerBody) Close() error {
	if b.shut {
		return nil
	}
	b.shut = true
	err := b.rc.Close()
	b.w.end()
	if b.done != nil {
		b.done()
	}
	return err
}
