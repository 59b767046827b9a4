package sys

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
)

// Many ends leases by the thousand; *broker.Broker is one. Errors are *gate.Error where the caller should learn more.
type Many interface {
	// RevokeMany promises durably to end what sel picks. With sync it waits, and may return a revocation beside an error.
	RevokeMany(ctx context.Context, sel broker.Selector, by, reason, requestID string, sync bool) (*broker.Revocation, error)
	// Preview counts what sel picks, by target.
	Preview(ctx context.Context, sel broker.Selector) (broker.Preview, error)
	// RevocationOf finds one; broker.ErrNoRevocation is wrapped where there is none.
	RevocationOf(ctx context.Context, id string) (*broker.Revocation, error)
	// RecentRevocations lists the open ones and the newest that are done.
	RecentRevocations(ctx context.Context, limit int) ([]*broker.Revocation, error)
}

// Stuck deals with leases that could not be ended; *broker.Broker is one. Errors are as those of Leases.
type Stuck interface {
	// Retry makes the next try due now.
	Retry(ctx context.Context, id string) error
	// Force gives a lease up, and records first what may still be alive.
	Force(ctx context.Context, id, by, reason string) error
	// ForcePrefix does so with every open lease whose id begins with prefix and says how many there were.
	ForcePrefix(ctx context.Context, prefix, by, reason string) (int, error)
}

const (
	maxReason       = 500 // letters of a reason
	listRevocations = 100 // how many are shown

	// forceTry is how long the targets are given before leases are given up. Vault's clients wait for 60 s.
	forceTry = 20 * time.Second
)

// revokeInput is the body of a revocation of many, and of its preview.
type revokeInput struct {
	broker.Selector
	Reason string `json:"reason"`
	Sync   bool   `json:"sync"`
}

// selection reads a revokeInput. What is below a path is what the path's slash is part of.
func (c *call) selection() (in revokeInput, err error) {
	if err := c.decode(&in, maxBody); err != nil {
		return in, err
	}
	in.Children = false
	for _, path := range []*string{&in.Prefix, &in.Mount} {
		if *path = strings.TrimSuffix(*path, "/"); *path != "" {
			*path += "/"
		}
	}
	if in.Empty() {
		return in, invalid("nothing is selected: give prefix, identity, mount, role, producer, target, token or claims")
	}
	return in, checkReason(in.Reason)
}

func checkReason(reason string) error {
	if len([]rune(reason)) > maxReason || strings.ContainsFunc(reason, unicode.IsControl) {
		return invalid("the reason must be one line of at most %d letters", maxReason)
	}
	return nil
}

// preview shows what a revocation would end, by target.
func (b *Backend) preview(ctx context.Context, c *call) (*gate.Response, error) {
	in, err := c.selection()
	if err != nil {
		return nil, err
	}
	p, err := b.cfg.Many.Preview(ctx, in.Selector)
	if err != nil {
		return nil, err
	}
	targets := p.Targets
	if targets == nil {
		targets = []broker.PreviewTarget{}
	}
	return ok(map[string]any{"leases": p.Leases, "targets": targets}), nil
}

// revokeMany starts a revocation and, with sync, waits for its end.
func (b *Backend) revokeMany(ctx context.Context, c *call) (*gate.Response, error) {
	in, err := c.selection()
	if err != nil {
		return nil, err
	}
	r, err := b.cfg.Many.RevokeMany(ctx, in.Selector, c.Caller.Name, in.Reason, c.ID, in.Sync)
	if err != nil {
		return nil, err
	}
	resp := &gate.Response{Data: revocationData(r), Detail: fmt.Sprintf("revocation %s of every lease with %s", r.ID, r.Selector)}
	if !in.Sync {
		resp.Status = gate.Accepted
	}
	return resp, nil
}

func (b *Backend) revocations(ctx context.Context, c *call) (*gate.Response, error) {
	q, err := c.query("limit")
	if err != nil {
		return nil, err
	}
	limit := q.number("limit", listRevocations, maxPage)
	if q.err != nil {
		return nil, q.err
	}
	found, err := b.cfg.Many.RecentRevocations(ctx, int(limit))
	if err != nil {
		return nil, err
	}
	list := make([]any, 0, len(found))
	for _, r := range found {
		list = append(list, revocationData(r))
	}
	return ok(map[string]any{"revocations": list}), nil
}

func (b *Backend) revocation(ctx context.Context, c *call) (*gate.Response, error) {
	r, err := b.cfg.Many.RevocationOf(ctx, c.args["id"])
	if errors.Is(err, broker.ErrNoRevocation) {
		return nil, &gate.Error{Kind: gate.NotFound, Msg: "there is no such revocation"}
	}
	if err != nil {
		return nil, err
	}
	return ok(revocationData(r)), nil
}

// revocationData is a revocation in our own words. took_ms is from the promise to the end of the last credential.
func revocationData(r *broker.Revocation) map[string]any {
	data := map[string]any{
		"id": r.ID, "selector": r.Selector, "selected": r.Selector.String(), "by": r.By, "reason": r.Reason, "request_id": r.RequestID,
		"created_at": r.CreatedAt.UTC(), "expanded": r.Expanded, "marked": r.Marked, "revoked": r.Revoked, "open": r.Open,
		"sessions_closed": r.Sessions, "state": "running",
	}
	if !r.DoneAt.IsZero() {
		data["state"], data["done_at"] = "done", r.DoneAt.UTC()
		data["took_ms"] = r.DoneAt.Sub(r.CreatedAt).Milliseconds()
	}
	return data
}

// changeLease is what an operator does to one lease: ID/retry or ID/force.
func (b *Backend) changeLease(ctx context.Context, c *call) (*gate.Response, error) {
	at := strings.LastIndexByte(c.args["id"], '/')
	if at < 0 {
		return nil, gate.Errorf(gate.NotFound, oneError, "unsupported path")
	}
	id, verb := c.args["id"][:at], c.args["id"][at+1:]
	var do func(ctx context.Context, c *call, l *broker.Lease) (*gate.Response, error)
	switch verb {
	case "retry":
		do = b.retryLease
	case "force":
		do = b.forceLease
	default:
		return nil, gate.Errorf(gate.Unsupported, oneError, "unsupported operation")
	}
	l, err := b.cfg.Leases.Lookup(ctx, id)
	if errors.Is(err, broker.ErrNoLease) {
		return nil, &gate.Error{Kind: gate.NotFound, Msg: "there is no such lease"}
	}
	if err != nil {
		return nil, err
	}
	resp, err := do(ctx, c, l)
	if err != nil {
		return nil, err
	}
	resp.LeaseID, resp.Principal = l.ID, l.Principal
	return resp, nil
}

func (b *Backend) retryLease(ctx context.Context, c *call, l *broker.Lease) (*gate.Response, error) {
	var none struct{}
	if err := c.decode(&none, maxBody); err != nil {
		return nil, err
	}
	if err := b.cfg.Stuck.Retry(ctx, l.ID); err != nil {
		return nil, err
	}
	return &gate.Response{Status: gate.Accepted, Detail: "to be tried again now"}, nil
}

func (b *Backend) forceLease(ctx context.Context, c *call, l *broker.Lease) (*gate.Response, error) {
	var in struct {
		Reason string `json:"reason"`
	}
	if err := c.decode(&in, maxBody); err != nil {
		return nil, err
	}
	switch err := checkReason(in.Reason); {
	case err != nil:
		return nil, err
	case strings.TrimSpace(in.Reason) == "":
		return nil, invalid("reason must say why the lease is given up")
	case l.State == broker.Revoked:
		return nil, invalid("the lease is revoked already")
	}
	if err := b.cfg.Stuck.Force(ctx, l.ID, c.Caller.Name, in.Reason); err != nil {
		return nil, err
	}
	return &gate.Response{
		Data:   map[string]any{"lease_id": l.ID, "principal": l.Principal, "target": l.Target},
		Detail: fmt.Sprintf("given up: %s may still be alive on %s", l.Principal, l.Target),
	}, nil
}

// revokePrefix ends every lease below a path, and a lease that has just that id.
func (b *Backend) revokePrefix(ctx context.Context, c *call) (*gate.Response, error) {
	fields, err := c.fields("prefix", "sync")
	if err != nil {
		return nil, err
	}
	sync, err := boolField(fields, "sync", true)
	if err != nil {
		return nil, err
	}
	detail, err := b.endBelow(ctx, c, "revoke-prefix", sync)
	if err != nil {
		return nil, err
	}
	return &gate.Response{Status: ended(sync), Detail: detail}, nil
}

// endBelow revokes what is below the path of a call and says what it did.
func (b *Backend) endBelow(ctx context.Context, c *call, reason string, sync bool) (string, error) {
	prefix := c.args["prefix"]
	below, err := b.cfg.Leases.List(ctx, broker.Filter{Prefix: prefix + "/", Limit: 1})
	if err != nil {
		return "", err
	}
	switch err := b.cfg.Leases.Revoke(ctx, prefix, sync); {
	case err == nil && len(below) == 0:
		return "revoked the lease " + prefix, nil
	case err != nil && !errors.Is(err, broker.ErrNoLease):
		return "", err
	}
	r, err := b.cfg.Many.RevokeMany(ctx, broker.Selector{Prefix: prefix + "/"}, c.Caller.Name, reason, c.ID, sync)
	if err != nil {
		return "", err
	}
	if !sync {
		return fmt.Sprintf("revocation %s of every lease below %s", r.ID, prefix), nil
	}
	return fmt.Sprintf("revoked %d leases below %s in %v", r.Marked, prefix, r.DoneAt.Sub(r.CreatedAt).Round(time.Millisecond)), nil
}

// revokeForce tries to end what is below a path and then gives up what is left: what may still be alive is recorded for each.
func (b *Backend) revokeForce(ctx context.Context, c *call) (*gate.Response, error) {
	fields, err := c.fields("prefix", "reason")
	if err != nil {
		return nil, err
	}
	reason, err := textField(fields, "reason")
	if err != nil {
		return nil, err
	}
	if err := checkReason(reason); err != nil {
		return nil, err
	}
	if strings.TrimSpace(reason) == "" {
		reason = "revoke-force"
	}
	prefix := c.args["prefix"]
	tryCtx, cancel := context.WithTimeout(ctx, forceTry)
	defer cancel()
	if _, err := b.endBelow(tryCtx, c, "revoke-force", true); err == nil {
		return done("revoked every lease below " + prefix), nil
	}
	n, err := b.cfg.Stuck.ForcePrefix(ctx, prefix+"/", c.Caller.Name, reason)
	if err != nil {
		return nil, err
	}
	switch l, err := b.cfg.Leases.Lookup(ctx, prefix); {
	case errors.Is(err, broker.ErrNoLease):
	case err != nil:
		return nil, err
	case l.State != broker.Revoked:
		if err := b.cfg.Stuck.Force(ctx, prefix, c.Caller.Name, reason); err != nil {
			return nil, err
		}
		n++
	}
	return done(fmt.Sprintf("gave up %d leases below %s: their credentials may still be alive", n, prefix)), nil
}

// tidyLeases answers as Vault does. There is nothing to do: leases and what is due of them are kept in one place.
func (b *Backend) tidyLeases(context.Context, *call) (*gate.Response, error) {
	return &gate.Response{Status: gate.Accepted, Warnings: []string{
		"Tidy operation successfully started. Any information from the operation will be printed to Vault's server logs.",
	}}, nil
}
