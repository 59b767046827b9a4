package postgres

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/internal/secret"
)

// Create makes the role in one transaction, at the cost of one round trip. The server's own clock is asked whether the
// deadline is over before the first statement and after the last.
func (p *Producer) Create(ctx context.Context, spec broker.Spec) (*broker.Credential, error) {
	password := newPassword()
	r, v, err := p.prepared(spec, password)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithDeadline(ctx, spec.Deadline)
	defer cancel()
	if err := ctx.Err(); err != nil {
		return nil, classed("creating the role", err)
	}
	err = p.create(ctx, r, spec, v)
	if hasCode(err, duplicateObject) {
		err = p.replace(ctx, r, spec, v)
	}
	if err != nil {
		return nil, classed("creating the role", err)
	}
	return &broker.Credential{Fields: map[string]secret.Value{
		"username": secret.New(spec.Principal),
		"password": secret.New(password),
	}}, nil
}

// replace makes the role anew where an earlier Create of the same lease made it: nobody was told its password.
func (p *Producer) replace(ctx context.Context, r *Role, spec broker.Spec, v values) error {
	pool, err := p.connections()
	if err != nil {
		return err
	}
	var mine bool
	const q = `SELECT coalesce(shobj_description(oid, 'pg_authid') = $2, false) FROM pg_roles WHERE rolname = $1`
	if err := pool.QueryRow(ctx, q, spec.Principal, comment(spec.LeaseID)).Scan(&mine); err != nil {
		return err
	}
	if !mine {
		return byCode("creating the role", duplicateObject)
	}
	if err := p.Revoke(ctx, broker.Ref{LeaseID: spec.LeaseID, Principal: spec.Principal, Role: &spec.Role}); err != nil {
		return err
	}
	return p.create(ctx, r, spec, v)
}

// create makes the role and then does what last says.
func (p *Producer) create(ctx context.Context, r *Role, spec broker.Spec, v values, last ...string) error {
	replace, err := v.replacer()
	if err != nil {
		return err
	}
	list := []step{beforeDeadline(ctx, spec.Deadline)}
	list = append(list, stepsOf("creation", r.creation, replace)...)
	list = append(list, step{
		sql: "COMMENT ON ROLE " + quoted(spec.Principal) + " IS " + literal(comment(spec.LeaseID)),
		failed: func(err error) error {
			if hasCode(err, undefinedObject) {
				return &broker.RevokeError{Cause: broker.Unknown, Msg: "the creation statements did not create the role {{name}}"}
			}
			return err
		},
	})
	list = append(list, stepsOf("parking", last, replace)...)
	return p.inOneTrip(ctx, append(list, beforeDeadline(ctx, spec.Deadline)))
}

const commentPrefix = "bailiff lease "

// comment is what the role's comment on the server says, by which people tell Bailiff's roles and find their leases.
func comment(leaseID string) string {
	return commentPrefix + strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, leaseID)
}

// beforeDeadline fails where the deadline is over by the server's clock, or ctx's is. Where it isn't, the server ends every
// statement that takes longer than until then. What makes it fail is that no timeout is negative.
func beforeDeadline(ctx context.Context, deadline time.Time) step {
	const q = `SELECT set_config('statement_timeout', CASE WHEN left_ms > 0 THEN greatest(1, least(left_ms, %d))::bigint::text ELSE '-1' END, true)
	           FROM (SELECT extract(epoch FROM ('%s'::timestamptz - clock_timestamp())) * 1000 AS left_ms) a`
	return step{
		sql: fmt.Sprintf(q, left(ctx).Milliseconds(), timestamp(deadline)),
		failed: func(err error) error {
			if hasCode(err, invalidValue) {
				return &broker.RevokeError{Cause: broker.Unreachable, Err: context.DeadlineExceeded,
					Msg: "the deadline is over by the server's clock, so nothing was made (do the clocks agree?)"}
			}
			return err
		},
	}
}

// left is how long ctx, which has a deadline, lasts.
func left(ctx context.Context) time.Duration {
	deadline, _ := ctx.Deadline()
	return max(time.Until(deadline), time.Millisecond)
}

// stepsOf are statements with the values in their places.
func stepsOf(what string, list []string, replace *strings.Replacer) []step {
	steps := make([]step, len(list))
	for i, s := range list {
		steps[i] = step{sql: replace.Replace(s), failed: func(err error) error { return ofStatement(what, i, err) }}
	}
	return steps
}

// ofStatement says which statement err is of, and nothing of its text.
func ofStatement(what string, i int, err error) error {
	if conflict(err) || hasCode(err, duplicateObject) {
		return err
	}
	return classed(fmt.Sprintf("%s statement %d", what, i+1), err)
}

// execAll runs statements.
func execAll(ctx context.Context, tx pgx.Tx, what string, list []string, replace *strings.Replacer) error {
	for i, s := range list {
		if _, err := tx.Exec(ctx, replace.Replace(s), pgx.QueryExecModeSimpleProtocol); err != nil {
			return ofStatement(what, i, err)
		}
	}
	return nil
}

const (
	tries        = 10
	advisoryLock = 0x6261696c69666601 // "bailiff" and 1: one key of this package's own
)

// inTx runs f in a transaction. Without a deadline in ctx it takes its own.
func (p *Producer) inTx(ctx context.Context, serial bool, f func(pgx.Tx) error) error {
	pool, err := p.connections()
	if err != nil {
		return err
	}
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	return again(ctx, serial, func(serial bool) error {
		return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			if err := setTimeouts(ctx, tx); err != nil {
				return err
			}
			if serial {
				if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(advisoryLock)); err != nil {
					return err
				}
			}
			return f(tx)
		})
	})
}

// again does a transaction, and once more where other changes of the catalogue came between. Transactions that clash are done
// one after another from then on; serial asks for that from the start.
func again(ctx context.Context, serial bool, do func(serial bool) error) error {
	for n := 1; ; n++ {
		err := do(serial || n > 1)
		if err == nil || !conflict(err) || n == tries {
			return err
		}
		if err := wait(ctx, rand.N(time.Duration(n)*10*time.Millisecond)); err != nil {
			return err
		}
	}
}

// setTimeouts makes the server give up when the caller does.
func setTimeouts(ctx context.Context, tx pgx.Tx) error {
	ms := strconv.FormatInt(left(ctx).Milliseconds(), 10)
	_, err := tx.Exec(ctx, "SELECT set_config('statement_timeout', $1, true), set_config('idle_in_transaction_session_timeout', $1, true)", ms)
	return err
}

func withDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, defaultTimeout)
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
