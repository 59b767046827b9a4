package server

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/object"
)

// changer is a store that other servers change too.
type changer interface {
	// Changed counts the changes of objects and access keys, whoever made them.
	Changed(ctx context.Context) (int64, error)
}

const (
	followEvery = 250 * time.Millisecond // how often the store is asked for changes
	followWait  = 5 * time.Second        // for its answers
)

// follow takes over what other servers change in the store, until ctx ends. While the store doesn't answer, what was
// known last goes on to count.
func (e *estate) follow(ctx context.Context, store changer) {
	ticker := time.NewTicker(followEvery)
	defer ticker.Stop()
	seen, trouble := int64(-1), ""
	for {
		n, err := e.catchUpAll(ctx, store, seen)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && trouble != "":
			e.logger.Info("the store is followed again")
			trouble = ""
		case err != nil && err.Error() != trouble:
			e.logger.Error("what other servers change in the store is not taken over", "error", err)
			trouble = err.Error()
		}
		seen = n
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// catchUpAll takes over what others have changed: objects and access keys, then tokens and entities, then auth methods.
func (e *estate) catchUpAll(ctx context.Context, store changer, seen int64) (int64, error) {
	n, err := e.catchUp(ctx, store, seen)
	ctx, cancel := context.WithTimeout(ctx, followWait)
	defer cancel()
	return n, errors.Join(err, e.tokens.CatchUp(ctx), e.auth.Refresh(ctx))
}

// catchUp reads the store again where its count differs from the one seen last, and returns the count that is in use now.
func (e *estate) catchUp(ctx context.Context, store changer, seen int64) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, followWait)
	defer cancel()
	n, err := store.Changed(ctx) // before what it counts is read: what comes between is read once more
	if err != nil || n == seen {
		return seen, err
	}
	if err := e.refresh(ctx); err != nil {
		return seen, err
	}
	return n, nil
}

// refresh makes what the store holds count.
func (e *estate) refresh(ctx context.Context) error {
	if err := e.manager.Reload(ctx); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	records, err := e.store.Objects(ctx)
	if err != nil {
		return err
	}
	same := func(a, b object.Record) bool {
		return a.Kind == b.Kind && a.Name == b.Name && a.Version == b.Version && a.UpdatedAt.Equal(b.UpdatedAt)
	}
	if slices.EqualFunc(records, e.live.Load().set.records, same) {
		return nil
	}
	return e.swap(ctx, records)
}
