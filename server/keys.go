package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/bailiff-secrets/bailiff/internal/config"
	"github.com/bailiff-secrets/bailiff/internal/seal"
	"github.com/bailiff-secrets/bailiff/store/sqlite"
)

const metaKeyset = "keyset"

// openStore opens the store with its data keys. The first start makes them, and the root key file where there is none.
func openStore(ctx context.Context, cfg *config.Server, logger *slog.Logger) (*sqlite.DB, error) {
	db, err := sqlite.Open(ctx, sqlite.Config{Path: storePath(cfg), Logger: logger})
	if err != nil {
		return nil, err
	}
	keys, err := openKeys(ctx, db, cfg.RootKeyFile, logger)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	db.UseSealer(keys)
	return db, nil
}

// openKeys reads the sealed keyset, or makes one. The root key file is durable before the keyset that it seals, so that a
// crash between the two leaves a key without data, never data without its key.
func openKeys(ctx context.Context, db *sqlite.DB, path string, logger *slog.Logger) (*seal.Keyset, error) {
	sealed, there, err := db.Meta(ctx, metaKeyset)
	if err != nil {
		return nil, err
	}
	root, err := seal.LoadRootKey(path)
	switch {
	case err == nil:
	case errors.Is(err, os.ErrNotExist) && there:
		return nil, fmt.Errorf("the root key file %s is missing, and the store is sealed to it: put it back from where it is kept", path)
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
	if stored, err := db.PutMetaOnce(ctx, metaKeyset, sealed); err != nil || !stored {
		return nil, errors.Join(err, errors.New("the data keys could not be stored"))
	}
	return keys, nil
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
