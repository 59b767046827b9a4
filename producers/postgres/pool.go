package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/internal/secret"
)

const (
	parking = `ALTER ROLE "{{name}}" NOLOGIN PASSWORD NULL VALID UNTIL '{{expiration}}'`
	handing = `ALTER ROLE "{{name}}" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'`
)

// Park makes the role with its creation statements, in one transaction at whose end it may not log in and has no password.
// With Hand it makes the Producer a broker.Pooler.
func (p *Producer) Park(ctx context.Context, spec broker.Spec) error {
	r, v, err := p.prepared(spec, newPassword())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithDeadline(ctx, spec.Deadline)
	defer cancel()
	return classed("parking the role", p.create(ctx, r, spec, v, parking))
}

// Hand lets a parked role log in, with a new password, in one statement.
func (p *Producer) Hand(ctx context.Context, spec broker.Spec) (*broker.Credential, error) {
	password := newPassword()
	_, v, err := p.prepared(spec, password)
	if err != nil {
		return nil, err
	}
	replace, err := v.replacer()
	if err != nil {
		return nil, err
	}
	pool, err := p.connections()
	if err != nil {
		return nil, classed("handing the role out", err)
	}
	ctx, cancel := context.WithDeadline(ctx, spec.Deadline)
	defer cancel()
	if _, err := pool.Exec(ctx, replace.Replace(handing), pgx.QueryExecModeSimpleProtocol); err != nil {
		return nil, classed("handing the role out", err)
	}
	return &broker.Credential{Fields: map[string]secret.Value{
		"username": secret.New(spec.Principal),
		"password": secret.New(password),
	}}, nil
}

// prepared is a role's configuration, and the values for its statements.
func (p *Producer) prepared(spec broker.Spec, password string) (*Role, values, error) {
	r, err := roleOf(spec.Role)
	if err != nil {
		return nil, values{}, err
	}
	if err := checkName(spec.Principal); err != nil {
		return nil, values{}, err
	}
	sent := password
	if !r.plain {
		if sent, err = verifier(password, r.iterations); err != nil {
			return nil, values{}, err
		}
	}
	return r, values{name: spec.Principal, password: sent, expiration: spec.ExpiresAt}, nil
}
