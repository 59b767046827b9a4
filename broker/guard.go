package broker

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/object"
)

// Stop names what stopped an issue: Guard is "quota" or "rate", Scope is "role", "identity" or "mount", and Role is the path
// of the role that was asked for.
type Stop struct{ Guard, Scope, Role string }

// quotaRetry is when a client that has too many leases may try again.
const quotaRetry = 5 * time.Second

// quotaFresh is how long a count of leases is relied on where other brokers issue as well.
const quotaFresh = time.Second

// guarded is what a guard watches.
type guarded struct{ scope, name string }

func (g guarded) String() string { return g.scope + " " + g.name }

// guard is what is allowed to one of them.
type guard struct {
	guarded
	sel       Selector // of its leases
	maxLeases int
	rate      string
}

// guards keeps what has been used up. Nothing is kept, and nothing is looked up, for what has no limit.
type guards struct {
	mu      sync.Mutex
	paces   map[guarded]*pace
	quotas  map[guarded]*quota
	stopped map[Stop]uint64
}

// guardsOf lists the limits on an order.
func guardsOf(o *order) []guard {
	role := guarded{"role", o.role.Mount + o.role.Name}
	list := make([]guard, 0, 3)
	for _, g := range []guard{
		{role, Selector{Mount: o.role.Mount, Role: o.role.Name}, o.role.MaxLeases, o.role.IssueRate},
		{guarded{"identity", o.Caller.Name}, Selector{Identity: o.Caller.Name}, o.Caller.MaxLeases, o.Caller.IssueRate},
		{guarded{"mount", o.Mount.Path}, Selector{Mount: o.Mount.Path}, o.Mount.MaxLeases, o.Mount.IssueRate},
	} {
		if (g.maxLeases > 0 || g.rate != "") && !g.sel.Empty() {
			list = append(list, g)
		}
	}
	return list
}

// stop counts and says that a guard said no.
func (g *guards) stop(o *order, kind string, x guard, after time.Duration, msg string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped == nil {
		g.stopped = make(map[Stop]uint64)
	}
	if !o.ahead {
		g.stopped[Stop{kind, x.scope, o.role.Mount + o.role.Name}]++
	}
	return &gate.Error{Kind: gate.TooMany, After: after, Msg: msg}
}

// counts says how many issues each guard has stopped.
func (g *guards) counts() map[Stop]uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.stopped)
}

// pace is a token bucket that holds as many issues as may be made in one span of time.
type pace struct {
	text    string
	limiter *rate.Limiter
}

// pace takes one issue from each bucket that o has to do with, or from none.
func (b *Broker) pace(o *order) error {
	t := time.Now()
	var taken []*rate.Reservation
	for _, x := range guardsOf(o) {
		if x.rate == "" {
			continue
		}
		limiter, err := b.guards.limiter(x)
		if err != nil {
			return &gate.Error{Kind: gate.Internal, Msg: "the issue rate of " + x.String() + " can't be read", Err: err}
		}
		r := limiter.ReserveN(t, 1)
		if wait := r.DelayFrom(t); wait > 0 {
			for _, r := range append(taken, r) {
				r.CancelAt(t)
			}
			return b.guards.stop(o, "rate", x, wait, fmt.Sprintf("%s issues no more than %s", x, x.rate))
		}
		taken = append(taken, r)
	}
	return nil
}

// limiter finds or makes the bucket of x. One whose rate is declared anew begins full.
func (g *guards) limiter(x guard) (*rate.Limiter, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if p := g.paces[x.guarded]; p != nil && p.text == x.rate {
		return p.limiter, nil
	}
	n, every, err := object.ParseRate(x.rate)
	if err != nil {
		return nil, err
	}
	if g.paces == nil {
		g.paces = make(map[guarded]*pace)
	}
	p := &pace{x.rate, rate.NewLimiter(rate.Limit(float64(n)/every.Seconds()), n)}
	g.paces[x.guarded] = p
	return p.limiter, nil
}

// quota counts leases towards a limit without asking the store each time: room is how many may be made for certain, and
// only when it is used up are the open leases counted again. What is revoked meanwhile only makes room.
type quota struct {
	mu       sync.Mutex
	limit    int
	room     int
	inFlight int // reserved, and maybe not in the store yet
	counted  time.Time
}

// reserve takes a place for one more lease from each limit that o has to do with, or from none. What it returns is called
// when the lease is in the store, or will not be.
func (b *Broker) reserve(ctx context.Context, o *order) (inserted func(), err error) {
	return b.reserveOf(ctx, o, func(guard) bool { return true })
}

// reserveOf is reserve for some of the limits.
func (b *Broker) reserveOf(ctx context.Context, o *order, of func(guard) bool) (inserted func(), err error) {
	var taken []*quota
	inserted = func() {
		for _, q := range taken {
			q.inserted()
		}
	}
	for _, x := range guardsOf(o) {
		if x.maxLeases == 0 || !of(x) {
			continue
		}
		q := b.guards.quota(x.guarded)
		ok, err := q.take(x.maxLeases, !b.alone(), func() (int, error) { return b.openUpTo(ctx, x.sel, x.maxLeases) })
		if err == nil && !ok {
			err = b.guards.stop(o, "quota", x, quotaRetry,
				fmt.Sprintf("%s has as many live leases as it may: %d; revoke some, or wait until some have ended", x, x.maxLeases))
		}
		if err != nil {
			for _, q := range taken {
				q.giveBack()
			}
			return nil, err
		}
		taken = append(taken, q)
	}
	return inserted, nil
}

// openUpTo counts the leases that are not revoked, and need not count further than limit.
func (b *Broker) openUpTo(ctx context.Context, sel Selector, limit int) (int, error) {
	if b.counter == nil {
		return b.count(ctx, sel)
	}
	n, err := b.counter.Open(ctx, sel, limit)
	if err != nil {
		return 0, &gate.Error{Kind: gate.Unavailable, Msg: "leases can't be counted now", Err: err}
	}
	return n, nil
}

func (g *guards) quota(x guarded) *quota {
	g.mu.Lock()
	defer g.mu.Unlock()
	q := g.quotas[x]
	if q == nil {
		if g.quotas == nil {
			g.quotas = make(map[guarded]*quota)
		}
		q = new(quota)
		g.quotas[x] = q
	}
	return q
}

// take reserves one place. Where a count is made, what was in flight before it counts as well, though the store may know of
// it: it is better to refuse one too early than to let one too many in.
func (q *quota) take(limit int, shared bool, count func() (int, error)) (ok bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.room <= 0 || q.limit != limit || shared && time.Since(q.counted) > quotaFresh {
		n, err := count()
		if err != nil {
			return false, err
		}
		q.limit, q.room, q.counted = limit, limit-n-q.inFlight, time.Now()
	}
	if q.room <= 0 {
		return false, nil
	}
	q.room--
	q.inFlight++
	return true, nil
}

func (q *quota) inserted() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.inFlight--
}

// giveBack undoes take where no lease was made.
func (q *quota) giveBack() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.inFlight--
	q.room++
}
