package audit_test

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/bailiff-secrets/bailiff/audit"
)

// FuzzReadFrames reads arbitrary bytes: whatever is found as a frame must be one that was written, byte for byte, and
// reading must end.
func FuzzReadFrames(f *testing.F) {
	one := audit.AppendFrame(nil, []byte(`{"v":1}`))
	f.Add([]byte(nil))
	f.Add(one)
	f.Add(audit.AppendFrame(bytes.Clone(one), bytes.Repeat([]byte("x"), 5000)))
	f.Add(append(bytes.Clone(one), one[:len(one)-1]...))
	f.Add([]byte("\xffBA\x01\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		found, off, why := audit.ReadFrames(b)
		var at int64
		for _, fr := range found {
			if fr.Off != at || fr.End <= at || fr.End > int64(len(b)) {
				t.Fatalf("frame from %d to %d, want it to begin at %d", fr.Off, fr.End, at)
			}
			if !bytes.Contains(b[fr.Off:fr.End], fr.Record) || len(fr.Record) == 0 {
				t.Fatalf("record %q does not lie in its frame", fr.Record)
			}
			at = fr.End
		}
		if off != at || (why == nil) != (at == int64(len(b))) {
			t.Fatalf("ended at byte %d of %d (%v), after frames up to %d", off, len(b), why, at)
		}
	})
}

// FuzzWrittenFrames finds every frame that was written before arbitrary bytes.
func FuzzWrittenFrames(f *testing.F) {
	f.Add([]byte("a"), []byte("b"), []byte("rest"))
	f.Fuzz(func(t *testing.T, x, y, rest []byte) {
		if len(x) == 0 || len(y) == 0 || len(x)+len(y) > audit.MaxRecordBytes {
			return
		}
		found, _, _ := audit.ReadFrames(append(audit.AppendFrame(audit.AppendFrame(nil, x), y), rest...))
		if len(found) < 2 || !bytes.Equal(found[0].Record, x) || !bytes.Equal(found[1].Record, y) {
			t.Fatalf("got %d frames, want %q and %q", len(found), x, y)
		}
	})
}

func TestReadFramesAcrossBuffers(t *testing.T) {
	var b []byte
	var want [][]byte
	for i := range 9 {
		rec := bytes.Repeat([]byte{byte('a' + i)}, audit.MaxRecordBytes-i*100_000)
		want, b = append(want, rec), audit.AppendFrame(b, rec)
	}
	found, off, why := audit.ReadFrames(b)
	if len(found) != len(want) || off != int64(len(b)) || why != nil {
		t.Fatalf("got %d frames up to %d (%v), want %d up to %d", len(found), off, why, len(want), len(b))
	}
	for i := range want {
		if !bytes.Equal(found[i].Record, want[i]) {
			t.Errorf("frame %d differs", i)
		}
	}
}

// FuzzOpen opens a log whose only segment is arbitrary bytes: Open refuses it, or what it leaves verifies and can be
// read and written.
func FuzzOpen(f *testing.F) {
	dir := f.TempDir()
	l := open(f, audit.Config{Dir: dir})
	writeN(f, l, 3)
	closeLog(f, l)
	good := read(f, segments(f, dir)[0])
	f.Add([]byte(nil))
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add(append(bytes.Clone(good), make([]byte, 600)...))
	f.Add(append(bytes.Clone(good), good[audit.HeaderBytes:]...))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		put(t, filepath.Join(dir, "00000000000000000001.audit"), b)
		l, err := audit.Open(audit.Config{Dir: dir, ReserveBytes: -1})
		if err != nil {
			return
		}
		defer l.Close()
		write(t, l, served(0))
		if got := find(t, l, audit.Query{}); got[0].Path != served(0).Path || uint64(len(got)) != l.Head().Seq {
			t.Fatalf("got %d records, and the head is %v", len(got), l.Head())
		}
		closeLog(t, l)
		sound(t, dir)
	})
}
