package auth

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/document"
)

// mountSpace is where the table of mounts is kept: one document for each, under its path.
const mountSpace = "auth-mount"

// read takes over the table as the store has it, and says whether it is another one.
func (b *Backend) read(ctx context.Context) (changed bool, err error) {
	docs, err := b.cfg.Store.Documents(ctx, document.Query{Space: mountSpace})
	if err != nil {
		return false, fmt.Errorf("read auth mounts: %w", err)
	}
	old := b.table.Load()
	next := &table{mounts: map[string]*Mount{}}
	for _, d := range docs {
		m := &Mount{store: b.cfg.Store, version: d.Version}
		if json.Unmarshal(d.Body, m) != nil {
			return false, fmt.Errorf("the auth mount at %s can't be read", d.Key)
		}
		if m.Disabled {
			next.ending = append(next.ending, m)
			continue
		}
		if was := old.mounts[m.Path]; was != nil && was.version == m.version && was.Accessor == m.Accessor {
			m = was
		}
		next.mounts[m.Path] = m
	}
	b.table.Store(next)
	return !maps.Equal(old.mounts, next.mounts), nil
}

// Refresh takes over what others have changed in the store.
func (b *Backend) Refresh(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.refresh(ctx)
}

func (b *Backend) refresh(ctx context.Context) error {
	changed, err := b.read(ctx)
	if err != nil || !changed {
		return err
	}
	return b.cfg.Changed()
}

// Finish ends what a crash left of mounts that were being disabled. It is called once at the start, and may be called again.
func (b *Backend) Finish(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var errs []error
	for _, m := range b.table.Load().ending {
		errs = append(errs, b.clear(ctx, m))
	}
	return errors.Join(append(errs, b.refresh(ctx))...)
}

// Spaces are the spaces of documents whose changes call for a Refresh.
func Spaces() []string { return []string{mountSpace} }

// enable adds m to the table.
func (b *Backend) enable(ctx context.Context, m *Mount) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.refresh(ctx); err != nil {
		return err
	}
	if err := b.free(m.Path); err != nil {
		return err
	}
	m.Accessor, m.UUID = "auth_"+m.Type+"_"+hex.EncodeToString(random(4)), UUID()
	if err := b.put(ctx, m); err != nil {
		return err
	}
	return b.refresh(ctx)
}

// free says no to a path that is taken, or lies in one that is, or around one.
func (b *Backend) free(path string) error {
	t := b.table.Load()
	taken := slices.Sorted(maps.Keys(t.mounts))
	for _, m := range t.ending {
		taken = append(taken, m.Path)
	}
	for _, m := range b.cfg.Own {
		taken = append(taken, strings.TrimPrefix(m.Path, "auth/"))
	}
	for _, other := range taken {
		if strings.HasPrefix(other, path) || strings.HasPrefix(path, other) {
			return &gate.Error{Kind: gate.Conflict, Msg: "path is already in use at " + other}
		}
	}
	return nil
}

func (b *Backend) put(ctx context.Context, m *Mount) error {
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return b.cfg.Store.WriteDocuments(ctx, &document.Change{Document: document.Document{Space: mountSpace, Key: m.Path, Version: m.version, Body: body}})
}

// change writes what edit makes of a mount.
func (b *Backend) change(ctx context.Context, path string, edit func(m *Mount) error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.refresh(ctx); err != nil {
		return err
	}
	now, ok := b.table.Load().mounts[path]
	if !ok {
		return Invalid("tune of path %q failed: no mount entry found", "auth/"+path)
	}
	next := *now
	if err := edit(&next); err != nil {
		return err
	}
	if err := b.put(ctx, &next); err != nil {
		return err
	}
	return b.refresh(ctx)
}

// disable takes a mount out of the table and ends what was let in through it. A crash after the first write leaves a mount
// that lets in nobody, which Finish clears.
func (b *Backend) disable(ctx context.Context, path string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.refresh(ctx); err != nil {
		return err
	}
	now, ok := b.table.Load().mounts[path]
	if !ok {
		return nil // as in Vault
	}
	gone := *now
	gone.Disabled = true
	if err := b.put(ctx, &gone); err != nil {
		return err
	}
	if err := b.refresh(ctx); err != nil {
		return err
	}
	gone.version++
	return errors.Join(b.clear(ctx, &gone), b.refresh(ctx))
}

// clear ends the tokens of a mount, then forgets what it was set up with, then the mount.
func (b *Backend) clear(ctx context.Context, m *Mount) error {
	if err := b.cfg.End(ctx, m); err != nil {
		return fmt.Errorf("end the tokens of auth/%s: %w", m.Path, err)
	}
	for {
		docs, err := b.cfg.Store.Documents(ctx, document.Query{Space: space, Prefix: m.Accessor + "/", Limit: clearAtOnce})
		if err != nil {
			return fmt.Errorf("forget auth/%s: %w", m.Path, err)
		}
		if len(docs) == 0 {
			break
		}
		if err := b.cfg.Store.WriteDocuments(ctx, removals(docs)...); err != nil {
			return fmt.Errorf("forget auth/%s: %w", m.Path, err)
		}
	}
	return b.cfg.Store.WriteDocuments(ctx, &document.Change{
		Document: document.Document{Space: mountSpace, Key: m.Path, Version: m.version}, Remove: true,
	})
}

// clearAtOnce is how many documents are removed in one write.
const clearAtOnce = 500

func removals(docs []document.Document) []*document.Change {
	out := make([]*document.Change, 0, len(docs))
	for _, d := range docs {
		out = append(out, &document.Change{Document: document.Document{Space: d.Space, Key: d.Key, Version: d.Version}, Remove: true})
	}
	return out
}

// UUID makes a random UUID.
func UUID() string {
	b := random(16)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	text := hex.EncodeToString(b)
	return strings.Join([]string{text[:8], text[8:12], text[12:16], text[16:20], text[20:]}, "-")
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) //nolint:errcheck // never fails: see crypto/rand
	return b
}
