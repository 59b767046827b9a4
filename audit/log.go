package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// ErrUnwritable means that a record could not be kept, whatever the reason: what it describes must not be released.
var ErrUnwritable = errors.New("the audit log can't be written")

// Why a record could not be kept; each comes wrapped together with ErrUnwritable.
var (
	ErrClosed = errors.New("the log is closed")
	ErrNoRoom = errors.New("the volume has no room") // not final: it goes on when there is room again
	ErrLocked = errors.New("another process has the audit log open")
)

// Points at which Config.Fault is asked.
const (
	FaultWrite    = "write"    // before a batch is written; after an error half of it is written, as on a disk that fills up
	FaultSync     = "sync"     // in place of the fdatasync of a batch
	FaultTruncate = "truncate" // before the log is cut back after a write that found no room
	FaultCreate   = "create"   // before a segment is created
)

// Config says where a log lies and how it behaves.
type Config struct {
	Dir          string // made where it is missing; a log has its directory for itself
	Node         string // written into records that name none
	SegmentBytes int64  // a segment that has reached this size is followed by a new one; 64 MiB where 0
	ReserveBytes int64  // free space kept for records that end something; 64 MiB where 0, none where negative
	Logger       *slog.Logger
	Fault        func(point string) error // for tests: an error that it returns stands in for the one of the operation; may be nil
}

// Stats counts what a log did since it was opened.
type Stats struct {
	Records   uint64        // kept
	Appends   uint64        // calls of Append that were kept
	Refused   uint64        // calls of Append that failed, whatever the reason
	Commits   uint64        // batches, each one write and one sync
	Bytes     uint64        // written in batches
	Rotations uint64        // segments begun
	Writing   time.Duration // spent in writes and syncs
}

// Log is an open log. Its methods are safe for concurrent use.
type Log struct {
	cfg  Config
	dir  *os.File // holds the flock
	log  *slog.Logger
	wake chan struct{} // something is waiting, or closed is set
	done chan struct{} // the committer has ended

	mu       sync.Mutex
	closed   bool
	waiting  []*pending
	head     Head          // durable
	segments []*segment    // oldest first; records go to the last
	grown    chan struct{} // closed when head moves
	damaged  []string      // segments that were changed from outside

	fatal atomic.Pointer[error] // why nothing will be recorded any more
	low   atomic.Pointer[error] // why ordinary records can't be recorded just now
	stats counters
	pool  sync.Pool // of *pending
	scans sync.Pool // of *[]byte, with room for two frames

	writing sync.Mutex // held by whoever commits; taken before mu
	w       writer
}

type counters struct {
	records, appends, refused, commits, bytes, rotations atomic.Uint64
	writing                                              atomic.Int64
}

// Append keeps records, in this order and next to each other. It returns when they are durable, or with an error that
// wraps ErrUnwritable; nothing of what they describe may then be released. It sets V, and Time and Node where they are
// empty; Seq it sets only on success. When ctx ends before the records are written, they are not; once they are being
// written, Append waits for the outcome whatever ctx says. Callers that wait at the same time share one sync.
func (l *Log) Append(ctx context.Context, records ...*Record) error {
	if len(records) == 0 {
		return nil
	}
	p := l.pending(ctx)
	err := l.append(p, records)
	if err != nil {
		l.stats.refused.Add(1)
		return err
	}
	for i, r := range records {
		r.Seq = p.first + uint64(i)
	}
	l.reuse(p)
	l.stats.appends.Add(1)
	return nil
}

func (l *Log) append(p *pending, records []*Record) error {
	if err := l.final(); err != nil {
		return err
	}
	if err := p.encode(records, l.cfg.Node); err != nil {
		return unwritable(err)
	}
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return unwritable(ErrClosed)
	}
	l.waiting = append(l.waiting, p)
	l.mu.Unlock()
	l.commitOwn()
	select {
	case err := <-p.done:
		return err
	case <-p.ctx.Done():
	}
	if l.withdraw(p) {
		return unwritable(p.ctx.Err())
	}
	return <-p.done
}

// withdraw takes p out of the queue; false means that the committer has it already.
func (l *Log) withdraw(p *pending) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, q := range l.waiting {
		if q == p {
			l.waiting = append(l.waiting[:i], l.waiting[i+1:]...)
			return true
		}
	}
	return false
}

func (l *Log) nudge() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Head is the last durable record.
func (l *Log) Head() Head {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head
}

// Err says why an ordinary record can't be kept now, and is nil when all is well. It answers at once, from what the last commit or
// the last look (at least one a second) found. It wraps ErrUnwritable.
func (l *Log) Err() error {
	l.mu.Lock()
	closed := l.closed
	l.mu.Unlock()
	if closed {
		return unwritable(ErrClosed)
	}
	if err := l.final(); err != nil {
		return err
	}
	if err := l.low.Load(); err != nil {
		return *err
	}
	return nil
}

// Stats counts what the log did so far.
func (l *Log) Stats() Stats {
	return Stats{
		Records: l.stats.records.Load(), Appends: l.stats.appends.Load(), Refused: l.stats.refused.Load(),
		Commits: l.stats.commits.Load(), Bytes: l.stats.bytes.Load(), Rotations: l.stats.rotations.Load(),
		Writing: time.Duration(l.stats.writing.Load()),
	}
}

// Close waits until what was begun is durable, and lets go of the directory. Calls of Append that come after it fail with
// ErrClosed. A second Close does nothing.
func (l *Log) Close() error {
	l.mu.Lock()
	again := l.closed
	l.closed = true
	l.mu.Unlock()
	if again {
		<-l.done
		return nil
	}
	l.nudge()
	<-l.done
	return l.release()
}

func (l *Log) release() error {
	var err error
	if l.w.file != nil {
		err = l.w.file.Close()
	}
	return errors.Join(err, l.dir.Close())
}

// final is the sticky error, or nil.
func (l *Log) final() error {
	if err := l.fatal.Load(); err != nil {
		return *err
	}
	return nil
}

// fail makes err final.
func (l *Log) fail(err error) error {
	err = unwritable(err)
	if l.fatal.CompareAndSwap(nil, &err) {
		l.log.Error("audit log refuses everything from now on", "dir", l.cfg.Dir, "error", err)
	}
	return l.final()
}

// lack notes that there is no room (or, with nil, that there is again).
func (l *Log) lack(err error) {
	was := l.low.Load()
	switch {
	case err == nil && was != nil:
		l.low.Store(nil)
		l.log.Info("audit volume has room again", "dir", l.cfg.Dir)
	case err != nil:
		l.low.Store(&err)
		if was == nil {
			l.log.Warn("audit volume is short of room", "dir", l.cfg.Dir, "error", err)
		}
	}
}

func unwritable(err error) error {
	if errors.Is(err, ErrUnwritable) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnwritable, err)
}
