package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// looks is what a file looks like from outside. That of a segment that another follows never changes.
type looks struct {
	ino, dev uint64
	size     int64
	sec, ns  int64 // when its bytes were changed last
}

func looksOf(path string) (looks, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return looks{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	sec, ns := st.Mtim.Unix()
	return looks{ino: st.Ino, dev: uint64(st.Dev), size: st.Size, sec: sec, ns: ns}, nil //nolint:unconvert // the types differ between systems
}

// survey looks at every segment but the newest when the log is opened: each must be there and lead to the next.
func (l *Log) survey() {
	for i, seg := range l.segments[:len(l.segments)-1] {
		if why := leadsTo(seg, l.segments[i+1]); why != nil {
			l.damage(seg, why)
			continue
		}
		p, err := looksOf(seg.path)
		if err != nil {
			l.damage(seg, err)
			continue
		}
		seg.looks, seg.closed = p, true
	}
}

// leadsTo says why next does not follow seg: the last chain hash of seg is the one that the header of next begins with, and
// no number is left out.
func leadsTo(seg, next *segment) error {
	h, err := readHeader(next.path)
	if err != nil {
		return err
	}
	f, err := os.Open(seg.path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if st.Size() < int64(headerBytes+frameExtra) {
		return errors.New("it holds no record")
	}
	var last Hash
	if _, err := f.ReadAt(last[:], st.Size()-int64(len(last))); err != nil {
		return err
	}
	if !bytes.Equal(last[:], h.before[:]) {
		return fmt.Errorf("it does not end where %s begins: its end was cut off or changed, or a segment between them is missing", filepath.Base(next.path))
	}
	return nil
}

// patrol looks whether the segments that are closed are still what they were. The caller is the committer.
func (l *Log) patrol() {
	l.mu.Lock()
	segments := slices.Clone(l.segments)
	l.mu.Unlock()
	for _, seg := range segments {
		if !seg.closed {
			continue
		}
		p, err := looksOf(seg.path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			l.damage(seg, errors.New("it was taken away"))
		case err != nil:
			l.damage(seg, err)
		case p != seg.looks:
			l.damage(seg, fmt.Errorf("it was changed or replaced: it has %d bytes now, and had %d", p.size, seg.looks.size))
		}
	}
}

// damage notes once what became of a segment that should never change, and records it. The log goes on: it is the past that is
// damaged, and that somebody must look at.
func (l *Log) damage(seg *segment, why error) {
	seg.closed = false
	text := fmt.Sprintf("audit segment %s is not what was written: %v", filepath.Base(seg.path), why)
	l.log.Error("an audit segment was changed from outside", "dir", l.cfg.Dir, "segment", filepath.Base(seg.path), "error", why)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.damaged = append(l.damaged, text)
	if l.closed {
		return
	}
	p := l.pending(context.Background())
	r := &Record{Stage: StageEvent, Status: Failed, Via: "system", Op: "audit-damaged", Detail: text}
	if err := p.encode([]*Record{r}, l.cfg.Node); err == nil {
		l.waiting = append(l.waiting, p) // its outcome is nobody's
	}
	l.nudge()
}

// Damage says which segments were changed from outside, as far as that was noticed since the log was opened: at once when it was
// opened, and within a second later. Each is in the trail as well, as an event of the operation audit-damaged.
func (l *Log) Damage() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.damaged)
}
