// Package keyed is a lock for each key.
package keyed

import (
	"context"
	"sync"
)

// Locks are locks by key. One that nobody holds costs nothing. The zero value is ready; it is safe for concurrent use.
type Locks struct {
	mu   sync.Mutex
	held map[string]chan struct{} // closed when the key is given back
}

// Lock waits for key, or for ctx to end.
func (l *Locks) Lock(ctx context.Context, key string) (unlock func(), err error) {
	for {
		l.mu.Lock()
		c, busy := l.held[key]
		if !busy {
			unlock := l.take(key)
			l.mu.Unlock()
			return unlock, nil
		}
		l.mu.Unlock()
		select {
		case <-c:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// TryLock is Lock without waiting.
func (l *Locks) TryLock(key string) (unlock func(), ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, busy := l.held[key]; busy {
		return nil, false
	}
	return l.take(key), true
}

// take holds key. The caller holds l.mu.
func (l *Locks) take(key string) (unlock func()) {
	c := make(chan struct{})
	if l.held == nil {
		l.held = make(map[string]chan struct{})
	}
	l.held[key] = c
	return func() {
		l.mu.Lock()
		delete(l.held, key)
		l.mu.Unlock()
		close(c)
	}
}
