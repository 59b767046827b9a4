package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/bailiff-secrets/bailiff/broker"
)

// Renew moves the role's VALID UNTIL, and never back. Statements of the operator's own are run with the later of the two ends
// in the place of {{expiration}}. It is a broker.Renewer.
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
	if err := checkName(ref.Principal); err != nil {
		return err
	}
	err := p.inTx(ctx, false, func(tx pgx.Tx) error {
		until, err := laterEnd(ctx, tx, ref.Principal, until)
		if err != nil {
			return err
		}
		replace, err := values{name: ref.Principal, expiration: until}.replacer()
		if err != nil {
			return err
		}
		return execAll(ctx, tx, "renewal", list, replace)
	})
	return classed("renewing the role", err)
}

const renewLock = 0x626c7277 // "blrw": the first half of the keys of this package's locks of single roles

// laterEnd is until, or the role's own end where that is later. Until the transaction's end no other renewal of the role, of
// any process, comes between this look and what follows it.
func laterEnd(ctx context.Context, tx pgx.Tx, name string, until time.Time) (time.Time, error) {
	if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1, hashtext($2))", int32(renewLock), name); err != nil {
		return until, err
	}
	var own time.Time
	err := tx.QueryRow(ctx, "SELECT rolvaliduntil FROM pg_roles WHERE rolname = $1 AND isfinite(rolvaliduntil)", name).Scan(&own)
	switch {
	case errors.Is(err, pgx.ErrNoRows): // there is no such role, which the statements find out; or it has no end
		return until, nil
	case err == nil && own.After(until):
		return own, nil
	}
	return until, err
}
