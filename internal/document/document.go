// Package document is the contract between a store and those who keep small, sealed things in it: tokens, entities, what auth
// methods are set up with, wrapped answers.
package document

import (
	"context"
	"errors"
	"time"
)

// ErrNotFound is returned for a document that is not there.
var ErrNotFound = errors.New("document not found")

// ErrConflict is returned by Write where a document's stored version is not the one that was expected. Nothing was written.
var ErrConflict = errors.New("document has changed meanwhile")

// Document is one sealed thing. Its Body may hold secrets; everything else is kept in the clear.
type Document struct {
	Space     string            // whose it is: "token", "entity", …; lower-case letters and "-", at most 32
	Key       string            // unique in its Space; any UTF-8, 1 to 1024 bytes
	Version   int64             // how often it was written; 0: it is not there
	Body      []byte            // at most 1 MiB (wrapped answers: 32 MiB)
	Keys      map[string]string // what else it is found by: name → value
	ExpiresAt time.Time         // when its owner removes it; zero: not by time. A store does nothing by itself
	Seq       int64             // of its last change: larger than that of every change before it, in every Space
	Deleted   bool              // only in Changes: it was removed; Body is nil
}

// Change is one part of a Write. Its Document's Version is the one that is expected to be stored; 0: that there is none.
type Change struct {
	Document
	Remove bool // remove it instead
}

// Query picks documents of one Space, in the order of their Keys. The fields that are set must all match.
type Query struct {
	Space     string
	Prefix    string    // of the Key
	By, Value string    // a name in Keys and its value
	ExpiredAt time.Time // only those with an ExpiresAt at or before this
	After     string    // only Keys larger than this
	Limit     int       // 0: no limit
}

// Store keeps documents. Everything is safe for concurrent use; a Write is durable on return, whole or not at all, and what
// reads begin afterwards on any node of the same store sees it.
type Store interface {
	// Document finds one; ErrNotFound where there is none.
	Document(ctx context.Context, space, key string) (Document, error)
	// Documents lists what q picks.
	Documents(ctx context.Context, q Query) ([]Document, error)
	// WriteDocuments does all changes or none; ErrConflict where a version isn't the one expected. Writes of several callers
	// share a commit. A value in Keys need not be unique. A change sees what those before it did. The changes' Versions are
	// increased (that of a removed document is 0) and their Seqs set when it is durable, and stay as they were otherwise.
	WriteDocuments(ctx context.Context, changes ...*Change) error
	// DocumentChanges lists up to limit documents that were changed or removed after seq, in order of Seq, each as it is now; of these
	// spaces, or of all where none is given. Removed ones are told for at least ten minutes (Kept); horizon is the smallest seq
	// from which nothing is missing: who asks for changes after a smaller one must read everything anew.
	DocumentChanges(ctx context.Context, seq int64, limit int, spaces ...string) (changed []Document, horizon int64, err error)
	// DocumentSeq is the Seq of the last change so far; who reads documents now and then asks for changes after it misses none.
	DocumentSeq(ctx context.Context) (int64, error)
}
