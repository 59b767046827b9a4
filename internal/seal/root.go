package seal

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"filippo.io/age"
)

// rootKeyMode is the mode of a root key file: its owner may read and write it, others nothing.
const rootKeyMode = 0o600

// maxRootKeyFile is far above the size of a root key file, in bytes; more is some other file.
const maxRootKeyFile = 16 << 10

// Root is a root key. It is immutable and safe for concurrent use; no formatter prints the key.
type Root struct {
	id func() *age.X25519Identity // behind a func, as in secret.Value
}

// Recipient is the public half of the root key ("age1…"): it tells one root key from another and is no secret.
func (r *Root) Recipient() string { return r.id().Recipient().String() }

// CreateRootKey makes a root key and writes it to a new file with mode 0600. The file is there whole and durable, or not at
// all, whenever the machine stops. Where path exists already it fails with fs.ErrExist and leaves it as it is.
func CreateRootKey(path string) (*Root, error) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, fmt.Errorf("making a root key: %w", err)
	}
	text := fmt.Sprintf("# Bailiff root key, made %s. Keep a copy elsewhere: without it the store can't be opened.\n# public key: %s\n%s\n",
		time.Now().UTC().Format(time.RFC3339), id.Recipient(), id)
	if err := writeNew(path, text); err != nil {
		return nil, fmt.Errorf("creating the root key file: %w", err)
	}
	return &Root{id: func() *age.X25519Identity { return id }}, nil
}

// LoadRootKey reads a root key file. It refuses a file that others than its owner may read or change, and one that does not
// hold exactly one key.
func LoadRootKey(path string) (*Root, error) {
	text, err := readPrivate(path)
	if err != nil {
		return nil, err
	}
	ids, err := age.ParseIdentities(strings.NewReader(text))
	if err != nil { // age's error may quote the line, which is the key
		return nil, fmt.Errorf("the root key file %s is damaged: it holds no whole AGE-SECRET-KEY-1… line; restore it from a copy", path)
	}
	id, ok := ids[0].(*age.X25519Identity)
	if len(ids) != 1 || !ok {
		return nil, fmt.Errorf("the root key file %s must hold one X25519 key (AGE-SECRET-KEY-1…) and no other", path)
	}
	return &Root{id: func() *age.X25519Identity { return id }}, nil
}

// readPrivate reads a small regular file that only its owner may touch.
func readPrivate(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("reading the root key: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("reading the root key: %w", err)
	}
	if !st.Mode().IsRegular() {
		return "", fmt.Errorf("the root key %s is not a regular file", path)
	}
	if perm := st.Mode().Perm(); perm&0o077 != 0 {
		return "", fmt.Errorf("others may read or change the root key file %s (mode %04o); run: chmod 600 %s", path, perm, path)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxRootKeyFile+1))
	if err != nil {
		return "", fmt.Errorf("reading the root key: %w", err)
	}
	if len(b) > maxRootKeyFile {
		return "", fmt.Errorf("the root key file %s is too long to be one", path)
	}
	return string(b), nil
}

// writeNew makes a file that did not exist, durably. The text is written to a name of its own and linked to path when it
// is on the disk: a crash leaves path whole or missing, and at worst an unused file beside it.
func writeNew(path, text string) error {
	dir := filepath.Dir(path)
	if _, err := os.Lstat(path); err == nil {
		return &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
	}
	tmp := filepath.Join(dir, "."+filepath.Base(path)+"."+rand.Text()+".tmp")
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, rootKeyMode)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Link(tmp, path) // unlike a rename, it never replaces
	}
	if err = errors.Join(err, os.Remove(tmp)); err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
