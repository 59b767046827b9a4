package broker

import (
	"context"
	"sync"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
)

// openMany holds the open revocations of many, which lookup and renew consult. The rows in the store are the truth; this is
// what this process has read of them, at most a second ago.
type openMany struct {
	store Revocations // nil: there are none
	ring  chan struct{}

	mu         sync.Mutex
	loaded     bool
	byID       map[string]*many
	byToken    map[string][]*many // those whose selector names a token
	byIdentity map[string][]*many // of the others, those whose selector names an identity
	others     []*many
}

// many is one open revocation. openMany.mu guards it.
type many struct {
	Revocation
	mine     bool          // this process expands and measures it
	moved    time.Time     // when its row was last seen to change
	sessions int64         // closed, and not written yet
	untried  int64         // believed to be without a first result
	left     int64         // believed to be open
	due      bool          // worth a look now
	nextLook time.Time     // when it is looked at all the same
	quiet    time.Time     // no look before it, however due: counting must not be all that is done
	wait     time.Duration // between looks
	look     look
	seen     chan struct{} // closed and replaced at each look
}

// look is what a count of a revocation's leases found.
type look struct {
	open, untried int64
	first         *Lease // one that failed; nil where none has
	tried         bool   // it was counted after all were marked, and each that is open has failed at least once
}

// takeOver is how long another broker's revocation may stand still before this one goes on with it.
const takeOver = 10 * time.Second

func newOpenMany(store Revocations) *openMany {
	return &openMany{
		store: store, ring: make(chan struct{}, 1), byID: make(map[string]*many),
		byToken: make(map[string][]*many), byIdentity: make(map[string][]*many),
	}
}

// wake makes the loop look now.
func (o *openMany) wake() {
	select {
	case o.ring <- struct{}{}:
	default:
	}
}

// add takes a revocation in, or what is new of one that is known.
func (o *openMany) add(r Revocation, mine bool) *many {
	o.mu.Lock()
	defer o.mu.Unlock()
	m := o.byID[r.ID]
	if m == nil {
		m = &many{Revocation: r, mine: mine, moved: now(), due: true, seen: make(chan struct{})}
		o.byID[r.ID] = m
		o.reindex()
		return m
	}
	if !m.mine && (m.Cursor != r.Cursor || m.Open != r.Open || m.Expanded != r.Expanded) {
		m.Revocation, m.moved = r, now()
	}
	return m
}

// reindex sorts the revocations by what they are found by. The caller holds o.mu.
func (o *openMany) reindex() {
	clear(o.byToken)
	clear(o.byIdentity)
	o.others = nil
	for _, m := range o.byID {
		switch {
		case m.Selector.Token != "":
			o.byToken[m.Selector.Token] = append(o.byToken[m.Selector.Token], m)
		case m.Selector.Identity != "":
			o.byIdentity[m.Selector.Identity] = append(o.byIdentity[m.Selector.Identity], m)
		default:
			o.others = append(o.others, m)
		}
	}
}

// drop forgets a revocation that is done, and tells those who wait for it.
func (o *openMany) drop(m *many) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.byID[m.ID] == m {
		delete(o.byID, m.ID)
		o.reindex()
	}
	close(m.seen)
	m.seen = make(chan struct{})
}

// refresh reads the rows: those of other brokers, and those that were open when this one started.
func (o *openMany) refresh(ctx context.Context, alone bool) error {
	if o.store == nil {
		return nil
	}
	rows, err := o.store.OpenRevocations(ctx, 0)
	if err != nil {
		return err
	}
	open := make(map[string]bool, len(rows))
	for _, r := range rows {
		open[r.ID] = true
		o.add(*r, alone)
	}
	o.mu.Lock()
	o.loaded = true
	var ended []*many
	for id, m := range o.byID {
		if !open[id] && !m.mine && m.sessions == 0 { // another broker has finished it
			ended = append(ended, m)
		}
	}
	o.mu.Unlock()
	for _, m := range ended {
		o.drop(m)
	}
	return nil
}

// covering is the oldest open revocation that l is meant by; nil where there is none.
func (o *openMany) covering(ctx context.Context, l *Lease, alone bool) (*Revocation, error) {
	o.mu.Lock()
	loaded := o.loaded || o.store == nil
	o.mu.Unlock()
	if !loaded {
		if err := o.refresh(ctx, alone); err != nil {
			return nil, &gate.Error{Kind: gate.Unavailable, Msg: "revocations can't be read now", Err: err}
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	var found *Revocation
	o.each(l, func(m *many) {
		if found == nil || m.CreatedAt.Before(found.CreatedAt) {
			r := m.Revocation
			found = &r
		}
	})
	return found, nil
}

// each calls f for every open revocation that l is meant by. The caller holds o.mu.
func (o *openMany) each(l *Lease, f func(*many)) {
	for _, list := range [][]*many{o.byToken[l.Token], o.byIdentity[l.Identity], o.others} {
		for _, m := range list {
			if l.Seq <= m.UpTo && m.Selector.Matches(l) {
				f(m)
			}
		}
	}
}

// told takes in how many sessions the end of l closes.
func (o *openMany) told(l *Lease, sessions int) {
	if sessions == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.each(l, func(m *many) { m.sessions += int64(sessions) })
}

// result takes in what a try to end l came to.
func (o *openMany) result(l *Lease, ended bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	ring := false
	o.each(l, func(m *many) {
		m.untried--
		if ended {
			m.left--
		}
		if m.Expanded && (!m.look.tried && m.untried <= 0 || ended && m.left <= 0) {
			m.due, ring = true, true
		}
	})
	if ring {
		o.wake()
	}
}

// state is a copy of a revocation, what the last look found, and a channel that is closed at the next.
func (o *openMany) state(m *many) (*Revocation, look, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	r := m.Revocation
	return &r, m.look, m.seen
}

// inHand lists the revocations that this process carries out and that are due, and those with sessions to write.
func (o *openMany) inHand(t time.Time) (due, told []*many) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, m := range o.byID {
		if !m.mine && t.Sub(m.moved) > takeOver && m.DoneAt.IsZero() {
			m.mine, m.due = true, true
		}
		switch {
		case m.mine && !m.quiet.After(t) && (m.due || !m.nextLook.After(t)):
			m.due = false
			due = append(due, m)
		case m.sessions > 0:
			told = append(told, m)
		}
	}
	return due, told
}

// next is how long nothing is in hand, as far as is known, and at most longest.
func (o *openMany) next(t time.Time, longest time.Duration) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, m := range o.byID {
		switch {
		case !m.mine:
		case m.due:
			longest = min(longest, m.quiet.Sub(t))
		case m.Expanded:
			longest = min(longest, m.nextLook.Sub(t))
		}
	}
	return max(longest, 0)
}

// size counts the open revocations.
func (o *openMany) size() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.byID)
}

// expect says that n more leases of m are about to be ended.
func (o *openMany) expect(m *many, n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	m.untried += int64(n)
	m.left += int64(n)
}

// later makes m due in a second: something did not work.
func (o *openMany) later(m *many) {
	o.mu.Lock()
	defer o.mu.Unlock()
	m.due, m.quiet = true, now().Add(refreshEvery)
}

// again makes m due at once.
func (o *openMany) again(m *many) {
	o.mu.Lock()
	defer o.mu.Unlock()
	m.due = true
}

// base is what the row of m should say: where this process carries m out, what it knows; otherwise what is stored.
func (o *openMany) base(m *many, stored *Revocation) *Revocation {
	o.mu.Lock()
	defer o.mu.Unlock()
	r := *stored
	if m.mine {
		r = m.Revocation
		r.Sessions = stored.Sessions
	}
	return &r
}

// written takes in a row as it was written.
func (o *openMany) written(m *many, r *Revocation) {
	o.mu.Lock()
	defer o.mu.Unlock()
	m.Revocation, m.moved = *r, now()
}

// believed is what is believed to be untried and open.
func (o *openMany) believed(m *many) (untried, left int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return m.untried, m.left
}

// looked takes in what a count that took so long found; untried and left were believed when it began. Results that came
// during the count may or may not be in it: they are taken off once more, which at worst brings the next look early. While
// nothing changes, the next look may wait longer.
func (o *openMany) looked(m *many, found look, took time.Duration, untried, left int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if found.open == m.look.open && found.untried == m.look.untried {
		m.wait = min(2*m.wait, time.Minute)
	} else {
		m.wait = refreshEvery
	}
	m.wait = max(m.wait, refreshEvery)
	m.quiet = now().Add(5 * took)
	m.left, m.untried = found.open-(left-m.left), found.untried-(untried-m.untried)
	m.look, m.nextLook = found, now().Add(m.wait)
	m.due = m.due || !found.tried && m.untried <= 0 || found.open > 0 && m.left <= 0
	close(m.seen)
	m.seen = make(chan struct{})
}

func (o *openMany) takeSessions(m *many) int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := m.sessions
	m.sessions = 0
	return n
}

func (o *openMany) addSessions(m *many, n int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	m.sessions += n
}

// tally is a copy of m with the sessions that are not written yet.
func (o *openMany) tally(m *many) *Revocation {
	o.mu.Lock()
	defer o.mu.Unlock()
	r := m.Revocation
	r.Sessions += m.sessions
	return &r
}
