package auth

import (
	"container/list"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/bailiff-secrets/bailiff/gate"
)

// Limits guard logins on one node. Zero fields are the defaults.
type Limits struct {
	PerAddress Rate // logins from one address (IPv6: one /64); default 1000/s, at once 5000
	PerName    Rate // logins as one name of a mount; default 1000/s, at once 5000
	Wrong      Rate // wrong proofs from one address; default 2/s, at once 100
	Entries    int  // names and addresses that are remembered, each; default 65536
}

// Rate is so many a second on the average, and so many at once.
type Rate struct {
	PerSecond float64
	Burst     int
}

// Vault's defaults of a lock-out.
const (
	lockThreshold = 5
	lockDuration  = 15 * time.Minute
	lockReset     = 15 * time.Minute
)

// guard remembers who was wrong lately, and who asks how often. What it remembers is bounded: the least recent goes first.
// Names that are known are remembered apart, so that no flood of invented ones makes it forget them.
type guard struct {
	limits Limits

	mu              sync.Mutex
	known, invented *recent[failures]
	addresses       *recent[*rate.Limiter]
	names           *recent[*rate.Limiter]
	wrongs          *recent[*rate.Limiter]
}

type failures struct {
	count uint64
	last  time.Time
}

func newGuard(l Limits) *guard {
	usual(&l.PerAddress, Rate{1000, 5000})
	usual(&l.PerName, Rate{1000, 5000})
	usual(&l.Wrong, Rate{2, 100})
	if l.Entries == 0 {
		l.Entries = 1 << 16
	}
	return &guard{
		limits: l, known: newRecent[failures](l.Entries), invented: newRecent[failures](l.Entries),
		addresses: newRecent[*rate.Limiter](l.Entries), names: newRecent[*rate.Limiter](l.Entries), wrongs: newRecent[*rate.Limiter](l.Entries),
	}
}

func usual(r *Rate, otherwise Rate) {
	if r.PerSecond == 0 {
		*r = otherwise
	}
}

// enter says no where an address or a name logs in too often.
func (g *guard) enter(m *Mount, name string, from netip.Addr) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	source := sourceOf(from)
	if wrong, ok := g.wrongs.find(source); ok && wrong.TokensAt(now) < 1 {
		return tooMany(wrong, now, "too many wrong logins from this address")
	}
	if l := limiter(g.addresses, source, g.limits.PerAddress); !l.AllowN(now, 1) {
		return tooMany(l, now, "too many logins from this address")
	}
	if name == "" {
		return nil
	}
	if l := limiter(g.names, m.key(name), g.limits.PerName); !l.AllowN(now, 1) {
		return tooMany(l, now, "too many logins with this name")
	}
	return nil
}

func limiter(in *recent[*rate.Limiter], key string, r Rate) *rate.Limiter {
	l, ok := in.find(key)
	if !ok {
		l = rate.NewLimiter(rate.Limit(r.PerSecond), r.Burst)
		in.put(key, l)
	}
	return l
}

func tooMany(l *rate.Limiter, now time.Time, why string) error {
	missing := 1 - l.TokensAt(now)
	after := time.Duration(missing / float64(l.Limit()) * float64(time.Second))
	return &gate.Error{Kind: gate.TooMany, Msg: why, Hint: "wait and try again", After: max(after, time.Second)}
}

// sourceOf is an address, or the network that one host has all addresses of.
func sourceOf(a netip.Addr) string {
	a = a.Unmap()
	if a.Is6() {
		if p, err := a.WithZone("").Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}

// locked tells whether name is locked out.
func (g *guard) locked(m *Mount, name string) bool {
	rule, counts := lockRule(m)
	if !counts || name == "" {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, in := range []*recent[failures]{g.known, g.invented} {
		if f, ok := in.find(m.key(name)); ok && f.count >= rule.Threshold && time.Since(f.last) < rule.Duration {
			return true
		}
	}
	return false
}

// wrong counts a wrong proof.
func (g *guard) wrong(m *Mount, name string, from netip.Addr, known bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	limiter(g.wrongs, sourceOf(from), g.limits.Wrong).AllowN(time.Now(), 1)
	rule, counts := lockRule(m)
	if !counts || name == "" {
		return
	}
	in := g.invented
	if known {
		in = g.known
	}
	f, _ := in.find(m.key(name))
	if time.Since(f.last) > rule.Reset {
		f.count = 0
	}
	in.put(m.key(name), failures{f.count + 1, time.Now()})
}

// right forgets what was wrong before.
func (g *guard) right(m *Mount, name string) {
	if name == "" {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.known.remove(m.key(name))
	g.invented.remove(m.key(name))
}

// lockRule is when names are locked out on a mount; as in Vault, only some methods know it.
func lockRule(m *Mount) (Lockout, bool) {
	switch m.Type {
	case "userpass", "approle", "ldap":
	default:
		return Lockout{}, false
	}
	rule := Lockout{Threshold: lockThreshold, Duration: lockDuration, Reset: lockReset}
	if l := m.Tune.Lockout; l != nil {
		if l.Disabled {
			return Lockout{}, false
		}
		if l.Threshold > 0 {
			rule.Threshold = l.Threshold
		}
		if l.Duration > 0 {
			rule.Duration = l.Duration
		}
		if l.Reset > 0 {
			rule.Reset = l.Reset
		}
	}
	return rule, true
}

// recent is a map of bounded size that forgets what was not used for the longest time.
type recent[V any] struct {
	limit int
	byKey map[string]*list.Element
	order *list.List // the most recent in front
}

type remembered[V any] struct {
	key   string
	value V
}

func newRecent[V any](limit int) *recent[V] {
	return &recent[V]{limit: limit, byKey: map[string]*list.Element{}, order: list.New()}
}

func (r *recent[V]) find(key string) (V, bool) {
	e, ok := r.byKey[key]
	if !ok {
		var none V
		return none, false
	}
	r.order.MoveToFront(e)
	return e.Value.(remembered[V]).value, true
}

func (r *recent[V]) put(key string, v V) {
	if e, ok := r.byKey[key]; ok {
		e.Value = remembered[V]{key, v}
		r.order.MoveToFront(e)
		return
	}
	r.byKey[key] = r.order.PushFront(remembered[V]{key, v})
	if r.order.Len() > r.limit {
		last := r.order.Back()
		r.order.Remove(last)
		delete(r.byKey, last.Value.(remembered[V]).key)
	}
}

func (r *recent[V]) remove(key string) {
	if e, ok := r.byKey[key]; ok {
		r.order.Remove(e)
		delete(r.byKey, key)
	}
}
