package audit_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bailiff-secrets/bailiff/audit"
)

// copyLog makes a log with the files given, whose names are kept, the last one cut or changed to last.
func copyLog(t *testing.T, dir string, files []string, last []byte) {
	t.Helper()
	for i, f := range files {
		b := last
		if i < len(files)-1 {
			b = read(t, f)
		}
		put(t, filepath.Join(dir, filepath.Base(f)), b)
	}
}

// emptied removes all files of a directory, which is quicker than a new one for each of thousands of cases.
func emptied(t *testing.T, dir string) string {
	t.Helper()
	for _, f := range segments(t, dir) {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestPrefixes cuts a log at every byte, as a crash may, and opens it: nothing that lies whole before the cut is missing,
// the repair is recorded, and the log goes on.
func TestPrefixes(t *testing.T) {
	const n = 20
	for _, segmentBytes := range []int64{0, 2500} {
		t.Run(fmt.Sprintf("segments of %d bytes", segmentBytes), func(t *testing.T) {
			from := t.TempDir()
			l := open(t, audit.Config{Dir: from, SegmentBytes: segmentBytes})
			writeN(t, l, n)
			closeLog(t, l)
			files := segments(t, from)
			whole := read(t, files[len(files)-1])
			frames, _, _ := audit.ReadFrames(whole[audit.HeaderBytes:])
			before := n - len(frames)
			dir := t.TempDir()
			for cut := range len(whole) + 1 {
				copyLog(t, emptied(t, dir), files, whole[:cut])
				want, clean := before, cut == audit.HeaderBytes
				for _, f := range frames {
					if end := int(f.End) + audit.HeaderBytes; end <= cut {
						want, clean = want+1, end == cut
					}
				}
				checkCut(t, dir, cut, want, clean)
			}
		})
	}
}

func checkCut(t *testing.T, dir string, cut, want int, clean bool) {
	t.Helper()
	l, err := audit.Open(audit.Config{Dir: dir, ReserveBytes: -1})
	if err != nil {
		t.Fatalf("cut at byte %d: open: %v", cut, err)
	}
	defer l.Close()
	got := find(t, l, audit.Query{Forward: true})
	if repaired := len(got) > want; repaired == clean {
		t.Fatalf("cut at byte %d: got %d records for %d, want an event of the repair: %v", cut, len(got), want, !clean)
	}
	for i := range want {
		if p := served(i).Path; got[i].Path != p || got[i].Seq != uint64(i+1) {
			t.Fatalf("cut at byte %d: record %d has path %q and number %d, want %q", cut, i+1, got[i].Path, got[i].Seq, p)
		}
	}
	if !clean && (got[want].Op != "repair" || got[want].Stage != audit.StageEvent) {
		t.Fatalf("cut at byte %d: got %+v, want the event of a repair", cut, got[want])
	}
	write(t, l, served(want))
	closeLog(t, l)
	if r := sound(t, dir); r.Records != uint64(len(got)+1) {
		t.Fatalf("cut at byte %d: verify found %d records, want %d", cut, r.Records, len(got)+1)
	}
}

// TestFlips flips bits everywhere in a log of several segments. Verify sees each; Open refuses it, or, in the last frame,
// can't tell it from a torn write and cuts off that frame alone.
func TestFlips(t *testing.T) {
	const n = 12
	dir := t.TempDir()
	l := open(t, audit.Config{Dir: dir, SegmentBytes: 1500})
	writeN(t, l, n)
	closeLog(t, l)
	files := segments(t, dir)
	if len(files) < 2 {
		t.Fatalf("got %d segments, want several", len(files))
	}
	for i, file := range files {
		good := read(t, file)
		frames, _, _ := audit.ReadFrames(good[audit.HeaderBytes:])
		lastFrame := int(frames[len(frames)-1].Off) + audit.HeaderBytes
		for at := range good {
			bad := bytes.Clone(good)
			bad[at] ^= 1 << (at % 8)
			put(t, file, bad)
			r, err := audit.Verify(dir)
			if err != nil || r.OK() {
				t.Fatalf("%s, byte %d flipped: verify: problem %q, error %v, want a problem", filepath.Base(file), at, r.Problem, err)
			}
			if i < len(files)-1 {
				continue
			}
			l, err := audit.Open(audit.Config{Dir: dir, ReserveBytes: -1})
			if (err == nil) != (at >= lastFrame) {
				t.Fatalf("byte %d flipped, last frame begins at %d: open: %v", at, lastFrame, err)
			}
			if err != nil {
				continue
			}
			if got := find(t, l, audit.Query{Forward: true}); len(got) != n || got[n-1].Op != "repair" || got[n-2].Path != served(n-2).Path {
				t.Fatalf("byte %d flipped: got %d records, want all but the last, and the repair", at, len(got))
			}
			closeLog(t, l)
		}
		put(t, file, good)
	}
	sound(t, dir)
}

// TestTornBatch leaves what a crash in the middle of the write of a large batch may: some sectors written, some not.
func TestTornBatch(t *testing.T) {
	from := t.TempDir()
	l := open(t, audit.Config{Dir: from})
	writeN(t, l, 3)
	var batch []*audit.Record
	for i := range 20 {
		batch = append(batch, served(3+i))
	}
	if err := l.Append(t.Context(), batch...); err != nil {
		t.Fatal(err)
	}
	closeLog(t, l)
	file := segments(t, from)[0]
	whole := read(t, file)
	frames, _, _ := audit.ReadFrames(whole[audit.HeaderBytes:])
	begin := int(frames[3].Off) + audit.HeaderBytes
	hole := (begin/512 + 2) * 512
	later := append(bytes.Clone(whole), 0)[:len(whole)]

	tests := []struct {
		name   string
		change func(b []byte) []byte
		opens  bool
	}{
		{"a sector in the middle of the batch was not written", func(b []byte) []byte { clear(b[hole : hole+512]); return b }, true},
		{"the first sector of the batch was not written", func(b []byte) []byte { clear(b[begin : (begin/512+1)*512]); return b }, true},
		{"the end of the batch was not written", func(b []byte) []byte { clear(b[hole:]); return b }, true},
		{"nothing of the batch but its last sector was written", func(b []byte) []byte { clear(b[begin : len(b)/512*512]); return b }, true},
		{"behind the hole lies garbage", func(b []byte) []byte {
			clear(b[hole : hole+512])
			copy(b[hole+512:], "garbage")
			return b
		}, true},
		{"a byte in the middle of the batch changed", func(b []byte) []byte { b[hole] ^= 1; return b }, false},
		{"a few bytes in the middle of the batch are zero", func(b []byte) []byte { clear(b[hole+10 : hole+60]); return b }, false},
		{"a sector before the batch is zero", func(b []byte) []byte { clear(b[audit.HeaderBytes:512]); return b }, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			put(t, filepath.Join(dir, filepath.Base(file)), test.change(bytes.Clone(later)))
			l, err := audit.Open(audit.Config{Dir: dir, ReserveBytes: -1})
			if (err == nil) != test.opens {
				t.Fatalf("open: got %v, want success: %v", err, test.opens)
			}
			if err != nil {
				if !strings.Contains(err.Error(), "bailiff audit verify") {
					t.Errorf("open: %q does not say what to do", err)
				}
				return
			}
			defer l.Close()
			got := find(t, l, audit.Query{Forward: true})
			if len(got) < 4 || got[2].Path != served(2).Path || got[len(got)-1].Op != "repair" {
				t.Fatalf("got %d records, want at least those before the batch, and the repair last", len(got))
			}
		})
	}
}

// TestUnfinishedRotation leaves what a crash in the middle of a rotation may.
func TestUnfinishedRotation(t *testing.T) {
	dir := t.TempDir()
	l := open(t, audit.Config{Dir: dir})
	writeN(t, l, 2)
	closeLog(t, l)
	left := filepath.Join(dir, "00000000000000000003.audit.new")
	put(t, left, []byte("BFAUDIT"))
	l = open(t, audit.Config{Dir: dir})
	if _, err := os.Stat(left); err == nil {
		t.Errorf("%s is still there", left)
	}
	if got := find(t, l, audit.Query{}); len(got) != 2 {
		t.Errorf("got %d records, want 2 and no repair", len(got))
	}
	closeLog(t, l)

	// A stub is no excuse for a torn end of the segment before it, also not the second time.
	first := segments(t, dir)[0]
	put(t, first, read(t, first)[:300])
	put(t, filepath.Join(dir, "00000000000000000003.audit"), nil)
	for range 2 {
		if _, err := audit.Open(audit.Config{Dir: dir}); err == nil {
			t.Fatal("open: got no error for a segment that is torn before another")
		}
	}
}
