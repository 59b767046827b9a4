package wrapping

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/document"
	"github.com/bailiff-secrets/bailiff/internal/secret"
)

// ErrNoToken is returned for a token that opens nothing: unknown, used or over. It says what Vault says.
var ErrNoToken = errors.New("wrapping token is not valid or does not exist")

// MaxAnswer is how large an answer may be that is kept, in bytes.
const MaxAnswer = 32<<20 - maxHead

// space is where the documents are.
const space = "wrap"

// Config is what a Keeper needs. Both must be set.
type Config struct {
	Store  document.Store
	Logger *slog.Logger
}

// Keeper keeps answers. It is safe for concurrent use; several Keepers of one store are as one.
type Keeper struct {
	store  document.Store
	logger *slog.Logger
}

// New makes a Keeper.
func New(cfg Config) (*Keeper, error) {
	if cfg.Store == nil || cfg.Logger == nil {
		return nil, errors.New("wrapping: a part is missing from the configuration")
	}
	return &Keeper{store: cfg.Store, logger: cfg.Logger}, nil
}

// About is what may be told of a kept answer without opening it.
type About struct {
	Accessor        string
	CreationPath    string
	CreationTime    time.Time
	TTL             time.Duration // as it was made
	By              string        // who asked for it
	WrappedAccessor string        // of the token in it, where there is one
}

// Wrap keeps resp for r.WrapTTL. See gate.Wrapper.
func (k *Keeper) Wrap(ctx context.Context, r *gate.Request, resp *gate.Response) (*gate.Wrap, error) {
	a := answer{About: About{Accessor: newAccessor(), CreationPath: pathOf(r), CreationTime: time.Now().UTC(), TTL: r.WrapTTL, By: r.Caller.Name}}
	if resp.Auth != nil {
		a.WrappedAccessor = resp.Auth.Accessor
	}
	if err := a.fill(resp); err != nil {
		return nil, err
	}
	token, change, err := a.document()
	if err != nil {
		return nil, err
	}
	if err := k.store.WriteDocuments(ctx, change); err != nil {
		return nil, fmt.Errorf("keep an answer: %w", err)
	}
	return a.wrap(token), nil
}

// Lookup tells about a kept answer and leaves it where it is. The error is ErrNoToken where there is none.
func (k *Keeper) Lookup(ctx context.Context, token secret.Value) (About, error) {
	a, _, err := k.find(ctx, token)
	return a.About, err
}

// Open gives out a kept answer, for the request with that id, and forgets it. The error is ErrNoToken where there is none,
// also for all but one of those who ask at once.
func (k *Keeper) Open(ctx context.Context, token secret.Value, requestID string) (*gate.Response, About, error) {
	a, doc, err := k.find(ctx, token)
	if err != nil {
		return nil, About{}, err
	}
	if err := k.take(ctx, doc); err != nil {
		return nil, About{}, err
	}
	return a.response(requestID), a.About, nil
}

// Rewrap keeps an answer on under a new token, for as long as it was first kept; the old token opens nothing any more. The
// error is ErrNoToken where there is none.
func (k *Keeper) Rewrap(ctx context.Context, token secret.Value) (*gate.Wrap, error) {
	a, doc, err := k.find(ctx, token)
	if err != nil {
		return nil, err
	}
	a.Accessor, a.CreationTime = newAccessor(), time.Now().UTC()
	fresh, change, err := a.document()
	if err != nil {
		return nil, err
	}
	if err := k.take(ctx, doc, change); err != nil {
		return nil, err
	}
	return a.wrap(fresh), nil
}

// Forget removes a kept answer by its accessor. The error is ErrNoToken where there is none.
func (k *Keeper) Forget(ctx context.Context, accessor string) error {
	if accessor == "" {
		return ErrNoToken
	}
	found, err := k.store.Documents(ctx, document.Query{Space: space, By: byAccessor, Value: accessor, Limit: 1})
	if err != nil {
		return err
	}
	if len(found) == 0 || over(found[0]) {
		return ErrNoToken
	}
	return k.take(ctx, found[0])
}

// Spend forgets a kept answer whose token was used for something else, and tells about it: the token is good once, whatever
// for. The error is ErrNoToken where there is none.
func (k *Keeper) Spend(ctx context.Context, token secret.Value) (About, error) {
	a, doc, err := k.find(ctx, token)
	if err != nil {
		return About{}, err
	}
	return a.About, k.take(ctx, doc)
}

// find reads the answer that token opens.
func (k *Keeper) find(ctx context.Context, token secret.Value) (answer, document.Document, error) {
	if !IsToken(token) {
		return answer{}, document.Document{}, ErrNoToken
	}
	doc, err := k.store.Document(ctx, space, keyOf(token))
	switch {
	case errors.Is(err, document.ErrNotFound):
		return answer{}, doc, ErrNoToken
	case err != nil:
		return answer{}, doc, fmt.Errorf("find a kept answer: %w", err)
	case over(doc):
		return answer{}, doc, ErrNoToken
	}
	a, err := parse(doc.Body)
	return a, doc, err
}

func over(doc document.Document) bool { return !time.Now().Before(doc.ExpiresAt) }

// take removes doc, and does the other changes with it. Whoever comes second gets ErrNoToken.
func (k *Keeper) take(ctx context.Context, doc document.Document, others ...*document.Change) error {
	gone := &document.Change{Document: document.Document{Space: doc.Space, Key: doc.Key, Version: doc.Version}, Remove: true}
	err := k.store.WriteDocuments(ctx, append([]*document.Change{gone}, others...)...)
	switch {
	case errors.Is(err, document.ErrConflict), errors.Is(err, document.ErrNotFound):
		return ErrNoToken
	case err != nil:
		return fmt.Errorf("take out a kept answer: %w", err)
	}
	return nil
}

// How often answers that nobody fetched are removed, and how many at a time.
const (
	sweepEvery = time.Minute
	sweepBatch = 200
)

// Run removes what nobody fetched, until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		if err := k.Sweep(ctx); err != nil && ctx.Err() == nil {
			k.logger.Warn("kept answers whose time is over could not be removed", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Sweep removes what nobody fetched in time.
func (k *Keeper) Sweep(ctx context.Context) error {
	for {
		found, err := k.store.Documents(ctx, document.Query{Space: space, ExpiredAt: time.Now(), Limit: sweepBatch})
		if err != nil {
			return err
		}
		for _, doc := range found {
			if err := k.take(ctx, doc); err != nil && !errors.Is(err, ErrNoToken) {
				return err
			}
		}
		if len(found) < sweepBatch {
			return nil
		}
	}
}

// A token is its prefix, 256 random bits and a checksum, so that scanners for secrets find it and a slip of the pen is seen.
const (
	tokenPrefix = "bw_"
	tokenBody   = 52
	tokenSum    = 7
)

var letters = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func newToken() secret.Value {
	var b [32]byte
	rand.Read(b[:]) //nolint:errcheck // never fails: see crypto/rand
	body := letters.EncodeToString(b[:])
	return secret.New(tokenPrefix + body + checksum(body))
}

func checksum(body string) string {
	c := crc32.ChecksumIEEE([]byte(body))
	return letters.EncodeToString([]byte{byte(c >> 24), byte(c >> 16), byte(c >> 8), byte(c)})
}

// IsToken tells whether t has the form of a wrapping token.
func IsToken(t secret.Value) bool {
	if t.Empty() {
		return false
	}
	body, ok := strings.CutPrefix(t.Reveal(), tokenPrefix)
	return ok && len(body) == tokenBody+tokenSum && checksum(body[:tokenBody]) == body[tokenBody:]
}

// newAccessor is 24 letters and digits, as Vault's accessors are. It opens nothing.
func newAccessor() string {
	var b [15]byte
	rand.Read(b[:]) //nolint:errcheck // never fails: see crypto/rand
	return letters.EncodeToString(b[:])
}

// pathOf is the path as Vault writes it: what was listed ends in a slash.
func pathOf(r *gate.Request) string {
	if r.Op == listing {
		return r.Path + "/"
	}
	return r.Path
}

var _ gate.Wrapper = (*Keeper)(nil)
