package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
)

const leaseColumns = `seq, id, mount, role, producer, target, identity, access_id, request_id, principal, token, outlives, share_key,
max_expires_at, intent_deadline, data, state, issued_at, expires_at, next_at, attempt, cause, error, holders, version, claims`

// addLeases adds leases whose ID is new. None is added where the clocks are apart, nor with a Seq that a revocation of many
// is meant for: this statement holds a lock that PutRevocation waits for, and begins when that is over.
const addLeases = `INSERT INTO leases (seq, id, mount, role, producer, target, identity, access_id, request_id, principal, token, outlives,
share_key, max_expires_at, intent_deadline, data, open, state, issued_at, expires_at, next_at, end_at, attempt, cause, error, holders, version, claims)
SELECT seq, id, mount, role, producer, target, identity, access_id, request_id, principal, token, outlives, share_key, max_expires_at,
intent_deadline, data, state <> 'revoked', state, issued_at, expires_at, next_at, end_at, attempt, cause, error, holders, 1, claims
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
$11::text[], $12::boolean[], $13::text[], $14::bigint[], $15::bigint[], $16::bytea[], $17::text[], $18::bigint[], $19::bigint[], $20::bigint[],
$21::bigint[], $22::int[], $23::text[], $24::text[], $25::int[], $26::text[]) AS v (seq, id, mount, role, producer, target, identity, access_id, request_id,
principal, token, outlives, share_key, max_expires_at, intent_deadline, data, state, issued_at, expires_at, next_at, end_at, attempt, cause,
error, holders, claims)
WHERE seq > (SELECT coalesce(max(up_to), 0) FROM revocations)
AND abs((extract(epoch FROM statement_timestamp()) * 1000)::bigint - $27::bigint) <= $28::bigint
ON CONFLICT (id) DO NOTHING RETURNING id`

// moveLeases moves leases from what they were read as. end_at stays what it was at the first move towards the end.
const moveLeases = `UPDATE leases AS l SET state = v.state, open = v.state <> 'revoked', issued_at = v.issued_at, expires_at = v.expires_at,
next_at = v.next_at, attempt = v.attempt, cause = v.cause, error = v.error, holders = v.holders, version = l.version + 1,
claimed_by = '', claimed_until = NULL,
end_at = CASE WHEN v.state IN ('revoking', 'stuck') AND l.state IN ('revoking', 'stuck') THEN coalesce(l.end_at, v.end_at) ELSE v.end_at END,
max_expires_at = CASE WHEN l.state = 'pooled' AND v.state <> 'pooled' THEN v.max_expires_at ELSE l.max_expires_at END,
identity = CASE WHEN l.state = 'pooled' AND v.state <> 'pooled' THEN v.identity ELSE l.identity END,
access_id = CASE WHEN l.state = 'pooled' AND v.state <> 'pooled' THEN v.access_id ELSE l.access_id END,
request_id = CASE WHEN l.state = 'pooled' AND v.state <> 'pooled' THEN v.request_id ELSE l.request_id END,
token = CASE WHEN l.state = 'pooled' AND v.state <> 'pooled' THEN v.token ELSE l.token END,
outlives = CASE WHEN l.state = 'pooled' AND v.state <> 'pooled' THEN v.outlives ELSE l.outlives END,
share_key = CASE WHEN l.state = 'pooled' AND v.state <> 'pooled' THEN v.share_key ELSE l.share_key END,
claims = CASE WHEN l.state = 'pooled' AND v.state <> 'pooled' THEN v.claims ELSE l.claims END
FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::int[], $10::text[],
$11::text[], $12::int[], $13::bigint[], $14::text[], $15::text[], $16::text[], $17::text[], $18::boolean[], $19::text[], $20::text[]) AS v (id, version,
start, state, issued_at, expires_at, next_at, end_at, attempt, cause, error, holders, max_expires_at, identity, access_id, request_id, token,
outlives, share_key, claims)
WHERE l.id = v.id AND l.version = v.version AND strpos(v.start, ',' || l.state || ',') > 0 AND (l.state <> 'revoked' OR v.state = 'revoked')
RETURNING l.id`

// states are all that a lease can be in.
var states = [...]broker.State{broker.Pooled, broker.Pending, broker.Active, broker.Revoking, broker.Stuck, broker.Revoked}

// column is one value of each operation, as an array.
func column[T any](ops []*op, value func(o *op, l *broker.Lease) T) []T {
	out := make([]T, len(ops))
	for i, o := range ops {
		out[i] = value(o, o.lease)
	}
	return out
}

// word is a column of words.
func word(ops []*op, value func(l *broker.Lease) string) []string {
	return column(ops, func(_ *op, l *broker.Lease) string { return value(l) })
}

// moment is a column of times.
func moment(ops []*op, value func(l *broker.Lease) time.Time) []*int64 {
	return column(ops, func(_ *op, l *broker.Lease) *int64 { return at(value(l)) })
}

func insertArgs(ops []*op) []any {
	return []any{
		column(ops, func(o *op, _ *broker.Lease) int64 { return o.seq }),
		word(ops, func(l *broker.Lease) string { return l.ID }),
		word(ops, func(l *broker.Lease) string { return l.Mount }),
		word(ops, func(l *broker.Lease) string { return l.Role }),
		word(ops, func(l *broker.Lease) string { return l.Producer }),
		word(ops, func(l *broker.Lease) string { return l.Target }),
		word(ops, func(l *broker.Lease) string { return l.Identity }),
		word(ops, func(l *broker.Lease) string { return l.AccessID }),
		word(ops, func(l *broker.Lease) string { return l.RequestID }),
		word(ops, func(l *broker.Lease) string { return l.Principal }),
		word(ops, func(l *broker.Lease) string { return l.Token }),
		column(ops, func(_ *op, l *broker.Lease) bool { return l.Outlives }),
		word(ops, func(l *broker.Lease) string { return l.ShareKey }),
		moment(ops, func(l *broker.Lease) time.Time { return l.MaxExpiresAt }),
		moment(ops, func(l *broker.Lease) time.Time { return l.IntentDeadline }),
		column(ops, func(o *op, _ *broker.Lease) []byte { return o.data }),
		word(ops, func(l *broker.Lease) string { return string(l.State) }),
		moment(ops, func(l *broker.Lease) time.Time { return l.IssuedAt }),
		moment(ops, func(l *broker.Lease) time.Time { return l.ExpiresAt }),
		moment(ops, func(l *broker.Lease) time.Time { return l.NextAt }),
		moment(ops, endAt),
		column(ops, func(_ *op, l *broker.Lease) int { return l.Attempt }),
		word(ops, func(l *broker.Lease) string { return string(l.Cause) }),
		word(ops, func(l *broker.Lease) string { return plain(l.Error) }),
		column(ops, func(_ *op, l *broker.Lease) int { return l.Holders }),
		column(ops, func(o *op, _ *broker.Lease) string { return o.claims }),
	}
}

func moveArgs(ops []*op) []any {
	return []any{
		word(ops, func(l *broker.Lease) string { return l.ID }),
		column(ops, func(_ *op, l *broker.Lease) int64 { return l.Version }),
		column(ops, func(o *op, _ *broker.Lease) string { return joined(o.from) }),
		word(ops, func(l *broker.Lease) string { return string(l.State) }),
		moment(ops, func(l *broker.Lease) time.Time { return l.IssuedAt }),
		moment(ops, func(l *broker.Lease) time.Time { return l.ExpiresAt }),
		moment(ops, func(l *broker.Lease) time.Time { return l.NextAt }),
		moment(ops, endAt),
		column(ops, func(_ *op, l *broker.Lease) int { return l.Attempt }),
		word(ops, func(l *broker.Lease) string { return string(l.Cause) }),
		word(ops, func(l *broker.Lease) string { return plain(l.Error) }),
		column(ops, func(_ *op, l *broker.Lease) int { return l.Holders }),
		moment(ops, func(l *broker.Lease) time.Time { return l.MaxExpiresAt }),
		word(ops, func(l *broker.Lease) string { return l.Identity }),
		word(ops, func(l *broker.Lease) string { return l.AccessID }),
		word(ops, func(l *broker.Lease) string { return l.RequestID }),
		word(ops, func(l *broker.Lease) string { return l.Token }),
		column(ops, func(_ *op, l *broker.Lease) bool { return l.Outlives }),
		word(ops, func(l *broker.Lease) string { return l.ShareKey }),
		column(ops, func(o *op, _ *broker.Lease) string { return o.claims }),
	}
}

// joined writes states as ",pending,active,"; those that do not exist are left out.
func joined(from []broker.State) string {
	var b strings.Builder
	b.WriteByte(',')
	for _, s := range states {
		if slices.Contains(from, s) {
			b.WriteString(string(s) + ",")
		}
	}
	return b.String()
}

// endAt is when a lease that is to be revoked should have been: when it is due for the first time, or when it expires where
// that is earlier. It is zero for others.
func endAt(l *broker.Lease) time.Time {
	switch {
	case l.State != broker.Revoking && l.State != broker.Stuck:
		return time.Time{}
	case l.NextAt.IsZero() || !l.ExpiresAt.IsZero() && l.ExpiresAt.Before(l.NextAt):
		return l.ExpiresAt
	}
	return l.NextAt
}

// Insert adds a lease and sets its Seq and Version. It fails with ErrExists where the ID is not new, with ErrSkew where the
// clocks are apart, and with ErrUnknown where it may be there all the same.
func (db *DB) Insert(ctx context.Context, l *broker.Lease) error {
	o, err := db.prepareOp(ctx, l)
	if err == nil {
		o.isNew = true
		o.data, err = db.seal(l.Data, dataPlace(l.ID))
	}
	if err == nil {
		err = db.do(o)
	}
	if err != nil {
		return fmt.Errorf("keeping the lease %s: %w", l.ID, err)
	}
	l.Seq, l.Version = o.seq, 1
	return nil
}

// Move writes l's mutable fields where the stored state is one of from and the stored version is l's, and increases
// l.Version; ErrStale otherwise, ErrNoLease where there is none. Nothing moves a revoked lease back, even where from names
// it. It ends a claim. After ErrUnknown it may have moved: read it again.
func (db *DB) Move(ctx context.Context, l *broker.Lease, from ...broker.State) error {
	o, err := db.prepareOp(ctx, l)
	if err == nil {
		o.from = from
		err = db.do(o)
	}
	if err != nil {
		return fmt.Errorf("moving the lease %s to %s: %w", l.ID, l.State, err)
	}
	l.Version++
	return nil
}

// prepareOp checks what can be checked before anything is sent. The operation has a copy of the lease, so that its caller
// may go on with its own.
func (db *DB) prepareOp(ctx context.Context, l *broker.Lease) (*op, error) {
	if !slices.Contains(states[:], l.State) {
		return nil, fmt.Errorf("there is no state of a lease named %q", l.State)
	}
	if err := checkTimes(l.IssuedAt, l.ExpiresAt, l.NextAt, l.MaxExpiresAt, l.IntentDeadline); err != nil {
		return nil, err
	}
	claims, err := claimText(l.Claims)
	if err != nil {
		return nil, err
	}
	c := *l
	return &op{ctx: ctx, lease: &c, claims: claims}, nil
}

func (db *DB) do(o *op) error {
	if err := db.begin(o.ctx); err != nil {
		return err
	}
	defer db.begun.Done()
	return db.writer.write(o)
}

// Lease finds one by its ID, in any state; ErrNoLease where there is none.
func (db *DB) Lease(ctx context.Context, id string) (*broker.Lease, error) {
	found, err := db.leases(ctx, "SELECT "+leaseColumns+" FROM leases WHERE id = $1", id)
	if err == nil && len(found) == 0 {
		err = broker.ErrNoLease
	}
	if err != nil {
		return nil, fmt.Errorf("the lease %s: %w", id, err)
	}
	return found[0], nil
}

const dueLeases = "SELECT " + leaseColumns + ` FROM leases
WHERE open AND next_at IS NOT NULL AND next_at <= $1 ORDER BY next_at, seq LIMIT $2`

// Due lists up to limit leases that are not revoked and whose NextAt is at or before now, oldest first, by index.
func (db *DB) Due(ctx context.Context, now time.Time, limit int) ([]*broker.Lease, error) {
	found, err := db.leases(ctx, dueLeases, nanos(now), max(limit, 0))
	if err != nil {
		return nil, fmt.Errorf("finding due leases: %w", err)
	}
	return found, nil
}

// leases runs a query of leaseColumns.
func (db *DB) leases(ctx context.Context, query string, args ...any) ([]*broker.Lease, error) {
	var found []*broker.Lease
	err := db.read(ctx, func(scan func(...any) error) error {
		l, err := db.lease(scan)
		if err == nil {
			found = append(found, l)
		}
		return err
	}, query, args...)
	return found, err
}

// lease reads one row of leaseColumns. A lease whose data can't be opened is given without it and logged: it must still end
// on time, which needs its data only where its role is gone, and it must not hide those behind it.
func (db *DB) lease(scan func(...any) error) (*broker.Lease, error) {
	l := &broker.Lease{}
	var sealed []byte
	var claims string
	err := scan(&l.Seq, &l.ID, &l.Mount, &l.Role, &l.Producer, &l.Target, &l.Identity, &l.AccessID, &l.RequestID, &l.Principal,
		&l.Token, &l.Outlives, &l.ShareKey, (*stamp)(&l.MaxExpiresAt), (*stamp)(&l.IntentDeadline), &sealed,
		(*string)(&l.State), (*stamp)(&l.IssuedAt), (*stamp)(&l.ExpiresAt), (*stamp)(&l.NextAt), &l.Attempt, (*string)(&l.Cause), &l.Error,
		&l.Holders, &l.Version, &claims)
	if err == nil {
		l.Claims, err = claimsOf(claims)
	}
	if err != nil {
		return nil, err
	}
	l.Data, err = db.unseal(sealed, dataPlace(l.ID))
	if errors.Is(err, ErrNoSealer) {
		return nil, err
	}
	if err != nil {
		db.log.Error("the data of a lease can't be opened: it is ended by its role alone", "lease_id", l.ID, "error", err)
	}
	return l, nil
}

// dataPlace is where a lease's data is sealed for.
func dataPlace(id string) string { return "leases|" + id + "|data" }
