package broker_test

import (
	"path/filepath"
	"testing"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/internal/seal"
	"github.com/bailiff-secrets/bailiff/store/sqlite"
)

// openSQLite opens a new store on a real file.
func openSQLite(t *testing.T) broker.Store {
	t.Helper()
	dir := t.TempDir()
	root, err := seal.CreateRootKey(filepath.Join(dir, "root.key"))
	if err != nil {
		t.Fatal(err)
	}
	_, keys, err := seal.NewKeyset(root)
	if err != nil {
		t.Fatal(err)
	}
	db, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(dir, "bailiff.db"), Sealer: keys})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}
