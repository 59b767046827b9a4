package postgres

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/bailiff-secrets/bailiff/broker"
)

// defaultLimit is how many leases List gives where Filter.Limit says nothing.
const defaultLimit = 1000

// List pages through leases that match f, by Seq.
func (db *DB) List(ctx context.Context, f broker.Filter) ([]*broker.Lease, error) {
	query, args := listQuery(f)
	found, err := db.leases(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("listing leases: %w", err)
	}
	return found, nil
}

// listQuery writes the query for f.
func listQuery(f broker.Filter) (query string, args []any) {
	from, args := listFrom(f)
	limit := f.Limit
	if limit <= 0 {
		limit = defaultLimit
	}
	return "SELECT " + leaseColumns + from + " ORDER BY seq LIMIT " + strconv.Itoa(limit), args
}

// listFrom writes what chooses the leases of f. There are few texts, whatever the values are.
func listFrom(f broker.Filter) (query string, args []any) {
	var where []string
	add := func(term string, values ...any) {
		for _, v := range values {
			args = append(args, v)
			term = strings.Replace(term, "?", "$"+strconv.Itoa(len(args)), 1)
		}
		where = append(where, term)
	}
	switch open, revoked := wanted(f.States); {
	case open && !revoked:
		add("open")
	case revoked && !open:
		add("NOT open")
	default:
		add("open IN (true, false)")
	}
	if f.Prefix != "" {
		addPrefix(add, f.Prefix)
	}
	for _, c := range []struct{ term, value string }{
		{"identity = ?", f.Identity}, {"target = ?", f.Target}, {"mount = ?", f.Mount}, {"role = ?", f.Role}, {"producer = ?", f.Producer},
		{"cause = ? AND cause <> ''", string(f.Cause)}, {"token = ? AND token <> ''", f.Token}, {"share_key = ? AND share_key <> ''", f.ShareKey},
	} {
		if c.value != "" {
			add(c.term, plain(c.value))
		}
	}
	if len(f.Claims) > 0 {
		term, values := claimed(f.Claims)
		add(term, values...)
	}
	if len(f.States) > 0 {
		names := []string{}
		for _, s := range states {
			if slices.Contains(f.States, s) {
				names = append(names, string(s))
			}
		}
		add("state = ANY(?)", names)
	}
	if f.AfterSeq > 0 {
		add("seq > ?", f.AfterSeq)
	}
	return " FROM leases WHERE " + strings.Join(where, " AND "), args
}

// addPrefix chooses the IDs that begin with prefix, byte by byte.
func addPrefix(add func(string, ...any), prefix string) {
	if !utf8.ValidString(prefix) || strings.ContainsRune(prefix, 0) { // it ends within a letter, and no text can say so
		add("substr(convert_to(id, 'UTF8'), 1, ?) = ?", len(prefix), []byte(prefix))
		return
	}
	add("id >= ?", prefix)
	if end := after(prefix); end != "" {
		add("id < ?", end)
	}
}

// wanted says which of the two halves of the leases a list of states is about.
func wanted(states []broker.State) (open, revoked bool) {
	if len(states) == 0 {
		return true, false
	}
	for _, s := range states {
		open = open || s != broker.Revoked
		revoked = revoked || s == broker.Revoked
	}
	return open, revoked
}

// after is the first text behind all that begin with prefix; empty where there is none. The order of letters is that of
// their bytes.
func after(prefix string) string {
	for prefix != "" {
		last, n := utf8.DecodeLastRuneInString(prefix)
		prefix = prefix[:len(prefix)-n]
		switch {
		case last == 0xD7FF: // the next ones are no letters
			return prefix + "\uE000"
		case last < utf8.MaxRune:
			return prefix + string(last+1)
		}
	}
	return ""
}
