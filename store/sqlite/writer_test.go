package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/store/sqlite"
)

// faults answers at the points of the writer. Where hold is set, the writer waits at that point.
type faults struct {
	mu     sync.Mutex // guards all below
	errs   map[string]error
	hold   string
	at     chan struct{} // the writer has come to hold
	resume chan struct{} // closed: it goes on
}

func (f *faults) point(point string) error {
	f.mu.Lock()
	err, held := f.errs[point], f.hold == point
	if held {
		f.hold = ""
	}
	at, resume := f.at, f.resume
	f.mu.Unlock()
	if held {
		close(at)
		<-resume
	}
	return err
}

// set answers err at a point from now on; nil: no more.
func (f *faults) set(point string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.errs = map[string]error{point: err}
}

// block makes the writer wait when it next comes to a point. at is closed when it is there.
func (f *faults) block(point string) (at <-chan struct{}, resume func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hold, f.at, f.resume = point, make(chan struct{}), make(chan struct{})
	return f.at, sync.OnceFunc(func() { close(f.resume) })
}

// openFaulty opens a store without sealer that the test can disturb.
func openFaulty(t *testing.T) (*sqlite.DB, *faults) {
	t.Helper()
	f := &faults{}
	return openConfig(t, sqlite.Config{Path: filepath.Join(t.TempDir(), "bailiff.db"), Fault: f.point}), f
}

func openConfig(t *testing.T, c sqlite.Config) *sqlite.DB {
	t.Helper()
	db, err := sqlite.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	return db
}

func lease(id string) *broker.Lease { return &broker.Lease{ID: id, State: broker.Pending} }

func insert(t *testing.T, db *sqlite.DB, id string) {
	t.Helper()
	if err := db.Insert(t.Context(), lease(id)); err != nil {
		t.Fatal(err)
	}
}

func wantThere(t *testing.T, db *sqlite.DB, id string, want bool) {
	t.Helper()
	_, err := db.Lease(t.Context(), id)
	if want && err != nil {
		t.Errorf("lease %s: %v", id, err)
	}
	if !want && !errors.Is(err, broker.ErrNoLease) {
		t.Errorf("lease %s: got %v, want ErrNoLease", id, err)
	}
}

// waitFor waits until a condition holds.
func waitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// queue starts n inserts while the writer is held, and gives their errors when they are answered.
func queue(t *testing.T, db *sqlite.DB, n int) (errs func() []error) {
	t.Helper()
	before := sqlite.Queued(db)
	all := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { all[i] = db.Insert(t.Context(), lease(fmt.Sprint("queued", i))) })
	}
	waitFor(t, "the inserts to queue", func() bool { return sqlite.Queued(db) == before+n })
	return func() []error { wg.Wait(); return all }
}

func TestWhatWaitsSharesOneCommit(t *testing.T) {
	db, f := openFaulty(t)
	at, resume := f.block(sqlite.PointCommit)
	defer resume()
	first := make(chan error, 1)
	go func() { first <- db.Insert(t.Context(), lease("first")) }()
	<-at
	errs := queue(t, db, sqlite.MaxGroup)
	commits, operations := db.Writes()
	if commits != 0 || operations != 0 {
		t.Errorf("got %d commits of %d operations before the first commit", commits, operations)
	}
	wantThere(t, db, "first", false)
	resume()
	if err := errors.Join(append(errs(), <-first)...); err != nil {
		t.Error(err)
	}
	commits, operations = db.Writes()
	if operations != sqlite.MaxGroup+1 {
		t.Errorf("got %d operations, want %d", operations, sqlite.MaxGroup+1)
	}
	// One commit was the first's. How many the others take depends on how many fit into the time of a group.
	if commits < 2 || commits > sqlite.MaxGroup/2 {
		t.Errorf("got %d commits, want 2, or some more on a slow machine", commits)
	}
}

func TestLoneWriterDoesNotWait(t *testing.T) {
	db, _ := openFaulty(t)
	for i := range int64(5) {
		insert(t, db, fmt.Sprint("l", i))
		if commits, operations := db.Writes(); commits != i+1 || operations != i+1 {
			t.Errorf("got %d commits of %d operations, want %d of each", commits, operations, i+1)
		}
	}
}

// sqliteError is an error as SQLite would make it.
type sqliteError int

func (e sqliteError) Error() string { return fmt.Sprintf("disk I/O error (%d)", int(e)) }

func (e sqliteError) Code() int { return int(e) }

func TestErrorAtEachPointReachesWhoWaits(t *testing.T) {
	for _, tt := range []struct {
		point string
		there bool // although the caller was told of an error
	}{
		{sqlite.PointBegin, false},
		{sqlite.PointWrite, false},
		{sqlite.PointCommit, false},
		{sqlite.PointCommitted, true},
	} {
		t.Run(tt.point, func(t *testing.T) {
			db, f := openFaulty(t)
			insert(t, db, "before")
			boom := errors.New("boom")
			f.set(tt.point, boom)
			l := lease("during")
			if err := db.Insert(t.Context(), l); !errors.Is(err, boom) || l.Seq != 0 {
				t.Errorf("got %v and seq %d, want %v and none", err, l.Seq, boom)
			}
			f.set(tt.point, nil)
			insert(t, db, "after")
			wantThere(t, db, "before", true)
			wantThere(t, db, "during", tt.there)
			wantThere(t, db, "after", true)
			if err := db.Err(); err != nil {
				t.Errorf("the store is broken: %v", err)
			}
		})
	}
}

func TestFailedCommitReachesItsWholeGroupAndNobodyElse(t *testing.T) {
	db, f := openFaulty(t)
	at, resume := f.block(sqlite.PointCommit)
	defer resume()
	first := make(chan error, 1)
	go func() { first <- db.Insert(t.Context(), lease("first")) }()
	<-at
	errs := queue(t, db, 8)
	boom := errors.New("boom")
	f.set(sqlite.PointCommit, boom) // for the group after the one that is held
	resume()
	if err := <-first; err != nil {
		t.Errorf("the group before: %v", err)
	}
	for i, err := range errs() {
		if !errors.Is(err, boom) {
			t.Errorf("insert %d: got %v, want %v", i, err, boom)
		}
		wantThere(t, db, fmt.Sprint("queued", i), false)
	}
	f.set(sqlite.PointCommit, nil)
	insert(t, db, "queued0")
	wantThere(t, db, "first", true)
}

func TestIOErrorEndsWriting(t *testing.T) {
	for name, code := range map[string]sqliteError{
		"I/O error": 10, "I/O error at fsync": 10 | 4<<8, "damage": 11, "damage in an index": 11 | 3<<8,
	} {
		for _, point := range []string{sqlite.PointBegin, sqlite.PointWrite, sqlite.PointCommit} {
			t.Run(name+"/"+point, func(t *testing.T) {
				place := t.TempDir()
				f := &faults{}
				db := openConfig(t, sqlite.Config{Path: filepath.Join(place, "bailiff.db"), Fault: f.point})
				insert(t, db, "before")
				f.set(point, code)
				if err := db.Insert(t.Context(), lease("during")); !errors.Is(err, code) {
					t.Errorf("got %v, want %v", err, code)
				}
				f.set(point, nil)
				for range 2 {
					err := db.Insert(t.Context(), lease("after"))
					if !errors.Is(err, sqlite.ErrBroken) || !strings.Contains(err.Error(), code.Error()) {
						t.Errorf("afterwards: got %v, want ErrBroken with its cause", err)
					}
				}
				if !errors.Is(db.Err(), sqlite.ErrBroken) {
					t.Errorf("Err: got %v, want ErrBroken", db.Err())
				}
				wantThere(t, db, "before", true)
				if err := db.Close(); err != nil {
					t.Error(err)
				}
				again := openConfig(t, sqlite.Config{Path: filepath.Join(place, "bailiff.db")})
				wantThere(t, again, "before", true)
				wantThere(t, again, "during", false)
				insert(t, again, "after")
			})
		}
	}
}

func TestFullDiskIsNotTheEnd(t *testing.T) {
	db, _ := openFaulty(t)
	insert(t, db, "small")
	if err := sqlite.LimitPages(t.Context(), db, 40); err != nil {
		t.Fatal(err)
	}
	big := object.Record{Kind: object.KindPolicy, Name: "big", Body: make([]byte, 1<<20)}
	changes := []object.Change{{Record: object.Record{Kind: object.KindRole, Name: "before the big one"}}, {Record: big}}
	if err := db.Apply(t.Context(), changes); !errors.Is(err, sqlite.ErrFull) {
		t.Errorf("got %v, want ErrFull", err)
	}
	if all, err := db.Objects(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("got %d objects, %v, want none", len(all), err)
	}
	if err := db.Err(); err != nil {
		t.Errorf("the store is broken: %v", err)
	}
	small := lease("small")
	small.Version, small.State = 1, broker.Revoked // what ends credentials must still go on
	if err := db.Move(t.Context(), small, broker.Pending); err != nil {
		t.Errorf("moving a lease on a full disk: %v", err)
	}
	if err := sqlite.LimitPages(t.Context(), db, 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := db.Apply(t.Context(), changes); err != nil {
		t.Errorf("when there is space again: %v", err)
	}
}

func TestFullDiskInAGroupReachesThoseThatNeededSpace(t *testing.T) {
	db, f := openFaulty(t)
	if err := sqlite.LimitPages(t.Context(), db, 40); err != nil {
		t.Fatal(err)
	}
	at, resume := f.block(sqlite.PointCommit)
	defer resume()
	first := make(chan error, 1)
	go func() { first <- db.Insert(t.Context(), lease("first")) }()
	<-at
	small := queue(t, db, 4)
	bigErr := make(chan error, 1)
	go func() {
		big := object.Record{Kind: object.KindPolicy, Name: "big", Body: make([]byte, 1<<20)}
		bigErr <- db.Apply(t.Context(), []object.Change{{Record: big}})
	}()
	waitFor(t, "the big one to queue", func() bool { return sqlite.Queued(db) == 5 })
	resume()
	if err := <-bigErr; !errors.Is(err, sqlite.ErrFull) {
		t.Errorf("the big one: got %v, want ErrFull", err)
	}
	if err := <-first; err != nil {
		t.Error(err)
	}
	for i, err := range small() { // SQLite may give up the whole transaction: then all must hear of it
		if err != nil && !errors.Is(err, sqlite.ErrFull) {
			t.Errorf("got %v, want nil or ErrFull", err)
		}
		wantThere(t, db, fmt.Sprint("queued", i), err == nil)
	}
}

func TestLostTransactionReachesAllThatWereInIt(t *testing.T) {
	db, f := openFaulty(t)
	at, resume := f.block(sqlite.PointCommit)
	defer resume()
	first := make(chan error, 1)
	go func() { first <- db.Insert(t.Context(), lease("first")) }()
	<-at
	before := queue(t, db, 3)
	lost := make(chan error, 1)
	go func() { lost <- sqlite.Execute(t.Context(), db, "INSERT OR ROLLBACK INTO leases (seq) VALUES (1)") }()
	waitFor(t, "it to queue", func() bool { return sqlite.Queued(db) == 4 })
	resume()
	if err := errors.Join(<-first); err != nil {
		t.Error(err)
	}
	if err := <-lost; err == nil {
		t.Error("the statement succeeded")
	}
	for i, err := range before() {
		if err == nil {
			t.Errorf("insert %d was answered as done, in a transaction that was rolled back", i)
		}
		wantThere(t, db, fmt.Sprint("queued", i), false)
	}
	insert(t, db, "queued0")
}

// asked is a context that tells when somebody begins to wait for it.
type asked struct {
	context.Context
	once chan struct{}
}

func (a asked) Done() <-chan struct{} {
	select {
	case a.once <- struct{}{}:
	default:
	}
	return a.Context.Done()
}

func TestCloseWaitsForWhatWasBegun(t *testing.T) {
	db, f := openFaulty(t)
	at, resume := f.block(sqlite.PointCommit)
	defer resume()
	first := make(chan error, 1)
	go func() { first <- db.Insert(t.Context(), lease("first")) }()
	<-at
	errs := queue(t, db, sqlite.MaxGroup) // no more fit
	last := make(chan error, 1)
	begun := asked{Context: t.Context(), once: make(chan struct{}, 9)}
	go func() { last <- db.Insert(begun, lease("last")) }()
	<-begun.once
	closed := make(chan error, 1)
	go func() { closed <- db.Close() }()
	waitFor(t, "Close to refuse others", func() bool {
		_, err := db.Lease(t.Context(), "none")
		return errors.Is(err, sqlite.ErrClosed)
	})
	select {
	case err := <-closed:
		t.Errorf("Close returned (%v) before the writes were answered", err)
	default:
	}
	resume()
	if err := errors.Join(append(errs(), <-first, <-last, <-closed)...); err != nil {
		t.Error(err)
	}
}

func TestCloseWaitsForReads(t *testing.T) {
	db, _ := openFaulty(t)
	begun, resume := make(chan struct{}), make(chan struct{})
	rows, read, closed := 0, make(chan error, 1), make(chan error, 1)
	go func() {
		read <- sqlite.ReadRows(t.Context(), db, func() {
			if rows++; rows == 1 {
				close(begun)
				<-resume
			}
		})
	}()
	<-begun
	go func() { closed <- db.Close() }()
	waitFor(t, "Close to refuse others", func() bool { return errors.Is(db.Insert(t.Context(), lease("late")), sqlite.ErrClosed) })
	close(resume)
	if err := <-read; err != nil || rows != 5 {
		t.Errorf("the read: got %d rows, %v, want 5", rows, err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

func TestClosedStoreRefusesEverything(t *testing.T) {
	db, _ := openFaulty(t)
	insert(t, db, "x")
	for range 2 {
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	ctx := t.Context()
	for name, call := range map[string]func() error{
		"Insert":      func() error { return db.Insert(ctx, lease("y")) },
		"Move":        func() error { return db.Move(ctx, lease("x"), broker.Pending) },
		"Lease":       func() error { _, err := db.Lease(ctx, "x"); return err },
		"Due":         func() error { _, err := db.Due(ctx, time.Now(), 1); return err },
		"List":        func() error { _, err := db.List(ctx, broker.Filter{}); return err },
		"Counts":      func() error { _, _, err := db.Counts(ctx); return err },
		"Apply":       func() error { return db.Apply(ctx, []object.Change{{Record: object.Record{Kind: object.KindRole}}}) },
		"Objects":     func() error { _, err := db.Objects(ctx); return err },
		"Keys":        func() error { _, err := db.Keys(ctx); return err },
		"DeleteKey":   func() error { return db.DeleteKey(ctx, "p", "k") },
		"Meta":        func() error { _, _, err := db.Meta(ctx, "k"); return err },
		"PutMetaOnce": func() error { _, err := db.PutMetaOnce(ctx, "k", nil); return err },
	} {
		if err := call(); !errors.Is(err, sqlite.ErrClosed) {
			t.Errorf("%s: got %v, want ErrClosed", name, err)
		}
	}
}

func TestWriteThatIsGivenUpWhileItWaitsIsNotDone(t *testing.T) {
	db, f := openFaulty(t)
	at, resume := f.block(sqlite.PointCommit)
	defer resume()
	first := make(chan error, 1)
	ctx, cancelFirst := context.WithCancel(t.Context())
	defer cancelFirst()
	go func() { first <- db.Insert(ctx, lease("first")) }()
	<-at
	ctx2, cancel := context.WithCancel(t.Context())
	waiting := make(chan error, 1)
	go func() { waiting <- db.Insert(ctx2, lease("given up")) }()
	waitFor(t, "the insert to queue", func() bool { return sqlite.Queued(db) == 1 })
	cancel()
	if err := <-waiting; !errors.Is(err, context.Canceled) { // although the writer is held
		t.Errorf("got %v, want context.Canceled", err)
	}
	cancelFirst() // too late: it is being committed
	resume()
	if err := <-first; err != nil {
		t.Errorf("the write that was under way: %v", err)
	}
	insert(t, db, "behind")
	wantThere(t, db, "first", true)
	wantThere(t, db, "given up", false)
}
