package identity

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/bailiff-secrets/bailiff/internal/document"
)

const (
	sweepEvery   = time.Second
	sweepAtOnce  = 500
	endsTogether = 16 // share commits
)

// Revoke ends a token, its children and what was issued to them. It is durable on return; the token opens nothing from the
// moment when it is marked. One that is not there is no error.
func (t *Tokens) Revoke(ctx context.Context, accessor string) error {
	x := t.named(accessor)
	if x == nil {
		return nil
	}
	return t.end(ctx, x)
}

// RevokeOf ends the children of the token that an accessor stands for.
func (t *Tokens) RevokeOf(ctx context.Context, accessor string) error {
	return t.endAll(ctx, document.Query{Space: spaceToken, By: "parent", Value: accessor})
}

// RevokeKey ends what goes back to an access key that counts no more.
func (t *Tokens) RevokeKey(ctx context.Context, id string) error {
	return errors.Join(t.RevokeOf(ctx, id), t.endAll(ctx, document.Query{Space: spaceToken, By: "key", Value: id}))
}

// RevokeMount ends every token that was made at an auth mount.
func (t *Tokens) RevokeMount(ctx context.Context, mountAccessor string) error {
	return t.endAll(ctx, document.Query{Space: spaceToken, By: "mount", Value: mountAccessor})
}

// RevokeEntity ends every token of an entity.
func (t *Tokens) RevokeEntity(ctx context.Context, id string) error {
	return t.endAll(ctx, document.Query{Space: spaceToken, By: "entity", Value: id})
}

// endAll ends all tokens that q picks.
func (t *Tokens) endAll(ctx context.Context, q document.Query) error {
	q.Limit = sweepAtOnce
	for {
		found, err := t.cfg.Store.Documents(ctx, q)
		if err != nil {
			return err
		}
		if err := t.endDocuments(ctx, found); err != nil {
			return err
		}
		if len(found) < q.Limit {
			return nil
		}
		q.After = found[len(found)-1].Key
	}
}

// endDocuments ends tokens that were read from the store, so that also those count that another server has just made.
func (t *Tokens) endDocuments(ctx context.Context, found []document.Document) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(endsTogether)
	for i := range found {
		group.Go(func() error {
			if err := t.mirror.takeOne(&found[i]); err != nil {
				return err
			}
			if x := t.byKey(found[i].Key); x != nil {
				return t.end(ctx, x)
			}
			return nil // it was removed meanwhile
		})
	}
	return group.Wait()
}

func (t *Tokens) byKey(key string) *token {
	h, ok := parseHash(key)
	if !ok {
		return nil
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.byHash[h]
}

// end ends one token, step by step. See Tokens.
func (t *Tokens) end(ctx context.Context, x *token) error {
	s, err := t.mark(ctx, x)
	if errors.Is(err, document.ErrNotFound) {
		return nil // somebody else has ended it
	}
	if err != nil {
		return fmt.Errorf("end token %s: %w", s.Accessor, err)
	}
	t.cfg.Fault("token-ended")
	if err := t.RevokeOf(ctx, s.Accessor); err != nil {
		return err
	}
	t.cfg.Fault("children-ended")
	if err := t.cfg.Ended(ctx, s.Accessor); err != nil {
		return fmt.Errorf("end what was issued to token %s: %w", s.Accessor, err)
	}
	err = t.mirror.write(ctx, removal(spaceToken, x.hash.key(), s.version))
	if errors.Is(err, document.ErrConflict) {
		err = t.mirror.refresh(ctx, spaceToken, x.hash.key())
		if errors.Is(err, document.ErrNotFound) {
			return nil
		}
	}
	return err
}

// mark makes it durable that a token opens nothing any more.
func (t *Tokens) mark(ctx context.Context, x *token) (*tokenState, error) {
	if s := x.state.Load(); !s.Ended.IsZero() && t.byKey(x.hash.key()) != nil {
		return s, nil
	}
	return t.update(ctx, x, func(r *tokenRecord) error {
		if r.Ended.IsZero() {
			r.Ended = now()
		}
		return nil
	})
}

// RevokeOrphan ends a token and what was issued to it. Its children stay, without a parent.
func (t *Tokens) RevokeOrphan(ctx context.Context, accessor string) error {
	found, err := t.cfg.Store.Documents(ctx, document.Query{Space: spaceToken, By: "parent", Value: accessor})
	if err != nil {
		return err
	}
	for i := range found {
		if err := t.mirror.takeOne(&found[i]); err != nil {
			return err
		}
		x := t.byKey(found[i].Key)
		if x == nil {
			continue
		}
		_, err := t.update(ctx, x, func(r *tokenRecord) error { r.Parent = ""; return nil })
		if err != nil && !errors.Is(err, document.ErrNotFound) {
			return fmt.Errorf("make token %s an orphan: %w", x.state.Load().Accessor, err)
		}
	}
	return t.Revoke(ctx, accessor)
}

// Run ends tokens whose time is over, and finishes what a crash left, until ctx ends.
func (t *Tokens) Run(ctx context.Context) error {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	trouble := ""
	err := t.Tidy(ctx)
	for {
		err = errors.Join(err, t.Sweep(ctx))
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			trouble = ""
		case err.Error() != trouble:
			trouble = err.Error()
			t.cfg.Logger.Error("tokens whose time is over could not be ended; they open nothing, and are tried again", "error", err)
		}
		err = nil
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// Sweep is one round of Run.
func (t *Tokens) Sweep(ctx context.Context) error {
	return t.endAll(ctx, document.Query{Space: spaceToken, ExpiredAt: time.Now()})
}

// Tidy ends tokens whose parent or whose access key is no more, which a crash right behind their making, or behind the end of
// the other, can leave.
func (t *Tokens) Tidy(ctx context.Context) error {
	if err := t.mirror.catchUp(ctx); err != nil {
		return err
	}
	if err := t.cfg.Keys.Reload(ctx); err != nil { // behind the tokens: the key of each was there before it
		return err
	}
	var lost []*token
	at := time.Now()
	t.mu.RLock()
	for _, x := range t.byHash {
		s := x.state.Load()
		byKey := s.Key != "" && (s.Parent == s.Key || s.Parent == "")
		if byKey && !t.cfg.Keys.opens(s.KeyOf, s.Key, at) || !byKey && s.Parent != "" && t.byAccessor[s.Parent] == nil {
			lost = append(lost, x)
		}
	}
	t.mu.RUnlock()
	for _, x := range lost {
		if err := t.end(ctx, x); err != nil {
			return err
		}
	}
	return nil
}
