package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"slices"
)

// Lookup calls fn for each durable record whose number is in seqs and that matches q, in the order of seqs, until q.Limit are
// found. It is quick where numbers that lie together come together. Records that are not there (any more) are left out. The record is
// fn's to keep; an error of fn or of seqs ends it and is returned as it is.
func (l *Log) Lookup(ctx context.Context, q Query, seqs iter.Seq2[uint64, error], fn func(*Record) error) error {
	l.mu.Lock()
	closed, head, segments := l.closed, l.head, slices.Clone(l.segments)
	l.mu.Unlock()
	if closed {
		return fmt.Errorf("audit query: %w", ErrClosed)
	}
	r := &lookup{segments: segments, match: newMatcher(q), at: -1}
	defer r.close()
	found := 0
	for seq, err := range seqs {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("audit query: %w", err)
		}
		if seq == 0 || seq > head.Seq {
			continue
		}
		rec, err := r.record(seq)
		if err != nil {
			return err
		}
		if rec == nil || !r.match.record(rec) {
			continue
		}
		if err := fn(rec); err != nil {
			return err
		}
		if found++; q.Limit > 0 && found >= q.Limit {
			return nil
		}
	}
	return nil
}

// lookup finds single records. It keeps the block that it read last.
type lookup struct {
	segments []*segment
	match    matcher

	at     int // which segment is open; -1: none
	file   *os.File
	blocks []block
	size   int64

	buf   []byte
	first uint64   // sequence number of the first record in buf
	recs  [][]byte // in buf
}

func (r *lookup) close() {
	if r.file != nil {
		r.file.Close()
	}
}

// record finds one; nil where its segment is gone.
func (r *lookup) record(seq uint64) (*Record, error) {
	if i := seq - r.first; len(r.recs) == 0 || seq < r.first || i >= uint64(len(r.recs)) {
		ok, err := r.load(seq)
		if err != nil || !ok {
			return nil, err
		}
	}
	if seq < r.first || seq-r.first >= uint64(len(r.recs)) {
		return nil, nil
	}
	var rec Record
	if err := Decode(r.recs[seq-r.first], &rec); err != nil {
		return nil, fmt.Errorf("audit record %d: %w", seq, err)
	}
	return &rec, nil
}

// load reads the block that holds seq; false where there is none.
func (r *lookup) load(seq uint64) (bool, error) {
	i, exact := slices.BinarySearchFunc(r.segments, seq, func(s *segment, seq uint64) int { return cmp.Compare(s.first, seq) })
	if !exact {
		i--
	}
	if i < 0 {
		return false, nil
	}
	if err := r.open(i); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return false, nil
		}
		return false, err
	}
	k, exact := slices.BinarySearchFunc(r.blocks, seq, func(b block, seq uint64) int { return cmp.Compare(b.first, seq) })
	if !exact {
		k--
	}
	if k < 0 {
		return false, nil
	}
	end := r.size
	if k+1 < len(r.blocks) {
		end = r.blocks[k+1].off
	}
	return true, r.read(r.blocks[k], end)
}

func (r *lookup) open(i int) error {
	if r.at == i {
		return nil
	}
	r.close()
	r.file, r.at, r.recs = nil, -1, nil
	blocks, size, err := r.segments[i].view()
	if err != nil {
		return err
	}
	f, err := os.Open(r.segments[i].path)
	if err != nil {
		return err
	}
	r.file, r.at, r.blocks, r.size = f, i, blocks, size
	return nil
}

func (r *lookup) read(b block, end int64) error {
	r.recs, r.first = r.recs[:0], b.first
	r.buf = slices.Grow(r.buf[:0], int(end-b.off))[:end-b.off]
	if _, err := r.file.ReadAt(r.buf, b.off); err != nil {
		return fmt.Errorf("read audit segment: %w", err)
	}
	for at := 0; at < len(r.buf); {
		f, err := parseFrame(r.buf[at:])
		if err != nil {
			return damaged(r.segments[r.at].path, b.off+int64(at), err)
		}
		r.recs = append(r.recs, f.record)
		at += int(f.size())
	}
	return nil
}

// SecretName is the name of a secret on a KV v2 mount by which a query finds it, where path is one of its API paths there:
// "secret/app/db" for "secret/data/app/db".
func SecretName(path, mount string) (string, bool) {
	prefix, name, ok := secretName(path, mount)
	return prefix + name, ok
}
