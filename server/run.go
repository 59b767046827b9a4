package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/bailiff-secrets/bailiff/api"
	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/audit/index"
	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/hvp"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/config"
	"github.com/bailiff-secrets/bailiff/internal/h1"
	"github.com/bailiff-secrets/bailiff/internal/peer"
	"github.com/bailiff-secrets/bailiff/notify"
	"github.com/bailiff-secrets/bailiff/rotation"
	"github.com/bailiff-secrets/bailiff/sys"
	"github.com/bailiff-secrets/bailiff/usc"
)

// Run starts a server and blocks until ctx ends and everything that was started has stopped.
func Run(ctx context.Context, opts Options) error {
	if opts.Dev {
		return runDev(ctx, opts)
	}
	if opts.ConfigFile == "" {
		return errors.New("a configuration is needed: --config FILE, or --dev to try it out")
	}
	cfg, err := config.LoadServer(opts.ConfigFile)
	if err != nil {
		return err
	}
	s, err := open(ctx, cfg, opts)
	if err != nil {
		return err
	}
	return s.run(ctx, opts, nil)
}

// server is every part, wired.
type server struct {
	cfg       *config.Server
	logger    *slog.Logger
	db        store
	trail     *audit.Log
	tree      *witness
	index     *index.Index
	changed   atomic.Bool // the trail is not the one that was signed for
	estate    *estate
	leases    *broker.Broker
	rotations *rotation.Manager
	hooks     *notify.Manager
	recovery  *recovery
	guard     *guardedClaims // nil where this server is alone
	front     *front
	boot      *bootstrapper
	metrics   *metrics
	cert      *certificate
	keepers   keepers
	peers     *peer.Finder

	unreadable *unreadable

	version   string
	started   time.Time
	clusterID string // in the form of a UUID; stays the same for this store
}

// open builds the parts from the bottom up. What it opened is closed again where it fails.
func open(ctx context.Context, cfg *config.Server, opts Options) (s *server, err error) {
	s = &server{cfg: cfg, logger: newLogger(cfg, opts), metrics: newMetrics(opts.Version), version: opts.Version, started: time.Now()}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return s, fmt.Errorf("data directory: %w", err)
	}
	fault := faults(opts.Env)
	if s.trail, err = audit.Open(audit.Config{
		Dir: cfg.Audit.Dir, Node: cfg.Node, SegmentBytes: cfg.Audit.SegmentSize, ReserveBytes: cfg.Audit.Reserve, Logger: s.logger,
	}); err != nil {
		return s, err
	}
	var own ownKeys
	if s.db, own, err = openStore(ctx, cfg, s.logger); err != nil {
		return s, err
	}
	if err := s.openTree(own.trail); err != nil {
		return s, err
	}
	if err := s.openIndex(ctx); err != nil {
		return s, err
	}
	if s.clusterID, err = clusterID(ctx, s.db); err != nil {
		return s, err
	}
	manager, err := identity.NewManager(ctx, s.db)
	if err != nil {
		return s, err
	}
	s.estate = newEstate(s.db, manager, s.logger)
	if s.leases, err = broker.New(broker.Config{
		Store: s.db, Claims: s.guarded(), Catalog: s.estate, Recorder: s.trail, Node: cfg.Node, Logger: s.logger, Fault: fault,
		NameKey: own.names, Schedules: s.estate.schedules,
	}); err != nil {
		return s, err
	}
	s.estate.leases = s.leases
	if s.recovery, err = newRecovery(ctx, s.leases, s.db, s.trail, cfg.Node, cfg.Audit.Dir, s.logger); err != nil {
		return s, err
	}
	if s.guard != nil {
		s.guard.recovery = s.recovery
	}
	if err := s.rotate(fault); err != nil {
		return s, err
	}
	if err := s.webhooks(); err != nil {
		return s, err
	}
	if err := s.doors(ctx, fault); err != nil {
		return s, err
	}
	s.metrics.registry.MustRegister(newHookMetrics(s.hooks), newSweepMetrics(s.leases.Reports), newLeaseMetrics(s.leases), newTrailMetrics(s.trail), heldMetric(s.leases.Held))
	s.boot = &bootstrapper{estate: s.estate, store: s.db, trail: s.trail}
	if cfg.Listener.TLSCertFile != "" {
		s.cert, err = loadCertificate(cfg.Listener.TLSCertFile, cfg.Listener.TLSKeyFile)
	}
	return s, err
}

// claims is the store where several servers share it, so that each claims the work it does; nil where this one is alone.
func claims(db store) broker.Claimer {
	if _, shared := db.(changer); shared {
		return db
	}
	return nil
}

// guarded is claims that look first whether the store has gone back.
func (s *server) guarded() broker.Claimer {
	if claims(s.db) == nil {
		return nil
	}
	s.guard = &guardedClaims{Claimer: s.db}
	return s.guard
}

// doors builds the gate, what it guards, and the doors before it.
func (s *server) doors(ctx context.Context, fault func(string)) error {
	if err := s.openKeepers(); err != nil {
		return err
	}
	trusted, err := s.cfg.Listener.Proxies()
	if err != nil {
		return err
	}
	s.peers = &peer.Finder{Trusted: trusted}
	if err := s.openTokens(ctx, fault); err != nil {
		return err
	}
	tokenMount := &gate.Mount{Path: "auth/token/", Type: "token", Description: "token based credentials", Internal: true,
		Accessor: stableID("auth_token_", "token"), UUID: stableUUID("auth/token")}
	if err := s.openAuth(ctx, tokenMount); err != nil {
		return err
	}
	own, err := sys.New(sys.Config{
		Auth:   s.estate.auth,
		Leases: s.leases, Many: s.leases, Stuck: s.leases, Trail: s.index, Holders: s.index, Book: s.estate, Proofs: s.tree, Estate: s.estate, Mounts: s.estate.mounts, Policies: s.estate,
		Identities: identities{s.estate}, Logger: s.logger, Tokens: s.estate.tokens, Status: s.status, Version: hvp.Version,
		Recovery: s.recovery, Reconciler: s.leases, Vaults: s.estate, Wrapping: s.keepers.wraps,
	})
	if err != nil {
		return err
	}
	tokenMount.Backend = own
	s.estate.internal = []*gate.Mount{
		{Path: "sys/", Type: "system", Description: "system endpoints used for control, policy and debugging", Internal: true, Backend: own,
			Accessor: stableID("system_", "sys"), UUID: stableUUID("sys")},
		{Path: "identity/", Type: "identity", Description: "identity store", Internal: true, Backend: own,
			Accessor: stableID("identity_", "identity"), UUID: stableUUID("identity")},
		tokenMount, s.keepers.mount(),
	}
	if err := s.estate.load(ctx); err != nil {
		return err
	}
	if err := s.estate.auth.Finish(ctx); err != nil {
		s.logger.Error("auth methods that were being disabled are not cleared; the next start tries again", "error", err)
	}
	g, err := gate.New(gate.Config{
		Authenticator: spender{s.estate.tokens, s.keepers.wraps}, Policies: s.estate, Mounts: s.estate.mounts, Recorder: s.trail, Logger: s.logger,
		Wrapper: s.keepers.wraps, Finish: s.estate.tokens.Finish, Uses: uses{s.db}, Observe: s.metrics.observe, Fault: fault,
	})
	if err != nil {
		return err
	}
	s.unreadable = &unreadable{gate: g, peers: s.peers}
	connectors := usc.New(usc.Config{Gate: g, Connectors: s.estate.connector})
	vault, err := hvp.New(hvp.Config{Gate: g, Info: s.info, MaxBody: s.cfg.Limits.MaxBody, Logger: s.logger, Peers: s.peers})
	if err != nil {
		return err
	}
	rest := api.NewServer(api.Config{Gate: g, USC: connectors, MaxBody: s.cfg.Limits.MaxBody, Logger: s.logger, Peers: s.peers})
	s.front = &front{vault: vault, api: rest, ready: s.ready}
	return nil
}

// run serves until ctx ends. ready, where not nil, is called with the address once requests are answered.
func (s *server) run(ctx context.Context, opts Options, ready func(ctx context.Context, address string) error) (err error) {
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.event(ctx, "start", "the server starts, version "+opts.Version); err != nil {
		return err
	}
	if err := s.ownPasswords(ctx); err != nil {
		return err
	}
	l, err := s.listen(ctx)
	if err != nil {
		return err
	}
	s.logger.Info("serving", "address", l.front.Addr().String(), "metrics", s.cfg.Metrics.Address, "tls", s.cert != nil, "version", opts.Version)

	// The broker goes on until the doors are closed, so that what they began is finished by somebody.
	brokerCtx, stopBroker := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBroker()
	brokerDone := make(chan error, 1)
	go func() { brokerDone <- s.leases.Run(brokerCtx) }()
	rotationsDone := make(chan error, 1)
	go func() { rotationsDone <- s.rotations.Run(brokerCtx) }()
	tokensDone := make(chan error, 1)
	go func() { tokensDone <- s.estate.tokens.Run(brokerCtx) }()
	authDone := make(chan error, 1)
	go func() { authDone <- s.estate.auth.Run(brokerCtx) }()
	hooksDone := make(chan error, 1)
	go func() { hooksDone <- s.hooks.Run(brokerCtx) }()
	sweepsDone := make(chan error, 1)
	go func() { sweepsDone <- s.leases.RunSweeps(brokerCtx) }()
	indexDone := make(chan error, 1)
	go func() { indexDone <- s.index.Run(brokerCtx) }()
	treeDone := make(chan error, 1)
	go func() { treeDone <- s.followTrail(brokerCtx) }()
	notesDone := make(chan struct{})
	go func() { defer close(notesDone); s.recovery.Run(brokerCtx) }()

	err = s.serve(ctx, opts, l, ready)
	stopBroker()
	<-notesDone
	err = errors.Join(err, <-rotationsDone, <-tokensDone, <-authDone, <-hooksDone, <-sweepsDone, <-treeDone, <-indexDone)
	if e := <-brokerDone; e != nil && !errors.Is(e, context.Canceled) {
		err = errors.Join(err, e)
	}
	err = errors.Join(err, s.recovery.note(context.WithoutCancel(ctx)))
	return errors.Join(err, s.event(context.WithoutCancel(ctx), "stop", "the server stops"))
}

// listeners are open before the first of them is served: whoever finds the server ready finds all of it.
type listeners struct {
	front, metrics, admin net.Listener // metrics is nil where it is not wanted
}

func (s *server) listen(ctx context.Context) (l listeners, err error) {
	defer func() {
		if err != nil {
			for _, ln := range []net.Listener{l.front, l.metrics, l.admin} {
				if ln != nil {
					err = errors.Join(err, ln.Close())
				}
			}
		}
	}()
	if l.admin, err = s.boot.listen(ctx, s.cfg.AdminSocket); err != nil {
		return l, err
	}
	if s.cfg.Metrics.Address != "" {
		if l.metrics, err = listen(ctx, s.cfg.Metrics.Address, nil, 0, nil); err != nil {
			return l, err
		}
	}
	var proxies *peer.Finder
	if s.cfg.Listener.ProxyProtocol {
		proxies = s.peers
	}
	if l.front, err = listen(ctx, s.cfg.Listener.Address, s.cert, s.cfg.Limits.MaxConnections, proxies); err != nil {
		return l, err
	}
	return l, nil
}

func (s *server) serve(ctx context.Context, opts Options, l listeners, ready func(context.Context, string) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return serveUntil(ctx, s.httpServer(), l.front) })
	if l.metrics != nil {
		group.Go(func() error { return serveUntil(ctx, metricsServer(s.metrics.handler()), l.metrics) })
	}
	group.Go(func() error { return s.boot.serve(ctx, l.admin) })
	s.keepers.run(ctx, group)
	if shared, ok := s.db.(changer); ok {
		group.Go(func() error { s.estate.follow(ctx, shared); return nil })
	}
	if s.cert != nil && opts.Reload != nil {
		group.Go(func() error { s.cert.follow(ctx.Done(), opts.Reload, s.logger); return nil })
	}
	if ready != nil {
		group.Go(func() error { return ready(ctx, l.front.Addr().String()) })
	}
	return group.Wait()
}

// httpServer serves Vault's API in plain requests itself, and everything else by net/http.
func (s *server) httpServer() *h1.Server {
	l := s.cfg.Limits
	return h1.New(&http.Server{
		Handler:           seen(s.front),
		ReadHeaderTimeout: l.ReadHeaderTimeout,
		ReadTimeout:       l.RequestTimeout,
		WriteTimeout:      l.RequestTimeout,
		IdleTimeout:       l.IdleTimeout,
		MaxHeaderBytes:    l.MaxHeaderBytes,
		ConnContext:       s.unreadable.connContext,
		ConnState:         s.unreadable.connState,

		DisableGeneralOptionsHandler: true, // doors answer everything
		ErrorLog:                     slog.NewLogLogger(s.logger.Handler(), slog.LevelDebug),
	}, "/v1/")
}

// event records something that the server did by itself.
func (s *server) event(ctx context.Context, op, detail string) error {
	rec := &audit.Record{Stage: audit.StageEvent, Status: audit.OK, Via: string(gate.System), Op: op, Detail: detail}
	if err := s.trail.Append(ctx, rec); err != nil {
		return fmt.Errorf("record the %s of the server: %w", op, err)
	}
	return nil
}

// ready says why requests can't be served now.
func (s *server) ready(ctx context.Context) error {
	if err := s.trail.Err(); err != nil {
		return errors.New("the audit trail can't be written")
	}
	if _, _, err := s.db.Meta(ctx, metaBootstrapped); err != nil {
		return errors.New("the store can't be read")
	}
	return nil
}

// info is what Vault's status paths show. A server that can't record is as good as sealed: nothing is released.
func (s *server) info(context.Context) hvp.Info {
	return hvp.Info{
		Sealed: s.trail.Err() != nil, ClusterName: "bailiff", ClusterID: s.clusterID, StorageType: storageType(s.cfg),
	}
}

// close closes what is open, from the top down.
func (s *server) close() error {
	var errs []error
	if s.estate != nil {
		errs = append(errs, s.estate.targets.close())
	}
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	if s.index != nil {
		errs = append(errs, s.index.Close())
	}
	if s.trail != nil {
		errs = append(errs, s.trail.Close())
	}
	return errors.Join(errs...)
}

func newLogger(cfg *config.Server, opts Options) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Log.Level)); err != nil {
		level = slog.LevelInfo
	}
	o := &slog.HandlerOptions{Level: level}
	if cfg.Log.Format == "json" {
		return slog.New(slog.NewJSONHandler(opts.Stderr, o))
	}
	return slog.New(slog.NewTextHandler(opts.Stderr, o))
}
