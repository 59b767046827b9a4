package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/document"
	"github.com/bailiff-secrets/bailiff/internal/secret"
)

// TokensConfig is what Tokens need. The first group must be set.
type TokensConfig struct {
	Store  document.Store
	Keys   *Manager
	Logger *slog.Logger
	// Ended is called when a token has ended, with its accessor, and ends what was issued to it. It is durable on return, and
	// called again where it fails, or where a crash came between.
	Ended func(ctx context.Context, accessor string) error

	// Renewing asks the auth method that let somebody in whether they still may be, and with what: its error is what the caller
	// is told. nil: a token goes on as it was made.
	Renewing func(ctx context.Context, who Admission) (TokenParams, error)

	DefaultTTL time.Duration          // of a token that says nothing; zero: 768h
	MaxTTL     time.Duration          // of any that is not periodic and not root's; zero: 768h
	HasPolicy  func(name string) bool // for warnings; nil: none is given
	Fault      func(point string)     // for tests: token-ended, children-ended
}

// systemTTL is Vault's default for the TTL of tokens and for the most.
const systemTTL = 768 * time.Hour

// lastUse is how long the last request with a token may take until the token is ended in any case.
const lastUse = 2 * time.Minute

const (
	spaceToken = "token"
	spaceRole  = "token-role"
)

// Tokens are the service tokens, and their roles. It is safe for concurrent use.
//
// Each server knows all tokens by their hash: what it does counts there at once, and on other servers when they have followed
// the store. A token ends in three steps, each durable before the next: it is marked as ended and opens nothing any more; its
// children end; what was issued to it is ended. Then its document is removed. What a crash leaves between the steps is
// found by the index of documents whose time is over, and gone on with.
type Tokens struct {
	cfg    TokensConfig
	people *People
	mirror *mirror

	mu         sync.RWMutex // guards what follows
	byHash     map[tokenHash]*token
	byAccessor map[string]*token
	roles      map[string]*kept[TokenRole]
}

// token is one that is known. Its state is replaced, never changed.
type token struct {
	hash  tokenHash
	state atomic.Pointer[tokenState]
	using sync.Mutex // held while a use is counted
}

// tokenState is what is known of a token at one version of its document.
type tokenState struct {
	tokenRecord
	version, seq int64
	caller       atomic.Pointer[madeCaller]
}

// tokenRecord is what is kept of a token.
type tokenRecord struct {
	Accessor string            `json:"accessor"`
	Parent   string            `json:"parent,omitempty"` // accessor of a token, or id of an access key; empty: an orphan
	Key      string            `json:"key,omitempty"`    // the access key that it goes back to, and ends with
	KeyOf    string            `json:"key_of,omitempty"` // whose key that is: the access id
	KeyEnds  time.Time         `json:"key_ends,omitzero"`
	EntityID string            `json:"entity_id,omitempty"`
	Owner    string            `json:"owner"`              // name of the entity behind it, also where it has none itself
	Declared bool              `json:"declared,omitempty"` // it has what its declared identity has, whatever that is at the time
	Path     string            `json:"path"`
	Role     string            `json:"role,omitempty"` // of tokens
	Display  string            `json:"display_name"`
	Policies []string          `json:"policies"`
	Meta     map[string]string `json:"meta,omitempty"`
	CIDRs    []netip.Prefix    `json:"cidrs,omitempty"`

	Method   string            `json:"method,omitempty"` // of the login: "approle"
	Mount    string            `json:"mount,omitempty"`  // "auth/approle/"
	Accessed string            `json:"mount_accessor,omitempty"`
	Alias    string            `json:"alias,omitempty"`
	Claims   map[string]string `json:"claims,omitempty"`
	By       string            `json:"by,omitempty"` // the role of the method

	Created     time.Time     `json:"created"`
	Expires     time.Time     `json:"expires,omitzero"` // zero: never
	Renewed     time.Time     `json:"renewed,omitzero"`
	TTL         time.Duration `json:"ttl"` // when it was made
	Asked       time.Duration `json:"asked,omitempty"`
	MaxTTL      time.Duration `json:"max_ttl,omitempty"`
	ExplicitMax time.Duration `json:"explicit_max,omitempty"`
	Period      time.Duration `json:"period,omitempty"`
	Renewable   bool          `json:"renewable,omitempty"`
	Uses        int           `json:"uses,omitempty"` // left; 0: any number; negative: used up
	Ended       time.Time     `json:"ended,omitzero"` // it opens nothing any more
}

// NewTokens reads what the store has.
func NewTokens(ctx context.Context, cfg TokensConfig) (*Tokens, error) {
	if cfg.Store == nil || cfg.Keys == nil || cfg.Logger == nil || cfg.Ended == nil {
		return nil, errors.New("identity: a part is missing from the configuration of tokens")
	}
	if cfg.DefaultTTL <= 0 {
		cfg.DefaultTTL = systemTTL
	}
	if cfg.MaxTTL <= 0 {
		cfg.MaxTTL = systemTTL
	}
	if cfg.HasPolicy == nil {
		cfg.HasPolicy = func(string) bool { return true }
	}
	if cfg.Fault == nil {
		cfg.Fault = func(string) {}
	}
	t := &Tokens{cfg: cfg, byHash: map[tokenHash]*token{}, byAccessor: map[string]*token{}, roles: map[string]*kept[TokenRole]{}}
	t.people = newPeople(func() *Directory { return cfg.Keys.dir.Load() })
	t.mirror = &mirror{store: cfg.Store, takers: t.people.takers()}
	t.people.mirror = t.mirror
	maps.Copy(t.mirror.takers, map[string]taker{spaceToken: tokenTaker{t}, spaceRole: roleTaker{t}})
	if err := t.mirror.load(ctx); err != nil {
		return nil, err
	}
	return t, nil
}

// People are the entities and groups, which are kept in the same way.
func (t *Tokens) People() *People { return t.people }

// MaxTTL is the most that a token lives that is neither periodic nor root's.
func (t *Tokens) MaxTTL() time.Duration { return t.cfg.MaxTTL }

// CatchUp takes over what other servers have changed.
func (t *Tokens) CatchUp(ctx context.Context) error { return t.mirror.catchUp(ctx) }

// tokenTaker keeps tokens in memory.
type tokenTaker struct{ *Tokens }

func (t tokenTaker) take(d *document.Document) error {
	h, ok := parseHash(d.Key)
	if !ok {
		return fmt.Errorf("the key of a token's document is %d letters long", len(d.Key))
	}
	var next *tokenState
	if !d.Deleted {
		next = &tokenState{version: d.Version, seq: d.Seq}
		if err := json.Unmarshal(d.Body, &next.tokenRecord); err != nil {
			return fmt.Errorf("a token can't be read: %w", err)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.byHash[h]
	if x != nil && x.state.Load().seq >= d.Seq {
		return nil
	}
	switch {
	case next == nil && x != nil:
		t.forget(x)
	case next == nil:
	case x == nil:
		x = &token{hash: h}
		t.byHash[h] = x
		t.byAccessor[next.Accessor] = x
		x.state.Store(next)
	default:
		x.state.Store(next)
	}
	return nil
}

// forget needs t.mu.
func (t *Tokens) forget(x *token) {
	s := x.state.Load()
	delete(t.byHash, x.hash)
	delete(t.byAccessor, s.Accessor)
	if s.Ended.IsZero() { // for whoever holds it: it opens nothing any more
		gone := &tokenState{tokenRecord: s.tokenRecord, version: s.version, seq: s.seq}
		gone.Ended = now()
		x.state.Store(gone)
	}
}

func (t tokenTaker) keep(keys map[string]bool, seq int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for h, x := range t.byHash {
		if x.state.Load().seq <= seq && !keys[h.key()] {
			t.forget(x)
		}
	}
}

// find finds a token by itself; nil where it isn't known. The work is the same.
func (t *Tokens) find(text string) *token {
	h := hashOf(text)
	t.mu.RLock()
	x := t.byHash[h]
	t.mu.RUnlock()
	if len(text) > maxToken {
		return nil
	}
	return x
}

// named finds a token by its accessor.
func (t *Tokens) named(accessor string) *token {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.byAccessor[accessor]
}

// change is the change of x's document to rec, from the version that s is.
func (s *tokenState) change(h tokenHash, rec *tokenRecord, version int64) (*document.Change, error) {
	direct := "" // a login with the key
	if rec.Parent == "" {
		direct = rec.Key
	}
	c, err := change(spaceToken, h.key(), version, rec, "key", direct, "parent", rec.Parent, "mount", rec.Accessed, "entity", rec.EntityID)
	if err != nil {
		return nil, err
	}
	switch {
	case !rec.Ended.IsZero():
		c.ExpiresAt = rec.Ended
	case rec.Uses < 0:
		c.ExpiresAt = now().Add(lastUse)
	default:
		c.ExpiresAt = rec.Expires
	}
	return c, nil
}

// update changes what is kept of a token, again where somebody else has changed it meanwhile. edit changes a copy, or says
// why not.
func (t *Tokens) update(ctx context.Context, x *token, edit func(r *tokenRecord) error) (*tokenState, error) {
	for {
		s := x.state.Load()
		r := s.tokenRecord
		if err := edit(&r); err != nil {
			return s, err
		}
		c, err := s.change(x.hash, &r, s.version)
		if err != nil {
			return s, err
		}
		err = t.mirror.write(ctx, c)
		if err == nil {
			return x.state.Load(), nil
		}
		if !errors.Is(err, document.ErrConflict) {
			return s, err
		}
		if err := t.mirror.refresh(ctx, spaceToken, x.hash.key()); err != nil {
			return s, err
		}
	}
}

// counts says why a token doesn't count now, or nothing.
func (s *tokenState) counts(keys *Manager, at time.Time) (reason string) {
	switch {
	case !s.Ended.IsZero():
		return "token revoked"
	case s.Uses < 0:
		return "token used up"
	case !s.Expires.IsZero() && !at.Before(s.Expires):
		return "token expired"
	case s.Key != "" && !keys.stands(s.KeyOf, s.Key, at):
		return "access key behind the token"
	}
	return ""
}

// stands says whether an access key counts, without allocating.
func (m *Manager) stands(accessID, id string, at time.Time) bool {
	e := m.dir.Load().byAccessID[accessID]
	return e != nil && !e.identity.Disabled && m.opens(accessID, id, at)
}

// opens says the same without looking at whose it is.
func (m *Manager) opens(accessID, id string, at time.Time) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for i := range m.keys[accessID] {
		if k := &m.keys[accessID][i]; k.ID == id {
			return !k.Disabled && (k.ExpiresAt.IsZero() || at.Before(k.ExpiresAt))
		}
	}
	return false
}

// Authenticate lets in whom an access key or a token stands for. A token with a number of uses loses one, durably. A refusal
// costs the same work whatever its reason.
func (t *Tokens) Authenticate(ctx context.Context, presented secret.Value, from netip.Addr) (Caller, error) {
	text := presented.Reveal()
	if strings.HasPrefix(text, idPrefix) {
		c, err := t.cfg.Keys.Authenticate(ctx, presented, from)
		if err == nil {
			t.addGroups(&c)
		}
		return c, err
	}
	if text == "" {
		return Caller{}, &Refusal{"no token"}
	}
	x := t.find(text)
	if x == nil {
		return Caller{}, &Refusal{"unknown token"}
	}
	s := x.state.Load()
	if reason := s.refuses(t.cfg.Keys, from); reason != "" {
		return s.known(), &Refusal{reason}
	}
	c := t.callerOf(s)
	if c.disabled {
		return s.known(), &Refusal{"identity disabled"}
	}
	if s.Uses == 0 {
		return c.Caller, nil
	}
	return t.use(ctx, x, from)
}

// refuses says why a token opens nothing for somebody at that address, or nothing.
func (s *tokenState) refuses(keys *Manager, from netip.Addr) (reason string) {
	if reason := s.counts(keys, time.Now()); reason != "" {
		return reason
	}
	if len(s.CIDRs) > 0 && !within(s.CIDRs, from) {
		return "the address is none that the token is bound to"
	}
	return ""
}

func within(prefixes []netip.Prefix, from netip.Addr) bool {
	from = from.Unmap()
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(from) })
}

// known is what may be recorded of a token that is refused.
func (s *tokenState) known() Caller {
	return Caller{Name: s.Owner, AccessID: s.KeyOf, Accessor: s.Accessor, Method: s.method()}
}

// method says how the token came to be: by a login, or from another one.
func (s *tokenState) method() string {
	if s.Method == "" {
		return "token"
	}
	return s.Method
}

// use counts one use. The last one marks the token as used up: nobody is let in with it any more, and Finish ends it when
// the request that it was for is answered.
func (t *Tokens) use(ctx context.Context, x *token, from netip.Addr) (Caller, error) {
	x.using.Lock()
	defer x.using.Unlock()
	s, err := t.update(ctx, x, func(r *tokenRecord) error {
		if reason := x.state.Load().refuses(t.cfg.Keys, from); reason != "" {
			return &Refusal{reason}
		}
		if r.Uses--; r.Uses == 0 {
			r.Uses = -1
		}
		return nil
	})
	if errors.Is(err, document.ErrNotFound) {
		return s.known(), &Refusal{"unknown token"}
	}
	if err != nil {
		return s.known(), err
	}
	c := t.callerOf(s).Caller
	c.LastUse = s.Uses < 0
	return c, nil
}

// Finish ends a token whose last use a request was.
func (t *Tokens) Finish(ctx context.Context, c *Caller) {
	if !c.LastUse {
		return
	}
	if err := t.Revoke(ctx, c.Accessor); err != nil {
		t.cfg.Logger.Error("a token that is used up could not be ended; it opens nothing, and is tried again", "accessor", c.Accessor, "error", err)
	}
}

// Token says whether the token that an accessor stands for counts now, and when it ends; zero where it has no end.
func (t *Tokens) Token(accessor string) (ends time.Time, counts bool) {
	x := t.named(accessor)
	if x == nil {
		return time.Time{}, false
	}
	s := x.state.Load()
	if s.Uses < 0 && s.Ended.IsZero() {
		return s.Expires, true // its last request may still be under way
	}
	return s.Expires, s.counts(t.cfg.Keys, time.Now()) == "" && !t.callerOf(s).disabled
}
