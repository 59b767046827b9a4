package sys

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/vpath"
)

const (
	pageOfLeases = 1000   // that one question to the store brings
	maxLeaseKeys = 100000 // that one list shows
)

func (b *Backend) lookupLease(ctx context.Context, c *call) (*gate.Response, error) {
	fields, err := c.fields("lease_id", "url_lease_id")
	if err != nil {
		return nil, err
	}
	id, err := textField(fields, "lease_id")
	if err != nil {
		return nil, err
	}
	l, err := b.owned(ctx, c, id, "invalid lease")
	if err != nil {
		return nil, err
	}
	if l.State == broker.Pending || l.State == broker.Revoked {
		return nil, invalid("invalid lease")
	}
	data := map[string]any{
		"id":           l.ID,
		"issue_time":   l.IssuedAt,
		"expire_time":  nil,
		"last_renewal": nil,
		"renewable":    l.State == broker.Active && l.CanRenew(),
		"ttl":          int64(0),
	}
	if !l.ExpiresAt.IsZero() {
		data["expire_time"] = l.ExpiresAt
		data["ttl"] = left(l)
	}
	return &gate.Response{Data: data, LeaseID: l.ID, Principal: l.Principal}, nil
}

// left is how many seconds a lease has still to live.
func left(l *broker.Lease) int64 {
	if l.State != broker.Active {
		return 0
	}
	return max(seconds(time.Until(l.ExpiresAt).Round(time.Second)), 0)
}

func (b *Backend) renewLease(ctx context.Context, c *call) (*gate.Response, error) {
	fields, err := c.fields("lease_id", "url_lease_id", "increment")
	if err != nil {
		return nil, err
	}
	id, err := c.leaseID(fields)
	if err != nil {
		return nil, err
	}
	increment, err := durationField(fields, "increment")
	if err != nil {
		return nil, err
	}
	if _, err := b.owned(ctx, c, id, "lease not found"); err != nil {
		return nil, err
	}
	l, warnings, err := b.cfg.Leases.Renew(ctx, id, increment)
	if errors.Is(err, broker.ErrNoLease) {
		return nil, invalid("lease not found")
	}
	if err != nil {
		return nil, err
	}
	return &gate.Response{
		Lease:     &gate.Lease{ID: l.ID, Renewable: l.CanRenew(), Duration: time.Duration(left(l)) * time.Second},
		Warnings:  warnings,
		Principal: l.Principal,
		Detail:    "renewed until " + l.ExpiresAt.UTC().Format(time.RFC3339),
	}, nil
}

// revokeLease promises to end a lease or, unless the body says sync = false, waits until it is ended. One that is ended
// already is ended. One that its owner shares with others stays for them; somebody else's word ends it for all.
func (b *Backend) revokeLease(ctx context.Context, c *call) (*gate.Response, error) {
	fields, err := c.fields("lease_id", "url_lease_id", "sync")
	if err != nil {
		return nil, err
	}
	id, err := c.leaseID(fields)
	if err != nil {
		return nil, err
	}
	sync, err := boolField(fields, "sync", true)
	if err != nil {
		return nil, err
	}
	l, err := b.owned(ctx, c, id, "invalid lease")
	if err != nil {
		return nil, err
	}
	end, detail := b.cfg.Leases.Revoke, "revoked"
	if l.Holders > 1 && l.Identity == c.Caller.Name {
		end, detail = b.cfg.Leases.Release, fmt.Sprintf("released by one of its %d holders", l.Holders)
	}
	err = end(ctx, id, sync)
	if errors.Is(err, broker.ErrNoLease) {
		return nil, invalid("invalid lease")
	}
	if err != nil {
		return nil, err
	}
	return &gate.Response{Status: ended(sync), LeaseID: l.ID, Principal: l.Principal, Detail: detail}, nil
}

// ended is the status of a revocation that is done, or of one that is promised.
func ended(sync bool) gate.Status {
	if sync {
		return gate.NoContent
	}
	return gate.Accepted
}

// leaseID takes a lease's id from the body or, where that has none, from the path, as Vault does.
func (c *call) leaseID(fields map[string]json.RawMessage) (string, error) {
	for _, name := range []string{"lease_id", "url_lease_id"} {
		if id, err := textField(fields, name); err != nil || id != "" {
			return id, err
		}
	}
	return c.args["id"], nil
}

// owned finds a lease that is the caller's, or that sudo lets the caller touch. missing is what is said of one that is not there.
func (b *Backend) owned(ctx context.Context, c *call, id, missing string) (*broker.Lease, error) {
	if id == "" {
		return nil, invalid("lease_id must be specified")
	}
	if vpath.Check(id) != nil {
		return nil, invalid("%s", missing)
	}
	l, err := b.cfg.Leases.Lookup(ctx, id)
	if errors.Is(err, broker.ErrNoLease) {
		return nil, invalid("%s", missing)
	}
	if err != nil {
		return nil, err
	}
	if !c.Decision.Sudo && (c.Caller.Name == "" || l.Identity != c.Caller.Name) {
		return nil, &gate.Error{Kind: gate.Forbidden, Msg: "the lease belongs to another identity, and the policy does not grant sudo here"}
	}
	return l, nil
}

// leaseKeys lists what stands right below a prefix: lease ids, and folders with their slash.
func (b *Backend) leaseKeys(ctx context.Context, c *call) (*gate.Response, error) {
	prefix := c.args["prefix"]
	if prefix != "" {
		prefix += "/"
	}
	keys := map[string]bool{}
	var warnings []string
	err := b.each(ctx, broker.Filter{Prefix: prefix}, func(l *broker.Lease) bool {
		name, _, folder := strings.Cut(strings.TrimPrefix(l.ID, prefix), "/")
		if folder {
			name += "/"
		}
		keys[name] = true
		if len(keys) < maxLeaseKeys {
			return true
		}
		warnings = append(warnings, fmt.Sprintf("there are more: only %d are shown", maxLeaseKeys))
		return false
	})
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		return &gate.Response{Status: gate.Missing}, nil
	}
	return &gate.Response{Data: map[string]any{"keys": slices.Sorted(maps.Keys(keys))}, Warnings: warnings}, nil
}

// each calls fn for every lease that matches until fn says no.
func (b *Backend) each(ctx context.Context, f broker.Filter, fn func(*broker.Lease) bool) error {
	f.Limit = pageOfLeases
	for {
		page, err := b.cfg.Leases.List(ctx, f)
		if err != nil {
			return err
		}
		for _, l := range page {
			if !fn(l) {
				return nil
			}
		}
		if len(page) < f.Limit {
			return nil
		}
		f.AfterSeq = page[len(page)-1].Seq
	}
}

// usualStuck is how many irrevocable leases Vault shows where no limit is given, and the other words are Vault's too.
const (
	usualStuck  = 10000
	moreAreWord = "Command halted because many irrevocable leases were found. To emit the entire list, re-run the command with force set true."
)

// stuckLeases lists what Vault calls irrevocable leases: those whose revocation has failed often, and is still tried.
func (b *Backend) stuckLeases(ctx context.Context, c *call) (*gate.Response, error) {
	if !askedForStuck(c) {
		return &gate.Response{Status: gate.Missing}, nil
	}
	limit, err := stuckLimit(c.Query.Get("limit"))
	if err != nil {
		return nil, err
	}
	table := b.cfg.Mounts()
	leases, more := []any{}, false
	err = b.each(ctx, broker.Filter{States: []broker.State{broker.Stuck}}, func(l *broker.Lease) bool {
		if more = len(leases) == limit; more {
			return false
		}
		mount := l.Mount
		if m, _, found := table.Route(l.ID); found {
			mount = m.Accessor
		}
		leases = append(leases, map[string]any{"lease_id": l.ID, "mount_id": mount, "error": l.Error})
		return true
	})
	if err != nil {
		return nil, err
	}
	resp := ok(map[string]any{"lease_count": len(leases), "leases": leases})
	if more {
		resp.Warnings = append(resp.Warnings, moreAreWord)
	}
	return resp, nil
}

// stuckLimit is how many are asked for; -1: all.
func stuckLimit(text string) (int, error) {
	switch {
	case text == "":
		return usualStuck, nil
	case strings.EqualFold(text, "none"):
		return -1, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, invalid("invalid 'limit' provided: %v", err)
	}
	if n < 1 {
		return 0, invalid("limit must be 'none' or a positive integer")
	}
	return n, nil
}

// countLeases counts them by the accessors of their mounts.
func (b *Backend) countLeases(ctx context.Context, c *call) (*gate.Response, error) {
	if !askedForStuck(c) {
		return &gate.Response{Status: gate.Missing}, nil
	}
	table := b.cfg.Mounts()
	counts, total := map[string]int{}, 0
	err := b.each(ctx, broker.Filter{States: []broker.State{broker.Stuck}}, func(l *broker.Lease) bool {
		name := l.Mount
		if m, _, found := table.Route(l.ID); found {
			name = m.Accessor
		}
		counts[name]++
		total++
		return true
	})
	if err != nil {
		return nil, err
	}
	return ok(map[string]any{"lease_count": total, "counts": counts}), nil
}

func askedForStuck(c *call) bool { return strings.EqualFold(c.Query.Get("type"), "irrevocable") }
