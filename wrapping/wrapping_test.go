package wrapping_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/document"
	"github.com/bailiff-secrets/bailiff/internal/seal"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/policy"
	"github.com/bailiff-secrets/bailiff/store/sqlite"
	"github.com/bailiff-secrets/bailiff/wrapping"
)

const canary = "canary-4471aa"

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// open gives a store in dir.
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

func keeper(t testing.TB, store document.Store) *wrapping.Keeper {
	t.Helper()
	k, err := wrapping.New(wrapping.Config{Store: store, Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	return k
}

func asks(ttl time.Duration) *gate.Request {
	return &gate.Request{Path: "secret/data/a", Op: policy.Read, WrapTTL: ttl, Caller: identity.Caller{Name: "ci"}}
}

func own() *gate.Response {
	return &gate.Response{
		Data: map[string]any{"password": canary}, Warnings: []string{"careful"},
		Lease: &gate.Lease{ID: "database/creds/ro/x", Renewable: true, Duration: time.Hour},
	}
}

// body notes that it was closed.
type body struct {
	io.Reader
	closed bool
}

func (b *body) Close() error { b.closed = true; return nil }

func raw(text string, length int64) (*gate.Response, *body) {
	b := &body{Reader: strings.NewReader(text)}
	return &gate.Response{Raw: &gate.Raw{Code: 200, Header: []gate.Field{{Name: "Content-Type", Value: "application/pkix-cert"}}, Body: b, Length: length}}, b
}

func text(t testing.TB, resp *gate.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Raw.Body)
	must(t, err)
	if int64(len(b)) != resp.Raw.Length {
		t.Errorf("got %d bytes, want %d", len(b), resp.Raw.Length)
	}
	return string(b)
}

func TestAnAnswerComesBackOnce(t *testing.T) {
	k := keeper(t, open(t, t.TempDir()))
	w, err := k.Wrap(t.Context(), asks(time.Minute), own())
	must(t, err)
	if w.TTL != time.Minute || w.CreationPath != "secret/data/a" || w.Accessor == "" || !wrapping.IsToken(w.Token) {
		t.Errorf("got %+v", w)
	}
	about, err := k.Lookup(t.Context(), w.Token)
	must(t, err)
	if about.Accessor != w.Accessor || about.CreationPath != w.CreationPath || about.TTL != time.Minute || about.By != "ci" || !about.CreationTime.Equal(w.CreationTime) {
		t.Errorf("a look at it: got %+v, want what %+v says", about, w)
	}
	resp, about, err := k.Open(t.Context(), w.Token, "id-2")
	must(t, err)
	const want = `{"request_id":"id-2","lease_id":"database/creds/ro/x","renewable":true,"lease_duration":3600,"data":{"password":"` + canary +
		`"},"wrap_info":null,"warnings":["careful"],"auth":null}` + "\n"
	if got := text(t, resp); got != want || resp.Raw.Code != 200 || about.Accessor != w.Accessor {
		t.Errorf("got %d %s, want %s", resp.Raw.Code, got, want)
	}
	if _, _, err := k.Open(t.Context(), w.Token, "id-3"); !errors.Is(err, wrapping.ErrNoToken) {
		t.Errorf("a second time: got %v, want ErrNoToken", err)
	}
	if _, err := k.Lookup(t.Context(), w.Token); !errors.Is(err, wrapping.ErrNoToken) {
		t.Errorf("a look afterwards: got %v, want ErrNoToken", err)
	}
}

func TestATargetsAnswerComesBackAsItWas(t *testing.T) {
	k := keeper(t, open(t, t.TempDir()))
	for name, c := range map[string]struct{ body, want string }{
		"an envelope has the id of who opens it":    {`{"request_id":"of-vault","lease_id":"","data":{"a":"<b>"}}`, `{"request_id":"id-9","lease_id":"","data":{"a":"<b>"}}`},
		"what is no envelope stays":                 {"\x00\x01binary\n\n", "\x00\x01binary\n\n"},
		"what only begins as one stays":             {`{"request_id":"broken`, `{"request_id":"broken`},
		"a field of that name elsewhere stays":      {`{"data":{"request_id":"x"}}`, `{"data":{"request_id":"x"}}`},
		"another field of the envelope comes first": {`{"z":1,"request_id":"x"}`, `{"z":1,"request_id":"x"}`},
	} {
		t.Run(name, func(t *testing.T) {
			resp, b := raw(c.body, int64(len(c.body)))
			w, err := k.Wrap(t.Context(), asks(time.Minute), resp)
			must(t, err)
			if !b.closed {
				t.Error("the target's body was left open")
			}
			got, _, err := k.Open(t.Context(), w.Token, "id-9")
			must(t, err)
			if s := text(t, got); s != c.want || got.Raw.Header[0].Value != "application/pkix-cert" {
				t.Errorf("got %q as %v, want %q", s, got.Raw.Header, c.want)
			}
		})
	}
}

func TestAnAnswerThatCannotBeKeptIsRefused(t *testing.T) {
	db := open(t, t.TempDir())
	k := keeper(t, db)
	short, _ := raw("abc", 10)
	long, _ := raw("abc", 2)
	broken, _ := raw("", -1)
	broken.Raw.Body = &body{Reader: io.MultiReader(strings.NewReader("abc"), failing{})}
	said, _ := raw("abc", wrapping.MaxAnswer+1)
	endless, _ := raw("", -1)
	endless.Raw.Body = &body{Reader: forever{}}
	for name, resp := range map[string]*gate.Response{
		"shorter than it said": short, "longer than it said": long, "broken in the middle": broken, "too large by its word": said, "without an end": endless,
		"no JSON": {Data: map[string]any{"f": func() {}}},
	} {
		if w, err := k.Wrap(t.Context(), asks(time.Minute), resp); err == nil {
			t.Errorf("%s: got %+v, want an error", name, w)
		}
	}
	if found, err := db.Documents(t.Context(), document.Query{Space: "wrap"}); err != nil || len(found) != 0 {
		t.Errorf("got %d documents and %v, want none", len(found), err)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("cable cut") }

type forever struct{}

func (forever) Read(p []byte) (int, error) { return len(p), nil }

func TestOneOfManyOpensIt(t *testing.T) {
	db := open(t, t.TempDir())
	nodes := []*wrapping.Keeper{keeper(t, db), keeper(t, db)}
	for range 5 {
		w, err := nodes[0].Wrap(t.Context(), asks(time.Minute), own())
		must(t, err)
		var got, missed int
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				var err error
				if i%4 == 3 {
					_, err = nodes[i%2].Rewrap(t.Context(), w.Token)
				} else {
					_, _, err = nodes[i%2].Open(t.Context(), w.Token, "id")
				}
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					got++
				case errors.Is(err, wrapping.ErrNoToken):
					missed++
				default:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got != 1 || missed != 15 {
			t.Errorf("%d got it and %d did not, want 1 and 15", got, missed)
		}
	}
}

func TestATokenIsReplaced(t *testing.T) {
	k := keeper(t, open(t, t.TempDir()))
	w, err := k.Wrap(t.Context(), asks(5*time.Minute), own())
	must(t, err)
	fresh, err := k.Rewrap(t.Context(), w.Token)
	must(t, err)
	if fresh.TTL != w.TTL || fresh.CreationPath != w.CreationPath || fresh.Accessor == w.Accessor || fresh.Token.Reveal() == w.Token.Reveal() {
		t.Errorf("got %+v from %+v", fresh, w)
	}
	if _, _, err := k.Open(t.Context(), w.Token, "id"); !errors.Is(err, wrapping.ErrNoToken) {
		t.Errorf("the old token: got %v, want ErrNoToken", err)
	}
	resp, _, err := k.Open(t.Context(), fresh.Token, "id")
	must(t, err)
	if !strings.Contains(text(t, resp), canary) {
		t.Error("the new token opens something else")
	}
}

func TestATokenIsGoodOnceWhateverFor(t *testing.T) {
	k := keeper(t, open(t, t.TempDir()))
	w, err := k.Wrap(t.Context(), asks(time.Minute), own())
	must(t, err)
	about, err := k.Spend(t.Context(), w.Token)
	must(t, err)
	if about.Accessor != w.Accessor {
		t.Errorf("got %+v", about)
	}
	if _, err := k.Spend(t.Context(), w.Token); !errors.Is(err, wrapping.ErrNoToken) {
		t.Errorf("a second time: got %v, want ErrNoToken", err)
	}
	if _, _, err := k.Open(t.Context(), w.Token, "id"); !errors.Is(err, wrapping.ErrNoToken) {
		t.Errorf("got %v, want ErrNoToken", err)
	}
}

func TestAnAccessorEndsIt(t *testing.T) {
	k := keeper(t, open(t, t.TempDir()))
	w, err := k.Wrap(t.Context(), asks(time.Minute), own())
	must(t, err)
	other, err := k.Wrap(t.Context(), asks(time.Minute), own())
	must(t, err)
	must(t, k.Forget(t.Context(), w.Accessor))
	for _, accessor := range []string{w.Accessor, "", "nosuch"} {
		if err := k.Forget(t.Context(), accessor); !errors.Is(err, wrapping.ErrNoToken) {
			t.Errorf("%q: got %v, want ErrNoToken", accessor, err)
		}
	}
	if _, _, err := k.Open(t.Context(), w.Token, "id"); !errors.Is(err, wrapping.ErrNoToken) {
		t.Errorf("got %v, want ErrNoToken", err)
	}
	if _, _, err := k.Open(t.Context(), other.Token, "id"); err != nil {
		t.Errorf("another answer: %v", err)
	}
}

// memory is a store in memory: time in a bubble passes for it too.
type memory struct {
	document.Store
	mu   sync.Mutex
	docs map[string]document.Document
}

func (m *memory) Document(_ context.Context, _, key string) (document.Document, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	doc, ok := m.docs[key]
	if !ok {
		return doc, document.ErrNotFound
	}
	return doc, nil
}

func (m *memory) Documents(_ context.Context, q document.Query) (found []document.Document, _ error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, doc := range m.docs {
		if !doc.ExpiresAt.After(q.ExpiredAt) && len(found) < q.Limit {
			found = append(found, doc)
		}
	}
	return found, nil
}

func (m *memory) WriteDocuments(_ context.Context, changes ...*document.Change) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range changes {
		if m.docs[c.Key].Version != c.Version {
			return document.ErrConflict
		}
		c.Version++
		m.docs[c.Key] = c.Document
		if c.Remove {
			delete(m.docs, c.Key)
		}
	}
	return nil
}

func TestTimeEndsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{docs: map[string]document.Document{}}
		k := keeper(t, m)
		for range 250 {
			_, err := k.Wrap(t.Context(), asks(30*time.Second), own())
			must(t, err)
		}
		w, err := k.Wrap(t.Context(), asks(90*time.Second), own())
		must(t, err)
		time.Sleep(90*time.Second - time.Nanosecond)
		if _, err := k.Lookup(t.Context(), w.Token); err != nil {
			t.Errorf("just before its end: %v", err)
		}
		time.Sleep(time.Nanosecond)
		if _, err := k.Lookup(t.Context(), w.Token); !errors.Is(err, wrapping.ErrNoToken) {
			t.Errorf("a look at its end: got %v, want ErrNoToken", err)
		}
		if _, err := k.Rewrap(t.Context(), w.Token); !errors.Is(err, wrapping.ErrNoToken) {
			t.Errorf("a new token at its end: got %v, want ErrNoToken", err)
		}
		if _, _, err := k.Open(t.Context(), w.Token, "id"); !errors.Is(err, wrapping.ErrNoToken) {
			t.Errorf("at its end: got %v, want ErrNoToken", err)
		}
		kept, err := k.Wrap(t.Context(), asks(time.Hour), own())
		must(t, err)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- k.Run(ctx) }()
		synctest.Wait()
		if len(m.docs) != 1 {
			t.Errorf("%d documents are left, want the one that can be opened", len(m.docs))
		}
		time.Sleep(time.Hour + time.Minute)
		synctest.Wait()
		if len(m.docs) != 0 {
			t.Errorf("%d documents are left after an hour, want none: %v", len(m.docs), kept.Accessor)
		}
		stop()
		must(t, <-ended)
	})
}

func TestNothingIsOnTheDisk(t *testing.T) {
	dir := t.TempDir()
	db := open(t, dir)
	k := keeper(t, db)
	w, err := k.Wrap(t.Context(), asks(time.Minute), own())
	must(t, err)
	files, err := filepath.Glob(filepath.Join(dir, "db*"))
	must(t, err)
	for _, name := range files {
		b, err := os.ReadFile(name)
		must(t, err)
		for what, s := range map[string]string{"the answer": canary, "its token": w.Token.Reveal()} {
			if bytes.Contains(b, []byte(s)) {
				t.Errorf("%s holds %s in the clear", filepath.Base(name), what)
			}
		}
	}
	found, err := db.Documents(t.Context(), document.Query{Space: "wrap"})
	must(t, err)
	all, err := json.Marshal(found)
	must(t, err)
	if len(found) != 1 || bytes.Contains(all, []byte(w.Token.Reveal())) {
		t.Error("the token itself is kept")
	}
}

func TestTokensHaveOneForm(t *testing.T) {
	k := keeper(t, open(t, t.TempDir()))
	w, err := k.Wrap(t.Context(), asks(time.Minute), own())
	must(t, err)
	good := w.Token.Reveal()
	last := byte('a')
	if good[len(good)-1] == last {
		last = 'b'
	}
	for name, bad := range map[string]string{
		"nothing": "", "cut": good[:len(good)-1], "longer": good + "a", "another prefix": "bt" + good[2:], "a slip": good[:len(good)-1] + string(last),
		"upper case": strings.ToUpper(good), "a space": good + " ",
	} {
		if wrapping.IsToken(secret.New(bad)) {
			t.Errorf("%s: it passes", name)
		}
		if _, _, err := k.Open(t.Context(), secret.New(bad), "id"); !errors.Is(err, wrapping.ErrNoToken) {
			t.Errorf("%s: got %v, want ErrNoToken", name, err)
		}
	}
	if _, _, err := k.Open(t.Context(), secret.New(good), "id"); err != nil {
		t.Error(err)
	}
}

func TestListsAndLoginsAreToldAsVaultTellsThem(t *testing.T) {
	k := keeper(t, open(t, t.TempDir()))
	r := asks(time.Minute)
	r.Op = policy.List
	w, err := k.Wrap(t.Context(), r, own())
	must(t, err)
	if w.CreationPath != "secret/data/a/" {
		t.Errorf("got %q, want a slash behind what was listed", w.CreationPath)
	}
	w, err = k.Wrap(t.Context(), asks(time.Minute), &gate.Response{Auth: &gate.Auth{ClientToken: secret.New("bt_x"), Accessor: "inner"}})
	must(t, err)
	if w.WrappedAccessor != "inner" {
		t.Errorf("got the wrapped accessor %q, want that of the token within", w.WrappedAccessor)
	}
}
