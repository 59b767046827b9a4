package h1

import (
	"io"
	"net/http"
	"sync"
)

// body is the body of one request, of a length that was said.
type body struct {
	mu   sync.Mutex
	cn   *conn
	left int64
	over bool // the handler has ended
	err  error
}

func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over {
		return 0, http.ErrBodyReadAfterClose
	}
	return b.read(p)
}

func (b *body) read(p []byte) (int, error) {
	switch {
	case b.err != nil:
		return 0, b.err
	case b.left == 0:
		return 0, io.EOF
	case len(p) == 0:
		return 0, nil
	}
	n, err := b.cn.take(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	switch {
	case b.left == 0:
		err = io.EOF
	case err == io.EOF: //nolint:errorlint // as connections give it
		err = io.ErrUnexpectedEOF
	}
	if err != nil && b.left > 0 {
		b.err = err
	}
	return n, err
}

// Close keeps the rest for discard.
func (b *body) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
	return nil
}

// discard reads what is left, where that is at most most, and tells whether the whole body has come.
func (b *body) discard(most int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
	if b.left > most {
		return false
	}
	var waste [4 << 10]byte
	for b.left > 0 {
		if _, err := b.read(waste[:]); err != nil {
			break
		}
	}
	return b.left == 0
}
