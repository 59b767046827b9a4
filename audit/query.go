package audit

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// Query says which records are wanted. An empty field matches every record; fields that are set must all match.
type Query struct {
	// Path matches a record's path, or with a trailing * every path that begins so. A path on a KV v2 mount may be given
	// as the secret's own ("secret/app/db" for "secret/data/app/db", "secret/metadata/app/db", …): it matches those too.
	// A record doesn't say which version its mount had, so on a KV v1 mount a secret below "data/" is found both ways.
	Path      string
	Identity  string
	AccessID  string
	Op        string
	Status    string
	Via       string
	Stage     string
	LeaseID   string
	Principal string
	RequestID string
	Target    string
	Mount     string // with or without the trailing slash

	Since time.Time // not before this; the zero time is no limit
	Until time.Time // before this; the zero time is no limit

	Before  uint64 // sequence number below this; 0 is no limit. For the next page of a query, newest first
	After   uint64 // sequence number above this. For the next page of a query with Forward
	Limit   int    // at most so many records; 0 is no limit
	Forward bool   // oldest first
}

// Query calls fn for each durable record that matches q, newest first unless q.Forward. The record is fn's to keep. An
// error of fn ends the query and is returned as it is. Records that are appended after Query was called aren't seen.
func (l *Log) Query(ctx context.Context, q Query, fn func(*Record) error) error {
	l.mu.Lock()
	closed, head, segments := l.closed, l.head, slices.Clone(l.segments)
	l.mu.Unlock()
	if closed {
		return fmt.Errorf("audit query: %w", ErrClosed)
	}
	s := newSearch(q, head, fn)
	for i := range segments {
		at := i
		if !q.Forward {
			at = len(segments) - 1 - i
		}
		var after *segment
		if at+1 < len(segments) {
			after = segments[at+1]
		}
		if err := s.segment(ctx, segments[at], after); err != nil {
			return err
		}
		if s.full() {
			return nil
		}
	}
	return nil
}

// search is one query on its way through the log.
type search struct {
	match matcher
	fn    func(*Record) error
	low   uint64 // sequence numbers wanted: from low
	high  uint64 // to high
	limit int
	found int
	back  bool
	buf   []byte
	recs  [][]byte // in buf
}

func newSearch(q Query, head Head, fn func(*Record) error) *search {
	s := &search{match: newMatcher(q), fn: fn, low: q.After + 1, high: head.Seq, limit: q.Limit, back: !q.Forward}
	if q.Before > 0 {
		s.high = min(s.high, q.Before-1)
	}
	if q.After == 1<<64-1 {
		s.low, s.high = 1, 0
	}
	return s
}

func (s *search) full() bool { return s.limit > 0 && s.found >= s.limit }

// wants says whether a run of records may hold some that are wanted.
func (s *search) wants(first, last uint64, t span) bool {
	return first <= s.high && last >= s.low && t.min < s.match.until && t.max >= s.match.since
}

func (s *search) segment(ctx context.Context, seg, after *segment) error {
	last := s.high
	if after != nil {
		last = after.first - 1
	}
	if seg.first > s.high || last < s.low {
		return nil
	}
	if s.match.timed() {
		t, err := seg.times(after)
		if err != nil {
			return err
		}
		if after != nil && !s.wants(seg.first, last, t) {
			return nil
		}
	}
	blocks, size, err := seg.view()
	if err != nil || len(blocks) == 0 {
		return err
	}
	f, err := os.Open(seg.path)
	if err != nil {
		return fmt.Errorf("open audit segment: %w", err)
	}
	defer f.Close()
	return s.blocks(ctx, f, seg.path, blocks, size, last)
}

// blocks goes through the blocks of a segment in the order asked for.
func (s *search) blocks(ctx context.Context, f io.ReaderAt, path string, blocks []block, size int64, last uint64) error {
	for i := range blocks {
		at := i
		if s.back {
			at = len(blocks) - 1 - i
		}
		b, end, final := blocks[at], size, last
		if at+1 < len(blocks) {
			end, final = blocks[at+1].off, blocks[at+1].first-1
		}
		if !s.wants(b.first, final, b.span) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("audit query: %w", err)
		}
		s.buf = slices.Grow(s.buf[:0], int(end-b.off))[:end-b.off]
		if _, err := f.ReadAt(s.buf, b.off); err != nil {
			return fmt.Errorf("read audit segment: %w", err)
		}
		if !s.match.maybe(s.buf) {
			continue
		}
		if err := s.block(path, b.off); err != nil {
			return err
		}
		if s.full() {
			return nil
		}
	}
	return nil
}

// block goes through the frames in buf, which begins at off.
func (s *search) block(path string, off int64) error {
	s.recs = s.recs[:0]
	for at := 0; at < len(s.buf); {
		f, err := parseFrame(s.buf[at:])
		if err != nil {
			return damaged(path, off+int64(at), err)
		}
		s.recs = append(s.recs, f.record)
		at += int(f.size())
	}
	if s.back {
		slices.Reverse(s.recs)
	}
	for _, rec := range s.recs {
		if err := s.record(rec); err != nil {
			return err
		}
		if s.full() {
			return nil
		}
	}
	return nil
}

// record gives rec to fn when it is wanted.
func (s *search) record(rec []byte) error {
	if !s.match.maybe(rec) || !s.match.mayMatchPath(rec) {
		return nil
	}
	seq, at, ok := peek(rec)
	if !ok {
		return fmt.Errorf("audit query: %w", errRecord)
	}
	if seq < s.low || seq > s.high || at < s.match.since || at >= s.match.until {
		return nil
	}
	var r Record
	if err := Decode(rec, &r); err != nil {
		return fmt.Errorf("audit record %d: %w", seq, err)
	}
	if !s.match.record(&r) {
		return nil
	}
	s.found++
	return s.fn(&r)
}
