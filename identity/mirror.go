package identity

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/document"
)

// mirror keeps what the store holds of some spaces in memory too: as it is written here, and as other servers change it.
// It is safe for concurrent use.
type mirror struct {
	store  document.Store
	takers map[string]taker // by space

	mu     sync.Mutex // guards what follows, and is held while changes are taken
	seq    int64      // every change up to it is taken
	graves [2]map[grave]int64
	dug    time.Time // since when the first of graves is filled
}

// graveTime is longer than anything is read before it is taken.
const graveTime = time.Minute

// taker keeps one space in memory.
type taker interface {
	// take makes d count, unless what is there is newer (by Seq). d may be removed.
	take(d *document.Document) error
	// keep forgets what is not among keys, unless it is newer than seq.
	keep(keys map[string]bool, seq int64)
}

// grave is a document that was removed here a short time ago. What somebody has read of it before then and takes only now
// does not bring it back.
type grave struct{ space, key string }

// changesAtOnce is how many documents are asked for at a time.
const changesAtOnce = 1000

// load takes everything there is.
func (m *mirror) load(ctx context.Context) error {
	seq, err := m.store.DocumentSeq(ctx)
	if err != nil {
		return err
	}
	for space, t := range m.takers {
		if err := m.loadSpace(ctx, space, t, seq); err != nil {
			return fmt.Errorf("read what is kept of %q: %w", space, err)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seq = max(m.seq, seq)
	return nil
}

func (m *mirror) loadSpace(ctx context.Context, space string, t taker, seq int64) error {
	q := document.Query{Space: space, Limit: 5 * changesAtOnce}
	keys := map[string]bool{}
	for {
		found, err := m.store.Documents(ctx, q)
		if err != nil {
			return err
		}
		for i := range found {
			keys[found[i].Key] = true
			if err := m.takeOne(&found[i]); err != nil {
				return err
			}
		}
		if len(found) < q.Limit {
			t.keep(keys, seq)
			return nil
		}
		q.After = found[len(found)-1].Key
	}
}

// takeOne makes a document count that was read from the store.
func (m *mirror) takeOne(d *document.Document) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, graves := range m.graves {
		if graves[grave{d.Space, d.Key}] > d.Seq {
			return nil
		}
	}
	return m.takers[d.Space].take(d)
}

// catchUp takes what others have changed.
func (m *mirror) catchUp(ctx context.Context) error {
	spaces := make([]string, 0, len(m.takers))
	for s := range m.takers {
		spaces = append(spaces, s)
	}
	for {
		m.mu.Lock()
		seq := m.seq
		m.mu.Unlock()
		found, horizon, err := m.store.DocumentChanges(ctx, seq, changesAtOnce, spaces...)
		if err != nil {
			return err
		}
		if seq < horizon {
			if err := m.load(ctx); err != nil {
				return err
			}
			continue
		}
		for i := range found {
			if err := m.takeOne(&found[i]); err != nil {
				return err
			}
		}
		m.reached(seq, found)
		if len(found) < changesAtOnce {
			return nil
		}
	}
}

// dig needs m.mu.
func (m *mirror) dig(d *document.Document) {
	if at := time.Now(); m.graves[0] == nil || at.Sub(m.dug) > graveTime {
		m.graves[0], m.graves[1], m.dug = map[grave]int64{}, m.graves[0], at
	}
	m.graves[0][grave{d.Space, d.Key}] = d.Seq
}

// reached notes how far the changes are taken.
func (m *mirror) reached(seq int64, found []document.Document) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(found) > 0 {
		seq = found[len(found)-1].Seq
	}
	m.seq = max(m.seq, seq)
}

// write makes changes durable, then lets them count here. Where they aren't those of what stands, it is
// document.ErrConflict, and nothing is changed.
func (m *mirror) write(ctx context.Context, changes ...*document.Change) error {
	if err := m.store.WriteDocuments(ctx, changes...); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range changes {
		d := c.Document
		d.Deleted = c.Remove
		if d.Deleted {
			m.dig(&d)
		}
		if err := m.takers[d.Space].take(&d); err != nil {
			return err
		}
	}
	return nil
}

// refresh reads one document again, for what another server has changed; document.ErrNotFound where there is none any
// more.
func (m *mirror) refresh(ctx context.Context, space, key string) error {
	seq, err := m.store.DocumentSeq(ctx)
	if err != nil {
		return err
	}
	d, err := m.store.Document(ctx, space, key)
	switch {
	case err == nil:
		return m.takeOne(&d)
	case !errors.Is(err, document.ErrNotFound):
		return err
	}
	gone := document.Document{Space: space, Key: key, Seq: seq, Deleted: true}
	if takeErr := m.takeOne(&gone); takeErr != nil {
		return takeErr
	}
	return err
}
