package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	defaultBytes = 64 << 20

	// Verify holds the lock of a log that nobody has open for a moment.
	lockTries = 5
	lockPause = 10 * time.Millisecond
)

// Open opens the log in cfg.Dir, or begins one. It reads the newest segment only. What a crash left behind is cut off and
// recorded; damage that no crash explains is an error, and so is a log that another process has open (ErrLocked). Close
// must be called.
func Open(cfg Config) (*Log, error) {
	if cfg.Dir == "" {
		return nil, errors.New("audit log: no directory given")
	}
	if cfg.SegmentBytes <= 0 {
		cfg.SegmentBytes = defaultBytes
	}
	if cfg.ReserveBytes == 0 {
		cfg.ReserveBytes = defaultBytes
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	dir, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	l := &Log{cfg: cfg, dir: dir, log: cfg.Logger, wake: make(chan struct{}, 1), done: make(chan struct{}), grown: make(chan struct{})}
	l.w.link = newLinker()
	if err := l.recover(); err != nil {
		return nil, errors.Join(err, l.release())
	}
	l.survey()
	go l.run()
	return l, nil
}

// lockDir opens the directory of a log and makes it this process's own until it is closed.
func lockDir(path string) (*os.File, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	for range lockTries {
		err = unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			break
		}
		time.Sleep(lockPause)
	}
	if err == nil {
		return dir, nil
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = ErrLocked
	}
	return nil, errors.Join(fmt.Errorf("audit log %s: %w", path, err), dir.Close())
}

// recover finds the end of the log, and repairs it.
func (l *Log) recover() error {
	segments, left, err := listSegments(l.dir.Name())
	if err != nil {
		return err
	}
	for _, path := range left {
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("remove unfinished audit segment: %w", err)
		}
	}
	segments, stub, err := splitStub(segments)
	if err != nil {
		return err
	}
	torn, err := l.continueAt(segments, stub)
	if err != nil {
		return err
	}
	l.head = l.w.head
	if err := l.ask(); err != nil {
		return err
	}
	if torn == 0 {
		return nil
	}
	return l.tell(torn)
}

// splitStub parts off a newest segment that is too short to hold a header, and so no record either.
func splitStub(segments []*segment) ([]*segment, *segment, error) {
	if len(segments) == 0 {
		return nil, nil, nil
	}
	last := segments[len(segments)-1]
	st, err := os.Stat(last.path)
	if err != nil {
		return nil, nil, fmt.Errorf("audit segment: %w", err)
	}
	if st.Size() >= headerBytes {
		return segments, nil, nil
	}
	if len(segments) == 1 && last.first != 1 {
		return nil, nil, damaged(last.path, 0, errors.New("its header is cut, and the segment before it is not here; bring both back from a copy"))
	}
	last.size = st.Size()
	return segments[:len(segments)-1], last, nil
}

// continueAt opens the newest of segments for writing, or makes the first one. The stub goes only when what lies before it
// is sound. It returns how many bytes were cut off.
func (l *Log) continueAt(segments []*segment, stub *segment) (torn int64, err error) {
	l.segments = segments
	if len(segments) > 0 {
		if torn, err = l.openLast(segments[len(segments)-1], stub != nil); err != nil {
			return 0, err
		}
	}
	if stub != nil {
		if err := os.Remove(stub.path); err != nil {
			return 0, fmt.Errorf("remove unfinished audit segment: %w", err)
		}
		torn += max(stub.size, 1)
	}
	if len(segments) == 0 {
		return torn, l.begin()
	}
	return torn, nil
}

func (l *Log) begin() error {
	f, seg, err := createSegment(l.dir, header{first: 1, before: seed()})
	if err != nil {
		return err
	}
	l.segments = []*segment{seg}
	l.w.file, l.w.seg, l.w.size, l.w.head = f, seg, headerBytes, Head{Hash: seed()}
	return nil
}

// openLast makes seg the one that is written to. It returns how many bytes it cut off. A segment that another was made
// after is durable to its last byte: with whole set, nothing is cut.
func (l *Log) openLast(seg *segment, whole bool) (torn int64, err error) {
	f, err := os.OpenFile(seg.path, os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		return 0, fmt.Errorf("open audit segment: %w", err)
	}
	l.w.file, l.w.seg = f, seg
	st, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("open audit segment: %w", err)
	}
	good, head, err := l.scan(f, seg, st.Size())
	if err != nil {
		return 0, err
	}
	if good < st.Size() {
		if whole {
			return 0, hopeless(seg.path, good, head, errors.New("a segment was made after it"))
		}
		if torn, err = tail(f, seg.path, good, st.Size(), head); err != nil {
			return 0, err
		}
		if err := f.Truncate(good); err != nil {
			return 0, fmt.Errorf("cut audit segment: %w", err)
		}
		if err := f.Sync(); err != nil {
			return 0, fmt.Errorf("sync audit segment: %w", err)
		}
	}
	seg.size, seg.indexed = good, true
	l.w.size, l.w.head = good, head
	return torn, nil
}

// scan follows the chain through seg, up to the first bytes that are not a frame.
func (l *Log) scan(f *os.File, seg *segment, size int64) (good int64, head Head, err error) {
	h, err := headerOf(f)
	if err != nil {
		return 0, Head{}, err
	}
	if h.first == 0 || h.first == 1 && h.before != seed() {
		return 0, Head{}, damaged(seg.path, 0, errors.New("its header does not begin a chain"))
	}
	head = Head{Seq: h.first - 1, Hash: h.before}
	in := readFrames(f, headerBytes, size)
	for {
		fr, err := in.next()
		switch {
		case errors.Is(err, io.EOF), isBad(err):
			return in.off, head, nil
		case err != nil:
			return 0, Head{}, err
		}
		seq, at, ok := peek(fr.record)
		sum := l.w.link.link(&head.Hash, fr.record)
		if !ok || seq != head.Seq+1 || !bytes.Equal(sum[:], fr.chain) {
			return 0, Head{}, hopeless(seg.path, fr.off, head, errors.New("the record there does not follow from the one before it"))
		}
		head = Head{Seq: seq, Hash: sum}
		seg.add(fr.off, seq, at)
	}
}

// isBad says whether err means that bytes are not a frame.
func isBad(err error) bool {
	return errors.Is(err, errShort) || errors.Is(err, errMarker) || errors.Is(err, errLength) || errors.Is(err, errSum)
}

// errDamage is damage that no crash explains.
var errDamage = errors.New("damaged")

// hopeless is damage that Open must not repair.
func hopeless(path string, off int64, head Head, why error) error {
	return fmt.Errorf("audit segment %s is %w at byte %d, behind record %d, and not by a crash: %w; check it with "+
		"\"bailiff audit verify\", then bring the segment back from a copy, or move the whole directory away to begin a new log",
		filepath.Base(path), errDamage, off, head.Seq, why)
}

// tell records that the log was repaired.
func (l *Log) tell(cut int64) error {
	l.log.Warn("audit log had a torn end; it was cut off", "dir", l.cfg.Dir, "bytes", cut, "last_seq", l.w.head.Seq)
	p := l.pending(context.Background())
	r := &Record{Stage: StageEvent, Status: OK, Via: "system", Op: "repair", Detail: fmt.Sprintf(
		"cut %d bytes off the end of the audit log, behind record %d: a write that did not end; nobody was told that it was kept", cut, l.w.head.Seq)}
	if err := p.encode([]*Record{r}, l.cfg.Node); err != nil {
		return err
	}
	l.commit([]*pending{p})
	if err := <-p.done; err != nil {
		return fmt.Errorf("record the repair of the audit log: %w", err)
	}
	return nil
}
