package h1

import (
	"context"
	"net/http"
)

// Parsed is what parse makes of text.
type Parsed struct {
	Method, Target, Host, Path, Query string
	Header                            http.Header
	Length                            int64
}

// Parse is for tests.
func Parse(text, prefix string) (Parsed, bool) {
	h := head{header: make(http.Header)}
	if !h.parse(text, prefix) {
		return Parsed{}, false
	}
	return Parsed{h.method, h.target, h.host, h.url.Path, h.url.RawQuery, h.header, h.length}, true
}

// NewContext is for tests.
func NewContext(base context.Context) (ctx context.Context, cancel func()) {
	c := &requestContext{Context: base}
	return c, c.cancel
}
