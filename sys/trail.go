package sys

import (
	"context"
	"time"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/gate"
)

// queryTrail answers who had what, when and from where, newest first.
func (b *Backend) queryTrail(ctx context.Context, c *call) (*gate.Response, error) {
	q, err := c.query("path", "identity", "access_id", "op", "status", "via", "stage", "lease", "principal", "request_id", "target", "mount",
		"since", "until", "limit", "before")
	if err != nil {
		return nil, err
	}
	now := time.Now()
	ask := audit.Query{
		Path: q.text("path"), Identity: q.text("identity"), AccessID: q.text("access_id"), Op: q.text("op"), Status: q.text("status"),
		Via: q.text("via"), Stage: q.text("stage"), LeaseID: q.text("lease"), Principal: q.text("principal"),
		RequestID: q.text("request_id"), Target: q.text("target"), Mount: q.text("mount"),
		Since: q.moment("since", now), Until: q.moment("until", now),
		Before: q.number("before", 0, 1<<62), Limit: int(q.number("limit", usualPage, maxPage)),
	}
	if q.err != nil {
		return nil, q.err
	}
	if ask.Limit == 0 {
		ask.Limit = usualPage
	}
	records := []*audit.Record{}
	err = b.cfg.Trail.Query(ctx, ask, func(r *audit.Record) error {
		records = append(records, r)
		return nil
	})
	if err != nil {
		return nil, err
	}
	next := uint64(0)
	if len(records) == ask.Limit {
		next = records[len(records)-1].Seq
	}
	return ok(map[string]any{"records": records, "next": next}), nil
}

// moment reads a time as people write it: "90d", "1h30m", RFC 3339, "2026-11-01".
func (q *query) moment(name string, now time.Time) time.Time {
	s := q.values[name]
	if s == "" {
		return time.Time{}
	}
	t, err := audit.ParseTime(s, now)
	if err != nil {
		q.fail("the query parameter %s: %v", name, err)
	}
	return t
}

// whoHad sums up by identity who had what lies at a path.
func (b *Backend) whoHad(ctx context.Context, c *call) (*gate.Response, error) {
	if b.cfg.Holders == nil {
		return nil, &gate.Error{Kind: gate.Unsupported, Msg: "the trail has no index here"}
	}
	q, err := c.query("path", "since", "until")
	if err != nil {
		return nil, err
	}
	path, now := q.text("path"), time.Now()
	since, until := q.moment("since", now), q.moment("until", now)
	switch {
	case q.err != nil:
		return nil, q.err
	case path == "":
		return nil, invalid("the query parameter path is missing")
	}
	holders, err := b.cfg.Holders.WhoHad(ctx, path, since, until)
	if err != nil {
		return nil, err
	}
	return ok(map[string]any{"path": path, "holders": holders}), nil
}
