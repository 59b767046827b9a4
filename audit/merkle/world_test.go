package merkle_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/audit/merkle"
)

// world is a log with its tree, in one directory.
type world struct {
	t      *testing.T
	dir    string
	signer note.Signer
	key    note.Verifier
	log    *audit.Log
	tree   *merkle.Tree
	signed chan []byte
	over   chan error // how the tree's Run ended
	stop   func() error
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, dir: t.TempDir()}
	secret, public, err := note.GenerateKey(nil, merkle.Origin("node 1"))
	must(t, err)
	w.signer, err = note.NewSigner(secret)
	must(t, err)
	w.key, err = merkle.Key(public + "\n")
	must(t, err)
	t.Cleanup(func() { w.close() })
	return w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) treeDir() string { return filepath.Join(w.dir, "tree") }

func (w *world) open() error {
	w.t.Helper()
	var err error
	w.log, err = audit.Open(audit.Config{Dir: w.dir, Node: "node-1", SegmentBytes: 64 << 10, ReserveBytes: -1})
	must(w.t, err)
	w.signed = make(chan []byte, 10_000)
	w.tree, err = merkle.Open(merkle.Config{
		Dir: w.treeDir(), Log: w.log, Signer: w.signer, Key: w.key, Logger: slog.New(slog.DiscardHandler),
		Every: time.Millisecond, Signed: func(s []byte) { w.signed <- s },
	})
	if err != nil {
		must(w.t, w.log.Close())
		w.log = nil
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.over = make(chan error, 1)
	go func() { w.over <- w.tree.Run(ctx) }()
	w.stop = func() error {
		cancel()
		return <-w.over
	}
	return nil
}

func (w *world) close() {
	w.t.Helper()
	if w.log == nil {
		return
	}
	must(w.t, w.stop())
	must(w.t, w.log.Close())
	w.log = nil
}

// append keeps n records.
func (w *world) append(n int) {
	w.t.Helper()
	for from := 0; from < n; from += 500 {
		var records []*audit.Record
		for i := from; i < min(n, from+500); i++ {
			records = append(records, &audit.Record{
				Stage: audit.StageResponse, Status: audit.OK, Identity: "alice", Op: "read", Path: fmt.Sprintf("secret/data/app/%d", i),
			})
		}
		must(w.t, w.log.Append(context.Background(), records...))
	}
}

// await waits for a checkpoint of n records.
func (w *world) await(n int64) []byte {
	w.t.Helper()
	for {
		select {
		case s := <-w.signed:
			c, err := merkle.ParseCheckpoint(s, w.key)
			must(w.t, err)
			if c.Size >= n {
				return s
			}
		case <-time.After(20 * time.Second):
			w.t.Fatalf("no checkpoint of %d records within 20s", n)
		}
	}
}

func (w *world) verify(noted ...merkle.Noted) audit.Report {
	w.t.Helper()
	r, err := merkle.Verify(merkle.VerifyConfig{Dir: w.dir, Tree: w.treeDir(), Key: w.key, Noted: noted})
	must(w.t, err)
	return r
}

// segments lists the files of the log, oldest first.
func (w *world) segments() []string {
	w.t.Helper()
	found, err := filepath.Glob(filepath.Join(w.dir, "*.audit"))
	must(w.t, err)
	return found
}

// cutLast cuts the last record off the newest segment.
func (w *world) cutLast() {
	w.t.Helper()
	files := w.segments()
	last := files[len(files)-1]
	data, err := os.ReadFile(last)
	must(w.t, err)
	at := bytes.LastIndex(data, []byte("\xffBA\x01"))
	must(w.t, os.WriteFile(last, data[:at], 0o600))
}
