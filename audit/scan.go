package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// Entry is one record as it lies in the log: Bytes are what its hashes are laid over. They are valid until the function
// that was given them returns.
type Entry struct {
	Seq   uint64
	Time  time.Time
	Bytes []byte
}

// Scan calls fn for each durable record behind the one with number after, oldest first. An error of fn ends it and is returned as it
// is. Records that are appended after Scan was called aren't seen. Segments that are gone are an error.
func (l *Log) Scan(ctx context.Context, after uint64, fn func(Entry) error) error {
	l.mu.Lock()
	closed, head, segments := l.closed, l.head, slices.Clone(l.segments)
	l.mu.Unlock()
	switch {
	case closed:
		return fmt.Errorf("reading the audit log: %w", ErrClosed)
	case after >= head.Seq:
		return nil
	}
	for i, seg := range segments {
		if i+1 < len(segments) && segments[i+1].first <= after+1 {
			continue
		}
		if err := l.scanSegment(ctx, seg, after, head.Seq, fn); err != nil {
			return err
		}
	}
	return nil
}

// scanSegment gives fn the records of seg with numbers behind after, up to last.
func (l *Log) scanSegment(ctx context.Context, seg *segment, after, last uint64, fn func(Entry) error) error {
	blocks, size, err := seg.view()
	if err != nil {
		return err
	}
	off := int64(headerBytes)
	for _, b := range blocks {
		if b.first > after+1 {
			break
		}
		off = b.off
	}
	f, err := os.Open(seg.path)
	if err != nil {
		return fmt.Errorf("open audit segment: %w", err)
	}
	defer f.Close()
	buf, _ := l.scans.Get().(*[]byte)
	if buf == nil {
		b := make([]byte, 2*maxFrame)
		buf = &b
	}
	defer l.scans.Put(buf)
	in := readFramesIn(*buf, f, off, size)
	for {
		fr, err := in.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return damaged(seg.path, in.off, err)
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("reading the audit log: %w", err)
		}
		seq, at, ok := peek(fr.record)
		switch {
		case !ok:
			return damaged(seg.path, fr.off, errRecord)
		case seq > last:
			return nil
		case seq <= after:
			continue
		}
		if err := fn(Entry{Seq: seq, Time: time.Unix(0, at).UTC(), Bytes: fr.record}); err != nil {
			return err
		}
	}
}

// Await returns when there is a durable record behind the one with number after. Its error is that of ctx, or ErrClosed.
func (l *Log) Await(ctx context.Context, after uint64) error {
	for {
		l.mu.Lock()
		head, closed, grown := l.head.Seq, l.closed, l.grown
		l.mu.Unlock()
		switch {
		case head > after:
			return nil
		case closed:
			return ErrClosed
		}
		select {
		case <-grown:
		case <-l.done:
			if l.Head().Seq <= after {
				return ErrClosed
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
