package h1

import (
	"context"
	"slices"
	"sync"
)

// requestContext ends with its request, or when the client has gone or the server is closed. It does what one of
// context.WithCancel does, and costs nothing before somebody waits for it.
type requestContext struct {
	context.Context // of the connection: its values

	mu    sync.Mutex
	err   error
	done  chan struct{} // made when it is asked for
	hooks []*hook
	room  [1]*hook
}

type hook struct {
	c *requestContext
	f func()
}

// ended is the channel of a context that had ended before it was asked.
func ended() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

func (c *requestContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		if c.err != nil {
			c.done = ended()
		} else {
			c.done = make(chan struct{})
		}
	}
	return c.done
}

func (c *requestContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// AfterFunc is how package context, and whoever knows of it, asks to be called in a goroutine of its own at the end.
func (c *requestContext) AfterFunc(f func()) (stop func() bool) {
	h := &hook{c, f}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		go f()
		return h.stop
	}
	if c.hooks == nil {
		c.hooks = c.room[:0]
	}
	c.hooks = append(c.hooks, h)
	return h.stop
}

// stop is true where f will not be called.
func (h *hook) stop() bool {
	h.c.mu.Lock()
	defer h.c.mu.Unlock()
	i := slices.Index(h.c.hooks, h)
	if i < 0 {
		return false
	}
	h.c.hooks = slices.Delete(h.c.hooks, i, i+1)
	return true
}

func (c *requestContext) cancel() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = context.Canceled
	if c.done != nil {
		close(c.done)
	}
	for _, h := range c.hooks {
		go h.f()
	}
	c.hooks = nil
}
