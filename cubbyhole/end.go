package cubbyhole

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/document"
)

// How often entries of ended tokens are looked for, how many are read at a time, and how old they must be: another server may
// have made the token just now.
const (
	sweepEvery = 10 * time.Minute
	sweepBatch = 200
	sweepAge   = time.Minute
)

// Forget removes everything that the token with that accessor keeps. It may be called again, and for a token that keeps nothing.
func (b *Backend) Forget(ctx context.Context, accessor string) error {
	if accessor == "" || strings.Contains(accessor, "/") {
		return errors.New("cubbyhole: no accessor")
	}
	found, err := b.cfg.Store.Documents(ctx, document.Query{Space: space, Prefix: accessor + "/"})
	if err != nil {
		return err
	}
	for _, doc := range found {
		if err := b.drop(ctx, doc.Key); err != nil {
			return err
		}
	}
	return nil
}

// Run removes what ended tokens left behind, until ctx ends.
func (b *Backend) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := b.Sweep(ctx); err != nil && ctx.Err() == nil {
			b.cfg.Logger.Warn("what ended tokens kept could not be removed", "error", err)
		}
	}
}

// Sweep removes what ended tokens left behind.
func (b *Backend) Sweep(ctx context.Context) error {
	alive := map[string]bool{}
	after := ""
	for {
		found, err := b.cfg.Store.Documents(ctx, document.Query{Space: space, After: after, Limit: sweepBatch})
		if err != nil {
			return err
		}
		for _, doc := range found {
			after = doc.Key
			if err := b.sweepOne(ctx, doc, alive); err != nil {
				return err
			}
		}
		if len(found) < sweepBatch {
			return nil
		}
	}
}

// sweepOne removes doc where its token has ended; alive has what was found out about others.
func (b *Backend) sweepOne(ctx context.Context, doc document.Document, alive map[string]bool) error {
	var e entry
	if json.Unmarshal(doc.Body, &e) == nil && time.Since(e.At) < sweepAge {
		return nil
	}
	accessor, _, _ := strings.Cut(doc.Key, "/")
	lives, known := alive[accessor]
	if !known {
		var err error
		if lives, err = b.cfg.Alive(ctx, accessor); err != nil {
			return err
		}
		alive[accessor] = lives
	}
	if lives {
		return nil
	}
	return b.drop(ctx, doc.Key)
}
