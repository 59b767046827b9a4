package audit

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxBatch     = 4 << 20     // bytes of frames in one write, unless a single Append has more
	lookInterval = time.Second // at most between two looks at the file and the free space
	spaceBytes   = 8 << 20     // written before the free space is asked for again
)

// writer is what only whoever holds Log.writing touches.
type writer struct {
	file  *os.File
	seg   *segment
	size  int64 // of file, durable
	head  Head
	link  *linker
	batch []*pending
	last  int    // how many calls were in the last batch
	out   []byte // the frames of the batch
	marks []mark
	free  int64 // bytes free on the volume at asked, less what was written since
	since int64 // bytes written since asked
	asked time.Time
}

// mark is where a record of the batch lies in out.
type mark struct {
	off int
	at  int64
}

// run commits what is waiting until the log is closed.
func (l *Log) run() {
	defer close(l.done)
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	for {
		select {
		case <-l.wake:
		case <-tick.C:
			l.writing.Lock()
			l.look()
			l.writing.Unlock()
		}
		if l.commitAll() {
			return
		}
	}
}

// commitAll commits until nothing is waiting, and tells whether the log is closed.
func (l *Log) commitAll() (closed bool) {
	l.writing.Lock()
	defer l.writing.Unlock()
	for {
		l.gather(l.w.last)
		batch, closed := l.take()
		if len(batch) == 0 {
			return closed
		}
		l.w.last = len(batch)
		l.commit(batch)
	}
}

// commitOwn lets a caller who is alone write at once, which spares it two switches of goroutines. Where others came lately it
// is left to run, which gathers them. Whoever comes meanwhile is left to run too.
func (l *Log) commitOwn() {
	if !l.writing.TryLock() {
		l.nudge()
		return
	}
	if l.w.last <= 1 {
		if batch, _ := l.take(); len(batch) > 0 {
			l.w.last = len(batch)
			l.commit(batch)
		}
	}
	l.writing.Unlock()
	l.mu.Lock()
	more := len(l.waiting) > 0
	l.mu.Unlock()
	if more {
		l.nudge()
	}
}

// gather lets the callers that the last batch released run, so that those who come back at once share the next sync.
// It waits for nothing, and does nothing when the last batch had one caller.
func (l *Log) gather(last int) {
	for range min(last-1, 4) {
		l.mu.Lock()
		n := len(l.waiting)
		l.mu.Unlock()
		if n >= last {
			return
		}
		runtime.Gosched()
	}
}

// take takes up to one batch out of the queue. The batch is good until the next call.
func (l *Log) take() (batch []*pending, closed bool) {
	batch = l.w.batch[:0]
	l.mu.Lock()
	defer l.mu.Unlock()
	var n int64
	for i, p := range l.waiting {
		if n += p.frameBytes(); n > maxBatch && i > 0 {
			break
		}
		batch = append(batch, p)
	}
	rest := copy(l.waiting, l.waiting[len(batch):])
	clear(l.waiting[rest:])
	l.waiting = l.waiting[:rest]
	l.w.batch = batch
	return batch, l.closed
}

// commit makes a batch durable and tells each of its callers the outcome. Where there is no room for the whole batch, what
// ends something is tried alone.
func (l *Log) commit(batch []*pending) {
	err := l.prepare()
	if err == nil {
		batch = l.admit(batch)
		err = l.write(batch)
	}
	if errors.Is(err, ErrNoRoom) {
		some, others := split(batch)
		if len(some) > 0 && len(others) > 0 {
			release(others, err)
			batch, err = some, l.write(some)
		}
	}
	release(batch, err)
}

// release tells everybody in batch the outcome.
func release(batch []*pending, err error) {
	for _, p := range batch {
		p.done <- err
	}
}

// split parts what ends something from the rest.
func split(batch []*pending) (some, others []*pending) {
	for _, p := range batch {
		if p.class == ending {
			some = append(some, p)
		} else {
			others = append(others, p)
		}
	}
	return some, others
}

// prepare makes sure that there is a whole file to write to.
func (l *Log) prepare() error {
	if err := l.final(); err != nil {
		return err
	}
	if err := l.intact(l.w.size); err != nil {
		return l.fail(err)
	}
	if l.w.size >= l.cfg.SegmentBytes && l.w.head.Seq >= l.w.seg.first {
		if err := l.rotate(); !errors.Is(err, ErrNoRoom) {
			return err
		} // the segment that is there may still have room
	}
	return nil
}

// admit turns away whoever has gone, and whoever may not use the space that is left.
func (l *Log) admit(batch []*pending) []*pending {
	kept := batch[:0]
	var size int64
	for _, p := range batch {
		if err := p.ctx.Err(); err != nil {
			p.done <- unwritable(err)
			continue
		}
		if err := l.room(p.class, size+p.frameBytes()); err != nil {
			p.done <- err
			continue
		}
		size += p.frameBytes()
		kept = append(kept, p)
	}
	return kept
}

// room says whether records of a class may take n bytes more.
func (l *Log) room(c class, n int64) error {
	if l.cfg.ReserveBytes <= 0 || c == ending {
		return nil
	}
	floor := l.cfg.ReserveBytes
	if c == refusal {
		floor /= 2
	}
	if l.w.since > spaceBytes || l.w.free-n < floor || time.Since(l.w.asked) > lookInterval {
		if err := l.ask(); err != nil {
			return err
		}
	}
	if l.w.free-n < floor {
		return unwritable(fmt.Errorf("%w: %d bytes are free, and %d are kept for records that end something", ErrNoRoom, l.w.free, floor))
	}
	return nil
}

// ask asks how much space is free, and notes when it is below the reserve.
func (l *Log) ask() error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(l.dir.Fd()), &st); err != nil {
		return unwritable(fmt.Errorf("free space of the audit volume: %w", err))
	}
	l.w.free = int64(min(uint64(st.Bavail)*uint64(st.Bsize), 1<<62)) //nolint:unconvert // the types differ between systems
	l.w.since, l.w.asked = 0, time.Now()
	if l.w.free < l.cfg.ReserveBytes {
		l.lack(unwritable(fmt.Errorf("%w: %d bytes are free, and %d are kept for records that end something", ErrNoRoom, l.w.free, l.cfg.ReserveBytes)))
	} else {
		l.lack(nil)
	}
	return nil
}

// look checks file and space when nothing is being written.
func (l *Log) look() {
	if l.final() != nil {
		return
	}
	if err := l.intact(l.w.size); err != nil {
		_ = l.fail(err) // it is logged, and Err says it
		return
	}
	if err := l.ask(); err != nil {
		l.lack(err)
	}
	l.patrol()
}

// intact says whether the file that is open is the one that lies at its path, with size bytes.
func (l *Log) intact(size int64) error {
	var open, there unix.Stat_t
	if err := unix.Fstat(int(l.w.file.Fd()), &open); err != nil {
		return fmt.Errorf("audit segment: %w", err)
	}
	if err := unix.Stat(l.w.seg.path, &there); err != nil {
		return fmt.Errorf("audit segment was taken away: %w", err)
	}
	if open.Ino != there.Ino || open.Dev != there.Dev {
		return fmt.Errorf("audit segment %s was replaced by another file", l.w.seg.path)
	}
	if open.Size != size {
		return fmt.Errorf("audit segment %s has %d bytes, not the %d that were written: somebody else changed it", l.w.seg.path, open.Size, size)
	}
	return nil
}

// write makes batch durable: one write, one sync. Nothing of it counts before both are done.
func (l *Log) write(batch []*pending) error {
	if len(batch) == 0 {
		return nil
	}
	head := l.lay(batch)
	began := time.Now()
	if err := l.put(); err != nil {
		return err
	}
	if err := l.sync(); err != nil {
		return l.fail(fmt.Errorf("sync of the audit log: %w", err))
	}
	size := l.w.size + int64(len(l.w.out))
	if err := l.intact(size); err != nil {
		return l.fail(err)
	}
	l.stats.writing.Add(int64(time.Since(began)))
	l.stats.commits.Add(1)
	l.stats.bytes.Add(uint64(len(l.w.out)))
	l.stats.records.Add(uint64(len(l.w.marks)))
	l.publish(head, size)
	if l.low.Load() != nil {
		l.look()
	}
	return nil
}

// lay encodes batch into out, with its frames and chain hashes, and returns the head after it.
func (l *Log) lay(batch []*pending) Head {
	w := &l.w
	out, marks, head := w.out[:0], w.marks[:0], w.head
	for _, p := range batch {
		p.first = head.Seq + 1
		from := 0
		for i, end := range p.ends {
			head.Seq++
			start := len(out)
			out = append(out, make([]byte, frameHead)...)
			out = append(out, recordHead...)
			out = strconv.AppendUint(out, head.Seq, 10)
			out = append(out, p.tails[from:end]...)
			head.Hash = w.link.link(&head.Hash, out[start+frameHead:])
			out = sealFrame(out, start, &head.Hash)
			marks = append(marks, mark{off: start, at: p.times[i]})
			from = end
		}
	}
	w.out, w.marks = out, marks
	return head
}

// put writes out behind what is durable. When the volume has no room it cuts the file back, and the log goes on.
func (l *Log) put() error {
	data, err := l.w.out, l.fault(FaultWrite)
	if err != nil {
		data = data[:len(data)/2]
	}
	if _, werr := l.w.file.Write(data); werr != nil {
		err = werr
	}
	if err == nil {
		return nil
	}
	err = fmt.Errorf("write of the audit log: %w", err)
	if !full(err) {
		return l.fail(err)
	}
	cut := l.fault(FaultTruncate)
	if cut == nil {
		cut = l.w.file.Truncate(l.w.size)
	}
	if cut == nil {
		cut = l.sync()
	}
	if cut != nil {
		return l.fail(errors.Join(err, fmt.Errorf("cut the audit log back: %w", cut)))
	}
	l.w.asked = time.Time{}
	err = unwritable(fmt.Errorf("%w: %w", ErrNoRoom, err))
	l.lack(err)
	return err
}

// full says whether err means that there was no room.
func full(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG)
}

func (l *Log) sync() error {
	if err := l.fault(FaultSync); err != nil {
		return err
	}
	return fdatasync(l.w.file)
}

func (l *Log) fault(point string) error {
	if l.cfg.Fault == nil {
		return nil
	}
	return l.cfg.Fault(point)
}

// publish lets readers see what has become durable.
func (l *Log) publish(head Head, size int64) {
	w := &l.w
	seq := w.head.Seq
	w.seg.mu.Lock()
	for i, m := range w.marks {
		w.seg.add(w.size+int64(m.off), seq+1+uint64(i), m.at)
	}
	w.seg.size = size
	w.seg.mu.Unlock()
	w.free -= size - w.size
	w.since += size - w.size
	w.size, w.head = size, head
	l.mu.Lock()
	l.head = head
	close(l.grown)
	l.grown = make(chan struct{})
	l.mu.Unlock()
	if len(w.out) > maxBatch {
		w.out = nil
	}
}

// rotate begins a new segment. The one before it is durable to its last byte.
func (l *Log) rotate() error {
	w := &l.w
	err := l.fault(FaultCreate)
	var f *os.File
	var seg *segment
	if err == nil {
		f, seg, err = createSegment(l.dir, header{first: w.head.Seq + 1, before: w.head.Hash, span: w.seg.span})
	}
	if full(err) {
		err = unwritable(fmt.Errorf("%w: %w", ErrNoRoom, err))
		l.lack(err)
		return err
	}
	if err != nil {
		return l.fail(err)
	}
	if err := w.file.Close(); err != nil {
		f.Close()
		return l.fail(fmt.Errorf("close audit segment: %w", err))
	}
	if p, err := looksOf(w.seg.path); err == nil {
		w.seg.looks, w.seg.closed = p, true
	} else {
		l.damage(w.seg, err)
	}
	w.file, w.seg, w.size = f, seg, headerBytes
	l.mu.Lock()
	l.segments = append(l.segments, seg)
	l.mu.Unlock()
	l.stats.rotations.Add(1)
	return nil
}
