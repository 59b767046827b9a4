package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/bailiff-secrets/bailiff/broker"
)

// Probe logs in as the credential, on a connection of its own, and asks for a row. It is a broker.Prober. Where the server
// does not let the credential in the error is of cause ForbiddenBy.
func (p *Producer) Probe(ctx context.Context, _ broker.Spec, c *broker.Credential) error {
	const doing = "logging in with the credential"
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	cfg := p.pool.ConnConfig.Copy()
	cfg.User, cfg.Password = c.Fields["username"].Reveal(), c.Fields["password"].Reveal()
	if err := checkName(cfg.User); err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	switch {
	case hasCode(err, wrongPassword), hasCode(err, mayNotLogIn):
		return &broker.RevokeError{Cause: broker.ForbiddenBy, Msg: doing + ": the server refused it (SQLSTATE " + codeOf(err) + ")"}
	case hasCode(err, mayNotConnect):
		return &broker.RevokeError{Cause: broker.ForbiddenBy, Msg: doing + ": it may not connect to the target's database (SQLSTATE " + mayNotConnect + ")"}
	case err != nil:
		return classed(doing, err)
	}
	var one int
	err = conn.QueryRow(ctx, "select 1").Scan(&one)
	closing, done := context.WithTimeout(context.WithoutCancel(ctx), defaultTimeout)
	defer done()
	_ = conn.Close(closing) // it has done what it was for
	return classed(doing, err)
}
