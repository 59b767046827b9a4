package postgres

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/bailiff-secrets/bailiff/broker"
)

// Revoke ends the role: no new login, no session left, then the role's revocation statements or the default, which gives
// what it owns to Bailiff's user and drops its privileges and the role. A role that isn't there is success.
func (p *Producer) Revoke(ctx context.Context, ref broker.Ref) error {
	_, err := p.RevokeTold(ctx, ref)
	return err
}

// RevokeTold is Revoke with what it found. It is a broker.Teller.
func (p *Producer) RevokeTold(ctx context.Context, ref broker.Ref) (broker.Ended, error) {
	told, errs := p.RevokeBatchTold(ctx, []broker.Ref{ref})
	return told[0], errs[0]
}

// RevokeBatch ends many roles as Revoke ends one. It is a broker.BatchRevoker.
func (p *Producer) RevokeBatch(ctx context.Context, refs []broker.Ref) []error {
	_, errs := p.RevokeBatchTold(ctx, refs)
	return errs
}

// RevokeBatchTold ends many roles, each step for all of them in one transaction; where that fails, for halves of them, until
// each has its own answer. It is a broker.BatchTeller.
func (p *Producer) RevokeBatchTold(ctx context.Context, refs []broker.Ref) ([]broker.Ended, []error) {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	all := make([]*ending, len(refs))
	for i, ref := range refs {
		all[i] = newEnding(ref)
		all[i].others = len(refs) > 1
	}
	p.endAll(ctx, all)
	told, errs := make([]broker.Ended, len(refs)), make([]error, len(refs))
	for i, e := range all {
		told[i], errs[i] = broker.Ended{Gone: e.absent, Sessions: len(e.sessions)}, e.err
	}
	return told, errs
}

// Quarantine takes a role's login away and ends its sessions; it deletes nothing. A role that isn't there is shut out. It is
// a broker.Quarantiner.
func (p *Producer) Quarantine(ctx context.Context, name string) error {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	e := newEnding(broker.Ref{Principal: name})
	list := []*ending{e}
	together(list, func(l []*ending) error { return p.look(ctx, l) })
	together(list, func(l []*ending) error { return p.disable(ctx, l) })
	together(list, func(l []*ending) error { return p.endSessions(ctx, l) })
	if e.gone != nil { // while it was in work
		return nil
	}
	return e.err
}

// ending is one role that is being ended.
type ending struct {
	name     string
	custom   []string // revocation statements; none: the default
	replace  *strings.Replacer
	others   bool // are being ended by the same call
	oid      uint32
	sessions map[int32]bool // by the pid, those that were closed

	absent bool  // it wasn't there at the start
	gone   error // what said that the role, or so it seems, is not there any more
	err    error // the answer; nothing more is done then
}

func newEnding(ref broker.Ref) *ending {
	e := &ending{name: ref.Principal, sessions: make(map[int32]bool)}
	if e.replace, e.err = (values{name: ref.Principal}).replacer(); e.err == nil {
		e.custom, e.err = revocationOf(ref)
	}
	return e
}

// open are those of list that a step is still to be done for.
func open(list []*ending) []*ending {
	var out []*ending
	for _, e := range list {
		if e.err == nil && !e.absent {
			out = append(out, e)
		}
	}
	return out
}

// together calls step for those of list that are open and, where it fails, for halves of them. That a role is not there ends
// its steps without being an answer yet. What the server doesn't do in time for many it doesn't do for each of them.
func together(list []*ending, step func([]*ending) error) {
	list = open(list)
	list = without(list, func(e *ending) bool { return e.gone != nil })
	if len(list) == 0 {
		return
	}
	err := step(list)
	switch {
	case err == nil:
	case len(list) == 1 && causeOf(err) == broker.Gone:
		list[0].gone = err
	case len(list) == 1 || causeOf(err) == broker.Unreachable:
		for _, e := range list {
			e.err = err
		}
	default:
		together(list[:len(list)/2], step)
		together(list[len(list)/2:], step)
	}
}

func without(list []*ending, drop func(*ending) bool) []*ending {
	var out []*ending
	for _, e := range list {
		if !drop(e) {
			out = append(out, e)
		}
	}
	return out
}

// endAll does every step. The login is away, durably, before the sessions are ended: no new one can come after.
func (p *Producer) endAll(ctx context.Context, all []*ending) {
	for _, step := range []func(context.Context, []*ending) error{p.look, p.disable, p.endSessions, p.remove} {
		together(all, func(list []*ending) error { return step(ctx, list) })
	}
	if list := open(all); len(list) > 0 {
		p.verify(ctx, list)
	}
}

// look finds the roles on the server.
func (p *Producer) look(ctx context.Context, list []*ending) error {
	found, err := p.find(ctx, list)
	if err != nil {
		return err
	}
	for _, e := range list {
		x, there := found[e.name]
		e.oid, e.absent = x.oid, !there
	}
	return nil
}

// onServer is what the server has of a role.
type onServer struct {
	oid      uint32
	canLogin bool
}

// find returns those roles that are there.
func (p *Producer) find(ctx context.Context, list []*ending) (map[string]onServer, error) {
	const doing = "looking for the role"
	pool, err := p.connections()
	if err != nil {
		return nil, err
	}
	rows, err := pool.Query(ctx, "SELECT rolname, oid, rolcanlogin FROM pg_roles WHERE rolname = ANY($1)", names(list))
	if err != nil {
		return nil, classed(doing, err)
	}
	found := make(map[string]onServer, len(list))
	var name string
	var x onServer
	_, err = pgx.ForEachRow(rows, []any{&name, &x.oid, &x.canLogin}, func() error {
		found[name] = x
		return nil
	})
	return found, classed(doing, err)
}

func names(list []*ending) []string {
	out := make([]string, len(list))
	for i, e := range list {
		out[i] = e.name
	}
	return out
}

// disable takes the logins away.
func (p *Producer) disable(ctx context.Context, list []*ending) error {
	var sql strings.Builder
	for _, e := range list {
		sql.WriteString("ALTER ROLE " + quoted(e.name) + " NOLOGIN;")
	}
	err := p.inTx(ctx, false, func(tx pgx.Tx) error {
		if err := impatient(ctx, tx, list); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, sql.String(), pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
		return join(ctx, tx, list)
	})
	return classed(doingDisable, err)
}

// impatient makes a transaction of a call for many give up on locks that others hold, so that one role whose tables are
// locked does not use up the time of all.
func impatient(ctx context.Context, tx pgx.Tx, list []*ending) error {
	if !list[0].others {
		return nil
	}
	_, err := tx.Exec(ctx, "SELECT set_config('lock_timeout', '500ms', true)")
	return err
}

// join makes Bailiff's user a member of the roles, where it isn't a superuser: it may then end their sessions and take over
// what they own. Where that is refused, what needs it says so.
func join(ctx context.Context, tx pgx.Tx, list []*ending) error {
	var superuser bool
	if err := tx.QueryRow(ctx, "SELECT current_setting('is_superuser') = 'on'").Scan(&superuser); err != nil || superuser {
		return err
	}
	for _, e := range list {
		err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { // a savepoint
			_, err := tx.Exec(ctx, "GRANT "+quoted(e.name)+" TO CURRENT_USER")
			return err
		})
		if err != nil && !hasCode(err, "42501") && !hasCode(err, "0LP01") {
			return err
		}
	}
	return nil
}

// endSessions ends the sessions of roles, in every database, and waits until they are gone.
func (p *Producer) endSessions(ctx context.Context, list []*ending) error {
	const q = `SELECT usesysid, pid, pg_terminate_backend(pid) FROM pg_stat_activity
	           WHERE usesysid = ANY($1) AND pid <> pg_backend_pid()`
	pool, err := p.connections()
	if err != nil {
		return err
	}
	byOID, oids := make(map[uint32]*ending, len(list)), make([]uint32, 0, len(list))
	for _, e := range list {
		byOID[e.oid] = e
		oids = append(oids, e.oid)
	}
	for pause := 2 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		rows, err := pool.Query(ctx, q, oids)
		if err != nil {
			return classed(doingSessions, err)
		}
		n := 0
		var oid uint32
		var pid int32
		if _, err = pgx.ForEachRow(rows, []any{&oid, &pid, nil}, func() error {
			n++
			byOID[oid].sessions[pid] = true
			return nil
		}); err != nil || n == 0 {
			return classed(doingSessions, err)
		}
		if err := wait(ctx, pause); err != nil {
			return classed(doingSessions, err)
		}
	}
}

// remove runs the revocation statements, or the default, in one transaction at a time: dropping what roles own takes locks
// in no fixed order.
func (p *Producer) remove(ctx context.Context, list []*ending) error {
	var plain []string
	for _, e := range list {
		if len(e.custom) == 0 {
			plain = append(plain, quoted(e.name))
		}
	}
	err := p.inTx(ctx, true, func(tx pgx.Tx) error {
		if err := impatient(ctx, tx, list); err != nil {
			return err
		}
		for _, e := range list {
			if err := execAll(ctx, tx, "revocation", e.custom, e.replace); err != nil {
				return err
			}
		}
		if len(plain) == 0 {
			return nil
		}
		roles := strings.Join(plain, ", ")
		for _, s := range []string{
			"REASSIGN OWNED BY " + roles + " TO CURRENT_USER",
			"DROP OWNED BY " + roles,
			"DROP ROLE " + roles,
		} {
			if _, err := tx.Exec(ctx, s); err != nil {
				return err
			}
		}
		return nil
	})
	return classed(doingRemove, err)
}

// verify makes sure of what Revoke promises. Statements of the operator's own may keep a role, without a login. A session
// that was starting while its role was dropped is still there under its oid.
func (p *Producer) verify(ctx context.Context, list []*ending) {
	gone := make(map[*ending]error)
	for _, e := range list { // those that seem to be gone take part again
		gone[e], e.gone = e.gone, nil
	}
	together(list, func(l []*ending) error { return p.endSessions(ctx, l) })
	list = open(list)
	if len(list) == 0 {
		return
	}
	found, err := p.find(ctx, list)
	for _, e := range list {
		x, there := found[e.name]
		switch {
		case err != nil:
			e.err = err
		case there && gone[e] != nil: // what was not there is something else that the statements name
			e.err = &broker.RevokeError{Cause: broker.Unknown, Msg: gone[e].Error()}
		case there && x.canLogin:
			e.err = &broker.RevokeError{Cause: broker.Unknown, Msg: "the role is still there and may log in"}
		}
	}
}

func causeOf(err error) broker.Cause {
	if e, ok := errors.AsType[*broker.RevokeError](err); ok {
		return e.Cause
	}
	return broker.Unknown
}
