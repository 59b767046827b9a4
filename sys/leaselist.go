package sys

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
)

const (
	usualPage = 100
	maxPage   = 1000
)

// listLeases pages through leases; without a state, those that are not ended.
func (b *Backend) listLeases(ctx context.Context, c *call) (*gate.Response, error) {
	q, err := c.query("prefix", "identity", "target", "mount", "role", "producer", "token", "claim", "state", "cause", "after", "limit")
	if err != nil {
		return nil, err
	}
	f := broker.Filter{
		Prefix: q.text("prefix"), Identity: q.text("identity"), Target: q.text("target"), Role: q.text("role"),
		Producer: q.text("producer"), Token: q.text("token"),
		Cause: broker.Cause(q.text("cause")), AfterSeq: int64(q.number("after", 0, 1<<62)), Limit: int(q.number("limit", usualPage, maxPage)),
	}
	if mount := strings.TrimSuffix(q.text("mount"), "/"); mount != "" {
		f.Mount = mount + "/"
	}
	if claim := q.text("claim"); claim != "" {
		name, value, ok := strings.Cut(claim, "=")
		if !ok || name == "" {
			return nil, invalid("claim: write name=value")
		}
		f.Claims = map[string]string{name: value}
	}
	if f.States, err = states(q.text("state")); err != nil {
		return nil, err
	}
	if q.err != nil {
		return nil, q.err
	}
	if f.Limit == 0 {
		f.Limit = usualPage
	}
	page, err := b.cfg.Leases.List(ctx, f)
	if err != nil {
		return nil, err
	}
	leases := make([]any, 0, len(page))
	for _, l := range page {
		leases = append(leases, leaseData(l))
	}
	next := int64(0)
	if len(page) == f.Limit {
		next = page[len(page)-1].Seq
	}
	return ok(map[string]any{"leases": leases, "next": next}), nil
}

// states reads "active,stuck", or "all".
func states(text string) ([]broker.State, error) {
	every := []broker.State{broker.Pooled, broker.Pending, broker.Active, broker.Revoking, broker.Stuck, broker.Revoked}
	switch text {
	case "":
		return nil, nil
	case "all":
		return every, nil
	}
	var out []broker.State
	for word := range strings.SplitSeq(text, ",") {
		known := false
		for _, s := range every {
			if broker.State(word) == s {
				out, known = append(out, s), true
			}
		}
		if !known {
			return nil, invalid("state: %.20q is none: use pooled, pending, active, revoking, stuck, revoked or all", word)
		}
	}
	return out, nil
}

// lease reads one lease in any state.
func (b *Backend) lease(ctx context.Context, c *call) (*gate.Response, error) {
	l, err := b.cfg.Leases.Lookup(ctx, c.args["id"])
	if errors.Is(err, broker.ErrNoLease) {
		return nil, &gate.Error{Kind: gate.NotFound, Msg: "there is no such lease"}
	}
	if err != nil {
		return nil, err
	}
	return &gate.Response{Data: leaseData(l), LeaseID: l.ID, Principal: l.Principal}, nil
}

// leaseData is a lease in our own words. What a producer keeps with it stays here.
func leaseData(l *broker.Lease) map[string]any {
	data := map[string]any{
		"id": l.ID, "mount": l.Mount, "role": l.Role, "producer": l.Producer, "target": l.Target, "identity": l.Identity,
		"access_id": l.AccessID, "request_id": l.RequestID, "principal": l.Principal, "state": string(l.State), "seq": l.Seq,
	}
	for name, t := range map[string]time.Time{
		"issued_at": l.IssuedAt, "expires_at": l.ExpiresAt, "max_expires_at": l.MaxExpiresAt, "next_at": l.NextAt,
	} {
		if !t.IsZero() {
			data[name] = t.UTC()
		}
	}
	if l.Token != "" {
		data["token"] = l.Token
	}
	if len(l.Claims) > 0 {
		data["claims"] = l.Claims
	}
	if l.Outlives {
		data["outlives"] = true
	}
	if l.Holders > 1 {
		data["holders"] = l.Holders
	}
	if l.Attempt > 0 {
		data["attempt"] = l.Attempt
	}
	if l.Cause != "" {
		data["cause"] = string(l.Cause)
	}
	if l.Error != "" {
		data["error"] = l.Error
	}
	return data
}
