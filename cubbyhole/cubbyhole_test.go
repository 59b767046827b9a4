package cubbyhole_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bailiff-secrets/bailiff/cubbyhole"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/document"
	"github.com/bailiff-secrets/bailiff/internal/seal"
	"github.com/bailiff-secrets/bailiff/policy"
	"github.com/bailiff-secrets/bailiff/store/sqlite"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, dir string) *sqlite.DB {
	t.Helper()
	root, err := seal.CreateRootKey(filepath.Join(dir, "root.key"))
	must(t, err)
	_, keys, err := seal.NewKeyset(root)
	must(t, err)
	db, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(dir, "db"), Sealer: keys})
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	return db
}

func everybody(context.Context, string) (bool, error) { return true, nil }

func newBackend(t testing.TB, store document.Store, alive func(context.Context, string) (bool, error)) *cubbyhole.Backend {
	t.Helper()
	b, err := cubbyhole.New(cubbyhole.Config{Store: store, Alive: alive, Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	return b
}

// ask asks as the bearer of a token and writes down the answer.
func ask(t testing.TB, b *cubbyhole.Backend, accessor string, op policy.Operation, path, body string) string {
	t.Helper()
	r := &gate.Request{Op: op, Path: "cubbyhole/" + path, Rest: path, Caller: identity.Caller{Name: "ci", Accessor: accessor}}
	if body != "" {
		r.Body = strings.NewReader(body)
	}
	if accessor == "batch" {
		r.Caller.NoWrite = true
	}
	resp, err := b.Serve(t.Context(), r)
	var said *gate.Error
	switch {
	case errors.As(err, &said):
		return fmt.Sprintf("%d: %s", said.Kind, said.Msg)
	case err != nil:
		return "internal: " + err.Error()
	case resp.Data != nil:
		text, err := json.Marshal(resp.Data)
		must(t, err)
		return string(text)
	}
	return map[gate.Status]string{gate.NoContent: "done", gate.Missing: "missing"}[resp.Status]
}

func TestASmallStore(t *testing.T) {
	b := newBackend(t, open(t, t.TempDir()), everybody)
	const update, read, list, remove = policy.Update, policy.Read, policy.List, policy.Delete
	invalid := fmt.Sprint(int(gate.Invalid)) + ": "
	for _, step := range []struct {
		what string
		who  string
		op   policy.Operation
		path string
		body string
		want string
	}{
		{"nothing is there", "one", read, "x", "", "missing"},
		{"nothing is listed", "one", list, "", "", "missing"},
		{"a write", "one", update, "x", `{"a":"c","n":12345678901234567890}`, "done"},
		{"as it was written", "one", read, "x", "", `{"a":"c","n":12345678901234567890}`},
		{"a create is a write", "one", policy.Create, "x/y", `{"a":{"b":[1,null]}}`, "done"},
		{"below it", "one", read, "x/y", "", `{"a":{"b":[1,null]}}`},
		{"a name that begins so", "one", update, "xa", `{"a":1}`, "done"},
		{"a list shows one level", "one", list, "", "", `{"keys":["x","x/","xa"]}`},
		{"a list below", "one", list, "x", "", `{"keys":["y"]}`},
		{"a list of what has nothing below", "one", list, "xa", "", "missing"},
		{"written again", "one", update, "x", `{"b":2}`, "done"},
		{"the old is gone whole", "one", read, "x", "", `{"b":2}`},
		{"another sees nothing", "two", read, "x", "", "missing"},
		{"another lists nothing", "two", list, "", "", "missing"},
		{"another deletes nothing", "two", remove, "x", "", "done"},
		{"it is still there", "one", read, "x", "", `{"b":2}`},
		{"whose accessor begins so", "on", list, "", "", "missing"},
		{"an accessor that would reach in", "one/x", read, "y", "", fmt.Sprint(int(gate.Forbidden)) + ": a cubbyhole belongs to a token"},
		{"nobody", "", read, "x", "", fmt.Sprint(int(gate.Forbidden)) + ": a cubbyhole belongs to a token"},
		{"a delete", "one", remove, "x", "", "done"},
		{"what is below stays", "one", list, "", "", `{"keys":["x/","xa"]}`},
		{"a delete of nothing", "one", remove, "x", "", "done"},
		{"no body", "one", update, "e", "", invalid + "1 error occurred:\n\t* missing data fields\n\n"},
		{"null", "one", update, "e", "null", invalid + "1 error occurred:\n\t* missing data fields\n\n"},
		{"an empty object", "one", update, "e", "{}", invalid + "1 error occurred:\n\t* missing data fields\n\n"},
		{"no object", "one", update, "e", "[1]", invalid + "error parsing JSON"},
		{"half an object", "one", update, "e", `{"a":`, invalid + "error parsing JSON"},
		{"two objects", "one", update, "e", `{"a":1}{"b":2}`, invalid + "error parsing JSON"},
		{"no path", "one", update, "", `{"a":1}`, invalid + "1 error occurred:\n\t* missing path\n\n"},
		{"a read of no path", "one", read, "", "", invalid + "1 error occurred:\n\t* missing path\n\n"},
		{"a delete of no path", "one", remove, "", "", "done"},
		{"a long path", "one", update, strings.Repeat("p", 2000), `{"a":1}`, invalid + "the path is longer than 960 bytes"},
		{"a patch", "one", policy.Patch, "x", `{"a":1}`, fmt.Sprint(int(gate.Unsupported)) + ": 1 error occurred:\n\t* unsupported operation\n\n"},
		{"a token that keeps nothing", "batch", update, "x", `{"a":1}`, invalid + `cubbyhole operations are only supported by "service" type tokens`},
		{"too much", "one", update, "big", `{"a":"` + strings.Repeat("x", cubbyhole.MaxEntry) + `"}`, fmt.Sprint(int(gate.TooLarge)) + ": an entry of a cubbyhole is at most 524288 bytes"},
	} {
		if got := ask(t, b, step.who, step.op, step.path, step.body); got != step.want {
			t.Errorf("%s: got %s, want %s", step.what, got, step.want)
		}
	}
}

func TestACreateIsToldFromAnUpdate(t *testing.T) {
	b := newBackend(t, open(t, t.TempDir()), everybody)
	exists := func(accessor, path string) (bool, bool) {
		exists, known, err := b.Exists(t.Context(), &gate.Request{Rest: path, Caller: identity.Caller{Accessor: accessor}})
		must(t, err)
		return exists, known
	}
	if there, known := exists("one", "x"); there || !known {
		t.Errorf("before: got %v, %v", there, known)
	}
	ask(t, b, "one", policy.Update, "x", `{"a":1}`)
	if there, known := exists("one", "x"); !there || !known {
		t.Errorf("after: got %v, %v", there, known)
	}
	if there, known := exists("two", "x"); there || !known {
		t.Errorf("another's: got %v, %v", there, known)
	}
}

func TestItIsBounded(t *testing.T) {
	b := newBackend(t, open(t, t.TempDir()), everybody)
	for i := range cubbyhole.MaxEntries {
		if got := ask(t, b, "one", policy.Update, fmt.Sprintf("e/%03d", i), `{"a":1}`); got != "done" {
			t.Fatal(got)
		}
	}
	if got := ask(t, b, "one", policy.Update, "more", `{"a":1}`); !strings.Contains(got, "at most 256 entries") {
		t.Errorf("one more: got %s", got)
	}
	if got := ask(t, b, "one", policy.Update, "e/000", `{"a":2}`); got != "done" {
		t.Errorf("one that is there: got %s", got)
	}
	if got := ask(t, b, "two", policy.Update, "more", `{"a":1}`); got != "done" {
		t.Errorf("another token: got %s", got)
	}
}

func TestWritersDoNotDisturbEachOther(t *testing.T) {
	b := newBackend(t, open(t, t.TempDir()), everybody)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if got := ask(t, b, "one", policy.Update, "x", fmt.Sprintf(`{"a":%d}`, i)); got != "done" {
				t.Error(got)
			}
		})
	}
	wg.Wait()
	if got := ask(t, b, "one", policy.Read, "x", ""); !strings.HasPrefix(got, `{"a":`) {
		t.Error(got)
	}
}

func TestItEndsWithItsToken(t *testing.T) {
	b := newBackend(t, open(t, t.TempDir()), everybody)
	for _, who := range []string{"one", "on", "onee"} {
		ask(t, b, who, policy.Update, "x/y", `{"a":1}`)
		ask(t, b, who, policy.Update, "z", `{"a":1}`)
	}
	for range 2 {
		must(t, b.Forget(t.Context(), "one"))
	}
	if got := ask(t, b, "one", policy.List, "", ""); got != "missing" {
		t.Errorf("its own: got %s", got)
	}
	for _, who := range []string{"on", "onee"} {
		if got := ask(t, b, who, policy.List, "", ""); got != `{"keys":["x/","z"]}` {
			t.Errorf("that of %s: got %s", who, got)
		}
	}
	for _, bad := range []string{"", "on/x"} {
		if b.Forget(t.Context(), bad) == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

// memory is a store in memory: time in a bubble passes for it too.
type memory struct {
	document.Store
	docs map[string]document.Document
}

func (m *memory) Document(_ context.Context, _, key string) (document.Document, error) {
	doc, ok := m.docs[key]
	if !ok {
		return doc, document.ErrNotFound
	}
	return doc, nil
}

func (m *memory) Documents(_ context.Context, q document.Query) (found []document.Document, _ error) {
	for _, doc := range m.docs {
		if strings.HasPrefix(doc.Key, q.Prefix) && doc.Key > q.After {
			found = append(found, doc)
		}
	}
	return found, nil
}

func (m *memory) WriteDocuments(_ context.Context, changes ...*document.Change) error {
	for _, c := range changes {
		c.Version++
		m.docs[c.Key] = c.Document
		if c.Remove {
			delete(m.docs, c.Key)
		}
	}
	return nil
}

func TestWhatACrashLeftIsSwept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{docs: map[string]document.Document{}}
		ended := errors.New("nobody knows")
		alive := func(_ context.Context, accessor string) (bool, error) {
			if accessor == "unknown" {
				return false, ended
			}
			return accessor == "alive", nil
		}
		b := newBackend(t, m, alive)
		for _, who := range []string{"alive", "gone"} {
			ask(t, b, who, policy.Update, "x", `{"a":1}`)
		}
		must(t, b.Sweep(t.Context()))
		if len(m.docs) != 2 {
			t.Error("what was written just now is swept: another server may not know its token yet")
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- b.Run(ctx) }()
		time.Sleep(11 * time.Minute)
		synctest.Wait()
		if got := ask(t, b, "alive", policy.Read, "x", ""); got != `{"a":1}` || len(m.docs) != 1 {
			t.Errorf("got %s and %d documents, want what lives alone", got, len(m.docs))
		}
		stop()
		must(t, <-done)
		ask(t, b, "unknown", policy.Update, "x", `{"a":1}`)
		time.Sleep(2 * time.Minute)
		if err := b.Sweep(t.Context()); !errors.Is(err, ended) || len(m.docs) != 2 {
			t.Errorf("got %v and %d documents: what isn't known to have ended is kept", err, len(m.docs))
		}
	})
}

func TestNothingIsOnTheDisk(t *testing.T) {
	dir := t.TempDir()
	b := newBackend(t, open(t, dir), everybody)
	const canary = "canary-93b1c0"
	ask(t, b, "one", policy.Update, "x", `{"a":"`+canary+`"}`)
	files, err := filepath.Glob(filepath.Join(dir, "db*"))
	must(t, err)
	for _, name := range files {
		text, err := os.ReadFile(name)
		must(t, err)
		if bytes.Contains(text, []byte(canary)) {
			t.Errorf("%s holds it in the clear", filepath.Base(name))
		}
	}
}
