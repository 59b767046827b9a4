package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/seal"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/internal/testenv"
	"github.com/bailiff-secrets/bailiff/policy"
	"github.com/bailiff-secrets/bailiff/store/postgres"
	"github.com/bailiff-secrets/bailiff/store/sqlite"
)

// nowhere is a target that does nothing, and the catalogue and the trail that go with it: what is left is the work of
// keeping leases.
type nowhere struct{}

func (nowhere) Create(context.Context, broker.Spec) (*broker.Credential, error) {
	return &broker.Credential{Fields: map[string]secret.Value{"username": secret.New("u"), "password": secret.New("p")}}, nil
}
func (nowhere) Revoke(context.Context, broker.Ref) error { return nil }
func (nowhere) Role(mount, name string) (broker.Role, bool) {
	return broker.Role{Mount: mount, Name: name, Target: "nowhere", DefaultTTL: time.Hour, MaxTTL: 24 * time.Hour}, true
}
func (nowhere) Roles(string) []string                            { return []string{"ro"} }
func (nowhere) Producer(string) (broker.Producer, string, error) { return nowhere{}, "none", nil }
func (nowhere) Append(context.Context, ...*audit.Record) error   { return nil }

// leaseStore is a store that can be closed.
type leaseStore interface {
	broker.Store
	Close() error
}

// benchBookkeeping measures issues and revocations of a broker in this process whose target costs nothing, with each store.
func benchBookkeeping(ctx context.Context, env *testenv.Env, o options, out io.Writer) error {
	fmt.Fprintf(out, "Bookkeeping of leases, target and trail cost nothing\n\n| store | callers | issues/s | p99 ms | revocations/s | p99 ms |\n|---|---|---|---|---|---|\n") //nolint:errcheck // see run
	for _, kind := range []string{"SQLite", "PostgreSQL"} {
		for _, callers := range []int{64, 256} {
			if err := bookkeeping(ctx, env, o, out, kind, callers); err != nil {
				return fmt.Errorf("%s: %w", kind, err)
			}
		}
	}
	fmt.Fprintln(out) //nolint:errcheck // see run
	return nil
}

func bookkeeping(ctx context.Context, env *testenv.Env, o options, out io.Writer, kind string, callers int) (err error) {
	dir, err := os.MkdirTemp("", "bailiff-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	store, err := openStore(ctx, env, kind, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	b, err := broker.New(broker.Config{Store: store, Catalog: nowhere{}, Recorder: nowhere{}, Node: "bench", Workers: 256})
	if err != nil {
		return err
	}
	rctx, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { err = errors.Join(err, b.Run(rctx)) })
	defer running.Wait()
	defer stop()

	var mu sync.Mutex
	var ids []string
	issue, err := repeat(ctx, callers, o.seconds, func(ctx context.Context) error {
		resp, err := b.Serve(ctx, &gate.Request{
			ID: "bench", Op: policy.Read, Path: "database/creds/ro", Rest: "creds/ro", Mount: &gate.Mount{Path: "database/"},
			Caller: identity.Caller{Name: "bench", AccessID: "p-bench"},
		})
		if err == nil {
			mu.Lock()
			ids = append(ids, resp.Lease.ID)
			mu.Unlock()
		}
		return err
	})
	if err != nil {
		return err
	}
	var next atomic.Int64
	began := time.Now()
	revoke, err := repeat(ctx, callers, o.seconds, func(ctx context.Context) error {
		i := int(next.Add(1)) - 1
		if i >= len(ids) {
			return errNoMore
		}
		return b.Revoke(ctx, ids[i], true)
	})
	if errors.Is(err, errNoMore) { // it ended earlier: the rate counts what it took
		revoke.rate, err = float64(len(ids))/time.Since(began).Seconds(), nil
	}
	fmt.Fprintf(out, "| %s | %d | %.0f | %.1f | %.0f | %.1f |\n", kind, callers, issue.rate, ms(issue.p99), revoke.rate, ms(revoke.p99)) //nolint:errcheck // see run
	return err
}

var errNoMore = errors.New("every lease has been revoked")

func openStore(ctx context.Context, env *testenv.Env, kind, dir string) (leaseStore, error) {
	root, err := seal.CreateRootKey(filepath.Join(dir, "root.key"))
	if err != nil {
		return nil, err
	}
	_, keys, err := seal.NewKeyset(root)
	if err != nil {
		return nil, err
	}
	if kind == "SQLite" {
		return sqlite.Open(ctx, sqlite.Config{Path: filepath.Join(dir, "bailiff.db"), Sealer: keys})
	}
	pg, err := env.StartPostgres(ctx)
	if err != nil {
		return nil, err
	}
	db, err := postgres.Open(ctx, postgres.Config{URL: secret.New(pg.URL(pg.AdminUser, pg.AdminPassword, "postgres"))})
	if err != nil {
		return nil, err
	}
	db.UseSealer(keys)
	return db, nil
}
