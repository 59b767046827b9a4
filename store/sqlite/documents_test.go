package sqlite_test

import (
	"strings"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/document"
	"github.com/bailiff-secrets/bailiff/store/sqlite"
)

func TestDocumentsAreFoundByTheirIndexes(t *testing.T) {
	k := openKept(t)
	for search, q := range map[string]document.Query{
		"documents_key (space=?)\n":                                     {},
		"documents_key (space=? AND key>? AND key<?)\n":                 {Prefix: "a"},
		"documents_expiry (space=? AND expires_at":                      {ExpiredAt: time.Unix(9, 0)},
		"SEARCH k USING PRIMARY KEY (space=? AND name=? AND value=?)\n": {By: "parent", Value: "a"},
	} {
		q.Space = "token"
		query, args := sqlite.DocumentsQuery(q)
		plan, err := sqlite.Plan(t.Context(), k.DB, query, args...)
		if err != nil || !strings.Contains(plan, search) || strings.Contains(plan, "SCAN") {
			t.Errorf("%+v: %v, want %q in the plan\n%s", q, err, search, plan)
		}
	}
	plan, err := sqlite.Plan(t.Context(), k.DB, sqlite.ChangedDocuments, 5, 10, nil)
	if err != nil || !strings.Contains(plan, "documents_seq (seq>?)") || !strings.Contains(plan, "document_graves_seq (seq>?)") || strings.Contains(plan, "TEMP B-TREE") {
		t.Errorf("changes: %v, the plan is\n%s", err, plan)
	}
}
