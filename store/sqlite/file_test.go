package sqlite_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/store/sqlite"
)

// otherProcess makes the test binary run one test as another process, in a directory.
const otherProcess = "BAILIFF_SQLITE_TEST_PLACE"

func runOther(t *testing.T, place string, env ...string) (string, *os.ProcessState) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$", "-test.timeout=60s")
	cmd.Env = append(append(os.Environ(), otherProcess+"="+place), env...)
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState
}

func TestSecondProcessIsRefused(t *testing.T) {
	ctx := t.Context()
	if place := os.Getenv(otherProcess); place != "" {
		_, err := sqlite.Open(ctx, sqlite.Config{Path: filepath.Join(place, "bailiff.db")})
		if !errors.Is(err, sqlite.ErrInUse) {
			t.Fatalf("got %v, want ErrInUse", err)
		}
		t.Fatalf("refused: %v", err)
	}
	k := openKept(t)
	out, _ := runOther(t, k.place)
	if !strings.Contains(out, "refused:") || !strings.Contains(out, "only one Bailiff may use it at a time (process ") {
		t.Errorf("the other process says: %s", out)
	}
	if _, err := sqlite.Open(ctx, sqlite.Config{Path: k.path()}); !errors.Is(err, sqlite.ErrInUse) {
		t.Errorf("in the same process: got %v, want ErrInUse", err)
	}
	link := filepath.Join(t.TempDir(), "link.db")
	if err := os.Symlink(k.path(), link); err != nil {
		t.Fatal(err)
	}
	if _, err := sqlite.Open(ctx, sqlite.Config{Path: link}); !errors.Is(err, sqlite.ErrInUse) {
		t.Errorf("through a link: got %v, want ErrInUse", err)
	}
	if err := k.Insert(ctx, lease("x")); err != nil {
		t.Errorf("after the others were refused: %v", err)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	again := openConfig(t, sqlite.Config{Path: link})
	wantThere(t, again, "x", true)
}

func TestKillAtEachPointOfTheWriter(t *testing.T) {
	for _, tt := range []struct {
		point string
		there bool
	}{
		{sqlite.PointBegin, false}, {sqlite.PointWrite, false}, {sqlite.PointCommit, false}, {sqlite.PointCommitted, true},
	} {
		t.Run(tt.point, func(t *testing.T) {
			if place := os.Getenv(otherProcess); place != "" {
				killAt(t, place, tt.point)
			}
			place := t.TempDir()
			out, state := runOther(t, place)
			if ws, ok := state.Sys().(interface{ Signaled() bool }); !ok || !ws.Signaled() {
				t.Fatalf("the process was not killed: %s", out)
			}
			wantWhole(t, place)
			db := openConfig(t, sqlite.Config{Path: filepath.Join(place, "bailiff.db")})
			wantThere(t, db, "before", true)
			wantThere(t, db, "during", tt.there)
		})
	}
}

// killAt inserts two leases and kills its own process at a point of the second.
func killAt(t *testing.T, place, point string) {
	armed := false
	db, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(place, "bailiff.db"), Fault: func(at string) error {
		if armed && at == point {
			return unix.Kill(os.Getpid(), unix.SIGKILL)
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	insert(t, db, "before")
	armed = true
	insert(t, db, "during")
	t.Fatal("still alive")
}

func TestFilesAreForTheirOwnerAlone(t *testing.T) {
	old := unix.Umask(0)
	defer unix.Umask(old)
	if _, log := openLogged(t); log.Len() > 0 {
		t.Errorf("others could read a new store for a moment: %s", log)
	}
	k := openKept(t)
	if err := k.Insert(t.Context(), lease("x")); err != nil {
		t.Fatal(err)
	}
	wantModes := func() {
		t.Helper()
		for _, end := range []string{"", "-wal", "-shm", ".lock"} {
			st, err := os.Stat(k.path() + end)
			if err != nil {
				t.Error(err)
			} else if got := st.Mode().Perm(); got != 0o600 {
				t.Errorf("the mode of bailiff.db%s is %o, want 600", end, got)
			}
		}
	}
	wantModes()
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(k.path(), 0o644); err != nil {
		t.Fatal(err)
	}
	k.Reopen(t)
	wantModes()
}

func TestConnectionsAreSetAsTheyMustBe(t *testing.T) {
	k := openKept(t)
	ctx := t.Context()
	for query, want := range map[string]string{
		"PRAGMA journal_mode": "wal", "PRAGMA synchronous": "2", "PRAGMA foreign_keys": "1", "PRAGMA busy_timeout": "5000",
		"PRAGMA trusted_schema": "0",
	} {
		if got, err := sqlite.WriterValue(ctx, k.DB, query); err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", query, got, err, want)
		}
	}
	if err := sqlite.ReaderExec(ctx, k.DB, "DELETE FROM leases"); err == nil {
		t.Error("a connection for reading could write")
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	k := openKept(t)
	if err := sqlite.Execute(t.Context(), k.DB, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)"); err != nil {
		t.Fatal(err)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := sqlite.Open(t.Context(), sqlite.Config{Path: k.path()})
	if !errors.Is(err, sqlite.ErrNewer) || !strings.Contains(err.Error(), "schema 99") {
		t.Errorf("got %v, want ErrNewer with the version", err)
	}
}

func TestFileOfSomethingElseIsRefusedAndLeftAlone(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte(strings.Repeat("some text\n", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, "other.db")
	db, err := sql.Open("sqlite", other)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("CREATE TABLE leases (x)"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(other, 0o644); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(other)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{text, other} {
		if _, err := sqlite.Open(t.Context(), sqlite.Config{Path: path}); !errors.Is(err, sqlite.ErrForeign) {
			t.Errorf("%s: got %v, want ErrForeign", path, err)
		}
	}
	if b, err := os.ReadFile(text); err != nil || !strings.HasPrefix(string(b), "some text\nsome text\n") {
		t.Errorf("the text file was changed: %v", err)
	}
	if after, err := os.ReadFile(other); err != nil || !bytes.Equal(after, before) {
		t.Errorf("the other database was changed: %v", err)
	}
	if st, err := os.Stat(other); err != nil || st.Mode().Perm() != 0o644 {
		t.Errorf("the other database has another mode: %v", err)
	}
}

func TestPathsThatCannotBe(t *testing.T) {
	dir := t.TempDir()
	for path, want := range map[string]error{
		"": nil, dir: nil, filepath.Join(dir, "missing", "bailiff.db"): fs.ErrNotExist, "/dev/null": nil,
	} {
		db, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
		if err == nil {
			t.Errorf("%q was opened", path)
			_ = db.Close()
		}
		if want != nil && !errors.Is(err, want) {
			t.Errorf("%q: got %v, want %v", path, err, want)
		}
	}
}

func TestPathsWithOddLetters(t *testing.T) {
	for _, name := range []string{"a b", "a?b=c&mode=memory", "a#b", "a%20b", "größe 🔑", "a'b\"c", "file:x", ":memory:"} {
		dir := filepath.Join(t.TempDir(), name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		db := openConfig(t, sqlite.Config{Path: path})
		insert(t, db, "x")
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if st, err := os.Stat(path); err != nil || st.Size() == 0 {
			t.Errorf("%q: the file is not where it should be: %v", name, err)
		}
		wantThere(t, openConfig(t, sqlite.Config{Path: path}), "x", true)
	}
}

func TestDamagedFileEndsWriting(t *testing.T) {
	k := openKept(t)
	ctx := t.Context()
	root, err := sqlite.WriterValue(ctx, k.DB, "SELECT rootpage FROM sqlite_schema WHERE name = 'objects'")
	if err != nil {
		t.Fatal(err)
	}
	size, err := sqlite.WriterValue(ctx, k.DB, "PRAGMA page_size")
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	scribble(t, k.path(), number(t, size)*(number(t, root)-1), number(t, size))
	db := openConfig(t, sqlite.Config{Path: k.path()})
	insert(t, db, "before")
	err = db.Apply(ctx, []object.Change{{Record: object.Record{Kind: object.KindRole, Name: "r"}}})
	if err == nil || !strings.Contains(err.Error(), "malformed") {
		t.Errorf("got %v, want an error that says malformed", err)
	}
	if err := db.Insert(ctx, lease("after")); !errors.Is(err, sqlite.ErrBroken) {
		t.Errorf("afterwards: got %v, want ErrBroken", err)
	}
	wantThere(t, db, "before", true)
}

func TestDamageFoundByReadingEndsWriting(t *testing.T) {
	k := openKept(t)
	root, err := sqlite.WriterValue(t.Context(), k.DB, "SELECT rootpage FROM sqlite_schema WHERE name = 'access_keys'")
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	scribble(t, k.path(), 4096*(number(t, root)-1), 4096)
	db := openConfig(t, sqlite.Config{Path: k.path()})
	if _, err := db.Keys(t.Context()); err == nil {
		t.Error("the damaged table was read")
	}
	if err := db.Insert(t.Context(), lease("after")); !errors.Is(err, sqlite.ErrBroken) {
		t.Errorf("afterwards: got %v, want ErrBroken", err)
	}
}

func scribble(t *testing.T, path string, at, n int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte(strings.Repeat("\xee", int(n))), at)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestSeqDoesNotGoBackWithTheClock(t *testing.T) {
	k := openKept(t)
	const future = int64(1) << 52 // in the year 2112
	statement := "UPDATE leases SET seq = ? WHERE id = 'x'"
	if err := errors.Join(k.Insert(t.Context(), lease("x")), sqlite.Execute(t.Context(), k.DB, statement, future)); err != nil {
		t.Fatal(err)
	}
	s := k.Reopen(t)
	l := lease("y")
	if err := s.Insert(context.Background(), l); err != nil {
		t.Fatal(err)
	}
	if l.Seq != future+1 {
		t.Errorf("got seq %d, want %d", l.Seq, future+1)
	}
	found, err := s.List(t.Context(), broker.Filter{AfterSeq: future})
	if err != nil || len(found) != 1 {
		t.Errorf("got %d leases after it, %v, want 1", len(found), err)
	}
}
