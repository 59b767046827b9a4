package rotation

import (
	"context"
	"sync"
)

// keyed is a lock for each account, held by whoever rotates it.
type keyed struct {
	mu   sync.Mutex
	held map[string]chan struct{}
}

// lock waits for key, or for ctx to end.
func (k *keyed) lock(ctx context.Context, key string) (unlock func(), err error) {
	for {
		k.mu.Lock()
		c, busy := k.held[key]
		if !busy {
			unlock := k.take(key)
			k.mu.Unlock()
			return unlock, nil
		}
		k.mu.Unlock()
		select {
		case <-c:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// tryLock is lock without waiting.
func (k *keyed) tryLock(key string) (unlock func(), ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, busy := k.held[key]; busy {
		return nil, false
	}
	return k.take(key), true
}

// take holds key. The caller holds k.mu.
func (k *keyed) take(key string) (unlock func()) {
	c := make(chan struct{})
	k.held[key] = c
	return func() {
		k.mu.Lock()
		delete(k.held, key)
		k.mu.Unlock()
		close(c)
	}
}
