package merkle_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/audit/merkle"
)

// TestTheRootIsTheOneOfRFC6962 compares with x/mod's own tree, up to more than two levels of tiles hold.
func TestTheRootIsTheOneOfRFC6962(t *testing.T) {
	w := newWorld(t)
	must(t, w.open())
	var stored []tlog.Hash
	read := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			out[i] = stored[x]
		}
		return out, nil
	})
	size := int64(0)
	for _, n := range []int{1, 1, 1, 2, 3, 247, 1, 1, 255, 300, 1000, 64000, 37} {
		w.append(n)
		s := w.await(size + int64(n))
		must(t, w.log.Scan(context.Background(), uint64(size), func(e audit.Entry) error {
			hashes, err := tlog.StoredHashes(int64(e.Seq)-1, e.Bytes, read)
			stored = append(stored, hashes...)
			return err
		}))
		size += int64(n)
		want, err := tlog.TreeHash(size, read)
		must(t, err)
		if c, err := merkle.ParseCheckpoint(s, w.key); err != nil || c.Root != want || c.Size != size {
			t.Fatalf("size %d: got %v, %v, want root %v", size, c, err, want)
		}
	}
}

func TestAProofHoldsForItsRecordAlone(t *testing.T) {
	w := newWorld(t)
	must(t, w.open())
	const n = 66_000
	w.append(n)
	w.await(n)
	other := newWorld(t)
	for _, seq := range []uint64{1, 2, 255, 256, 257, 65_535, 65_536, 65_537, n} {
		p, err := w.tree.Prove(context.Background(), seq)
		must(t, err)
		p, err = merkle.ParseProof(p.Text())
		must(t, err)
		c, err := p.Check(w.key)
		if err != nil || c.Size != n || !bytes.Contains(p.Record, fmt.Appendf(nil, `"seq":%d,`, seq)) {
			t.Fatalf("record %d: got %v, %v for %s", seq, c, err, p.Record)
		}
		if _, err := p.Check(other.key); !errors.Is(err, merkle.ErrSignature) {
			t.Errorf("record %d, with another's key: got %v", seq, err)
		}
		changed := *p
		changed.Record = bytes.Replace(p.Record, []byte("alice"), []byte("mallo"), 1)
		if _, err := changed.Check(w.key); err == nil {
			t.Errorf("record %d: a changed record is proved", seq)
		}
		changed = *p
		changed.Index ^= 1
		if _, err := changed.Check(w.key); err == nil {
			t.Errorf("record %d is proved at another place", seq)
		}
	}
	if _, err := w.tree.Prove(context.Background(), n+1); !errors.Is(err, merkle.ErrUnsigned) {
		t.Errorf("a record that isn't there: got %v", err)
	}
	if _, err := w.tree.Prove(context.Background(), 0); err == nil {
		t.Error("record 0 is proved")
	}
}

func TestWhatIsNoProofIsRefused(t *testing.T) {
	w := newWorld(t)
	must(t, w.open())
	w.append(3)
	w.await(3)
	p, err := w.tree.Prove(context.Background(), 2)
	must(t, err)
	good := string(p.Text())
	for _, text := range []string{
		"", "\n\n", good[:20], strings.Replace(good, "@v1", "@v2", 1), strings.Replace(good, "extra ", "extra !", 1),
		strings.Replace(good, "index 1", "index -1", 1), strings.Replace(good, "index 1", "index x", 1),
		strings.Replace(good, "index 1\n", "index 1\nAAAA\n", 1), strings.Replace(good, "\n\n", "\n", 1),
	} {
		p, err := merkle.ParseProof([]byte(text))
		if err == nil {
			_, err = p.Check(w.key)
		}
		if err == nil {
			t.Errorf("%q is a proof", text)
		}
	}
}

// TestTheTreeGoesOn: after each restart, whatever became of the tiles, the root is that of the whole log.
func TestTheTreeGoesOn(t *testing.T) {
	w := newWorld(t)
	size := int64(0)
	for _, damage := range []func(){
		func() {},
		func() {},
		func() { must(t, os.RemoveAll(filepath.Join(w.treeDir(), "tile"))) },
		func() {
			must(t, os.WriteFile(filepath.Join(w.treeDir(), "tile", "1", "000.p", "3"), make([]byte, 3*32), 0o600))
		},
		func() { must(t, os.Remove(filepath.Join(w.treeDir(), "checkpoint"))) },
		func() {},
	} {
		damage()
		must(t, w.open())
		w.append(300)
		size += 300
		w.await(size)
		p, err := w.tree.Prove(context.Background(), uint64(size-299))
		must(t, err)
		if _, err := p.Check(w.key); err != nil {
			t.Error(err)
		}
		w.close()
		if r := w.verify(); !r.OK() || len(r.Proved) != 3 {
			t.Fatalf("after %d records: %+v", size, r)
		}
	}
}

// TestTheEndIsSignedFor: what was appended before the end is counted by the last checkpoint.
func TestTheEndIsSignedFor(t *testing.T) {
	w := newWorld(t)
	must(t, w.open())
	w.append(1)
	w.await(1)
	w.append(700)
	w.close()
	signed, err := os.ReadFile(filepath.Join(w.treeDir(), "checkpoint"))
	must(t, err)
	if c, err := merkle.ParseCheckpoint(signed, w.key); err != nil || c.Size != 701 {
		t.Errorf("got %v, %v, want 701 records", c, err)
	}
}

// TestALogThatWasCutIsFound, by one whole record, as a crash never does it.
func TestALogThatWasCutIsFound(t *testing.T) {
	w := newWorld(t)
	must(t, w.open())
	w.append(20)
	noted := w.await(20)
	w.close()
	w.cutLast()

	r := w.verify()
	if r.OK() || !strings.Contains(r.Problem, "cut off its end") {
		t.Errorf("got %+v", r)
	}
	if err := w.open(); !errors.Is(err, merkle.ErrChanged) {
		t.Errorf("opening: got %v, want ErrChanged", err)
	}
	// Whoever cuts the checkpoint off too is found by one that was noted elsewhere.
	must(t, os.RemoveAll(w.treeDir()))
	if r := w.verify(); !r.OK() || !strings.Contains(strings.Join(r.Unproved, "\n"), "there is no checkpoint") {
		t.Errorf("without any checkpoint: got %+v", r)
	}
	r = w.verify(merkle.Noted{Name: "the auditor's", Signed: noted})
	if r.OK() || !strings.Contains(r.Problem, "the auditor's was signed for 20 records") {
		t.Errorf("with one noted elsewhere: got %+v", r)
	}
}

// TestALogThatWasWrittenAnewIsFound, with a chain that is right in itself.
func TestALogThatWasWrittenAnewIsFound(t *testing.T) {
	w := newWorld(t)
	must(t, w.open())
	w.append(300)
	w.await(300)
	w.close()
	forged := newWorld(t)
	must(t, forged.open())
	forged.append(301)
	forged.await(301)
	forged.close()
	for _, f := range w.segments() {
		must(t, os.Remove(f))
	}
	for _, f := range forged.segments() {
		data, err := os.ReadFile(f)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(w.dir, filepath.Base(f)), data, 0o600))
	}
	if r := w.verify(); r.OK() || !strings.Contains(r.Problem, "these are not they") {
		t.Errorf("got %+v", r)
	}
	// A server that builds its tree anew finds it as well.
	must(t, os.RemoveAll(filepath.Join(w.treeDir(), "tile")))
	must(t, w.open())
	w.append(1)
	if err := w.ended(); !errors.Is(err, merkle.ErrChanged) {
		t.Errorf("running: got %v, want ErrChanged", err)
	}
}

// ended waits for the tree to end by itself.
func (w *world) ended() error {
	w.t.Helper()
	err := <-w.over
	w.stop = func() error { return nil }
	return err
}

// TestACheckpointOfAnotherKeyIsRefused, and one that was changed.
func TestACheckpointOfAnotherKeyIsRefused(t *testing.T) {
	w := newWorld(t)
	must(t, w.open())
	w.append(2)
	s := w.await(2)
	w.close()
	other := newWorld(t)
	if _, err := merkle.ParseCheckpoint(s, other.key); !errors.Is(err, merkle.ErrSignature) {
		t.Errorf("with another key: got %v", err)
	}
	changed := bytes.Replace(s, []byte("\n2\n"), []byte("\n1\n"), 1)
	if _, err := merkle.ParseCheckpoint(changed, w.key); !errors.Is(err, merkle.ErrSignature) {
		t.Errorf("changed: got %v", err)
	}
	must(t, os.WriteFile(filepath.Join(w.treeDir(), "checkpoint"), changed, 0o600))
	if err := w.open(); !errors.Is(err, merkle.ErrSignature) {
		t.Errorf("opening beside a changed checkpoint: got %v", err)
	}
	if r := w.verify(); r.OK() {
		t.Errorf("verifying beside a changed checkpoint: got %+v", r)
	}
}

// TestNoRoomForATile: the log goes on, and the tree catches up when there is room again.
func TestNoRoomForATile(t *testing.T) {
	w := newWorld(t)
	must(t, w.open())
	must(t, os.WriteFile(w.treeDir(), []byte("in the way"), 0o600))
	w.append(600)
	select {
	case <-w.signed:
		t.Error("a checkpoint was made whose tiles could not be kept")
	case <-time.After(50 * time.Millisecond):
	}
	must(t, os.Remove(w.treeDir()))
	w.await(600)
	w.close()
	if r := w.verify(); !r.OK() || len(r.Proved) != 3 {
		t.Errorf("got %+v", r)
	}
}
