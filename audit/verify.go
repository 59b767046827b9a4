package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Report is what a verification found. With an empty Problem, everything in Proved holds for the whole log; else it holds
// up to Head only.
type Report struct {
	Dir       string    `json:"dir"`
	Segments  int       `json:"segments"`
	Records   uint64    `json:"records"`
	Bytes     int64     `json:"bytes"`
	First     uint64    `json:"first"` // sequence number; 0 where there is no record
	Last      uint64    `json:"last"`
	FirstTime time.Time `json:"first_time,omitzero"`
	LastTime  time.Time `json:"last_time,omitzero"`
	Head      Head      `json:"head"`           // of the part that is sound; note it elsewhere for the next time
	InUse     bool      `json:"in_use"`         // a process has the log open: what it is writing was left out
	Torn      int64     `json:"torn,omitempty"` // bytes at the end that are no whole frame
	Problem   string    `json:"problem,omitempty"`
	Proved    []string  `json:"proved"`
	Unproved  []string  `json:"unproved"`
}

// OK says whether nothing is wrong.
func (r *Report) OK() bool { return r.Problem == "" }

// Verify reads the whole log in dir, which need not be closed, and says what it proved and the first thing that is wrong.
// The error is one of reading; damage is in the report. It changes nothing.
func Verify(dir string) (Report, error) { return VerifyWith(dir, Options{}) }

// VerifyAgainst is Verify, and also compares the log with a head that was noted elsewhere: the record of that number must
// be there and the chain must lead to it.
func VerifyAgainst(dir string, known Head) (Report, error) {
	return VerifyWith(dir, Options{Known: &known})
}

// Options say how a verification goes. The zero value is that of Verify.
type Options struct {
	Known    *Head             // a head that was noted elsewhere
	Each     func(Entry) error // called for each record that is sound, oldest first; its error ends it and is returned as it is
	Anchored bool              // whoever asks says by what the log is tied to the outside: the report is silent about it
}

// VerifyWith is Verify with options.
func VerifyWith(dir string, o Options) (Report, error) {
	v := &verifier{known: o.Known, each: o.Each, anchored: o.Anchored, link: newLinker(), report: Report{Dir: dir}}
	var err error
	if v.report.InUse, err = inUse(dir); err != nil {
		return v.report, err
	}
	segments, _, err := listSegments(dir)
	if err != nil {
		return v.report, err
	}
	for i, seg := range segments {
		err := v.segment(seg, i == 0, i == len(segments)-1)
		var p problem
		if errors.As(err, &p) {
			v.report.Problem = p.Error()
			break
		}
		if err != nil {
			return v.report, err
		}
		v.report.Segments++
	}
	if len(segments) == 0 {
		v.report.Problem = "there is no audit log in this directory"
	}
	v.conclude()
	return v.report, nil
}

// inUse says whether a process has the log open.
func inUse(dir string) (bool, error) {
	d, err := os.Open(dir)
	if err != nil {
		return false, fmt.Errorf("audit log: %w", err)
	}
	defer d.Close()
	err = unix.Flock(int(d.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("audit log: %w", err)
	}
	return false, nil
}

// problem is something wrong with a log.
type problem string

func (p problem) Error() string { return string(p) }

func problemf(format string, args ...any) problem { return problem(fmt.Sprintf(format, args...)) }

type verifier struct {
	report  Report
	known   *Head
	matched bool // the known head was met
	each    func(Entry) error
	link    *linker
	span    span // of the last segment

	anchored bool
}

func (v *verifier) segment(seg *segment, first, last bool) error {
	f, err := os.Open(seg.path)
	if err != nil {
		return fmt.Errorf("open audit segment: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return fmt.Errorf("open audit segment: %w", err)
	}
	if err := v.header(f, seg, first); err != nil {
		return err
	}
	v.report.Bytes += st.Size()
	v.span = span{}
	in := readFrames(f, headerBytes, st.Size())
	for n := 0; ; n++ {
		fr, err := in.next()
		switch {
		case errors.Is(err, io.EOF):
			if n == 0 && !last {
				return problemf("%s: it has no record, and another segment follows", filepath.Base(seg.path))
			}
			return nil
		case isBad(err):
			return v.broken(f, seg, in.off, st.Size(), last, err)
		case err != nil:
			return err
		}
		if err := v.record(seg, fr, n == 0); err != nil {
			return err
		}
	}
}

// header checks the front of a segment against the end of the one before it.
func (v *verifier) header(f *os.File, seg *segment, first bool) error {
	b := make([]byte, headerBytes)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read audit segment: %w", err)
	}
	name := filepath.Base(seg.path)
	h, err := parseHeader(b[:n])
	r := &v.report
	switch {
	case err != nil:
		return problemf("%s: %v", name, err)
	case h.first != seg.first || h.first == 0:
		return problemf("%s: its header says that record %d is its first", name, h.first)
	case !bytes.Equal(h.bytes(), b):
		return problemf("%s: its header has bits set that mean nothing", name)
	case first && h.first == 1 && (h.before != seed() || h.span != span{}):
		return problemf("%s: its header does not begin a chain", name)
	case first:
		r.Head = Head{Seq: h.first - 1, Hash: h.before}
		v.meet()
	case h.first != r.Head.Seq+1:
		return problemf("%s: begins with record %d, and the segment before it ends with record %d", name, h.first, r.Head.Seq)
	case h.before != r.Head.Hash:
		return problemf("%s: its header does not continue the chain after record %d", name, r.Head.Seq)
	case h.span != v.span:
		return problemf("%s: its header has the times of the segment before it wrong", name)
	}
	return nil
}

func (v *verifier) record(seg *segment, fr frame, first bool) error {
	name, r := filepath.Base(seg.path), &v.report
	seq, at, ok := peek(fr.record)
	if !ok || !json.Valid(fr.record) {
		return problemf("%s: what lies at byte %d, behind record %d, is not a record", name, fr.off, r.Head.Seq)
	}
	if seq != r.Head.Seq+1 {
		return problemf("%s: record %d lies at byte %d, behind record %d", name, seq, fr.off, r.Head.Seq)
	}
	sum := v.link.link(&r.Head.Hash, fr.record)
	if !bytes.Equal(sum[:], fr.chain) {
		return problemf("%s: the chain breaks at record %d (byte %d): it, or one before it, is not what was written", name, seq, fr.off)
	}
	if int64(fr.back) > fr.off-headerBytes {
		return problemf("%s: record %d (byte %d) says that its batch began before the segment", name, seq, fr.off)
	}
	if r.Records == 0 {
		r.First, r.FirstTime = seq, time.Unix(0, at).UTC()
	}
	r.Records++
	r.Last, r.LastTime = seq, time.Unix(0, at).UTC()
	r.Head = Head{Seq: seq, Hash: sum}
	v.span.add(at, first)
	v.meet()
	if v.each != nil {
		return v.each(Entry{Seq: seq, Time: r.LastTime, Bytes: fr.record})
	}
	return nil
}

// meet notes when the log reaches the head that was noted elsewhere.
func (v *verifier) meet() {
	if v.known != nil && v.report.Head == *v.known {
		v.matched = true
	}
}

// broken judges bytes that are not a frame.
func (v *verifier) broken(f *os.File, seg *segment, off, size int64, last bool, why error) error {
	name, r := filepath.Base(seg.path), &v.report
	if !last {
		return problemf("%s: damaged at byte %d, behind record %d: %v", name, off, r.Head.Seq, why)
	}
	torn, err := tail(f, seg.path, off, size, r.Head)
	switch {
	case err != nil && !errors.Is(err, errDamage):
		return err
	case err != nil:
		return problemf("%s: damaged at byte %d, behind record %d: %v; whole records follow", name, off, r.Head.Seq, why)
	case r.InUse:
		return nil
	}
	r.Torn = torn
	return problemf("%s: the last %d bytes, behind record %d, are not a whole record (%v): a write that did not end, or damage; "+
		"the next start cuts them off and records that", name, torn, r.Head.Seq, why)
}

// conclude says what was proved, and compares with the head that was noted.
func (v *verifier) conclude() {
	r := &v.report
	if r.Problem == "" && v.known != nil && !v.matched {
		switch {
		case v.known.Seq > r.Head.Seq:
			r.Problem = fmt.Sprintf("the log ends with record %d, and the head that was noted is that of record %d: records were cut off the end", r.Head.Seq, v.known.Seq)
		case v.known.Seq+1 >= max(r.First, 1):
			r.Problem = fmt.Sprintf("the chain hash of record %d is not that of the head that was noted: the log was written anew", v.known.Seq)
		default:
			r.Unproved = append(r.Unproved, fmt.Sprintf("record %d of the head that was noted is no longer here", v.known.Seq))
		}
	}
	if r.Records > 0 {
		r.Proved = append(r.Proved,
			fmt.Sprintf("records %d to %d are all there, in order, and none was changed, put in or taken out without all later ones being written anew", r.First, r.Last),
			"every checksum of those records and of the headers of their segments is right")
	}
	if r.First > 1 {
		r.Unproved = append(r.Unproved, fmt.Sprintf("records before %d are not here", r.First))
	}
	if v.matched {
		r.Proved = append(r.Proved, fmt.Sprintf("the log contains the head that was noted, of record %d: nothing up to it was written anew or cut off", v.known.Seq))
		r.Unproved = append(r.Unproved, fmt.Sprintf("that no whole records behind %d were cut off the end, or written anew", v.known.Seq))
	} else if !v.anchored {
		r.Unproved = append(r.Unproved,
			"that no whole records were cut off the end, and that the log was not written anew: compare the head with one noted elsewhere")
	}
	if r.InUse {
		r.Unproved = append(r.Unproved, "what was being written while this ran: a process has the log open")
	}
}
