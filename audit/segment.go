package audit

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

const (
	segmentSuffix = ".audit"
	unfinished    = ".new" // a segment that is being made; never part of the log
	blockBytes    = 256 << 10
)

// span is a range of time in Unix nanoseconds, both ends in it. The zero span is that of no record.
type span struct{ min, max int64 }

func (s *span) add(at int64, empty bool) {
	if empty {
		s.min, s.max = at, at
		return
	}
	s.min, s.max = min(s.min, at), max(s.max, at)
}

// block is a run of frames in a segment that a query reads in one piece, or passes over.
type block struct {
	off   int64
	first uint64
	span  span
}

// segment is one file of the log.
type segment struct {
	path  string
	first uint64

	// The committer's own.
	closed bool // nothing is written to it any more, and looks is how it looked then
	looks  looks

	mu      sync.Mutex
	indexed bool
	size    int64 // bytes that are durable
	blocks  []block
	span    span
	spanned bool // span is known
}

func segmentName(first uint64) string { return fmt.Sprintf("%020d%s", first, segmentSuffix) }

// add notes a record that is durable, or about to be. The caller holds mu or is alone.
func (s *segment) add(off int64, seq uint64, at int64) {
	s.span.add(at, !s.spanned)
	s.spanned = true
	if n := len(s.blocks); n == 0 || off-s.blocks[n-1].off >= blockBytes {
		s.blocks = append(s.blocks, block{off: off, first: seq, span: span{at, at}})
		return
	}
	s.blocks[len(s.blocks)-1].span.add(at, false)
}

// view is what is durable of the segment now. It reads the whole file the first time it is asked.
func (s *segment) view() ([]block, int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.indexed {
		if err := s.index(); err != nil {
			return nil, 0, err
		}
	}
	return slices.Clone(s.blocks), s.size, nil
}

func (s *segment) index() error {
	f, err := os.Open(s.path)
	if err != nil {
		return fmt.Errorf("open audit segment: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return fmt.Errorf("open audit segment: %w", err)
	}
	s.blocks, s.span, s.spanned = nil, span{}, false
	in := readFrames(f, headerBytes, st.Size())
	for {
		fr, err := in.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return damaged(s.path, in.off, err)
		}
		seq, at, ok := peek(fr.record)
		if !ok {
			return damaged(s.path, fr.off, errRecord)
		}
		s.add(fr.off, seq, at)
	}
	s.size, s.indexed = st.Size(), true
	return nil
}

// times is the span of the records in s, without reading more than the header of the segment after it.
func (s *segment) times(after *segment) (span, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.spanned && after != nil {
		h, err := readHeader(after.path)
		if err != nil {
			return span{}, err
		}
		s.span, s.spanned = h.span, true
	}
	return s.span, nil
}

var errRecord = errors.New("the record in the frame does not begin as a record does")

// damaged says where a segment is broken.
func damaged(path string, off int64, why error) error {
	return fmt.Errorf("audit segment %s is damaged at byte %d: %w", filepath.Base(path), off, why)
}

func readHeader(path string) (header, error) {
	f, err := os.Open(path)
	if err != nil {
		return header{}, fmt.Errorf("open audit segment: %w", err)
	}
	defer f.Close()
	return headerOf(f)
}

func headerOf(f *os.File) (header, error) {
	b := make([]byte, headerBytes)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return header{}, fmt.Errorf("read audit segment: %w", err)
	}
	h, err := parseHeader(b[:n])
	if err != nil {
		return header{}, damaged(f.Name(), 0, err)
	}
	if segmentName(h.first) != filepath.Base(f.Name()) {
		return header{}, damaged(f.Name(), 0, fmt.Errorf("its header says that record %d is its first", h.first))
	}
	return h, nil
}

// listSegments finds the segments of a log, oldest first, and the names of those that were never finished.
func listSegments(dir string) (segments []*segment, left []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("list audit segments: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if strings.HasSuffix(e.Name(), segmentSuffix+unfinished) {
			left = append(left, path)
			continue
		}
		digits, ok := strings.CutSuffix(e.Name(), segmentSuffix)
		if !ok {
			continue
		}
		first, err := strconv.ParseUint(digits, 10, 64)
		if err != nil || segmentName(first) != e.Name() {
			return nil, nil, fmt.Errorf("audit segment %s: its name is not a sequence number", e.Name())
		}
		segments = append(segments, &segment{path: path, first: first})
	}
	slices.SortFunc(segments, func(a, b *segment) int {
		if a.first < b.first {
			return -1
		}
		return 1
	})
	return segments, left, nil
}

// createSegment makes a segment that is durable, header and name, before it has its first record.
func createSegment(dir *os.File, h header) (*os.File, *segment, error) {
	path := filepath.Join(dir.Name(), segmentName(h.first))
	f, err := os.OpenFile(path+unfinished, os.O_RDWR|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("create audit segment: %w", err)
	}
	if err := publishSegment(dir, f, path, h); err != nil {
		f.Close()
		_ = os.Remove(path + unfinished) // Open removes what is left of it
		return nil, nil, fmt.Errorf("create audit segment: %w", err)
	}
	return f, &segment{path: path, first: h.first, indexed: true, size: headerBytes}, nil
}

func publishSegment(dir, f *os.File, path string, h header) error {
	if _, err := f.Write(h.bytes()); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Link(path+unfinished, path); err != nil { // unlike a rename, never replaces one that is there
		return err
	}
	err := os.Remove(path + unfinished)
	if err == nil {
		err = dir.Sync()
	}
	if err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}
