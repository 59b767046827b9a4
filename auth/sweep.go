package auth

import (
	"context"
	"errors"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/document"
)

// sweepEvery is how often what is over is removed. It counts no more before that already.
const sweepEvery = 10 * time.Minute

// Run removes what is over, until ctx ends: secret ids, logins that nobody finished.
func (b *Backend) Run(ctx context.Context) error {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		if err := b.Sweep(ctx); err != nil && ctx.Err() == nil {
			b.cfg.Logger.Error("what is over of auth methods is not removed", "error", err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// Sweep removes what is over now.
func (b *Backend) Sweep(ctx context.Context) error {
	for {
		docs, err := b.cfg.Store.Documents(ctx, document.Query{Space: space, ExpiredAt: time.Now(), Limit: clearAtOnce})
		if err != nil {
			return err
		}
		switch err := b.cfg.Store.WriteDocuments(ctx, removals(docs)...); {
		case errors.Is(err, document.ErrConflict): // another server is at it
			return nil
		case err != nil:
			return err
		case len(docs) < clearAtOnce:
			return nil
		}
	}
}
