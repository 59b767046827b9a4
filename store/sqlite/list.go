package sqlite

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/bailiff-secrets/bailiff/broker"
)

// defaultLimit is how many leases List gives where Filter.Limit says nothing.
const defaultLimit = 1000

// manyFound is from how many open leases on they are not found by their prefix or mount and sorted, page after page, but by
// walking through all open ones in order. Those are then at most so many times more as a page is smaller than this.
const manyFound = 20_000

// List pages through leases that match f, by Seq.
func (db *DB) List(ctx context.Context, f broker.Filter) ([]*broker.Lease, error) {
	many, err := db.many(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("listing leases: %w", err)
	}
	query, args := listQuery(f, many)
	found, err := db.leases(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("listing leases: %w", err)
	}
	return found, nil
}

// many reports whether f, where its index would have to be sorted, chooses so many that walking is better.
func (db *DB) many(ctx context.Context, f broker.Filter) (bool, error) {
	sel := broker.Selector{Prefix: f.Prefix}
	switch index := listIndex(f, false); {
	case index == " INDEXED BY leases_role" && f.Role == "":
		sel = broker.Selector{Mount: f.Mount}
	case index != " INDEXED BY leases_id":
		return false, nil
	}
	if open, revoked := wanted(f.States); !open || revoked {
		return false, nil
	}
	n, err := db.Open(ctx, sel, manyFound)
	return n >= manyFound, err
}

// listQuery writes the query for f.
func listQuery(f broker.Filter, many bool) (query string, args []any) {
	from, args := listFrom(f, many)
	limit := f.Limit
	if limit <= 0 {
		limit = defaultLimit
	}
	return "SELECT " + leaseColumns + from + " ORDER BY seq LIMIT ?", append(args, limit)
}

// listFrom writes what chooses the leases of f. The index is named, because SQLite knows too little about the values to
// choose: the one for the narrowest of the fields that f has. There are few texts, whatever the values are.
func listFrom(f broker.Filter, many bool) (query string, args []any) {
	open, revoked := wanted(f.States)
	var where []string
	add := func(term string, values ...any) {
		where, args = append(where, term), append(args, values...)
	}
	switch {
	case open && !revoked:
		add("open = 1")
	case revoked && !open:
		add("open = 0")
	}
	if f.Prefix != "" {
		add("id >= ?", f.Prefix)
		if end := after(f.Prefix); end != "" {
			add("id < ?", end)
		}
	}
	if f.Identity != "" {
		add("identity = ?", f.Identity)
	}
	if f.Target != "" {
		add("target = ?", f.Target)
	}
	if f.Mount != "" {
		add("mount = ?", f.Mount)
	}
	if f.Role != "" {
		add("role = ?", f.Role)
	}
	if f.Cause != "" {
		add("cause = ?", string(f.Cause))
		add("cause <> ''")
	}
	if f.Producer != "" {
		add("producer = ?", f.Producer)
	}
	if f.Token != "" {
		add("token = ?", f.Token)
		add("token <> ''")
	}
	if len(f.Claims) > 0 {
		term, values := claimed(f.Claims)
		add(term, values...)
	}
	if f.ShareKey != "" {
		add("share_key = ?", f.ShareKey)
		add("share_key <> ''")
	}
	if len(f.States) > 0 {
		for _, s := range states {
			if !slices.Contains(f.States, s) {
				s = ""
			}
			args = append(args, string(s))
		}
		where = append(where, "state IN (?, ?, ?, ?, ?, ?)")
	}
	add("seq > ?", f.AfterSeq)
	index := listIndex(f, open && !revoked)
	if many {
		index = " INDEXED BY leases_open"
	}
	return " FROM leases" + index + " WHERE " + strings.Join(where, " AND "), args
}

// listIndex names the index to use.
func listIndex(f broker.Filter, openOnly bool) string {
	switch {
	case f.ShareKey != "":
		return " INDEXED BY leases_share"
	case f.Token != "" || len(f.Claims) > 0:
		return " INDEXED BY leases_token"
	case f.Cause != "":
		return " INDEXED BY leases_cause"
	case f.Identity != "":
		return " INDEXED BY leases_identity"
	case f.Prefix != "" && openOnly:
		return " INDEXED BY leases_open_id"
	case f.Prefix != "":
		return " INDEXED BY leases_id"
	case f.Mount != "":
		return " INDEXED BY leases_role"
	case f.Target != "":
		return " INDEXED BY leases_target"
	case openOnly:
		return " INDEXED BY leases_open"
	}
	return " NOT INDEXED" // by the primary key
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

// after is the first string behind all that begin with prefix, byte by byte; empty where there is none.
func after(prefix string) string {
	b := []byte(prefix)
	for len(b) > 0 {
		if last := len(b) - 1; b[last] < 0xff {
			b[last]++
			return string(b)
		}
		b = b[:len(b)-1]
	}
	return ""
}
