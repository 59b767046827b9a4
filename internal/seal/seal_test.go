package seal_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/bailiff-secrets/bailiff/internal/seal"
)

func newRoot(t *testing.T) (*seal.Root, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "root.key")
	root, err := seal.CreateRootKey(path)
	if err != nil {
		t.Fatal(err)
	}
	return root, path
}

func newKeyset(t *testing.T) (*seal.Root, []byte, *seal.Keyset) {
	t.Helper()
	root, _ := newRoot(t)
	sealed, k, err := seal.NewKeyset(root)
	if err != nil {
		t.Fatal(err)
	}
	return root, sealed, k
}

func mustSeal(t *testing.T, s seal.Sealer, plain, where string) []byte {
	t.Helper()
	b, err := s.Seal([]byte(plain), where)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func wantOpen(t *testing.T, s seal.Sealer, sealed []byte, where, want string) {
	t.Helper()
	got, err := s.Open(sealed, where)
	if err != nil || string(got) != want {
		t.Errorf("Open at %s: got %q, %v, want %q", where, got, err, want)
	}
}

func TestSealedValueStaysInItsPlace(t *testing.T) {
	_, _, k := newKeyset(t)
	_, _, other := newKeyset(t)
	const where = "leases|database/creds/app/x|data"
	sealed := mustSeal(t, k, "plain", where)
	if bytes.Contains(sealed, []byte("plain")) {
		t.Errorf("the sealed value holds its plain text: %q", sealed)
	}
	if again := mustSeal(t, k, "plain", where); bytes.Equal(sealed, again) {
		t.Error("sealing the same twice gave the same bytes")
	}
	wantOpen(t, k, sealed, where, "plain")
	wantOpen(t, k, mustSeal(t, k, "", where), where, "")

	changed := bytes.Clone(sealed)
	changed[len(changed)-1] ^= 1
	for _, tt := range []struct {
		name   string
		sealer seal.Sealer
		sealed []byte
		where  string
	}{
		{"another row", k, sealed, "leases|database/creds/app/y|data"},
		{"another column", k, sealed, "leases|database/creds/app/x|error"},
		{"another table", k, sealed, "objects|database/creds/app/x|data"},
		{"no place", k, sealed, ""},
		{"one bit changed", k, changed, where},
		{"cut short", k, sealed[:len(sealed)-1], where},
		{"nothing", k, nil, where},
		{"another keyset", other, sealed, where},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.sealer.Open(tt.sealed, tt.where)
			if !errors.Is(err, seal.ErrOpen) || got != nil {
				t.Errorf("got %q, %v, want ErrOpen", got, err)
			}
		})
	}
}

func TestKeysetOpensWithItsRootKeyAlone(t *testing.T) {
	root, path := newRoot(t)
	sealed, k, err := seal.NewKeyset(root)
	if err != nil {
		t.Fatal(err)
	}
	value := mustSeal(t, k, "v", "w")

	loaded, err := seal.LoadRootKey(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := loaded.Recipient(), root.Recipient(); got != want || !strings.HasPrefix(got, "age1") {
		t.Errorf("the loaded root key is %s, want %s", got, want)
	}
	again, err := seal.OpenKeyset(loaded, sealed)
	if err != nil {
		t.Fatal(err)
	}
	wantOpen(t, again, value, "w", "v")

	other, _ := newRoot(t)
	if _, err := seal.OpenKeyset(other, sealed); !errors.Is(err, seal.ErrRootKey) {
		t.Errorf("with another root key: got %v, want ErrRootKey", err)
	}
	for name, damaged := range map[string][]byte{
		"empty": nil, "cut short": sealed[:len(sealed)/2], "garbage": []byte("garbage"),
	} {
		if _, err := seal.OpenKeyset(root, damaged); err == nil || errors.Is(err, seal.ErrRootKey) {
			t.Errorf("a keyset that is %s: got %v, want an error that is not ErrRootKey", name, err)
		}
	}
}

func TestRotationKeepsOldValuesReadable(t *testing.T) {
	root, first, k := newKeyset(t)
	values := map[string][]byte{"0": mustSeal(t, k, "0", "w")}
	var kept []byte
	for i := 1; i <= 3; i++ {
		if err := k.Rotate(func(sealed []byte) error { kept = sealed; return nil }); err != nil {
			t.Fatal(err)
		}
		values[fmt.Sprint(i)] = mustSeal(t, k, fmt.Sprint(i), "w")
	}
	if got := k.Len(); got != 4 {
		t.Errorf("got %d keys, want 4", got)
	}
	reopened, err := seal.OpenKeyset(root, kept)
	if err != nil {
		t.Fatal(err)
	}
	for want, sealed := range values {
		wantOpen(t, k, sealed, "w", want)
		wantOpen(t, reopened, sealed, "w", want)
	}
	old, err := seal.OpenKeyset(root, first)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := old.Open(values["3"], "w"); !errors.Is(err, seal.ErrOpen) {
		t.Errorf("the first keyset opened a value of a later key: %v", err)
	}
}

func TestRotationThatIsNotKeptChangesNothing(t *testing.T) {
	root, sealed, k := newKeyset(t)
	full := errors.New("disk full")
	if err := k.Rotate(func([]byte) error { return full }); !errors.Is(err, full) {
		t.Errorf("got %v, want %v", err, full)
	}
	after := mustSeal(t, k, "v", "w")
	stored, err := seal.OpenKeyset(root, sealed)
	if err != nil {
		t.Fatal(err)
	}
	wantOpen(t, stored, after, "w", "v")
}

func TestSealingDuringRotation(t *testing.T) {
	_, _, k := newKeyset(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				b, err := k.Seal([]byte("v"), "w")
				if err == nil {
					_, err = k.Open(b, "w")
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 5 {
		if err := k.Rotate(func([]byte) error { return nil }); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
}

func TestRootKeyFileIsPrivate(t *testing.T) {
	_, path := newRoot(t)
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := st.Mode().Perm(); got != 0o600 {
		t.Errorf("mode: got %o, want 600", got)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("the directory holds %v, %v, want the root key alone", entries, err)
	}
	for _, mode := range []fs.FileMode{0o640, 0o604, 0o620, 0o602, 0o601, 0o644} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := seal.LoadRootKey(path); err == nil || !strings.Contains(err.Error(), "chmod 600 "+path) {
			t.Errorf("mode %o: got %v, want a refusal that says chmod", mode, err)
		}
	}
	if err := os.Chmod(path, 0o400); err != nil {
		t.Fatal(err)
	}
	if _, err := seal.LoadRootKey(path); err != nil {
		t.Errorf("mode 400: %v", err)
	}
}

func TestRootKeyFileIsNeverReplaced(t *testing.T) {
	_, path := newRoot(t)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := seal.CreateRootKey(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v, want fs.ErrExist", err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file was changed (%v)", err)
	}
	dangling := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink("nowhere", dangling); err != nil {
		t.Fatal(err)
	}
	if _, err := seal.CreateRootKey(dangling); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a dangling link: got %v, want fs.ErrExist", err)
	}
	if _, err := seal.CreateRootKey(filepath.Join(t.TempDir(), "missing", "root.key")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing directory: got %v, want fs.ErrNotExist", err)
	}
}

func TestConcurrentCreationHasOneWinner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "root.key")
	roots := make([]*seal.Root, 8)
	var wg sync.WaitGroup
	for i := range roots {
		wg.Go(func() { roots[i], _ = seal.CreateRootKey(path) })
	}
	wg.Wait()
	loaded, err := seal.LoadRootKey(path)
	if err != nil {
		t.Fatal(err)
	}
	won := 0
	for _, r := range roots {
		if r != nil {
			won++
			if r.Recipient() != loaded.Recipient() {
				t.Error("somebody was given a root key that is not in the file")
			}
		}
	}
	if won != 1 {
		t.Errorf("%d of 8 made the file, want 1", won)
	}
}

func TestDamagedRootKeyFileIsRefused(t *testing.T) {
	_, path := newRoot(t)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, otherPath := newRoot(t)
	second, err := os.ReadFile(otherPath)
	if err != nil {
		t.Fatal(err)
	}
	start := bytes.LastIndex(whole, []byte("AGE-SECRET-KEY-1"))
	key := string(whole[start : len(whole)-1])
	for name, text := range map[string][]byte{
		"empty":               nil,
		"cut in the key":      whole[:start+20],
		"one letter short":    whole[:len(whole)-2],
		"comments alone":      whole[:start],
		"two keys":            append(bytes.Clone(whole), second...),
		"no key":              []byte("hello\n"),
		"a recipient instead": []byte("age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq\n"),
		"very long":           bytes.Repeat([]byte("#\n"), 10_000),
	} {
		t.Run(name, func(t *testing.T) {
			p := filepath.Join(t.TempDir(), "root.key")
			if err := os.WriteFile(p, text, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := seal.LoadRootKey(p)
			if err == nil || !strings.Contains(err.Error(), p) {
				t.Fatalf("got %v, want an error that names the file", err)
			}
			if strings.Contains(err.Error(), key[:24]) {
				t.Errorf("the error quotes the key: %v", err)
			}
		})
	}
	if _, err := seal.LoadRootKey(t.TempDir()); err == nil {
		t.Error("a directory was taken for a root key")
	}
	if _, err := seal.LoadRootKey(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: got %v, want fs.ErrNotExist", err)
	}
}

func TestKeysAreNeverPrinted(t *testing.T) {
	root, path := newRoot(t)
	_, k, err := seal.NewKeyset(root)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	key := string(file[bytes.LastIndex(file, []byte("AGE-SECRET-KEY-1")) : len(file)-1])
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		for _, v := range []any{root, *root, k} {
			out := fmt.Sprintf(verb, v)
			if strings.Contains(out, key) || strings.Contains(out, fmt.Sprintf("%x", key)) {
				t.Errorf("%s of a %T prints the root key", verb, v)
			}
		}
	}
}
