package audit_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/audit"
)

func TestScanGivesWhatWasKept(t *testing.T) {
	l, err := audit.Open(audit.Config{Dir: t.TempDir(), SegmentBytes: 2000, ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const n = 60 // over several segments
	for range n {
		if err := l.Append(context.Background(), &audit.Record{Stage: audit.StageEvent, Status: audit.OK, Op: "start"}); err != nil {
			t.Fatal(err)
		}
	}
	for after := range uint64(n + 2) {
		next := after + 1
		err := l.Scan(context.Background(), after, func(e audit.Entry) error {
			var r audit.Record
			if err := json.Unmarshal(e.Bytes, &r); err != nil || e.Seq != next || r.Seq != next || !r.Time.Equal(e.Time) {
				t.Fatalf("behind %d: got %+v, %v at record %d", after, r, err, next)
			}
			next++
			return nil
		})
		if err != nil || next != max(n, after)+1 {
			t.Fatalf("behind %d: ended before record %d, %v", after, next, err)
		}
	}
	stop := errors.New("stop")
	if err := l.Scan(context.Background(), 0, func(audit.Entry) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v, want the error of the function", err)
	}
}

func TestAwaitEndsWithTheNextRecord(t *testing.T) {
	l, err := audit.Open(audit.Config{Dir: t.TempDir(), ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if err := l.Await(short, 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nothing there: got %v", err)
	}
	came := make(chan error)
	go func() { came <- l.Await(context.Background(), 1) }()
	for range 2 {
		if err := l.Append(context.Background(), &audit.Record{Stage: audit.StageEvent, Status: audit.OK}); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-came; err != nil {
		t.Error(err)
	}
	go func() { came <- l.Await(context.Background(), 2) }()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-came; !errors.Is(err, audit.ErrClosed) {
		t.Errorf("after the end: got %v", err)
	}
}
