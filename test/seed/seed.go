// Package seed writes leases into the store of a server that does not run, for tests and measurements of many.
package seed

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/internal/seal"
	"github.com/bailiff-secrets/bailiff/store/sqlite"
)

// Leases adds n leases to the SQLite store in a server's data directory; fill sets the fields of the i-th.
func Leases(ctx context.Context, dataDir string, n int, fill func(i int, l *broker.Lease)) (err error) {
	db, err := sqlite.Open(ctx, sqlite.Config{Path: filepath.Join(dataDir, "bailiff.db")})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	root, err := seal.LoadRootKey(filepath.Join(dataDir, "root.key"))
	if err != nil {
		return err
	}
	sealed, there, err := db.Meta(ctx, "keyset")
	if err != nil || !there {
		return errors.Join(errors.New("the store has no data keys"), err)
	}
	keys, err := seal.OpenKeyset(root, sealed)
	if err != nil {
		return err
	}
	db.UseSealer(keys)
	g, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range 512 { // writes at a time share a commit
		g.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return nil
				}
				var l broker.Lease
				fill(i, &l)
				if err := db.Insert(ctx, &l); err != nil {
					return fmt.Errorf("add lease %d: %w", i, err)
				}
			}
		})
	}
	return g.Wait()
}
