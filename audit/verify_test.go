package audit_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bailiff-secrets/bailiff/audit"
)

// threeSegments makes a log of six records, two in a segment.
func threeSegments(t *testing.T) (dir string, heads []audit.Head) {
	t.Helper()
	dir = t.TempDir()
	l := open(t, audit.Config{Dir: dir, SegmentBytes: 300})
	heads = append(heads, l.Head())
	for i := range 6 {
		write(t, l, served(i))
		heads = append(heads, l.Head())
	}
	closeLog(t, l)
	if n := len(segments(t, dir)); n != 3 {
		t.Fatalf("got %d segments, want 3", n)
	}
	return dir, heads
}

func TestVerifySound(t *testing.T) {
	dir, heads := threeSegments(t)
	r := sound(t, dir)
	if r.Segments != 3 || r.Records != 6 || r.First != 1 || r.Last != 6 || r.Head != heads[6] || r.InUse || r.FirstTime.IsZero() || r.LastTime.Before(r.FirstTime) {
		t.Errorf("got %+v", r)
	}
	if len(r.Proved) == 0 || !strings.Contains(strings.Join(r.Unproved, "\n"), "cut off the end") {
		t.Errorf("got proved %q, unproved %q: it must not claim that nothing was cut off the end", r.Proved, r.Unproved)
	}
	empty := t.TempDir()
	closeLog(t, open(t, audit.Config{Dir: empty}))
	if r := sound(t, empty); r.Records != 0 || len(r.Proved) != 0 || r.Head != heads[0] {
		t.Errorf("a log without records: got %+v", r)
	}
}

func TestVerifyFinds(t *testing.T) {
	tests := []struct {
		name   string
		change func(t *testing.T, files []string)
		want   string
	}{
		{"a segment is missing", func(t *testing.T, f []string) { remove(t, f[1]) }, "begins with record 5"},
		{"two segments changed places", func(t *testing.T, f []string) {
			a, b := read(t, f[1]), read(t, f[2])
			put(t, f[1], b)
			put(t, f[2], a)
		}, "its header says that record 5 is its first"},
		{"an old segment lost its last record", func(t *testing.T, f []string) { put(t, f[0], framesOf(t, f[0], 0)) }, "begins with record 3, and the segment before it ends with record 1"},
		{"a record is missing in the middle", func(t *testing.T, f []string) { put(t, f[1], framesOf(t, f[1], 1)) }, "record 4 lies at byte"},
		{"a record is there twice", func(t *testing.T, f []string) { put(t, f[1], framesOf(t, f[1], 0, 0, 1)) }, "record 3 lies at byte"},
		{"an old segment has no record", func(t *testing.T, f []string) { put(t, f[1], framesOf(t, f[1])) }, "no record"},
		{"a record changed, with its checksum", func(t *testing.T, f []string) {
			b := read(t, f[1])
			frames, _, _ := audit.ReadFrames(b[audit.HeaderBytes:])
			rec := bytes.Replace(frames[0].Record, []byte("secret/data/2"), []byte("secret/data/9"), 1)
			put(t, f[1], append(audit.AppendFrame(b[:audit.HeaderBytes:audit.HeaderBytes], rec), b[audit.HeaderBytes+frames[0].End:]...))
		}, "the chain breaks at record 3"},
		{"something in a frame is not a record", func(t *testing.T, f []string) {
			put(t, f[2], audit.AppendFrame(read(t, f[2]), []byte("hello")))
		}, "is not a record"},
		{"a segment comes from another log", func(t *testing.T, f []string) {
			other, _ := threeSegments(t)
			put(t, f[1], read(t, segments(t, other)[1]))
		}, "does not continue the chain after record 2"},
		{"a header has the times wrong", func(t *testing.T, f []string) {
			b := read(t, f[1])
			b[60] ^= 1
			put(t, f[1], audit.Reseal(b))
		}, "times of the segment before it wrong"},
		{"a header has bits set that mean nothing", func(t *testing.T, f []string) {
			b := read(t, f[1])
			b[13] ^= 1
			put(t, f[1], audit.Reseal(b))
		}, "mean nothing"},
		{"a header is of a version to come", func(t *testing.T, f []string) {
			b := read(t, f[1])
			b[8] = 2
			put(t, f[1], audit.Reseal(b))
		}, "version 2"},
		{"the first header does not begin a chain", func(t *testing.T, f []string) {
			b := read(t, f[0])
			b[30] ^= 1
			put(t, f[0], audit.Reseal(b))
		}, "does not begin a chain"},
		{"the end is torn", func(t *testing.T, f []string) { b := read(t, f[2]); put(t, f[2], b[:len(b)-1]) }, "not a whole record"},
		{"there is no log", func(t *testing.T, f []string) {
			for _, f := range f {
				remove(t, f)
			}
		}, "no audit log"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir, _ := threeSegments(t)
			test.change(t, segments(t, dir))
			r, err := audit.Verify(dir)
			if err != nil || r.OK() || !strings.Contains(r.Problem, test.want) {
				t.Errorf("got problem %q, error %v, want %q", r.Problem, err, test.want)
			}
		})
	}
	if _, err := audit.Verify(t.TempDir() + "/nowhere"); err == nil {
		t.Error("a directory that is not there: got no error")
	}
}

func remove(t *testing.T, file string) {
	t.Helper()
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
}

// framesOf is a segment made of the header of file and some of its frames.
func framesOf(t *testing.T, file string, which ...int) []byte {
	t.Helper()
	b := read(t, file)
	frames, _, _ := audit.ReadFrames(b[audit.HeaderBytes:])
	out := bytes.Clone(b[:audit.HeaderBytes])
	for _, i := range which {
		out = append(out, b[audit.HeaderBytes+frames[i].Off:audit.HeaderBytes+frames[i].End]...)
	}
	return out
}

func TestVerifyAgainst(t *testing.T) {
	dir, heads := threeSegments(t)
	files := segments(t, dir)
	for i, h := range heads {
		r, err := audit.VerifyAgainst(dir, h)
		if err != nil || !r.OK() || !strings.Contains(strings.Join(r.Proved, "\n"), "the head that was noted") {
			t.Errorf("head of record %d: problem %q, error %v, proved %q", i, r.Problem, err, r.Proved)
		}
	}
	anew, _ := threeSegments(t) // the same records at another time
	tests := []struct {
		name   string
		dir    string
		change func()
		head   audit.Head
		want   string
	}{
		{"the log was written anew", anew, func() {}, heads[4], "written anew"},
		{"the log was written anew, and the head is its last", anew, func() {}, heads[6], "written anew"},
		{"a head without records of another kind of log", dir, func() {}, audit.Head{}, "written anew"},
		{"the last record was cut off", dir, func() { put(t, files[2], framesOf(t, files[2], 0)) }, heads[6], "cut off the end"},
		{"the last segment was taken away", dir, func() { remove(t, files[2]) }, heads[5], "cut off the end"},
		{"up to the head nothing was cut off", dir, func() {}, heads[4], ""},
		{"the first segment was taken away: its end is still known", dir, func() { remove(t, files[0]) }, heads[2], ""},
		{"the first segment was taken away: what lay in it is not", dir, func() {}, heads[1], ""},
	}
	for _, test := range tests {
		test.change()
		r, err := audit.VerifyAgainst(test.dir, test.head)
		if err != nil || r.OK() != (test.want == "") || !strings.Contains(r.Problem, test.want) {
			t.Errorf("%s: got problem %q, error %v, want %q", test.name, r.Problem, err, test.want)
		}
	}
	if r, _ := audit.VerifyAgainst(dir, heads[1]); !strings.Contains(strings.Join(r.Unproved, "\n"), "record 1 of the head that was noted is no longer here") {
		t.Errorf("a head older than the log: unproved is %q", r.Unproved)
	}
}

// TestVerifyInUse verifies a log that is being written.
func TestVerifyInUse(t *testing.T) {
	s, dir := newSeam(), t.TempDir()
	l := open(t, audit.Config{Dir: dir, Fault: s.fault})
	writeN(t, l, 3)
	arrived, proceed := s.stop(audit.FaultTruncate)
	defer proceed()
	s.fail(audit.FaultWrite, unix.ENOSPC)
	done := make(chan error, 1)
	go func() { done <- l.Append(t.Context(), served(3)) }()
	<-arrived // half a frame lies at the end
	r, err := audit.Verify(dir)
	if err != nil || !r.OK() || !r.InUse || r.Records != 3 {
		t.Errorf("got %+v, error %v, want three sound records of a log in use", r, err)
	}
	proceed()
	refused(t, <-done, audit.ErrNoRoom)
}

func TestHeadAsText(t *testing.T) {
	_, heads := threeSegments(t)
	for _, h := range heads {
		got, err := audit.ParseHead(h.String())
		if err != nil || got != h {
			t.Errorf("%v: got %v, %v", h, got, err)
		}
		b, err := json.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, &got); err != nil || got != h {
			t.Errorf("%s: got %v, %v", b, got, err)
		}
	}
	for _, s := range []string{"", "5", "x:" + heads[0].Hash.String(), "5:abcd", "5:" + strings.Repeat("x", 64)} {
		if h, err := audit.ParseHead(s); err == nil {
			t.Errorf("%q: got %v, want an error", s, h)
		}
	}
}

// TestChain computes the chain as the package's doc says, from the bytes of the records alone.
func TestChain(t *testing.T) {
	dir, heads := threeSegments(t)
	sum := sha256.Sum256([]byte("bailiff audit chain v1\n"))
	if heads[0].Hash != sum {
		t.Errorf("before record 1: got %v, want %x", heads[0].Hash, sum)
	}
	n := 0
	for _, file := range segments(t, dir) {
		frames, _, _ := audit.ReadFrames(read(t, file)[audit.HeaderBytes:])
		for _, f := range frames {
			n++
			sum = sha256.Sum256(append(sum[:], f.Record...))
			if heads[n].Hash != sum {
				t.Errorf("record %d: got %v, want %x", n, heads[n].Hash, sum)
			}
		}
	}
}

// TestOpenRefuses changes the newest segment, with its checksums, so that it can't be what a crash left.
func TestOpenRefuses(t *testing.T) {
	tests := []struct {
		name   string
		change func(t *testing.T, file string)
		want   string
	}{
		{"a record changed", func(t *testing.T, file string) {
			b := read(t, file)
			frames, _, _ := audit.ReadFrames(b[audit.HeaderBytes:])
			rec := bytes.Replace(frames[1].Record, []byte("secret/data/5"), []byte("secret/data/9"), 1)
			put(t, file, audit.AppendFrame(b[:audit.HeaderBytes+frames[1].Off], rec))
		}, "does not follow from the one before it"},
		{"something is not a record", func(t *testing.T, file string) { put(t, file, audit.AppendFrame(read(t, file), []byte("hello"))) }, "does not follow"},
		{"it has another name", func(t *testing.T, file string) { put(t, strings.Replace(file, "5.audit", "7.audit", 1), read(t, file)) }, "record 5 is its first"},
		{"it is of a version to come", func(t *testing.T, file string) {
			b := read(t, file)
			b[8] = 2
			put(t, file, audit.Reseal(b))
		}, "version 2"},
		{"it is something else", func(t *testing.T, file string) { put(t, file, bytes.Repeat([]byte("x"), 500)) }, "not an audit segment"},
		{"its name is no number", func(t *testing.T, file string) { put(t, file+".audit", nil) }, "not a sequence number"},
		{"only its beginning is left, and nothing before it", func(t *testing.T, file string) {
			put(t, file, nil)
			for _, f := range segments(t, filepath.Dir(file)) {
				if f != file {
					remove(t, f)
				}
			}
		}, "bring both back"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir, _ := threeSegments(t)
			test.change(t, segments(t, dir)[2])
			l, err := audit.Open(audit.Config{Dir: dir, ReserveBytes: -1})
			if err == nil {
				l.Close()
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
