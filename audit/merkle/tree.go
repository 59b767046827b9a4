package merkle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/bailiff-secrets/bailiff/audit"
)

// ErrChanged means that the log is not the one that was signed for: records were cut off, changed or written anew.
var ErrChanged = errors.New("the audit log is not the one that was signed for")

const (
	checkpointName = "checkpoint"
	checkpointEach = 10_000 // records at most between two checkpoints

	// DefaultEvery is how long after a record a checkpoint is made at the latest.
	DefaultEvery = time.Second
)

// Log is what a tree follows; *audit.Log is one.
type Log interface {
	Head() audit.Head
	Scan(ctx context.Context, after uint64, fn func(audit.Entry) error) error
	Await(ctx context.Context, after uint64) error
}

// Config is what a Tree needs. All but the last group must be set.
type Config struct {
	Dir    string // made where it is missing; beside the log, and kept with it
	Log    Log
	Signer note.Signer   // its name is the log's origin
	Key    note.Verifier // of Signer
	Logger *slog.Logger

	Every time.Duration // DefaultEvery where 0
	// Signed is called with each new checkpoint, one after another. It must not block.
	Signed func(signed []byte)
}

// Tree follows a log. It is safe for concurrent use.
type Tree struct {
	cfg   Config
	tiles tiles

	mu     sync.Mutex
	signed []byte     // the newest checkpoint; nil before the first
	is     Checkpoint // what it says

	edge *edge // Run's own
	good *edge // as it was at the last checkpoint; Run's own
}

// Open reads the newest checkpoint. It must be signed with cfg.Key, and the log must not be shorter than it says: ErrChanged
// otherwise.
func Open(cfg Config) (*Tree, error) {
	if cfg.Dir == "" || cfg.Log == nil || cfg.Signer == nil || cfg.Key == nil || cfg.Logger == nil {
		return nil, errors.New("merkle: a part is missing from the configuration")
	}
	if cfg.Every <= 0 {
		cfg.Every = DefaultEvery
	}
	t := &Tree{cfg: cfg, tiles: tiles{cfg.Dir}, edge: &edge{}, good: &edge{}}
	signed, err := os.ReadFile(filepath.Join(cfg.Dir, checkpointName))
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the checkpoint of the audit log: %w", err)
	}
	if t.is, err = ParseCheckpoint(signed, cfg.Key); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(cfg.Dir, checkpointName), err)
	}
	if head := cfg.Log.Head(); int64(head.Seq) < t.is.Size {
		return nil, fmt.Errorf("%w: it ends with record %d, and %d were signed for: records were cut off its end", ErrChanged, head.Seq, t.is.Size)
	}
	t.signed = signed
	if t.edge, err = t.tiles.edgeAt(t.is.Size); err != nil || t.edge.root() != t.is.Root {
		cfg.Logger.Warn("the tree over the audit log is built anew from the log", "dir", cfg.Dir, "error", err)
		t.edge = &edge{}
	}
	t.good = t.edge.clone()
	return t, nil
}

// Run follows the log until ctx ends, and signs for what it finds a last time then. What goes wrong (no room for a tile) is
// logged and tried again: the log goes on meanwhile. Only ErrChanged ends it, when the log does not lead to what was signed for;
// nothing more is signed then.
func (t *Tree) Run(ctx context.Context) error {
	for {
		err := t.follow(ctx)
		if errors.Is(err, ErrChanged) {
			return err
		}
		if ctx.Err() != nil || errors.Is(err, audit.ErrClosed) {
			return t.last(ctx)
		}
		if err != nil {
			t.cfg.Logger.Error("the tree over the audit log does not grow", "dir", t.cfg.Dir, "error", err)
			t.edge = t.good.clone()
		}
		rest := time.NewTimer(t.cfg.Every)
		select {
		case <-rest.C:
		case <-ctx.Done():
			rest.Stop()
		}
	}
}

// follow takes in what there is, and waits until there is more.
func (t *Tree) follow(ctx context.Context) error {
	if err := t.round(ctx); err != nil {
		return err
	}
	return t.cfg.Log.Await(ctx, uint64(t.edge.size))
}

// last signs for what came before the end.
func (t *Tree) last(ctx context.Context) error {
	t.edge = t.good.clone()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := t.round(ctx); err != nil && !errors.Is(err, audit.ErrClosed) {
		return err
	}
	return nil
}

// round takes in what the log has grown by, and signs for it. It stops after each checkpointEach records to sign.
func (t *Tree) round(ctx context.Context) error {
	for {
		head := int64(t.cfg.Log.Head().Seq)
		if t.edge.size >= head {
			return nil
		}
		if err := t.take(ctx, min(head, t.edge.size+checkpointEach)); err != nil {
			return err
		}
		if err := t.sign(); err != nil {
			return err
		}
	}
}

// errEnough ends a scan.
var errEnough = errors.New("enough")

// take adds leaves up to the one with number last.
func (t *Tree) take(ctx context.Context, last int64) error {
	err := t.cfg.Log.Scan(ctx, uint64(t.edge.size), func(r audit.Entry) error {
		if int64(r.Seq) != t.edge.size+1 {
			return fmt.Errorf("%w: record %d follows record %d", ErrChanged, r.Seq, t.edge.size)
		}
		if err := t.edge.add(tlog.RecordHash(r.Bytes), t.full); err != nil {
			return fmt.Errorf("write the tree over the audit log: %w", err)
		}
		if t.edge.size == t.is.Size && t.edge.root() != t.is.Root {
			return fmt.Errorf("%w: the first %d records lead to another root: some were changed", ErrChanged, t.is.Size)
		}
		if t.edge.size >= last {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// full keeps a tile that will not change any more.
func (t *Tree) full(level int, n int64, hashes []tlog.Hash) error {
	if err := t.tiles.write(level, n, hashes); err != nil {
		return err
	}
	t.tiles.drop(level, n, 0)
	return nil
}

// sign makes a checkpoint of everything that was taken in: first the tiles that it counts, then the checkpoint. While what was signed
// for before is still being read again, it does nothing.
func (t *Tree) sign() error {
	if t.edge.size <= t.is.Size {
		t.good = t.edge.clone()
		return nil
	}
	for level, hashes := range t.edge.levels {
		if len(hashes) == 0 {
			continue
		}
		n := t.edge.size >> (height * (level + 1))
		if err := t.tiles.write(level, n, hashes); err != nil {
			return fmt.Errorf("write the tree over the audit log: %w", err)
		}
		t.tiles.drop(level, n, len(hashes))
	}
	c := Checkpoint{Origin: t.cfg.Signer.Name(), Size: t.edge.size, Root: t.edge.root()}
	signed, err := c.sign(t.cfg.Signer)
	if err != nil {
		return fmt.Errorf("sign the audit log: %w", err)
	}
	if err := replace(filepath.Join(t.cfg.Dir, checkpointName), signed); err != nil {
		return fmt.Errorf("write the checkpoint of the audit log: %w", err)
	}
	t.mu.Lock()
	t.is, t.signed = c, signed
	t.mu.Unlock()
	t.good = t.edge.clone()
	if t.cfg.Signed != nil {
		t.cfg.Signed(signed)
	}
	return nil
}

// Checkpoint is the newest one, signed; nil before the first.
func (t *Tree) Checkpoint() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.signed
}

// ErrUnsigned means that no checkpoint counts a record yet: ask again in a second.
var ErrUnsigned = errors.New("no checkpoint counts the record yet")

// Prove shows that the record with number seq is in the log, to whoever has the public key.
func (t *Tree) Prove(ctx context.Context, seq uint64) (*Proof, error) {
	if seq == 0 {
		return nil, errors.New("records are counted from 1")
	}
	p, err := t.prove(ctx, seq)
	for range 3 { // tiles at the edge may have been replaced by wider ones meanwhile
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
		p, err = t.prove(ctx, seq)
	}
	if err != nil {
		return nil, fmt.Errorf("prove record %d: %w", seq, err)
	}
	if _, err := p.Check(t.cfg.Key); err != nil {
		return nil, err
	}
	return p, nil
}

func (t *Tree) prove(ctx context.Context, seq uint64) (*Proof, error) {
	t.mu.Lock()
	is, signed := t.is, t.signed
	t.mu.Unlock()
	if int64(seq) > is.Size {
		return nil, ErrUnsigned
	}
	p := &Proof{Index: int64(seq) - 1, Checkpoint: signed}
	err := t.cfg.Log.Scan(ctx, seq-1, func(r audit.Entry) error {
		p.Record = append(p.Record, r.Bytes...)
		return errEnough
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	read := tlog.TileHashReader(tlog.Tree{N: is.Size, Hash: is.Root}, t.tiles)
	p.Hashes, err = tlog.ProveRecord(is.Size, p.Index, read)
	return p, err
}
