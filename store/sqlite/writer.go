package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
)

// The limits of one group of operations that share a commit. A group ends sooner when nobody waits. On a disk that takes
// longer to commit than maxGroupTime, a group may take as long as its commits do, or little would be shared.
const (
	maxGroup      = 512
	maxGroupTime  = 2 * time.Millisecond
	slowGroupTime = 50 * time.Millisecond // at most, however slow the disk is
)

// op is one operation that waits to be written.
type op struct {
	ctx   context.Context
	run   func(*tx) error
	taken atomic.Bool   // by the writer, or by a caller that no longer waits
	done  chan struct{} // closed when err is set
	err   error
}

// writer is the one goroutine that writes.
type writer struct {
	db    *DB
	tx    tx
	fault func(string) error
	ops   chan *op
	ended chan struct{}
	last  time.Duration // of the last commit

	commits atomic.Int64
	writes  atomic.Int64
}

func newWriter(db *DB, conn *sql.Conn, lastSeq int64, fault func(string) error) *writer {
	if fault == nil {
		fault = func(string) error { return nil }
	}
	return &writer{
		db:    db,
		tx:    tx{conn: conn, stmts: map[string]*sql.Stmt{}, lastSeq: lastSeq},
		fault: fault,
		ops:   make(chan *op, maxGroup),
		ended: make(chan struct{}),
	}
}

// Writes counts what was written since Open: the operations that are durable, and the commits that they shared.
func (db *DB) Writes() (commits, operations int64) {
	return db.writer.commits.Load(), db.writer.writes.Load()
}

// write has run done in the next transaction and returns when it is durable or was not done. When ctx ends before it was
// begun, nothing is done and ctx's error returned; once begun, it is waited for, so that the answer is always the truth.
func (db *DB) write(ctx context.Context, run func(*tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := db.begin(); err != nil {
		return err
	}
	defer db.begun.Done()
	if err := db.Err(); err != nil {
		return err
	}
	o := &op{ctx: ctx, run: run, done: make(chan struct{})}
	select {
	case db.writer.ops <- o:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-o.done:
	case <-ctx.Done():
		if o.taken.CompareAndSwap(false, true) {
			return ctx.Err()
		}
		<-o.done
	}
	return o.err
}

// run writes group after group until stop.
func (w *writer) run() {
	defer close(w.ended)
	group := make([]*op, 0, maxGroup)
	for o := range w.ops {
		group = w.group(o, group[:0])
		clear(group)
	}
}

// stop ends run when everything that was sent is answered. Nobody may send any more.
func (w *writer) stop() {
	close(w.ops)
	<-w.ended
	w.tx.close()
}

// group writes o and what waits behind it in one transaction, and answers.
func (w *writer) group(o *op, group []*op) []*op {
	if err := w.begin(); err != nil {
		return finish(append(group, o), err)
	}
	start := time.Now()
	limit := max(maxGroupTime, min(w.last, slowGroupTime))
	for ; o != nil; o = w.next() {
		if !o.taken.CompareAndSwap(false, true) {
			continue // its caller is gone
		}
		group = append(group, o)
		if err := w.one(o); err != nil {
			w.rollback()
			return finish(group, err)
		}
		if len(group) == maxGroup || time.Since(start) >= limit {
			break
		}
	}
	if err := w.commit(group); err != nil {
		w.rollback()
		return finish(group, err)
	}
	return finish(group, nil)
}

// next is an operation that waits, or nil. It lets those run first that were just answered and may come again.
func (w *writer) next() *op {
	select {
	case o := <-w.ops:
		return o
	default:
	}
	runtime.Gosched()
	select {
	case o := <-w.ops:
		return o
	default:
		return nil
	}
}

// finish tells the callers. Who has an error of its own keeps it: nothing of that operation was done in any case.
func finish(group []*op, err error) []*op {
	for _, o := range group {
		if o.err == nil {
			o.err = err
		}
		close(o.done)
	}
	return group
}

func (w *writer) begin() error {
	if err := w.db.Err(); err != nil {
		return err
	}
	err := w.fault(PointBegin)
	if err == nil {
		_, err = w.tx.exec("BEGIN IMMEDIATE")
	}
	if err != nil {
		return fmt.Errorf("beginning a transaction: %w", w.db.note(err))
	}
	return nil
}

// one does o within a savepoint of its own. Its error is o's own; the one returned is of the whole transaction, which
// SQLite has rolled back or can't go on with.
func (w *writer) one(o *op) error {
	if _, err := w.tx.exec("SAVEPOINT op"); err != nil {
		return w.lost(err)
	}
	err := w.fault(PointWrite)
	if err == nil {
		err = o.run(&w.tx)
	}
	if err == nil {
		if _, err := w.tx.exec("RELEASE op"); err != nil {
			return w.lost(err)
		}
		return nil
	}
	o.err = w.db.note(err)
	if fatal(err) {
		return w.lost(err)
	}
	if _, rollback := w.tx.exec("ROLLBACK TO op"); rollback != nil {
		return w.lost(err)
	}
	if _, release := w.tx.exec("RELEASE op"); release != nil {
		return w.lost(release)
	}
	return nil
}

// lost is the error of those whose transaction was lost through another's operation.
func (w *writer) lost(err error) error {
	return fmt.Errorf("the transaction was rolled back: %w", w.db.note(err))
}

// commit makes the transaction durable. Where every operation failed there is nothing to make durable.
func (w *writer) commit(group []*op) error {
	done := int64(0)
	for _, o := range group {
		if o.err == nil {
			done++
		}
	}
	if done == 0 {
		w.rollback()
		return nil
	}
	start := time.Now()
	err := w.fault(PointCommit)
	if err == nil {
		_, err = w.tx.exec("COMMIT")
	}
	w.last = time.Since(start)
	if err != nil {
		return fmt.Errorf("committing: %w", w.db.note(err))
	}
	w.commits.Add(1)
	w.writes.Add(done)
	if err := w.fault(PointCommitted); err != nil {
		return fmt.Errorf("committing: %w", w.db.note(err))
	}
	return nil
}

// rollback ends the transaction. SQLite may have ended it already, which is as good.
func (w *writer) rollback() { _, _ = w.tx.exec("ROLLBACK") }

// tx is what an operation writes with. It is used by the writer alone.
type tx struct {
	conn    *sql.Conn
	stmts   map[string]*sql.Stmt
	lastSeq int64 // the highest that was given out
}

// exec runs one statement, which is prepared once, and returns how many rows it changed.
func (x *tx) exec(query string, args ...any) (int64, error) {
	s, err := x.stmt(query)
	if err != nil {
		return 0, err
	}
	r, err := s.ExecContext(context.Background(), args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// exists runs a query and reports whether it found a row.
func (x *tx) exists(query string, args ...any) (bool, error) {
	s, err := x.stmt(query)
	if err != nil {
		return false, err
	}
	var one int
	err = s.QueryRowContext(context.Background(), args...).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

func (x *tx) stmt(query string) (*sql.Stmt, error) {
	if s := x.stmts[query]; s != nil {
		return s, nil
	}
	s, err := x.conn.PrepareContext(context.Background(), query)
	if err != nil {
		return nil, err
	}
	x.stmts[query] = s
	return s, nil
}

// nextSeq is a sequence number that says when (microseconds since 1970) and is higher than all before.
func (x *tx) nextSeq() int64 {
	x.lastSeq = max(x.lastSeq+1, time.Now().UnixMicro())
	return x.lastSeq
}

// close gives the connection back. The pool is closed next, and says what is wrong.
func (x *tx) close() {
	for _, s := range x.stmts {
		_ = s.Close()
	}
	_ = x.conn.Close()
}

// lastSeq is the highest sequence number in the file, by the primary key.
func lastSeq(ctx context.Context, conn *sql.Conn) (seq int64, err error) {
	err = conn.QueryRowContext(ctx, "SELECT coalesce(max(seq), 0) FROM leases").Scan(&seq)
	return seq, err
}
