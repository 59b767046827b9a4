package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/config"
	"github.com/bailiff-secrets/bailiff/internal/document"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/seal"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/rotation"
	"github.com/bailiff-secrets/bailiff/store/postgres"
	"github.com/bailiff-secrets/bailiff/store/sqlite"
)

const metaKeyset = "keyset"

// store is all that is kept.
type store interface {
	leaseStore
	recordStore
	UseSealer(s seal.Sealer)
	Close() error
}

// leaseStore keeps leases, and what is done with many of them.
type leaseStore interface {
	broker.Store
	broker.Claimer
	broker.Counter
	broker.Revocations
	broker.Expirer
}

// recordStore keeps everything else.
type recordStore interface {
	object.Store
	identity.KeyStore
	rotation.Store
	document.Store
	metaStore
}

// ownKeys are the keys that a store keeps for its servers.
type ownKeys struct {
	names []byte      // of the check in the names of credentials
	trail *signingKey // of this node's audit trail
}

// openStore opens the store with its data keys and gives the keys that are kept in it. The first start makes them, and the root key file
// where there is none.
func openStore(ctx context.Context, cfg *config.Server, logger *slog.Logger) (store, ownKeys, error) {
	var db store
	var err error
	if p := cfg.Store.Postgres; p != nil {
		db, err = openPostgres(ctx, p, logger)
	} else {
		db, err = openSQLite(ctx, cfg, logger)
	}
	if err != nil {
		return nil, ownKeys{}, err
	}
	keys, err := openKeys(ctx, db, cfg.RootKeyFile, logger)
	if err != nil {
		return nil, ownKeys{}, errors.Join(err, db.Close())
	}
	db.UseSealer(keys)
	var own ownKeys
	if own.names, err = nameKey(ctx, db, keys); err == nil {
		own.trail, err = trailKey(ctx, db, keys, cfg.Node)
	}
	if err != nil {
		return nil, ownKeys{}, errors.Join(err, db.Close())
	}
	return db, own, nil
}

const (
	metaNameKey  = "name-key"
	nameKeyPlace = "meta|" + metaNameKey + "|value"
)

// nameKey is the key of the check in the names of credentials. It is made once for a store.
func nameKey(ctx context.Context, db onceStore, s seal.Sealer) ([]byte, error) {
	key := make([]byte, 32)
	rand.Read(key) // never fails: the runtime ends the process where there is no randomness
	sealed, err := s.Seal(key, nameKeyPlace)
	if err != nil {
		return nil, err
	}
	if _, err := db.PutMetaOnce(ctx, metaNameKey, sealed); err != nil {
		return nil, fmt.Errorf("store the key of names: %w", err)
	}
	if sealed, _, err = db.Meta(ctx, metaNameKey); err != nil {
		return nil, err
	}
	if key, err = s.Open(sealed, nameKeyPlace); err != nil {
		return nil, fmt.Errorf("open the key of names: %w", err)
	}
	return key, nil
}

func openSQLite(ctx context.Context, cfg *config.Server, logger *slog.Logger) (store, error) {
	db, err := sqlite.Open(ctx, sqlite.Config{Path: filepath.Join(cfg.DataDir, "bailiff.db"), Logger: logger})
	if err != nil {
		return nil, err
	}
	return db, nil
}

func openPostgres(ctx context.Context, p *config.Postgres, logger *slog.Logger) (store, error) {
	c := postgres.Config{URL: secret.New(p.URL), MaxConnections: p.MaxConnections, Logger: logger}
	for _, f := range []struct {
		path string
		to   *secret.Value
	}{{p.URLFile, &c.URL}, {p.PasswordFile, &c.Password}} {
		if f.path == "" {
			continue
		}
		b, err := os.ReadFile(f.path)
		if err != nil {
			return nil, fmt.Errorf("opening the store: %w", err)
		}
		*f.to = secret.New(strings.TrimRight(string(b), "\r\n"))
	}
	db, err := postgres.Open(ctx, c)
	if err != nil {
		return nil, err
	}
	return db, nil
}

// storageType is Vault's word for the store.
func storageType(cfg *config.Server) string {
	if cfg.Store.Postgres != nil {
		return "postgresql"
	}
	return "sqlite"
}

// openKeys reads the sealed keyset, or makes one. The root key file is durable before the keyset that it seals, so that a
// crash between the two leaves a key without data, never data without its key.
func openKeys(ctx context.Context, db onceStore, path string, logger *slog.Logger) (*seal.Keyset, error) {
	sealed, there, err := db.Meta(ctx, metaKeyset)
	if err != nil {
		return nil, err
	}
	root, err := seal.LoadRootKey(path)
	switch {
	case err == nil:
	case errors.Is(err, os.ErrNotExist) && there:
		return nil, fmt.Errorf("the root key file %s is missing, and the store is sealed to it: put it back from where it is kept, or copy it from another server of this store", path)
	case errors.Is(err, os.ErrNotExist):
		if root, err = seal.CreateRootKey(path); err != nil {
			return nil, err
		}
		logger.Warn("made a root key: keep a copy of it apart from the data", "file", path)
	default:
		return nil, err
	}
	if there {
		return seal.OpenKeyset(root, sealed)
	}
	sealed, keys, err := seal.NewKeyset(root)
	if err != nil {
		return nil, err
	}
	stored, err := db.PutMetaOnce(ctx, metaKeyset, sealed)
	if err != nil {
		return nil, fmt.Errorf("store the data keys: %w", err)
	}
	if stored {
		return keys, nil
	}
	// Another server of this store was quicker.
	if sealed, _, err = db.Meta(ctx, metaKeyset); err != nil {
		return nil, err
	}
	return seal.OpenKeyset(root, sealed)
}

const metaCluster = "cluster-id"

// clusterID is made once for a store.
func clusterID(ctx context.Context, db onceStore) (string, error) {
	if _, err := db.PutMetaOnce(ctx, metaCluster, []byte(stableUUID(rand.Text()))); err != nil {
		return "", err
	}
	id, _, err := db.Meta(ctx, metaCluster)
	return string(id), err
}
