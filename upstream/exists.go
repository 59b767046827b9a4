package upstream

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
)

// Exists tells whether the secret of a write is there: in KV v1 the secret itself, in KV v2 a current version that is not
// deleted, or for metadata the metadata. Elsewhere it is not known. Nothing of what is read is kept.
func (b *backend) Exists(ctx context.Context, r *gate.Request) (exists, known bool, err error) {
	kind, name, _ := strings.Cut(r.Rest, "/")
	rest := r.Rest
	switch {
	case b.kv == 1:
	case b.kv == 2 && name != "" && (kind == "data" || kind == "metadata"):
		rest = "metadata/" + name
	default:
		return false, false, nil
	}
	path, err := b.path(rest)
	if err != nil {
		return false, false, err
	}
	var out struct {
		Data struct {
			Current  int64 `json:"current_version"`
			Versions map[string]struct {
				Deleted   string `json:"deletion_time"`
				Destroyed bool   `json:"destroyed"`
			} `json:"versions"`
		} `json:"data"`
	}
	var into any
	if b.kv == 2 && kind == "data" {
		into = &out
	}
	err = b.v.ask(ctx, &call{method: http.MethodGet, safe: true, path: path}, into)
	var no *refusal
	switch {
	case errors.As(err, &no) && no.code == http.StatusNotFound:
		return false, true, nil
	case errors.As(err, &no) && no.code < 500:
		return false, false, nil // Bailiff's own login may not see it
	case err != nil:
		return false, false, err
	case into == nil:
		return true, true, nil
	}
	current, there := out.Data.Versions[strconv.FormatInt(out.Data.Current, 10)]
	return there && !current.Destroyed && !past(current.Deleted), true, nil
}

// past tells whether a time as Vault writes it is given and over.
func past(s string) bool {
	if s == "" {
		return false
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	return err != nil || t.Before(time.Now())
}
