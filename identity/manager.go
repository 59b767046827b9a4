package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/secret"
)

// Refusal is an ErrUnauthenticated with its reason, for the record. It is never shown to the client.
type Refusal struct {
	Reason string // "no token", "malformed token", "unknown access id", "wrong key", "key disabled", "key expired", "identity disabled"
}

func (r *Refusal) Error() string { return ErrUnauthenticated.Error() }

// Unwrap makes errors.Is(err, ErrUnauthenticated) true.
func (r *Refusal) Unwrap() error { return ErrUnauthenticated }

// ErrNoKey is returned for an access key that is not there.
var ErrNoKey = errors.New("access key not found")

// Separator stands between access id and access key in a token.
const Separator = ".."

const (
	idPrefix  = "p-"
	idLen     = 16 // letters behind the prefix: 80 random bits
	keyPrefix = "bk_"
	keyBody   = 52 // letters: 256 random bits
	keySum    = 7  // letters: CRC-32, so that scanners can tell a key from noise
	maxToken  = 256
)

var letters = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Manager turns presented access keys into callers. It is safe for concurrent use; what it learns takes effect at once.
type Manager struct {
	store KeyStore
	dir   atomic.Pointer[Directory]

	changing sync.Mutex // held while keys change in the store and here, so that Reload never undoes a change

	mu   sync.RWMutex
	keys map[string][]Key // by access id
}

// NewManager reads the keys of store. Until Use is called nobody is known.
func NewManager(ctx context.Context, store KeyStore) (*Manager, error) {
	m := &Manager{store: store}
	if err := m.Reload(ctx); err != nil {
		return nil, err
	}
	m.dir.Store(NewDirectory(nil, nil))
	return m, nil
}

// Reload reads the keys again, for what another process has changed in the store.
func (m *Manager) Reload(ctx context.Context) error {
	m.changing.Lock()
	defer m.changing.Unlock()
	list, err := m.store.Keys(ctx)
	if err != nil {
		return fmt.Errorf("read access keys: %w", err)
	}
	keys := make(map[string][]Key)
	for _, k := range list {
		keys[k.AccessID] = append(keys[k.AccessID], k)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keys = keys
	return nil
}

// Use makes d the identities and roles that count from now on.
func (m *Manager) Use(d *Directory) { m.dir.Store(d) }

// Authenticate checks a token of the form <access id>..<access key>. A refusal costs the same work whatever its reason.
// With it comes what may be recorded: the access id, where its form is right.
func (m *Manager) Authenticate(_ context.Context, token secret.Value, _ netip.Addr) (Caller, error) {
	if token.Empty() {
		return Caller{}, &Refusal{"no token"}
	}
	id, key, ok := split(token.Reveal())
	hash := sha256.Sum256([]byte(key))
	entry, known := m.dir.Load().byAccessID[id]
	found, match := m.match(id, hash)
	switch {
	case !ok:
		return Caller{}, &Refusal{"malformed token"}
	case !known:
		return Caller{AccessID: id}, &Refusal{"unknown access id"}
	case !match:
		return Caller{AccessID: id}, &Refusal{"wrong key"}
	case found.Disabled:
		return Caller{AccessID: id, KeyID: found.ID}, &Refusal{"key disabled"}
	case !found.ExpiresAt.IsZero() && !time.Now().Before(found.ExpiresAt):
		return Caller{AccessID: id, KeyID: found.ID}, &Refusal{"key expired"}
	case entry.identity.Disabled:
		return Caller{AccessID: id, KeyID: found.ID, Name: entry.identity.Name}, &Refusal{"identity disabled"}
	}
	return entry.caller(&found), nil
}

// match compares hash with each key of id, and with one at least where there is none.
func (m *Manager) match(id string, hash [32]byte) (Key, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var found Key
	var match bool
	keys := m.keys[id]
	if len(keys) == 0 {
		var none [32]byte
		return found, subtle.ConstantTimeCompare(none[:], hash[:]) == 2 // never
	}
	for i := range keys {
		if subtle.ConstantTimeCompare(keys[i].Hash[:], hash[:]) == 1 {
			found, match = keys[i], true
		}
	}
	return found, match
}

// split takes a token apart; ok is false where its form is wrong.
func split(token string) (id, key string, ok bool) {
	id, key, found := strings.Cut(token, Separator)
	if !found || len(token) > maxToken || !wellFormedID(id) || key == "" {
		return "", token, false
	}
	return id, key, true
}

func wellFormedID(id string) bool {
	body, ok := strings.CutPrefix(id, idPrefix)
	if !ok || len(body) != idLen {
		return false
	}
	for _, c := range []byte(body) {
		if (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return false
		}
	}
	return true
}

// NewAccessID makes an access id of 80 random bits.
func NewAccessID() string { return idPrefix + randomLetters(10) }

// AddKey makes an access key for accessID that lives for ttl (0: for ever). The key is durable on return and is not kept:
// only its hash is.
func (m *Manager) AddKey(ctx context.Context, accessID, note string, ttl time.Duration) (Key, secret.Value, error) {
	body := randomLetters(32)
	text := keyPrefix + body + checksum(body)
	k := Key{
		ID: "k-" + randomLetters(10), AccessID: accessID, Hash: sha256.Sum256([]byte(text)), Note: note,
		CreatedAt: time.Now().UTC().Truncate(time.Microsecond),
	}
	if ttl > 0 {
		k.ExpiresAt = k.CreatedAt.Add(ttl)
	}
	if err := m.put(ctx, k); err != nil {
		return Key{}, secret.Value{}, err
	}
	return k, secret.New(text), nil
}

// put makes k durable, then lets it count.
func (m *Manager) put(ctx context.Context, k Key) error {
	m.changing.Lock()
	defer m.changing.Unlock()
	if err := m.store.PutKey(ctx, k); err != nil {
		return fmt.Errorf("keep access key: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keys[k.AccessID] = append(without(m.keys[k.AccessID], k.ID), k)
	return nil
}

// Keys lists the keys of accessID, oldest first.
func (m *Manager) Keys(accessID string) []Key {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return append([]Key(nil), m.keys[accessID]...)
}

// SetKeyDisabled switches a key off or on. It counts from the moment of return.
func (m *Manager) SetKeyDisabled(ctx context.Context, accessID, id string, disabled bool) error {
	k, ok := m.key(accessID, id)
	if !ok {
		return ErrNoKey
	}
	k.Disabled = disabled
	return m.put(ctx, k)
}

// DeleteKey forgets a key. It counts from the moment of return.
func (m *Manager) DeleteKey(ctx context.Context, accessID, id string) error {
	m.changing.Lock()
	defer m.changing.Unlock()
	if _, ok := m.key(accessID, id); !ok {
		return ErrNoKey
	}
	if err := m.store.DeleteKey(ctx, accessID, id); err != nil {
		return fmt.Errorf("delete access key: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.keys[accessID] = without(m.keys[accessID], id); len(m.keys[accessID]) == 0 {
		delete(m.keys, accessID)
	}
	return nil
}

// Token says whether the key that an accessor stands for opens anything now, and when it ends; zero where it has no end.
func (m *Manager) Token(accessID, accessor string) (ends time.Time, counts bool) {
	k, ok := m.key(accessID, accessor)
	entry, known := m.dir.Load().byAccessID[accessID]
	expired := !k.ExpiresAt.IsZero() && !time.Now().Before(k.ExpiresAt)
	return k.ExpiresAt, ok && known && !expired && !k.Disabled && !entry.identity.Disabled
}

// Shut lists the keys that somebody has shut out: those that are disabled, and those of identities that are disabled or gone.
func (m *Manager) Shut() []Key {
	dir := m.dir.Load()
	m.mu.RLock()
	defer m.mu.RUnlock()
	var out []Key
	for accessID, keys := range m.keys {
		entry, known := dir.byAccessID[accessID]
		for _, k := range keys {
			if k.Disabled || !known || entry.identity.Disabled {
				out = append(out, k)
			}
		}
	}
	return out
}

func (m *Manager) key(accessID, id string) (Key, bool) {
	for _, k := range m.Keys(accessID) {
		if k.ID == id {
			return k, true
		}
	}
	return Key{}, false
}

// without copies, so that a slice that a reader holds never changes.
func without(keys []Key, id string) []Key {
	out := make([]Key, 0, len(keys)+1)
	for _, k := range keys {
		if k.ID != id {
			out = append(out, k)
		}
	}
	return out
}

func random(b []byte) { rand.Read(b) } //nolint:errcheck // never fails: see crypto/rand

func randomLetters(n int) string {
	b := make([]byte, n)
	random(b)
	return letters.EncodeToString(b)
}

func checksum(body string) string {
	c := crc32.ChecksumIEEE([]byte(body))
	return letters.EncodeToString([]byte{byte(c >> 24), byte(c >> 16), byte(c >> 8), byte(c)})
}

// LooksLikeKey reports whether text has the form of an access key, checksum included: for secret scanners.
func LooksLikeKey(text string) bool {
	body, ok := strings.CutPrefix(text, keyPrefix)
	return ok && len(body) == keyBody+keySum && checksum(body[:keyBody]) == body[keyBody:]
}
