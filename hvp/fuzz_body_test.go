package hvp_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/bailiff-secrets/bailiff/cubbyhole"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/document"
)

// memory is a store of documents in memory.
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

func (m *memory) Documents(context.Context, document.Query) ([]document.Document, error) {
	return nil, nil
}

func (m *memory) WriteDocuments(_ context.Context, changes ...*document.Change) error {
	for _, c := range changes {
		m.docs[c.Key] = c.Document
	}
	return nil
}

// FuzzBody writes any body through the door to a backend of our own: what is taken comes back as the same JSON, and nothing
// else is kept.
func FuzzBody(f *testing.F) {
	for _, body := range []string{
		`{"a":"b"}`, `{"a":1e400}`, `{"a":[{}],"a":2}`, `null`, `[1]`, `{"a":"\ud800"}`, `{}`, "{\"a\":\"\xff\"}", `{"a":1}{"b":2}`,
		` { "a" : 12345678901234567890 } `, `{"a":"<b>&"}`, `{"":0}`,
	} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		m := &memory{docs: map[string]document.Document{}}
		b, err := cubbyhole.New(cubbyhole.Config{
			Store: m, Alive: func(context.Context, string) (bool, error) { return true, nil }, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		h := newHandler(t, &doer{serve: func(ctx context.Context, r *gate.Request) (*gate.Response, error) {
			r.Rest, r.Caller.Accessor = strings.TrimPrefix(r.Path, "cubbyhole/"), "one"
			return b.Serve(ctx, r)
		}})
		send := func(method, body string) *httptest.ResponseRecorder {
			r := httptest.NewRequest(method, "/v1/cubbyhole/x", strings.NewReader(body))
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w
		}
		if w := send(http.MethodPut, body); w.Code != http.StatusNoContent {
			if len(m.docs) != 0 || w.Code != http.StatusBadRequest {
				t.Errorf("%q: refused with %d %s, and %d kept", body, w.Code, w.Body, len(m.docs))
			}
			return
		}
		w := send(http.MethodGet, "")
		var got struct{ Data json.RawMessage }
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusOK {
			t.Fatalf("%q: it can't be read again: %d %s", body, w.Code, w.Body)
		}
		dec := json.NewDecoder(strings.NewReader(body))
		dec.UseNumber()
		var want map[string]any
		if err := dec.Decode(&want); err != nil {
			t.Fatalf("%q is no JSON object and was taken: %v", body, err)
		}
		if text, err := json.Marshal(want); err != nil || string(got.Data) != string(text) {
			t.Errorf("%q: got %s, want %s (%v)", body, got.Data, text, err)
		}
	})
}
