package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/bailiff-secrets/bailiff/broker"
)

const (
	maxGroup = 512 // operations that share a transaction
	lanes    = 2   // transactions at a time: one is filled while the other is committed
	attempts = 8   // at a transaction that the server could not do

	nodeBits = 10 // behind the microseconds of a Seq
)

// op is one operation on a lease that waits to be written.
type op struct {
	lease *broker.Lease
	data  []byte         // sealed; of an insert
	from  []broker.State // of a move
	isNew bool           // it is an insert

	claims string // of the lease, as text

	ctx   context.Context
	taken atomic.Bool   // by a lane, or by a caller that no longer waits
	done  chan struct{} // closed when err and seq are set
	seq   int64
	wrote bool
	err   error
}

// writer writes groups of operations.
type writer struct {
	db  *DB
	ops chan *op

	mu      sync.Mutex // guards lastSeq
	lastSeq int64

	commits atomic.Int64
	writes  atomic.Int64
	ended   sync.WaitGroup
}

func newWriter(db *DB, lastSeq int64) *writer {
	node := rand.Int64N(1 << nodeBits)
	w := &writer{db: db, ops: make(chan *op, maxGroup), lastSeq: lastSeq>>nodeBits<<nodeBits | node}
	for range lanes {
		w.ended.Go(w.lane)
	}
	return w
}

// Writes counts the operations on leases that are durable since Open, and the commits that they shared.
func (db *DB) Writes() (commits, operations int64) {
	return db.writer.commits.Load(), db.writer.writes.Load()
}

// write has o done in a group and returns when it is durable or was not done. When its context ends before it was begun,
// nothing is done and the context's error returned; once begun, it is waited for, so that the answer is always the truth.
func (w *writer) write(o *op) error {
	o.done = make(chan struct{})
	select {
	case w.ops <- o:
	case <-o.ctx.Done():
		return o.ctx.Err()
	}
	select {
	case <-o.done:
	case <-o.ctx.Done():
		if o.taken.CompareAndSwap(false, true) {
			return o.ctx.Err()
		}
		<-o.done
	}
	return o.err
}

// stop ends the lanes when everything that was sent is answered. Nobody may send any more.
func (w *writer) stop() {
	close(w.ops)
	w.ended.Wait()
}

// lane writes group after group until stop. Two operations on one lease never stand in one group: the second waits.
func (w *writer) lane() {
	var group, held []*op
	ids := map[string]bool{}
	for {
		group = group[:0]
		held = w.take(held, &group, ids)
		if len(group) == 0 {
			o, ok := <-w.ops
			if !ok {
				return
			}
			held = w.take([]*op{o}, &group, ids)
		}
		for len(group) < maxGroup && len(held) == 0 {
			o := w.next()
			if o == nil {
				break
			}
			held = w.take([]*op{o}, &group, ids)
		}
		w.do(group, 0)
		w.finish(group)
		clear(ids)
		clear(group)
	}
}

// next is an operation that waits, or nil. It lets those run first that were just answered and may come again.
func (w *writer) next() *op {
	for range 2 {
		select {
		case o := <-w.ops: // nil where it is closed
			return o
		default:
			runtime.Gosched()
		}
	}
	return nil
}

// take puts those into the group whose callers still wait and whose lease isn't in it yet, and gives the rest back.
func (w *writer) take(ops []*op, group *[]*op, ids map[string]bool) (rest []*op) {
	for _, o := range ops {
		switch {
		case ids[o.lease.ID]:
			rest = append(rest, o)
		case o.taken.CompareAndSwap(false, true):
			ids[o.lease.ID] = true
			*group = append(*group, o)
		}
	}
	return rest
}

// finish tells the callers.
func (w *writer) finish(group []*op) {
	for _, o := range group {
		close(o.done)
	}
}

// do writes a group and sets the result of each.
func (w *writer) do(group []*op, attempt int) {
	if len(group) == 0 {
		return
	}
	err := w.send(group)
	switch {
	case err == nil:
		w.settle(group, attempt)
	case attempt < attempts && (undone(err) || stateOf(err) == uniqueViolation && strings.Contains(err.Error(), "leases_pkey")):
		pause(context.Background(), attempt)
		w.do(group, attempt+1)
	case stateOf(err) != "" && !lost(err) && len(group) > 1: // one of them is to blame
		half := len(group) / 2
		w.do(slices.Clone(group[:half]), attempt)
		w.do(slices.Clone(group[half:]), attempt)
	default:
		err = w.db.said(err)
		for _, o := range group {
			o.err = err
		}
	}
}

// settle says which of a committed group were written and why the others weren't.
func (w *writer) settle(group []*op, attempt int) {
	var rest []*op
	var ids []string
	wrote := int64(0)
	for _, o := range group {
		if o.wrote {
			wrote++
			continue
		}
		rest, ids = append(rest, o), append(ids, o.lease.ID)
	}
	if wrote > 0 {
		w.commits.Add(1)
		w.writes.Add(wrote)
	}
	if len(rest) == 0 {
		return
	}
	there, err := w.there(ids)
	var again []*op
	for _, o := range rest {
		switch {
		case err != nil:
			o.err = err
		case !o.isNew && there[o.lease.ID]:
			o.err = broker.ErrStale
		case !o.isNew:
			o.err = broker.ErrNoLease
		case there[o.lease.ID]:
			o.err = ErrExists
		default:
			again = append(again, o)
		}
	}
	if len(again) > 0 {
		w.insertAgain(again, attempt)
	}
}

// insertAgain is for leases that are not there, and were not inserted: the clocks are apart, or the Seq is not above what
// a revocation of many is meant for.
func (w *writer) insertAgain(group []*op, attempt int) {
	ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
	defer cancel()
	skew, err := w.db.skew(ctx)
	if err == nil && skew.Abs() > maxSkew {
		err = fmt.Errorf("%w (by %s)", ErrSkew, skew.Round(time.Millisecond))
	}
	var upTo int64
	if err == nil {
		err = w.db.pool.QueryRow(ctx, "SELECT coalesce(max(up_to), 0) FROM revocations").Scan(&upTo)
	}
	if err == nil && attempt >= attempts {
		err = errors.New("the lease could not be inserted")
	}
	if err != nil {
		for _, o := range group {
			o.err = err
		}
		return
	}
	w.above(upTo)
	w.do(group, attempt+1)
}

// there finds which leases exist.
func (w *writer) there(ids []string) (map[string]bool, error) {
	found := map[string]bool{}
	err := w.db.readNow(context.Background(), func(ctx context.Context, conn *pgxpool.Conn) error {
		clear(found)
		rows, err := conn.Query(ctx, "SELECT id FROM leases WHERE id = ANY($1)", ids)
		if err != nil {
			return err
		}
		var id string
		_, err = pgx.ForEachRow(rows, []any{&id}, func() error { found[id] = true; return nil })
		return err
	})
	return found, err
}

// send writes a group in one transaction and one round trip, and notes which operations changed something.
func (w *writer) send(group []*op) error {
	ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
	conn, err := w.db.pool.Acquire(ctx)
	cancel()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	defer conn.Release()
	ctx, cancel = context.WithTimeout(context.Background(), writeTimeout)
	defer cancel()
	// In one order, so that two transactions don't wait for each other.
	slices.SortFunc(group, func(a, b *op) int { return strings.Compare(a.lease.ID, b.lease.ID) })
	byID := make(map[string]*op, len(group))
	var inserts, moves []*op
	for _, o := range group {
		o.wrote, o.err = false, nil
		byID[o.lease.ID] = o
		if o.isNew {
			inserts = append(inserts, o)
		} else {
			moves = append(moves, o)
		}
	}
	note := func(rows pgx.Rows) error {
		var id string
		_, err := pgx.ForEachRow(rows, []any{&id}, func() error { byID[id].wrote = true; return nil })
		return err
	}
	batch := &pgx.Batch{}
	if len(inserts) > 0 {
		w.number(inserts)
		batch.Queue(addLeases, append(insertArgs(inserts), w.db.now().UnixMilli(), maxSkew.Milliseconds())...).Query(note)
	}
	if digests, tokens := claimRows(group); len(digests) > 0 {
		batch.Queue(addClaims, digests, tokens)
	}
	if len(moves) > 0 {
		batch.Queue(moveLeases, moveArgs(moves)...).Query(note)
	}
	return conn.SendBatch(ctx, batch).Close()
}

// number gives each a Seq: this node's clock, or one microsecond more than the last, and the node's bits.
func (w *writer) number(group []*op) {
	w.mu.Lock()
	defer w.mu.Unlock()
	node := w.lastSeq & (1<<nodeBits - 1)
	for _, o := range group {
		w.lastSeq = max(w.lastSeq+1<<nodeBits, w.db.now().UnixMicro()<<nodeBits|node)
		o.seq = w.lastSeq
	}
}

// above makes the next Seq one that is above seq.
func (w *writer) above(seq int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	node := w.lastSeq & (1<<nodeBits - 1)
	w.lastSeq = max(w.lastSeq, (seq>>nodeBits)<<nodeBits|node)
}
