package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/document"
)

// usesSpace is where it is kept how often a rule that may be used so many times was used.
const usesSpace = "policy-use"

// uses counts in documents, so for all servers on one store together.
type uses struct{ store document.Store }

// used is the body of a count.
type used struct {
	Used int64 `json:"used"`
}

// Take counts one more use, unless there are most already. See gate.Uses.
func (u uses) Take(ctx context.Context, name string, most int64) (bool, error) {
	for {
		d, err := u.store.Document(ctx, usesSpace, name)
		if err != nil && !errors.Is(err, document.ErrNotFound) {
			return false, fmt.Errorf("read how often a rule was used: %w", err)
		}
		var n used
		if err == nil {
			if err := json.Unmarshal(d.Body, &n); err != nil {
				return false, fmt.Errorf("read how often a rule was used: %w", err)
			}
		}
		if n.Used >= most {
			return false, nil
		}
		n.Used++
		body, err := json.Marshal(n)
		if err != nil {
			return false, err
		}
		change := &document.Change{Document: document.Document{Space: usesSpace, Key: name, Version: d.Version, Body: body}}
		if err = u.store.WriteDocuments(ctx, change); err == nil {
			return true, nil
		}
		if !errors.Is(err, document.ErrConflict) { // else another request came first: look again
			return false, fmt.Errorf("keep how often a rule was used: %w", err)
		}
	}
}

var _ gate.Uses = uses{}
