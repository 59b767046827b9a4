package audit_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bailiff-secrets/bailiff/audit"
)

// seam is a Fault that counts, answers with what it was told to, and can hold the committer at a point.
type seam struct {
	mu     sync.Mutex
	counts map[string]int
	errs   map[string][]error
	hold   map[string]chan struct{}
	at     map[string]chan struct{}
}

func newSeam() *seam {
	return &seam{counts: map[string]int{}, errs: map[string][]error{}, hold: map[string]chan struct{}{}, at: map[string]chan struct{}{}}
}

// fail makes the next arrivals at point end so.
func (s *seam) fail(point string, errs ...error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.errs[point] = errs
}

// stop holds the next arrival at point: arrived is closed when it is there, and it goes on when proceed is called.
func (s *seam) stop(point string) (arrived <-chan struct{}, proceed func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, hold := make(chan struct{}), make(chan struct{})
	s.at[point], s.hold[point] = at, hold
	return at, sync.OnceFunc(func() { close(hold) })
}

func (s *seam) count(point string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[point]
}

func (s *seam) fault(point string) error {
	s.mu.Lock()
	s.counts[point]++
	at, hold := s.at[point], s.hold[point]
	delete(s.at, point)
	delete(s.hold, point)
	var err error
	if e := s.errs[point]; len(e) > 0 {
		err, s.errs[point] = e[0], e[1:]
	}
	s.mu.Unlock()
	if at != nil {
		close(at)
		<-hold
	}
	return err
}

func TestAppendFills(t *testing.T) {
	l := open(t, audit.Config{Dir: t.TempDir(), Node: "n1"})
	at := time.Date(2020, 2, 3, 4, 5, 6, 7, time.FixedZone("", 3600))
	a, b := &audit.Record{Stage: audit.StageEvent, Status: audit.OK}, &audit.Record{Time: at, Node: "other"}
	if err := l.Append(t.Context(), a, b); err != nil {
		t.Fatal(err)
	}
	if a.V != audit.Schema || a.Seq != 1 || a.Node != "n1" || time.Since(a.Time) > time.Minute {
		t.Errorf("got %+v, want version, number 1, node and time set", a)
	}
	if b.Seq != 2 || b.Node != "other" || !b.Time.Equal(at) {
		t.Errorf("got %+v, want number 2, its own node and time", b)
	}
	if got := find(t, l, audit.Query{})[0]; !got.Time.Equal(at) {
		t.Errorf("read back: got time %v, want %v", got.Time, at)
	}
	if h := l.Head(); h.Seq != 2 {
		t.Errorf("head: got %v, want record 2", h)
	}
	if err := l.Append(t.Context()); err != nil {
		t.Errorf("append of nothing: %v", err)
	}
}

func TestAppendRejects(t *testing.T) {
	l := open(t, audit.Config{Dir: t.TempDir()})
	for name, r := range map[string]*audit.Record{
		"a record over the limit":                {Detail: strings.Repeat("x", audit.MaxRecordBytes)},
		"a year that RFC 3339 has no digits for": {Time: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		if err := l.Append(t.Context(), served(0), r); !errors.Is(err, audit.ErrUnwritable) {
			t.Errorf("%s: got %v, want ErrUnwritable", name, err)
		}
	}
	write(t, l, served(1))
	if got := paths(t, l, audit.Query{}); len(got) != 1 {
		t.Errorf("got %v, want only the record after the bad ones", got)
	}
}

func TestCallersShareASync(t *testing.T) {
	const callers = 64
	s := newSeam()
	l := open(t, audit.Config{Dir: t.TempDir(), Fault: s.fault})
	arrived, proceed := s.stop(audit.FaultSync)
	defer proceed()
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			if err := l.Append(context.Background(), served(i)); err != nil {
				t.Errorf("append: %v", err)
			}
		})
		if i == 0 {
			<-arrived
		}
	}
	until(t, "the others queue", func() bool { return l.Waiting() == callers-1 })
	proceed()
	wg.Wait()
	if n := s.count(audit.FaultSync); n != 2 {
		t.Errorf("%d callers took %d syncs, want 2", callers, n)
	}
	if got := len(find(t, l, audit.Query{})); got != callers {
		t.Errorf("got %d records, want %d", got, callers)
	}
	if st := l.Stats(); st.Commits != 2 || st.Records != callers || st.Appends != callers || st.Refused != 0 {
		t.Errorf("stats: got %+v", st)
	}
}

func TestContext(t *testing.T) {
	s := newSeam()
	l := open(t, audit.Config{Dir: t.TempDir(), Fault: s.fault})
	arrived, proceed := s.stop(audit.FaultSync)
	defer proceed()
	ctx, cancel := context.WithCancel(t.Context())
	writing, waiting := make(chan error, 1), make(chan error, 1)
	go func() { writing <- l.Append(ctx, served(1)) }()
	<-arrived
	go func() { waiting <- l.Append(ctx, served(2)) }()
	until(t, "the second queues", func() bool { return l.Waiting() == 1 })
	cancel()
	refused(t, <-waiting, context.Canceled)
	select {
	case err := <-writing:
		t.Fatalf("append whose record is being synced: returned early with %v", err)
	default:
	}
	proceed()
	if err := <-writing; err != nil {
		t.Fatalf("append whose record was being synced when its context ended: %v", err)
	}
	refused(t, l.Append(ctx, served(3)), context.Canceled)
	write(t, l, served(4))
	if got := fmt.Sprint(paths(t, l, audit.Query{Forward: true})); got != "[secret/data/1 secret/data/4]" {
		t.Errorf("got %v, want records 1 and 4 alone", got)
	}
}

// TestContextEndsBeforeTheWrite cancels when the committer has the record, and has not begun to write it.
func TestContextEndsBeforeTheWrite(t *testing.T) {
	s := newSeam()
	l := open(t, audit.Config{Dir: t.TempDir(), SegmentBytes: 1, Fault: s.fault})
	write(t, l, served(1))
	arrived, proceed := s.stop(audit.FaultCreate)
	defer proceed()
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan error, 1)
	go func() { got <- l.Append(ctx, served(2)) }()
	<-arrived
	cancel()
	proceed()
	refused(t, <-got, context.Canceled)
	if n := len(find(t, l, audit.Query{})); n != 1 {
		t.Errorf("got %d records, want 1", n)
	}
}

func TestFinalErrors(t *testing.T) {
	broken := errors.New("broken disk")
	tests := []struct {
		name string
		fail map[string]error
	}{
		{"a sync fails", map[string]error{audit.FaultSync: broken}},
		{"a sync finds no room", map[string]error{audit.FaultSync: unix.ENOSPC}},
		{"a write fails", map[string]error{audit.FaultWrite: broken}},
		{"a write finds no room and the file can't be cut back", map[string]error{audit.FaultWrite: unix.ENOSPC, audit.FaultTruncate: broken}},
		{"a write finds no room and the cut can't be synced", map[string]error{audit.FaultWrite: unix.ENOSPC, audit.FaultSync: broken}},
		{"a segment can't be created", map[string]error{audit.FaultCreate: broken}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, dir := newSeam(), t.TempDir()
			l := open(t, audit.Config{Dir: dir, Fault: s.fault, SegmentBytes: 1})
			write(t, l, served(1))
			if l.Err() != nil {
				t.Fatalf("err before: %v", l.Err())
			}
			for point, err := range test.fail {
				s.fail(point, err)
			}
			first := l.Append(t.Context(), served(2))
			for _, err := range test.fail {
				if errors.Is(err, broken) {
					refused(t, first, broken)
				}
			}
			if err := l.Append(t.Context(), served(3)); !errors.Is(err, audit.ErrUnwritable) || l.Err() == nil {
				t.Fatalf("later append: got %v, Err %v, want the log to refuse everything", err, l.Err())
			}
			if syncs := s.count(audit.FaultSync); syncs > 2 {
				t.Errorf("got %d syncs: a failed one was tried again", syncs)
			}
			if got := paths(t, l, audit.Query{}); len(got) != 1 {
				t.Errorf("query: got %v, want what was durable before", got)
			}
			closeLog(t, l)
			l = open(t, audit.Config{Dir: dir})
			write(t, l, served(4))
			if got := paths(t, l, audit.Query{}); got[0] != "secret/data/4" || got[len(got)-1] != "secret/data/1" {
				t.Errorf("after opening it again: got %v, want 1 first and 4 last", got)
			}
		})
	}
}

func TestNoRoom(t *testing.T) {
	s, dir := newSeam(), t.TempDir()
	l := open(t, audit.Config{Dir: dir, Fault: s.fault})
	writeN(t, l, 2)
	s.fail(audit.FaultWrite, unix.ENOSPC)
	err := l.Append(t.Context(), served(8), served(9))
	refused(t, err, audit.ErrNoRoom)
	refused(t, l.Err(), unix.ENOSPC)
	sound(t, dir)
	write(t, l, served(2))
	if l.Err() != nil {
		t.Errorf("err once there is room: %v", l.Err())
	}
	if got := paths(t, l, audit.Query{}); len(got) != 3 || got[0] != served(2).Path {
		t.Errorf("got %v, want the records that were taken", got)
	}
	closeLog(t, l)
	if r := sound(t, dir); r.Records != 3 {
		t.Errorf("verify: got %d records, want 3", r.Records)
	}
}

func TestNoRoomForANewSegment(t *testing.T) {
	s, dir := newSeam(), t.TempDir()
	l := open(t, audit.Config{Dir: dir, Fault: s.fault, SegmentBytes: 1})
	s.fail(audit.FaultCreate, unix.ENOSPC)
	writeN(t, l, 3)
	closeLog(t, l)
	if r := sound(t, dir); r.Records != 3 || r.Segments != 2 {
		t.Errorf("verify: got %d records in %d segments, want 3 in 2: the first segment is used on while no other can be made", r.Records, r.Segments)
	}
}

// TestWhatEndsSomethingGoesFirst lets a batch find no room in which a revocation alone would fit.
func TestWhatEndsSomethingGoesFirst(t *testing.T) {
	s, dir := newSeam(), t.TempDir()
	l := open(t, audit.Config{Dir: dir, Fault: s.fault})
	arrived, proceed := s.stop(audit.FaultSync)
	defer proceed()
	first, ordinary, revoke := make(chan error, 1), make(chan error, 1), make(chan error, 1)
	go func() { first <- l.Append(context.Background(), served(1)) }()
	<-arrived
	go func() { ordinary <- l.Append(context.Background(), served(2)) }()
	go func() {
		revoke <- l.Append(context.Background(), &audit.Record{Path: "sys/leases/revoke", Essential: true})
	}()
	until(t, "both queue", func() bool { return l.Waiting() == 2 })
	s.fail(audit.FaultWrite, unix.ENOSPC)
	proceed()
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	refused(t, <-ordinary, audit.ErrNoRoom)
	if err := <-revoke; err != nil {
		t.Errorf("revocation: %v", err)
	}
	if got := fmt.Sprint(paths(t, l, audit.Query{})); got != "[sys/leases/revoke secret/data/1]" {
		t.Errorf("got %v", got)
	}
}

func TestReserve(t *testing.T) {
	dir := t.TempDir()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	free := int64(st.Bavail) * st.Bsize
	event := &audit.Record{Stage: audit.StageEvent, Status: audit.OK, Op: "revoke"}
	revoke := &audit.Record{Stage: audit.StageRequest, Status: audit.Begun, Op: "update", Path: "sys/leases/revoke", Essential: true}
	denied := &audit.Record{Stage: audit.StageResponse, Status: audit.Denied, Op: "read", Path: "secret/data/x"}
	odd := &audit.Record{Stage: audit.StageResponse, Status: audit.Refused, Path: "\"secret/../x\""}
	tests := []struct {
		name    string
		reserve int64
		records []*audit.Record
		taken   bool
	}{
		{"above the reserve: an ordinary record", free / 4, []*audit.Record{served(1)}, true},
		{"in the first half of it: an ordinary record", free + free/2, []*audit.Record{served(1)}, false},
		{"in the first half of it: a denial", free + free/2, []*audit.Record{denied}, true},
		{"in the first half of it: a refusal", free + free/2, []*audit.Record{odd}, true},
		{"in the first half of it: an event", free + free/2, []*audit.Record{event}, true},
		{"in the second half of it: a denial", 4 * free, []*audit.Record{denied}, false},
		{"in the second half of it: an event", 4 * free, []*audit.Record{event}, true},
		{"in the second half of it: a request to revoke", 4 * free, []*audit.Record{revoke}, true},
		{"in the second half of it: an event and an ordinary record", 4 * free, []*audit.Record{event, served(1)}, false},
		{"in the second half of it: an ordinary record and an event", 4 * free, []*audit.Record{served(1), event}, false},
		{"without a reserve: an ordinary record", -1, []*audit.Record{served(1)}, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := open(t, audit.Config{Dir: t.TempDir(), ReserveBytes: test.reserve})
			err := l.Append(t.Context(), test.records...)
			if test.taken && err != nil {
				t.Errorf("append: %v", err)
			}
			if !test.taken {
				refused(t, err, audit.ErrNoRoom)
			}
			if low := test.reserve > free; (l.Err() != nil) != low {
				t.Errorf("err: got %v, want one: %v", l.Err(), low)
			}
		})
	}
}

// TestMeddling changes the file under an open log.
func TestMeddling(t *testing.T) {
	tests := []struct {
		name   string
		meddle func(dir, file string) error
	}{
		{"the file is deleted", func(_, file string) error { return os.Remove(file) }},
		{"the directory is moved away", func(dir, _ string) error { return os.Rename(dir, dir+".gone") }},
		{"the file is cut to nothing", func(_, file string) error { return os.Truncate(file, 0) }},
		{"the last byte is cut off", func(_, file string) error { return cut(file, -1) }},
		{"a byte is put behind it", func(_, file string) error { return cut(file, 1) }},
		{"the file is replaced by a copy of itself", func(_, file string) error {
			b, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			if err := os.WriteFile(file+".copy", b, 0o600); err != nil {
				return err
			}
			return os.Rename(file+".copy", file)
		}},
	}
	for _, test := range tests {
		for when, segmentBytes := range map[string]int64{"": 0, " before a new segment is made": 1} {
			t.Run(test.name+when, func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "audit")
				l := open(t, audit.Config{Dir: dir, SegmentBytes: segmentBytes})
				writeN(t, l, 3)
				files := segments(t, dir)
				if err := test.meddle(dir, files[len(files)-1]); err != nil {
					t.Fatal(err)
				}
				if err := l.Append(t.Context(), served(3)); !errors.Is(err, audit.ErrUnwritable) {
					t.Fatalf("append: got %v, want ErrUnwritable", err)
				}
				if l.Err() == nil {
					t.Error("err: got nil")
				}
			})
		}
		t.Run(test.name+" while a batch is being written", func(t *testing.T) {
			s, dir := newSeam(), filepath.Join(t.TempDir(), "audit")
			l := open(t, audit.Config{Dir: dir, Fault: s.fault})
			writeN(t, l, 3)
			arrived, proceed := s.stop(audit.FaultSync)
			defer proceed()
			got := make(chan error, 1)
			go func() { got <- l.Append(context.Background(), served(3)) }()
			<-arrived
			if err := test.meddle(dir, segments(t, dir)[0]); err != nil {
				t.Fatal(err)
			}
			proceed()
			if err := <-got; !errors.Is(err, audit.ErrUnwritable) {
				t.Fatalf("append: got %v, want ErrUnwritable", err)
			}
		})
		t.Run(test.name+" while nothing is appended", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "audit")
				l := open(t, audit.Config{Dir: dir})
				if err := test.meddle(dir, segments(t, dir)[0]); err != nil {
					t.Fatal(err)
				}
				<-time.After(1100 * time.Millisecond)
				synctest.Wait()
				if l.Err() == nil {
					t.Error("err: got nil after a second")
				}
				closeLog(t, l)
			})
		})
	}
}

// cut makes file longer or shorter by n bytes.
func cut(file string, n int64) error {
	st, err := os.Stat(file)
	if err != nil {
		return err
	}
	return os.Truncate(file, st.Size()+n)
}

func TestOneProcessOnly(t *testing.T) {
	dir := t.TempDir()
	l := open(t, audit.Config{Dir: dir})
	_, err := audit.Open(audit.Config{Dir: dir})
	if !errors.Is(err, audit.ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Fatalf("second open: got %v, want ErrLocked and the directory", err)
	}
	closeLog(t, l)
	l = open(t, audit.Config{Dir: dir})
	write(t, l, served(0))
}

func TestClose(t *testing.T) {
	s := newSeam()
	l := open(t, audit.Config{Dir: t.TempDir(), Fault: s.fault})
	arrived, proceed := s.stop(audit.FaultSync)
	defer proceed()
	var kept atomic.Int32
	var wg sync.WaitGroup
	for i := range 5 {
		wg.Go(func() {
			if err := l.Append(context.Background(), served(i)); err == nil {
				kept.Add(1)
			}
		})
		if i == 0 {
			<-arrived
		}
	}
	until(t, "the others queue", func() bool { return l.Waiting() == 4 })
	closed := make(chan error, 1)
	go func() { closed <- l.Close() }()
	until(t, "closing", func() bool { return errors.Is(l.Err(), audit.ErrClosed) })
	refused(t, l.Append(t.Context(), served(9)), audit.ErrClosed)
	proceed()
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if kept.Load() != 5 {
		t.Errorf("%d of 5 appends that were begun before Close were kept", kept.Load())
	}
	if err := l.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
	if err := l.Query(t.Context(), audit.Query{}, nil); !errors.Is(err, audit.ErrClosed) {
		t.Errorf("query: got %v, want ErrClosed", err)
	}
}
