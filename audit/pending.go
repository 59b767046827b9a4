package audit

import (
	"context"
	"fmt"
	"time"
)

// pending is one call of Append on its way to the disk.
type pending struct {
	ctx   context.Context
	tails []byte // of the records, one behind the other: all of their JSON that follows the sequence number
	ends  []int  // where each tail ends
	times []int64
	class class // the least urgent of its records decides
	first uint64
	done  chan error // takes one outcome
}

func (l *Log) pending(ctx context.Context) *pending {
	p, ok := l.pool.Get().(*pending)
	if !ok {
		p = &pending{done: make(chan error, 1)}
	}
	p.ctx = ctx
	p.tails, p.ends, p.times, p.class = p.tails[:0], p.ends[:0], p.times[:0], ending
	return p
}

// reuse gives p back once its outcome was taken.
func (l *Log) reuse(p *pending) {
	p.ctx = nil
	if cap(p.tails) <= 64<<10 {
		l.pool.Put(p)
	}
}

// encode fills p from records, and sets in them what Append promises.
func (p *pending) encode(records []*Record, node string) error {
	for _, r := range records {
		r.V = Schema
		if r.Time.IsZero() {
			r.Time = time.Now()
		}
		if r.Node == "" {
			r.Node = node
		}
		from := len(p.tails)
		var err error
		if p.tails, err = appendTail(p.tails, r); err != nil {
			return err
		}
		if n := len(recordHead) + 20 + len(p.tails) - from; n > MaxRecordBytes {
			return fmt.Errorf("audit record: %d bytes are more than %d", n, MaxRecordBytes)
		}
		p.ends = append(p.ends, len(p.tails))
		p.times = append(p.times, nanos(r.Time))
		p.class = min(p.class, r.class())
	}
	return nil
}

// frameBytes is at most how many bytes the frames of p take.
func (p *pending) frameBytes() int64 {
	return int64(len(p.tails) + len(p.ends)*(frameExtra+len(recordHead)+20))
}
