package postgres

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/bailiff-secrets/bailiff/broker"
)

// page is how many roles List asks for at a time.
const page = 1000

// List finds the roles whose names have the form of Bailiff's. It holds no connection while yield runs. It is a
// broker.Lister.
func (p *Producer) List(ctx context.Context, yield func(broker.Found) error) error {
	for after := "bl-"; ; {
		found, err := p.listPage(ctx, after)
		if err != nil {
			return err
		}
		for _, f := range found {
			if !ours.MatchString(f.Name) {
				continue
			}
			if err := yield(f); err != nil {
				return err
			}
		}
		if len(found) < page {
			return nil
		}
		after = found[len(found)-1].Name
	}
}

// listPage reads the next roles by name.
func (p *Producer) listPage(ctx context.Context, after string) ([]broker.Found, error) {
	const (
		doing = "listing the roles"
		q     = `SELECT rolname, coalesce(shobj_description(oid, 'pg_authid'), ''), rolcanlogin FROM pg_roles
		         WHERE rolname > $1::name AND rolname < 'bl.' ORDER BY rolname LIMIT $2`
	)
	pool, err := p.connections()
	if err != nil {
		return nil, err
	}
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	rows, err := pool.Query(ctx, q, after, page)
	if err != nil {
		return nil, classed(doing, err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (f broker.Found, err error) {
		var comment string
		if err := row.Scan(&f.Name, &comment, &f.Enabled); err != nil {
			return f, err
		}
		f.LeaseID, _ = strings.CutPrefix(comment, commentPrefix)
		if f.LeaseID == comment {
			f.LeaseID = ""
		}
		return f, nil
	})
	return found, classed(doing, err)
}
