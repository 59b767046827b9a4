package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/document"
	"github.com/bailiff-secrets/bailiff/store/postgres"
)

func TestDocumentsAreFoundByTheirIndexes(t *testing.T) {
	k := openKept(t)
	if err := postgres.Execute(t.Context(), k.DB, `INSERT INTO documents (space, key, version, keys, expires_at, seq)
SELECT 's' || n % 3, ('k' || n)::bytea, 1, '{}', n, n FROM generate_series(1, 20000) AS n`); err != nil {
		t.Fatal(err)
	}
	if err := postgres.Execute(t.Context(), k.DB, "ANALYZE documents"); err != nil {
		t.Fatal(err)
	}
	for index, q := range map[string]document.Query{
		"documents_key": {Prefix: "k1"}, "documents_expiry": {ExpiredAt: time.Unix(0, 9)}, "document_keys_pkey": {By: "parent", Value: "a"},
	} {
		q.Space = "s1"
		query, args := postgres.DocumentsQuery(q)
		plan, err := postgres.Plan(t.Context(), k.DB, query, args...)
		if err != nil || !strings.Contains(plan, index) || strings.Contains(plan, "Seq Scan") {
			t.Errorf("%+v: %v, want %s in the plan\n%s", q, err, index, plan)
		}
	}
	plan, err := postgres.Plan(t.Context(), k.DB, postgres.ChangedDocuments, int64(19990), 10, nil)
	if err != nil || !strings.Contains(plan, "documents_seq") || !strings.Contains(plan, "document_graves_seq") || strings.Contains(plan, "Seq Scan") {
		t.Errorf("changes: %v, the plan is\n%s", err, plan)
	}
}

// TestNodesShareDocuments has two nodes count in one document, and a third follow.
func TestNodesShareDocuments(t *testing.T) {
	a := openKept(t)
	nodes := []*kept{a, a.another(t)}
	const writers, each = 4, 10
	var wg sync.WaitGroup
	for w := range writers {
		db := nodes[w%2]
		wg.Go(func() {
			for i := 0; i < each; {
				d, err := db.Document(context.Background(), "test", "counter")
				if err != nil && !errors.Is(err, document.ErrNotFound) {
					t.Error(err)
					return
				}
				mine := &document.Change{Document: document.Document{Space: "test", Key: fmt.Sprintf("%d-%d", w, i)}}
				err = db.WriteDocuments(context.Background(), mine, &document.Change{Document: document.Document{Space: "test", Key: "counter", Version: d.Version}})
				switch {
				case err == nil:
					i++
				case !errors.Is(err, document.ErrConflict):
					t.Error(err)
					return
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	follower := a.another(t)
	var seq int64
	seen := map[string]bool{}
	for last := false; !last; {
		select {
		case <-done:
			last = true
		default:
		}
		found, _, err := follower.DocumentChanges(t.Context(), seq, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range found {
			seq, seen[d.Key] = d.Seq, true
		}
	}
	if len(seen) != writers*each+1 {
		t.Errorf("the follower has seen %d documents, want %d", len(seen), writers*each+1)
	}
	if d, err := a.Document(t.Context(), "test", "counter"); err != nil || d.Version != writers*each {
		t.Errorf("the counter is at %d, %v, want %d", d.Version, err, writers*each)
	}
}
