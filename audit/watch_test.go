package audit_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bailiff-secrets/bailiff/audit"
)

// meddling is what somebody does to the first of several segments, and what is then said.
func meddling() map[string]struct {
	do   func(first string) error
	said string
} {
	return map[string]struct {
		do   func(first string) error
		said string
	}{
		"taken away": {os.Remove, "taken away"},
		"cut":        {func(f string) error { return cut(f, -1) }, "changed or replaced"},
		"grown":      {func(f string) error { return cut(f, 1) }, "changed or replaced"},
		"replaced by a copy that says something else": {func(f string) error {
			data, err := os.ReadFile(f)
			if err != nil {
				return err
			}
			if err := os.Remove(f); err != nil {
				return err
			}
			return os.WriteFile(f, []byte(strings.Replace(string(data), "alice", "mallo", 1)), 0o600)
		}, "changed or replaced"},
	}
}

// several opens a log that has some closed segments.
func several(t *testing.T, dir string) *audit.Log {
	l := open(t, audit.Config{Dir: dir, SegmentBytes: 2000})
	for len(segments(t, dir)) < 4 {
		writeN(t, l, 1)
	}
	return l
}

func damageEvents(t *testing.T, l *audit.Log) (found []string) {
	t.Helper()
	err := l.Query(context.Background(), audit.Query{Op: "audit-damaged", After: 0}, func(r *audit.Record) error {
		found = append(found, r.Detail)
		return nil
	})
	if err != nil && !strings.Contains(err.Error(), "audit segment") {
		t.Fatal(err)
	}
	return found
}

// TestAnOldSegmentIsWatched: what happens to one is known and recorded within a second, once, and the log goes on.
func TestAnOldSegmentIsWatched(t *testing.T) {
	for name, m := range meddling() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "audit")
				l := several(t, dir)
				time.Sleep(1100 * time.Millisecond)
				synctest.Wait()
				if got := l.Damage(); len(got) != 0 {
					t.Fatalf("before: got %q", got)
				}
				head := l.Head().Seq
				if err := m.do(segments(t, dir)[0]); err != nil {
					t.Fatal(err)
				}
				time.Sleep(3100 * time.Millisecond)
				synctest.Wait()
				if got := l.Damage(); len(got) != 1 || !strings.Contains(got[0], m.said) {
					t.Errorf("got %q, want that it was %s, once", got, m.said)
				}
				if got := l.Head().Seq; got != head+1 {
					t.Errorf("%d records were kept of it, want 1", got-head)
				}
				writeN(t, l, 1)
				closeLog(t, l)
			})
		})
	}
}

// TestAnOldSegmentIsLookedAtWhenTheLogIsOpened: a file that was touched while nobody looked, and in no way that its size tells.
func TestAnOldSegmentIsLookedAtWhenTheLogIsOpened(t *testing.T) {
	for name, m := range map[string]struct {
		do   func(files []string) error
		said string
	}{
		"taken away from between": {func(f []string) error { return os.Remove(f[1]) }, "is missing"},
		"cut":                     {func(f []string) error { return cut(f[1], -100) }, "cut off or changed"},
		"emptied":                 {func(f []string) error { return os.Truncate(f[1], 10) }, "no record"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "audit")
			closeLog(t, several(t, dir))
			if err := m.do(segments(t, dir)); err != nil {
				t.Fatal(err)
			}
			l := open(t, audit.Config{Dir: dir, SegmentBytes: 2000})
			if got := l.Damage(); len(got) == 0 || !strings.Contains(strings.Join(got, "\n"), m.said) {
				t.Errorf("got %q, want %q", got, m.said)
			}
			writeN(t, l, 1)
			if len(damageEvents(t, l)) == 0 {
				t.Error("nothing was recorded")
			}
		})
	}
	dir := filepath.Join(t.TempDir(), "audit")
	closeLog(t, several(t, dir))
	if got := open(t, audit.Config{Dir: dir, SegmentBytes: 2000}).Damage(); len(got) != 0 {
		t.Errorf("nothing was touched: got %q", got)
	}
}
