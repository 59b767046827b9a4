package postgres

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/internal/object"
)

// Config is what a Producer needs.
type Config struct {
	Target object.Target // of type postgres
	Logger *slog.Logger  // default: discards
}

// Producer makes roles on one server. It is a broker.Producer, a broker.Renewer, a broker.Snapshotter, a broker.BatchTeller,
// a broker.Prober, a broker.Lister and a broker.Quarantiner, and safe for concurrent use.
type Producer struct {
	pool *pgxpool.Config
	log  *slog.Logger

	logins logins

	mu     sync.Mutex
	opened *pgxpool.Pool // nil until it is first needed
	closed bool
}

const (
	defaultConnections = 16
	defaultTimeout     = 10 * time.Second // to connect; and of one call that brings no deadline
)

// New checks cfg and returns a Producer. It connects to nothing.
func New(cfg Config) (*Producer, error) {
	pool, err := poolConfig(cfg.Target)
	if err != nil {
		return nil, fmt.Errorf("target %q: %w", cfg.Target.Name, err)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	p := &Producer{pool: pool, log: cfg.Logger.With("target", cfg.Target.Name)}
	pool.BeforeConnect = p.logins.before
	return p, nil
}

// Close ends the connections. Calls that come later fail.
func (p *Producer) Close() error {
	p.mu.Lock()
	pool := p.opened
	p.opened, p.closed = nil, true
	p.mu.Unlock()
	if pool != nil {
		pool.Close()
	}
	return nil
}

// connections opens the pool where it isn't yet. That alone connects to nothing.
func (p *Producer) connections() (*pgxpool.Pool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return nil, &broker.RevokeError{Cause: broker.Unreachable, Msg: "the target was closed: its configuration changed or Bailiff stops"}
	case p.opened != nil:
		return p.opened, nil
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), p.pool)
	if err != nil {
		return nil, classed("connecting", err)
	}
	p.opened = pool
	return pool, nil
}

// poolConfig turns a target into settings, taking nothing from the environment that the target doesn't say.
func poolConfig(t object.Target) (*pgxpool.Config, error) {
	u, err := url.Parse(t.Address)
	switch {
	case err != nil: // its text would repeat the address
		return nil, errors.New("the address is not a URL")
	case u.Scheme != "postgres" && u.Scheme != "postgresql" || u.Host == "":
		return nil, errors.New("the address must have the form postgres://host:port/database?sslmode=verify-full")
	case u.User != nil:
		return nil, errors.New("the address must hold no user or password: they have fields of their own")
	case t.Username == "":
		return nil, errors.New("a username is required")
	}
	if strings.Trim(u.Path, "/") == "" {
		u.Path = "/postgres"
	}
	q := u.Query()
	for name := range q {
		if name != "sslmode" && name != "target_session_attrs" {
			return nil, fmt.Errorf("the address has an unknown parameter %q: it may have sslmode and target_session_attrs", name)
		}
	}
	if q.Get("sslmode") == "" {
		q.Set("sslmode", "verify-full")
	}
	if q.Get("target_session_attrs") == "" {
		q.Set("target_session_attrs", "any")
	}
	u.RawQuery = q.Encode()
	u.User = url.User(t.Username)
	cfg, err := pgxpool.ParseConfig(u.String())
	if err != nil {
		return nil, errors.New("the address is not one of PostgreSQL's: look at its sslmode and its port")
	}
	if err := setTLS(cfg.ConnConfig, t); err != nil {
		return nil, err
	}
	cfg.ConnConfig.Password = t.Password.Reveal()
	cfg.ConnConfig.ConnectTimeout = orDefault(time.Duration(t.Timeout), defaultTimeout)
	cfg.ConnConfig.RuntimeParams = map[string]string{"application_name": "bailiff"}
	cfg.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec // no prepared statements: a pooler may stand between
	cfg.MinConns, cfg.MinIdleConns = 0, 0
	cfg.MaxConns = int32(orDefault(t.MaxConnections, defaultConnections))
	cfg.MaxConnIdleTime = 5 * time.Minute
	return cfg, nil
}

func orDefault[T int | time.Duration](v, d T) T {
	if v <= 0 {
		return d
	}
	return v
}

// setTLS applies the target's own certificate settings to every way of connecting that sslmode allows.
func setTLS(c *pgx.ConnConfig, t object.Target) error {
	if t.CACert == "" && t.TLSServerName == "" && !t.TLSSkipVerify {
		return nil
	}
	if c.TLSConfig == nil {
		return errors.New("the target has TLS settings, but sslmode in its address turns TLS off")
	}
	var roots *x509.CertPool
	if t.CACert != "" {
		roots = x509.NewCertPool()
		if !roots.AppendCertsFromPEM([]byte(t.CACert)) {
			return errors.New("ca_cert holds no PEM certificate")
		}
	}
	apply := func(tc *tls.Config) {
		if tc == nil {
			return
		}
		if roots != nil {
			tc.RootCAs = roots
		}
		if t.TLSServerName != "" {
			tc.ServerName = t.TLSServerName
		}
		if t.TLSSkipVerify {
			tc.InsecureSkipVerify, tc.VerifyPeerCertificate = true, nil //nolint:gosec // the operator asked for it
		}
	}
	apply(c.TLSConfig)
	for _, f := range c.Fallbacks {
		apply(f.TLSConfig)
	}
	return nil
}

// ours is the form of the names that this package touches. The last four letters are the check, which older names lack.
var ours = regexp.MustCompile(`^bl-[a-z0-9]{1,8}-[a-z2-7]{16}([a-z2-7]{4})?$`)

// checkName refuses every name that Bailiff did not make, and with it everything that means something in SQL.
func checkName(name string) error {
	if !ours.MatchString(name) {
		return &broker.RevokeError{Cause: broker.Unknown, Msg: "the name is not one that Bailiff makes, so it is not touched"}
	}
	return nil
}

// quoted is a checked name as an SQL identifier.
func quoted(name string) string { return pgx.Identifier{name}.Sanitize() }

// literal is s as an SQL string.
func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
