package postgres

import (
	"context"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/internal/secret"
)

// The codes of a login that fails after the password was found to be right, and of one that fails whatever the password.
const (
	mayNotConnect   = "42501"
	noDatabase      = "3D000"
	mayNotLogIn     = "28000"
	wrongPassword   = "28P01"
	untriedPassword = "trying the password"
)

// SetPassword makes password the one that username logs in with. The server gets its verifier alone. Where username is
// Bailiff's own user, connections that are made from then on use the new one, and those that are there stay. It is a
// broker.PasswordSetter.
func (p *Producer) SetPassword(ctx context.Context, username string, password secret.Value) error {
	return p.SetPasswordWith(ctx, username, password, nil)
}

// SetPasswordWith is SetPassword with statements of the operator's own, in which {{name}} or {{username}} and {{password}}
// stand for the values. They run in one transaction.
func (p *Producer) SetPasswordWith(ctx context.Context, username string, password secret.Value, custom []string) error {
	change, err := passwordChange(username, password.Reveal(), custom)
	if err != nil {
		return err
	}
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	if username == p.pool.ConnConfig.User {
		return classed("changing the password", p.changeOwn(ctx, password, change))
	}
	return classed("changing the password", p.inTx(ctx, false, func(tx pgx.Tx) error { return change(ctx, tx) }))
}

// TryPassword logs in. Where the server refuses the login whatever the password, it can't be tried: an error of cause
// Unknown. It is a broker.PasswordSetter.
func (p *Producer) TryPassword(ctx context.Context, username string, password secret.Value) error {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	cfg := p.pool.ConnConfig.Copy()
	cfg.User, cfg.Password = username, password.Reveal()
	conn, err := pgx.ConnectConfig(ctx, cfg)
	switch {
	case err == nil:
		_ = conn.Close(ctx) // it has done what it was for
		return nil
	case hasCode(err, mayNotConnect) || hasCode(err, noDatabase):
		return nil // the server says so to whoever has the right password
	case hasCode(err, wrongPassword):
		return &broker.RevokeError{Cause: broker.ForbiddenBy, Msg: untriedPassword + ": the server refused it"}
	case hasCode(err, mayNotLogIn):
		return &broker.RevokeError{Cause: broker.Unknown, Msg: untriedPassword + ": the account may not log in from here"}
	}
	return classed(untriedPassword, err)
}

// rotatable is what an operator's statements may have put into their quotes.
var rotatable = regexp.MustCompile(`^[^"'\\\x00-\x1f\x7f]{1,63}$`)

// passwordChange makes what changes the password in a transaction.
func passwordChange(username, password string, custom []string) (func(context.Context, pgx.Tx) error, error) {
	if ours.MatchString(username) {
		return nil, &broker.RevokeError{Cause: broker.Unknown, Msg: "the account is one of a lease, whose password doesn't change"}
	}
	sent, err := verifier(password, defaultIterations)
	if err != nil {
		return nil, err
	}
	if len(custom) == 0 {
		alter := "ALTER ROLE " + quoted(username) + " PASSWORD " + literal(sent)
		return func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, alter, pgx.QueryExecModeSimpleProtocol)
			return err
		}, nil
	}
	list, err := statements(custom)
	if err != nil {
		return nil, &broker.RevokeError{Cause: broker.Unknown, Msg: "the rotation statements: " + err.Error()}
	}
	if !rotatable.MatchString(username) {
		return nil, &broker.RevokeError{Cause: broker.Unknown, Msg: "the username has letters that are not safe in statements"}
	}
	replace := strings.NewReplacer("{{name}}", username, "{{username}}", username, "{{password}}", sent)
	return func(ctx context.Context, tx pgx.Tx) error { return execAll(ctx, tx, "rotation", list, replace) }, nil
}

// changeOwn changes the password of Bailiff's own user. New logins wait until it is known which password they need.
func (p *Producer) changeOwn(ctx context.Context, password secret.Value, change func(context.Context, pgx.Tx) error) error {
	p.logins.changing.Lock()
	defer p.logins.changing.Unlock()
	pool, err := p.connections()
	if err != nil {
		return err
	}
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	p.logins.hold()
	defer p.logins.release()
	if err := p.logins.drained(ctx, pool); err != nil {
		return err
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if err := setTimeouts(ctx, tx); err != nil {
			return err
		}
		return change(ctx, tx)
	})
	if err != nil { // it may have been done all the same
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), defaultTimeout)
		defer cancel()
		if p.TryPassword(clean, p.pool.ConnConfig.User, password) != nil {
			return err
		}
	}
	p.logins.use(password)
	return nil
}

// logins lets connections be made with the password that holds, which may have been changed since the target was declared.
type logins struct {
	changing sync.Mutex // held by whoever changes the password

	mu       sync.Mutex
	password secret.Value  // empty: the declared one
	held     chan struct{} // not nil while new logins wait; closed when they may go on
	waiting  int           // logins that wait
}

// before is called for each new connection of the pool.
func (l *logins) before(ctx context.Context, cfg *pgx.ConnConfig) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.held != nil {
		if err := l.wait(ctx, l.held); err != nil {
			return err
		}
	}
	if !l.password.Empty() {
		cfg.Password = l.password.Reveal()
	}
	return nil
}

// wait gives the lock up until held is closed.
func (l *logins) wait(ctx context.Context, held chan struct{}) error {
	l.waiting++
	l.mu.Unlock()
	var err error
	select {
	case <-held:
	case <-ctx.Done():
		err = ctx.Err()
	}
	l.mu.Lock()
	l.waiting--
	return err
}

func (l *logins) hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = make(chan struct{})
}

func (l *logins) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.held)
	l.held = nil
}

func (l *logins) use(password secret.Value) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.password = password
}

// drained waits until every login that began before hold has ended.
func (l *logins) drained(ctx context.Context, pool *pgxpool.Pool) error {
	for {
		l.mu.Lock()
		waiting := l.waiting
		l.mu.Unlock()
		if int(pool.Stat().ConstructingConns()) <= waiting {
			return nil
		}
		if err := wait(ctx, 2*time.Millisecond); err != nil {
			return err
		}
	}
}
