package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/document"
)

// space is where mounts keep their documents, under keys that begin with the mount's accessor.
const space = "auth"

// Doc is one thing that a mount keeps, sealed.
type Doc[T any] struct {
	Key       string // below the mount: "role/ci"
	Value     T
	Keys      map[string]string // what else it is found by, in the clear
	ExpiresAt time.Time         // when it counts no more; zero: not by time

	version int64
}

// Load finds a document of a mount; nil where there is none, or where its time is over.
func Load[T any](ctx context.Context, m *Mount, key string) (*Doc[T], error) {
	d, err := m.store.Document(ctx, space, m.key(key))
	if errors.Is(err, document.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	doc, err := decode[T](m, d)
	if err != nil || doc.over() {
		return nil, err
	}
	return doc, nil
}

// List finds the documents of a mount whose keys begin with prefix, in the order of their keys.
func List[T any](ctx context.Context, m *Mount, prefix string) ([]*Doc[T], error) {
	return query[T](ctx, m, document.Query{Space: space, Prefix: m.key(prefix)})
}

// Find finds the documents of a mount that have value under the name by.
func Find[T any](ctx context.Context, m *Mount, prefix, by, value string) ([]*Doc[T], error) {
	return query[T](ctx, m, document.Query{Space: space, Prefix: m.key(prefix), By: by, Value: value})
}

func query[T any](ctx context.Context, m *Mount, q document.Query) ([]*Doc[T], error) {
	found, err := m.store.Documents(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", q.Prefix, err)
	}
	out := make([]*Doc[T], 0, len(found))
	for _, d := range found {
		doc, err := decode[T](m, d)
		if err != nil {
			return nil, err
		}
		if !doc.over() {
			out = append(out, doc)
		}
	}
	return out, nil
}

func decode[T any](m *Mount, d document.Document) (*Doc[T], error) {
	doc := &Doc[T]{Key: strings.TrimPrefix(d.Key, m.Accessor+"/"), Keys: d.Keys, ExpiresAt: d.ExpiresAt, version: d.Version}
	if err := json.Unmarshal(d.Body, &doc.Value); err != nil {
		return nil, fmt.Errorf("document %s can't be read", doc.Key)
	}
	return doc, nil
}

func (d *Doc[T]) over() bool { return !d.ExpiresAt.IsZero() && !time.Now().Before(d.ExpiresAt) }

// Version counts how often d was written; it is another one after each change.
func (d *Doc[T]) Version() int64 { return d.version }

// Put is the change that writes d, where it is still as it was read.
func (d *Doc[T]) Put(m *Mount) *document.Change {
	body, err := json.Marshal(&d.Value)
	if err != nil {
		panic(err) // what is kept are plain structs
	}
	return &document.Change{Document: document.Document{
		Space: space, Key: m.key(d.Key), Version: d.version, Body: body, Keys: d.Keys, ExpiresAt: d.ExpiresAt,
	}}
}

// Remove is the change that removes d, where it is still as it was read.
func (d *Doc[T]) Remove(m *Mount) *document.Change {
	return &document.Change{Document: document.Document{Space: space, Key: m.key(d.Key), Version: d.version}, Remove: true}
}

// Write does all changes or none; document.ErrConflict where something has changed meanwhile.
func (m *Mount) Write(ctx context.Context, changes ...*document.Change) error {
	return m.store.WriteDocuments(ctx, changes...)
}

func (m *Mount) key(key string) string { return m.Accessor + "/" + key }

// Names lists the names of a mount's documents below a prefix, which ends in a slash.
func Names(ctx context.Context, m *Mount, prefix string) ([]string, error) {
	docs, err := List[json.RawMessage](ctx, m, prefix)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(docs))
	for _, d := range docs {
		names = append(names, strings.TrimPrefix(d.Key, prefix))
	}
	return names, nil
}

// attempts is how often a change is tried that others change too.
const attempts = 16

// Again calls change until it doesn't meet a change of somebody else, for a limited number of times.
func Again(change func() error) error {
	var err error
	for range attempts {
		if err = change(); !errors.Is(err, document.ErrConflict) {
			return err
		}
	}
	return err
}

// Delete removes a document of a mount; one that is not there is no error.
func Delete[T any](ctx context.Context, m *Mount, key string) error {
	return Again(func() error {
		d, err := Load[T](ctx, m, key)
		if err != nil || d == nil {
			return err
		}
		return m.Write(ctx, d.Remove(m))
	})
}
