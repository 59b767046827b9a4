package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/document"
)

// Ager is a store whose clock can be set on, for the documents that it removed.
type Ager interface {
	// AgeDocuments makes every removal look as if it had been d earlier.
	AgeDocuments(t testing.TB, d time.Duration)
}

// RunDocuments runs the contract of document.Store. Each test has a store of its own.
func RunDocuments(t *testing.T, open func(t testing.TB) document.Store) {
	for title, test := range map[string]func(*testing.T, document.Store){
		"a document comes back as it was written":        documentComesBack,
		"a wrong version is ErrConflict":                 documentStale,
		"changes are made all or not at all":             documentAllOrNothing,
		"a change sees what those before it did":         documentInOrder,
		"a removed one is gone, and begins anew":         documentRemoved,
		"they are picked by prefix, in order of keys":    documentPrefix,
		"they are found by what they are found by":       documentBy,
		"those whose time is over are found":             documentExpired,
		"spaces are apart":                               documentSpaces,
		"hostile keys are only keys":                     documentHostile,
		"what is malformed is refused":                   documentMalformed,
		"an ended context writes nothing":                documentEnded,
		"changes are told in their order":                documentChanges,
		"changes of one space are told alone":            documentChangesOf,
		"removed ones are told of, and then no more":     documentHorizon,
		"of many who write one version one is let":       documentOneWins,
		"a follower misses nothing while others write":   documentFollowed,
		"writes of several share a commit":               documentShared,
		"bodies are not on the disk, what finds them is": documentSealed,
		"documents are there after the store's reopen":   documentKept,
		"large ones come back":                           documentLarge,
	} {
		t.Run(title, func(t *testing.T) { test(t, open(t)) })
	}
}

// newDocument is the writing of a document with every field set.
func newDocument(key string, with ...func(*document.Change)) *document.Change {
	c := &document.Change{Document: document.Document{
		Space: "test", Key: key, Body: []byte("body of " + key), Keys: map[string]string{"name": "n-" + key, "all": "yes"}, ExpiresAt: epoch(),
	}}
	for _, f := range with {
		f(c)
	}
	return c
}

func inSpace(space string) func(*document.Change) {
	return func(c *document.Change) { c.Space = space }
}

func versioned(v int64) func(*document.Change) { return func(c *document.Change) { c.Version = v } }

func removing(v int64) func(*document.Change) {
	return func(c *document.Change) { c.Version, c.Remove = v, true }
}

func write(t testing.TB, s document.Store, changes ...*document.Change) {
	t.Helper()
	if err := s.WriteDocuments(t.Context(), changes...); err != nil {
		t.Fatal(err)
	}
}

func wantDocument(t testing.TB, s document.Store, c *document.Change) {
	t.Helper()
	got, err := s.Document(t.Context(), c.Space, c.Key)
	if err != nil {
		t.Error(err)
		return
	}
	wantEqual(t, fmt.Sprintf("the document %q", c.Key), got, c.Document)
}

func wantNoDocument(t testing.TB, s document.Store, space, key string) {
	t.Helper()
	if got, err := s.Document(t.Context(), space, key); !errors.Is(err, document.ErrNotFound) {
		t.Errorf("%s %q: got %v, %v, want ErrNotFound", space, key, got, err)
	}
}

func documentComesBack(t *testing.T, s document.Store) {
	wantNoDocument(t, s, "test", "a")
	c := newDocument("a")
	var last int64
	for v := range int64(4) {
		c.Body, c.Keys["name"], c.ExpiresAt = fmt.Appendf(nil, "body %d", v), fmt.Sprint("name", v), epoch().Add(time.Duration(v))
		if v == 2 {
			c.Body, c.Keys, c.ExpiresAt = nil, map[string]string{}, time.Time{}
		}
		write(t, s, c)
		if c.Version != v+1 || c.Seq <= last {
			t.Errorf("write %d: got version %d and seq %d after %d", v, c.Version, c.Seq, last)
		}
		last = c.Seq
		wantDocument(t, s, c)
	}
	binary := newDocument("b", func(c *document.Change) { c.Body = []byte("\x00\xff\xfe'\"") })
	write(t, s, binary)
	wantDocument(t, s, binary)
	write(t, s)
}

func documentStale(t *testing.T, s document.Store) {
	here := newDocument("here")
	write(t, s, here)
	write(t, s, here)
	for title, c := range map[string]*document.Change{
		"an earlier version":       newDocument("here", versioned(1)),
		"a later version":          newDocument("here", versioned(3)),
		"as if it were not there":  newDocument("here"),
		"one that is not there":    newDocument("none", versioned(1)),
		"one of another space":     newDocument("here", versioned(2), inSpace("other")),
		"another case of the key":  newDocument("Here", versioned(2)),
		"remove an earlier one":    newDocument("here", removing(1)),
		"remove what is not there": newDocument("none", removing(1)),
		"remove what must not be":  newDocument("here", removing(0)),
	} {
		before := *c
		if err := s.WriteDocuments(t.Context(), c); !errors.Is(err, document.ErrConflict) {
			t.Errorf("%s: got %v, want ErrConflict", title, err)
		}
		if c.Version != before.Version || c.Seq != before.Seq {
			t.Errorf("%s: the change was changed to version %d, seq %d", title, c.Version, c.Seq)
		}
		wantDocument(t, s, here)
	}
	write(t, s, newDocument("none", removing(0)))
	if all, err := s.Documents(t.Context(), document.Query{Space: "test"}); err != nil || len(all) != 1 {
		t.Errorf("got %d documents, %v, want 1", len(all), err)
	}
}

func documentAllOrNothing(t *testing.T, s document.Store) {
	a, b := newDocument("a"), newDocument("b")
	write(t, s, a, b)
	for at := range 4 {
		changes := []*document.Change{newDocument("a", versioned(1), func(c *document.Change) { c.Body = nil }), newDocument("b", removing(1)), newDocument("c")}
		changes = slices.Insert(changes, at, newDocument("wrong", versioned(5)))
		if err := s.WriteDocuments(t.Context(), changes...); !errors.Is(err, document.ErrConflict) {
			t.Errorf("with the wrong one at %d: got %v, want ErrConflict", at, err)
		}
		wantDocument(t, s, a)
		wantDocument(t, s, b)
		wantNoDocument(t, s, "test", "c")
	}
	if got := changed(t, s, b.Seq); len(got) != 0 {
		t.Errorf("what was not done is told: %v", got)
	}
}

func documentInOrder(t *testing.T, s document.Store) {
	o := newDocument("o")
	last := newDocument("o", func(c *document.Change) { c.Body, c.Keys = []byte("last"), map[string]string{"name": "last"} })
	write(t, s, o, newDocument("o", versioned(1)), newDocument("o", removing(2)), last)
	wantDocument(t, s, last)
	if last.Version != 1 {
		t.Errorf("what was removed and made anew has version %d", last.Version)
	}
	twice := []*document.Change{newDocument("o", versioned(1)), newDocument("o", versioned(1))}
	if err := s.WriteDocuments(t.Context(), twice...); !errors.Is(err, document.ErrConflict) {
		t.Errorf("the same version twice: got %v, want ErrConflict", err)
	}
	wantDocument(t, s, last)
	wantFound(t, s, document.Query{Space: "test", By: "name", Value: "n-o"}, "[]")
	wantFound(t, s, document.Query{Space: "test", By: "name", Value: "last"}, "[o]")
}

func documentRemoved(t *testing.T, s document.Store) {
	c := newDocument("a")
	write(t, s, c)
	gone := newDocument("a", removing(1))
	write(t, s, gone)
	if gone.Version != 0 {
		t.Errorf("a removed one has version %d", gone.Version)
	}
	wantNoDocument(t, s, "test", "a")
	for title, q := range map[string]document.Query{
		"all": {}, "by": {By: "all", Value: "yes"}, "prefix": {Prefix: "a"}, "expired": {ExpiredAt: epoch()},
	} {
		q.Space = "test"
		if got, err := s.Documents(t.Context(), q); err != nil || len(got) != 0 {
			t.Errorf("%s: got %v, %v, want nothing", title, got, err)
		}
	}
	again := newDocument("a")
	write(t, s, again)
	wantDocument(t, s, again)
}

// wantFound compares the keys that a query finds.
func wantFound(t testing.TB, s document.Store, q document.Query, want string) {
	t.Helper()
	found, err := s.Documents(t.Context(), q)
	if err != nil {
		t.Error(err)
		return
	}
	if got := fmt.Sprint(keysOf(found)); got != want {
		t.Errorf("%+v: got %s, want %s", q, got, want)
	}
}

func keysOf(found []document.Document) []string {
	keys := make([]string, len(found))
	for i, d := range found {
		keys[i] = d.Key
		if d.Deleted {
			keys[i] += " removed"
		}
	}
	return keys
}

func documentPrefix(t *testing.T, s document.Store) {
	for _, key := range []string{"b/2", "a", "a/1", "B", "b/1", "b", "é", "b/10", "c", "b0"} {
		write(t, s, newDocument(key))
	}
	write(t, s, newDocument("b/0", inSpace("other")))
	for _, tt := range []struct {
		q    document.Query
		want string
	}{
		{document.Query{}, "[B a a/1 b b/1 b/10 b/2 b0 c é]"},
		{document.Query{Limit: 3}, "[B a a/1]"},
		{document.Query{After: "b/1", Limit: 3}, "[b/10 b/2 b0]"},
		{document.Query{Prefix: "b/"}, "[b/1 b/10 b/2]"},
		{document.Query{Prefix: "b/", After: "b/1", Limit: 1}, "[b/10]"},
		{document.Query{Prefix: "b/", After: "c"}, "[]"},
		{document.Query{Prefix: "b/1"}, "[b/1 b/10]"},
		{document.Query{Prefix: "b%"}, "[]"},
		{document.Query{Prefix: "é"}, "[é]"},
	} {
		tt.q.Space = "test"
		wantFound(t, s, tt.q, tt.want)
	}
}

func documentBy(t *testing.T, s document.Store) {
	for i, key := range []string{"d", "a", "c", "b", "e"} {
		write(t, s, newDocument(key, func(c *document.Change) {
			c.Keys = map[string]string{"parent": "p" + fmt.Sprint(i%2), "role": "", "own": key}
			c.ExpiresAt = epoch().Add(time.Duration(i))
		}))
	}
	moved := newDocument("e", versioned(1), func(c *document.Change) { c.Keys = map[string]string{"parent": "p9"} })
	write(t, s, moved)
	for _, tt := range []struct {
		q    document.Query
		want string
	}{
		{document.Query{By: "parent", Value: "p0"}, "[c d]"},
		{document.Query{By: "parent", Value: "p1"}, "[a b]"},
		{document.Query{By: "parent", Value: "p9"}, "[e]"},
		{document.Query{By: "parent", Value: "p"}, "[]"},
		{document.Query{By: "parent", Value: "p0", After: "c"}, "[d]"},
		{document.Query{By: "parent", Value: "p1", Limit: 1}, "[a]"},
		{document.Query{By: "parent", Value: "p1", Prefix: "b"}, "[b]"},
		{document.Query{By: "parent", Value: "p1", ExpiredAt: epoch().Add(1)}, "[a]"},
		{document.Query{By: "role"}, "[a b c d]"},
		{document.Query{By: "own", Value: "e"}, "[]"},
		{document.Query{By: "none", Value: "p0"}, "[]"},
	} {
		tt.q.Space = "test"
		wantFound(t, s, tt.q, tt.want)
	}
}

func documentExpired(t *testing.T, s document.Store) {
	for i, key := range []string{"d", "a", "c", "b"} {
		write(t, s, newDocument(key, func(c *document.Change) { c.ExpiresAt = epoch().Add(time.Duration(i) * time.Hour) }))
	}
	write(t, s, newDocument("never", func(c *document.Change) { c.ExpiresAt = time.Time{} }), newDocument("x", inSpace("other")))
	for _, tt := range []struct {
		after time.Duration
		limit int
		want  string
	}{
		{-1, 0, "[]"}, {0, 0, "[d]"}, {time.Hour, 0, "[a d]"}, {100 * time.Hour, 0, "[a b c d]"}, {100 * time.Hour, 2, "[a b]"},
	} {
		wantFound(t, s, document.Query{Space: "test", ExpiredAt: epoch().Add(tt.after), Limit: tt.limit}, tt.want)
	}
}

func documentSpaces(t *testing.T, s document.Store) {
	a, b := newDocument("same"), newDocument("same", inSpace("other"), func(c *document.Change) { c.Body = []byte("another") })
	write(t, s, a, b)
	wantDocument(t, s, a)
	wantDocument(t, s, b)
	write(t, s, newDocument("same", removing(1)))
	wantNoDocument(t, s, "test", "same")
	wantDocument(t, s, b)
	wantFound(t, s, document.Query{Space: "other", By: "all", Value: "yes"}, "[same]")
	wantFound(t, s, document.Query{Space: "tes"}, "[]")
}

// hostileKeys are keys that mean something to somebody else.
func hostileKeys() []string {
	return []string{
		"\x00", "a\x00b", "'; DROP TABLE documents; --", "a|b", "%", "_", "a/../b", "\\", `"`, "größe 🔑", "\u202e", "null", " ", "\n", "\U0010FFFF",
		strings.Repeat("k", document.MaxKey), strings.Repeat("\U0010FFFF", document.MaxKey/4),
	}
}

func documentHostile(t *testing.T, s document.Store) {
	for _, key := range hostileKeys() {
		c := newDocument(key, func(c *document.Change) { c.Keys = map[string]string{"v": key, "$\x00'": ""} })
		write(t, s, c)
		wantDocument(t, s, c)
		for _, q := range []document.Query{{By: "v", Value: key}, {Prefix: key, Limit: 1}} {
			q.Space = "test"
			if got, err := s.Documents(t.Context(), q); err != nil || len(got) != 1 || got[0].Key != key {
				t.Errorf("%+v: got %q, %v", q, keysOf(got), err)
			}
		}
	}
	all, err := s.Documents(t.Context(), document.Query{Space: "test"})
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "the keys", keysOf(all), slices.Sorted(slices.Values(hostileKeys())))
}

func documentMalformed(t *testing.T, s document.Store) {
	for title, c := range map[string]*document.Change{
		"no space":               newDocument("a", inSpace("")),
		"a space with a bar":     newDocument("a", inSpace("a|b")),
		"a space in capitals":    newDocument("a", inSpace("Test")),
		"a long space":           newDocument("a", inSpace(strings.Repeat("s", 33))),
		"no key":                 newDocument(""),
		"a long key":             newDocument(strings.Repeat("k", document.MaxKey+1)),
		"a key that isn't UTF-8": newDocument("a\xff"),
		"a long value":           newDocument("a", func(c *document.Change) { c.Keys["x"] = strings.Repeat("v", document.MaxKey+1) }),
		"a long name":            newDocument("a", func(c *document.Change) { c.Keys[strings.Repeat("n", document.MaxName+1)] = "" }),
		"no name":                newDocument("a", func(c *document.Change) { c.Keys[""] = "x" }),
		"a value not of UTF-8":   newDocument("a", func(c *document.Change) { c.Keys["x"] = "\xff" }),
		"a version below zero":   newDocument("a", versioned(-1)),
		"a body that is too big": newDocument("a", func(c *document.Change) { c.Body = make([]byte, document.MaxBody+1) }),
		"a time out of range":    newDocument("a", func(c *document.Change) { c.ExpiresAt = time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC) }),
	} {
		if err := s.WriteDocuments(t.Context(), newDocument("good"), c); err == nil || errors.Is(err, document.ErrConflict) {
			t.Errorf("%s: got %v, want an error that is not ErrConflict", title, err)
		}
		wantNoDocument(t, s, "test", "good")
	}
	wantNoDocument(t, s, "a\x00", "\xff")
}

func documentEnded(t *testing.T, s document.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.WriteDocuments(ctx, newDocument("a")); !errors.Is(err, context.Canceled) {
		t.Errorf("WriteDocuments: got %v, want context.Canceled", err)
	}
	if _, err := s.Document(ctx, "test", "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("Document: got %v, want context.Canceled", err)
	}
	wantNoDocument(t, s, "test", "a")
}

// changed are the keys that were changed after seq.
func changed(t testing.TB, s document.Store, seq int64, spaces ...string) []string {
	t.Helper()
	found, _, err := s.DocumentChanges(t.Context(), seq, 100, spaces...)
	if err != nil {
		t.Fatal(err)
	}
	return keysOf(found)
}

func documentChanges(t *testing.T, s document.Store) {
	a, b, c := newDocument("a"), newDocument("b", inSpace("other")), newDocument("c")
	write(t, s, a, b)
	write(t, s, c)
	wantEqual(t, "all changes", changed(t, s, 0), []string{"a", "b", "c"})
	found, horizon, err := s.DocumentChanges(t.Context(), a.Seq, 1)
	if err != nil || horizon != 0 {
		t.Errorf("got horizon %d, %v", horizon, err)
	}
	wantEqual(t, "the next change", found, []document.Document{b.Document})
	before := c.Seq
	write(t, s, a)
	gone := newDocument("b", inSpace("other"), removing(1))
	write(t, s, gone)
	if found, _, err = s.DocumentChanges(t.Context(), before, 100); err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "what came then", found, []document.Document{a.Document, {Space: "other", Key: "b", Seq: gone.Seq, Deleted: true}})
	wantEqual(t, "all changes", changed(t, s, 0), []string{"c", "a", "b removed"})
	write(t, s, newDocument("b", inSpace("other")))
	wantEqual(t, "all changes", changed(t, s, 0), []string{"c", "a", "b"})
	wantEqual(t, "none", changed(t, s, 1<<60), []string(nil))
	last := newDocument("last")
	write(t, s, last)
	if seq, err := s.DocumentSeq(t.Context()); err != nil || seq != last.Seq {
		t.Errorf("the last change has seq %d, got %d, %v", last.Seq, seq, err)
	}
}

func documentChangesOf(t *testing.T, s document.Store) {
	write(t, s, newDocument("a"), newDocument("b", inSpace("other")), newDocument("c", inSpace("third")), newDocument("d"))
	write(t, s, newDocument("b", inSpace("other"), removing(1)))
	wantEqual(t, "of one", changed(t, s, 0, "test"), []string{"a", "d"})
	wantEqual(t, "of two", changed(t, s, 0, "other", "third"), []string{"c", "b removed"})
	wantEqual(t, "of none that is there", changed(t, s, 0, "none"), []string(nil))
}

func documentHorizon(t *testing.T, s document.Store) {
	ager, ok := s.(Ager)
	if !ok {
		t.Fatal("the store's clock can't be set on")
	}
	a, b := newDocument("a"), newDocument("b")
	write(t, s, a, b)
	goneA, goneB := newDocument("a", removing(1)), newDocument("b", removing(1))
	write(t, s, goneA)
	ager.AgeDocuments(t, document.Kept-time.Second)
	write(t, s, goneB)
	wantEqual(t, "what is not old enough", changed(t, s, 0), []string{"a removed", "b removed"})
	ager.AgeDocuments(t, time.Minute)
	c := newDocument("c")
	write(t, s, c)
	found, horizon, err := s.DocumentChanges(t.Context(), 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "the changes", keysOf(found), []string{"b removed", "c"})
	if horizon != goneA.Seq {
		t.Errorf("got horizon %d, want that of the removal, %d", horizon, goneA.Seq)
	}
	ager.AgeDocuments(t, time.Hour)
	write(t, s, newDocument("d"))
	if _, horizon, err = s.DocumentChanges(t.Context(), 0, 100); err != nil || horizon != goneB.Seq {
		t.Errorf("got horizon %d, %v, want %d", horizon, err, goneB.Seq)
	}
}

func documentOneWins(t *testing.T, s document.Store) {
	write(t, s, newDocument("a"))
	var updated, made atomic.Int32
	var wg sync.WaitGroup
	try := func(won *atomic.Int32, changes ...*document.Change) {
		switch err := s.WriteDocuments(context.Background(), changes...); {
		case err == nil:
			won.Add(1)
		case !errors.Is(err, document.ErrConflict):
			t.Error(err)
		}
	}
	for i := range 24 {
		wg.Go(func() {
			try(&updated, newDocument("a", versioned(1)), newDocument(fmt.Sprint("beside", i)))
			try(&made, newDocument("new"))
		})
	}
	wg.Wait()
	if updated.Load() != 1 || made.Load() != 1 {
		t.Errorf("%d were let update and %d make, want 1 and 1", updated.Load(), made.Load())
	}
	if all, err := s.Documents(t.Context(), document.Query{Space: "test", Prefix: "beside"}); err != nil || len(all) != 1 {
		t.Errorf("got %q, %v, want what the one wrote", keysOf(all), err)
	}
}

// documentFollowed has a follower build what it is told, while others write, and compares.
func documentFollowed(t *testing.T, s document.Store) {
	const writers, rounds = 6, 60
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range rounds {
				key := fmt.Sprintf("%d-%d", w, i%7)
				c := newDocument(key, func(c *document.Change) { c.Body = fmt.Append(nil, w, i) })
				if d, err := s.Document(context.Background(), "test", key); err == nil {
					c.Version, c.Remove = d.Version, i%3 == 0
				}
				if err := s.WriteDocuments(context.Background(), c); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	known := map[string]document.Document{}
	var seq int64
	for last := false; !last; {
		select {
		case <-done:
			last = true
		default:
		}
		for {
			found, _, err := s.DocumentChanges(t.Context(), seq, 10)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range found {
				if d.Seq <= seq {
					t.Fatalf("seq %d after %d", d.Seq, seq)
				}
				seq = d.Seq
				if known[d.Key] = d; d.Deleted {
					delete(known, d.Key)
				}
			}
			if len(found) < 10 {
				break
			}
		}
	}
	all, err := s.Documents(t.Context(), document.Query{Space: "test"})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]document.Document{}
	for _, d := range all {
		want[d.Key] = d
	}
	wantEqual(t, "what the follower knows", known, want)
}

func documentShared(t *testing.T, s document.Store) {
	const writers, each = 32, 8
	var wg sync.WaitGroup
	seqs := make([]int64, writers*each)
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				c := newDocument(fmt.Sprintf("%d-%d", w, i))
				if err := s.WriteDocuments(context.Background(), c); err != nil {
					t.Error(err)
				}
				seqs[w*each+i] = c.Seq
			}
		})
	}
	wg.Wait()
	slices.Sort(seqs)
	if n := len(slices.Compact(seqs)); n != writers*each {
		t.Errorf("%d writes have %d different seqs", writers*each, n)
	}
	if all, err := s.Documents(t.Context(), document.Query{Space: "test"}); err != nil || len(all) != writers*each {
		t.Errorf("got %d documents, %v", len(all), err)
	}
}

func documentSealed(t *testing.T, s document.Store) {
	raw, ok := s.(Raw)
	if !ok {
		return // what is on its disk can't be read here
	}
	c := newDocument("some-key", func(c *document.Change) { c.Body = []byte("the-canary-in-the-body") })
	write(t, s, c)
	disk := raw.Raw(t)
	if !bytes.Contains(disk, []byte(c.Keys["name"])) {
		t.Fatal("what it is found by is not in what Raw gives, so that the test can't see anything")
	}
	for _, form := range []string{"the-canary-in-the-body", "dGhlLWNhbmFyeS1p", fmt.Sprintf("%x", "the-canary")} {
		if bytes.Contains(disk, []byte(form)) {
			t.Errorf("a body is readable on the disk as %q", form)
		}
	}
}

func documentKept(t *testing.T, s document.Store) {
	a, b := newDocument("a"), newDocument("b")
	write(t, s, a, b)
	gone := newDocument("b", removing(1))
	write(t, s, gone)
	r, ok := s.(Reopener)
	if !ok {
		return // it keeps everything elsewhere
	}
	again, ok := r.Reopen(t).(document.Store)
	if !ok {
		t.Fatal("the reopened store keeps no documents")
	}
	wantDocument(t, again, a)
	wantEqual(t, "the changes", changed(t, again, 0), []string{"a", "b removed"})
	c := newDocument("c")
	write(t, again, c)
	if c.Seq <= gone.Seq {
		t.Errorf("seq %d after the reopen, %d before", c.Seq, gone.Seq)
	}
}

func documentLarge(t *testing.T, s document.Store) {
	large := newDocument("large", func(c *document.Change) { c.Body = bytes.Repeat([]byte("0123456789abcdef"), 5<<20/16) })
	write(t, s, large, newDocument("small"))
	got, err := s.Document(t.Context(), "test", "large")
	if err != nil || !bytes.Equal(got.Body, large.Body) {
		t.Errorf("got %d bytes, %v, want %d", len(got.Body), err, len(large.Body))
	}
}
