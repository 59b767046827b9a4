package sqlite

import "github.com/bailiff-secrets/bailiff/internal/document"

// DocumentsQuery is the query that Documents makes.
func DocumentsQuery(q document.Query) (string, []any) { return documentsQuery(q) }

// ChangedDocuments is the query that DocumentChanges makes, with its arguments seq, limit and spaces.
const ChangedDocuments = changedDocuments
