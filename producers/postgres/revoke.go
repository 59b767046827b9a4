package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/bailiff-secrets/bailiff/broker"
)

// Renew moves the role's VALID UNTIL. It is a broker.Renewer.
func (p *Producer) Renew(ctx context.Context, ref broker.Ref, until time.Time) error {
	list := []string{`ALTER ROLE "{{name}}" VALID UNTIL '{{expiration}}'`}
	if ref.Role != nil {
		r, err := roleOf(*ref.Role)
		if err != nil {
			return err
		}
		if len(r.renewal) > 0 {
			list = r.renewal
		}
	}
	replace, err := values{name: ref.Principal, expiration: until}.replacer()
	if err != nil {
		return err
	}
	err = p.inTx(ctx, false, func(tx pgx.Tx) error { return execAll(ctx, tx, "renewal", list, replace) })
	return classed("renewing the role", err)
}

// Revoke ends the role: no new login, no session left, then the role's revocation statements or the default, which gives
// what it owns to Bailiff's user and drops its privileges and the role. A role that isn't there is success.
func (p *Producer) Revoke(ctx context.Context, ref broker.Ref) error {
	replace, err := values{name: ref.Principal}.replacer()
	if err != nil {
		return err
	}
	custom, err := revocationOf(ref)
	if err != nil {
		return err
	}
	pool, err := p.connections()
	if err != nil {
		return err
	}
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	oid, _, err := find(ctx, pool, ref.Principal)
	if oid == 0 || err != nil {
		return classed("looking for the role", err)
	}
	err = p.disable(ctx, pool, ref.Principal, oid)
	if err == nil {
		err = p.remove(ctx, ref.Principal, custom, func(tx pgx.Tx) error {
			return execAll(ctx, tx, "revocation", custom, replace)
		})
	}
	if err == nil || causeOf(err) == broker.Gone { // gone: somebody else dropped it meanwhile, or so it seems
		return p.verify(ctx, pool, ref.Principal, oid, err)
	}
	return err
}

// find returns the oid of a role, which is 0 where there is none, and whether it may log in.
func find(ctx context.Context, pool *pgxpool.Pool, name string) (oid uint32, canLogin bool, err error) {
	err = pool.QueryRow(ctx, "SELECT oid, rolcanlogin FROM pg_roles WHERE rolname = $1", name).Scan(&oid, &canLogin)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, false, nil
	}
	return oid, canLogin, err
}

// disable takes the login away, which is durable before the sessions are ended: no new one can come after.
func (p *Producer) disable(ctx context.Context, pool *pgxpool.Pool, name string, oid uint32) error {
	err := p.inTx(ctx, false, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "ALTER ROLE "+quoted(name)+" NOLOGIN")
		if err != nil {
			return err
		}
		return join(ctx, tx, name)
	})
	if err != nil {
		return classed("taking the role's login away", err)
	}
	return classed("ending the role's sessions", endSessions(ctx, pool, oid))
}

// join makes Bailiff's user a member of the role, where it isn't a superuser: it may then end the role's sessions and take
// over what the role owns. Where that is refused, what needs it says so.
func join(ctx context.Context, tx pgx.Tx, name string) error {
	var superuser bool
	if err := tx.QueryRow(ctx, "SELECT current_setting('is_superuser') = 'on'").Scan(&superuser); err != nil || superuser {
		return err
	}
	err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { // a savepoint
		_, err := tx.Exec(ctx, "GRANT "+quoted(name)+" TO CURRENT_USER")
		return err
	})
	if hasCode(err, "42501") || hasCode(err, "0LP01") {
		return nil
	}
	return err
}

// endSessions ends the sessions of a role, in every database, and waits until they are gone.
func endSessions(ctx context.Context, pool *pgxpool.Pool, oid uint32) error {
	const q = `SELECT count(*) FROM (SELECT pg_terminate_backend(pid) FROM pg_stat_activity
	           WHERE usesysid = $1 AND pid <> pg_backend_pid()) x`
	for pause := 2 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		var n int
		if err := pool.QueryRow(ctx, q, oid).Scan(&n); err != nil || n == 0 {
			return err
		}
		if err := wait(ctx, pause); err != nil {
			return err
		}
	}
}

// remove runs the revocation statements, or the default, one lease at a time: dropping what roles own takes locks in no
// fixed order.
func (p *Producer) remove(ctx context.Context, name string, custom []string, run func(pgx.Tx) error) error {
	err := p.inTx(ctx, true, func(tx pgx.Tx) error {
		if len(custom) > 0 {
			return run(tx)
		}
		for _, s := range []string{
			"REASSIGN OWNED BY " + quoted(name) + " TO CURRENT_USER",
			"DROP OWNED BY " + quoted(name),
			"DROP ROLE " + quoted(name),
		} {
			if _, err := tx.Exec(ctx, s); err != nil {
				return err
			}
		}
		return nil
	})
	return classed("removing the role", err)
}

// verify makes sure of what Revoke promises. Statements of the operator's own may keep the role, without a login. A session
// that was starting while its role was dropped is still there under its oid. gone is the error that said that the role is
// not there, if one did.
func (p *Producer) verify(ctx context.Context, pool *pgxpool.Pool, name string, oid uint32, gone error) error {
	if err := endSessions(ctx, pool, oid); err != nil {
		return classed("ending the role's sessions", err)
	}
	left, canLogin, err := find(ctx, pool, name)
	switch {
	case err != nil:
		return classed("looking for the role", err)
	case left != 0 && gone != nil: // what was not there is something else that the statements name
		return &broker.RevokeError{Cause: broker.Unknown, Msg: gone.Error()}
	case left != 0 && canLogin:
		return &broker.RevokeError{Cause: broker.Unknown, Msg: "the role is still there and may log in"}
	}
	return nil
}

func causeOf(err error) broker.Cause {
	if e, ok := errors.AsType[*broker.RevokeError](err); ok {
		return e.Cause
	}
	return broker.Unknown
}
