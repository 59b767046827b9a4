package upstream

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/object"
)

// The limits where Config gives none.
const (
	DefaultTimeout         = 10 * time.Second
	DefaultMaxInFlight     = 256
	DefaultMaxQueue        = 1024
	DefaultMaxAnswerHeader = 64 << 10
	DefaultUserAgent       = "bailiff"

	dialTimeout = 3 * time.Second
	smallBody   = 64 << 10 // a request body up to this size is read before it is sent, so that it can be sent again
)

// Config says which Vault a Vault is. Target and Logger must be set.
type Config struct {
	// Target is of type "vault". Its Timeout (default 10 s) bounds how long the target may stay silent: until the header
	// of an answer, and between two pieces of a body. A connection must stand within 3 s, or three quarters of Timeout if that is shorter.
	Target object.Target
	Logger *slog.Logger

	// Adopter keeps the leases that come with answers; nil: they pass unseen.
	Adopter gate.Adopter

	MaxInFlight     int    // requests at the target at once; default 256
	MaxQueue        int    // requests waiting for one of these places; one more is gate.TooMany; default 1024, negative: none
	MaxAnswerHeader int64  // bytes of header that an answer may have; default 64 KiB
	UserAgent       string // as the target sees us; default "bailiff"
}

// Vault is one Vault server (or cluster) behind. It is safe for concurrent use.
type Vault struct {
	name    string
	client  *client
	session *session
	limit   *limiter
	breaker *breaker
	adopter gate.Adopter
}

// New checks cfg and returns a Vault that has not talked to its target yet.
func New(cfg Config) (*Vault, error) {
	if cfg.Logger == nil {
		return nil, errors.New("upstream: a logger is missing")
	}
	defaults(&cfg)
	c, err := newClient(cfg)
	if err != nil {
		return nil, err
	}
	s, err := newSession(c, cfg)
	if err != nil {
		return nil, err
	}
	return &Vault{
		name:    cfg.Target.Name,
		client:  c,
		session: s,
		limit:   newLimiter(cfg.Target.Name, cfg.MaxInFlight, cfg.MaxQueue),
		breaker: &breaker{name: cfg.Target.Name},
		adopter: cfg.Adopter,
	}, nil
}

func defaults(cfg *Config) {
	if cfg.Target.Timeout <= 0 {
		cfg.Target.Timeout = object.Duration(DefaultTimeout)
	}
	if cfg.MaxInFlight <= 0 {
		cfg.MaxInFlight = DefaultMaxInFlight
	}
	if cfg.MaxQueue == 0 {
		cfg.MaxQueue = DefaultMaxQueue
	}
	if cfg.MaxAnswerHeader <= 0 {
		cfg.MaxAnswerHeader = DefaultMaxAnswerHeader
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = DefaultUserAgent
	}
}

// Run keeps the login alive until ctx ends: it logs in, renews, and logs in again. It returns nil.
// Without it requests still log in when they must, but a login is not renewed.
func (v *Vault) Run(ctx context.Context) error {
	v.session.run(ctx)
	return nil
}

// Close lets idle connections go. Requests that are under way are not disturbed; their connections end with them.
func (v *Vault) Close() { v.client.pool.close() }

// Mount is the backend for one mount of the target: remotePath is its path there ("secret"), kvVersion 1 or 2 where it is
// a KV engine, else 0.
func (v *Vault) Mount(remotePath string, kvVersion int) gate.Backend {
	return &backend{v: v, remote: trimSlashes(remotePath), kv: kvVersion}
}
