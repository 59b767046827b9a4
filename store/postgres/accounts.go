package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/bailiff-secrets/bailiff/rotation"
)

const accountColumns = "mount, name, target, username, secrets, rotated_at, next_at, attempt, error, version"

const (
	addAccount = `INSERT INTO accounts (mount, name, target, username, secrets, rotated_at, next_at, attempt, error, version)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 1) ON CONFLICT DO NOTHING`
	setAccount = `UPDATE accounts SET version = version + 1, target = $1, username = $2, secrets = $3, rotated_at = $4, next_at = $5, attempt = $6,
error = $7 WHERE mount = $8 AND name = $9 AND version = $10`
)

// PutAccount writes all of a where the stored version is a.Version, and increases a.Version; version 0 is that of an account
// that is not there. ErrStale otherwise.
func (db *DB) PutAccount(ctx context.Context, a *rotation.Account) error {
	err := checkTimes(a.RotatedAt, a.NextAt)
	var sealed []byte
	if err == nil {
		sealed, err = db.keys.SealPasswords(a)
	}
	if err != nil {
		return fmt.Errorf("keeping the account %s%s: %w", a.Mount, a.Name, err)
	}
	query, args := setAccount, []any{a.Target, a.Username, sealed, at(a.RotatedAt), at(a.NextAt), a.Attempt, plain(a.Error), a.Mount, a.Name, a.Version}
	if a.Version == 0 {
		query, args = addAccount, []any{a.Mount, a.Name, a.Target, a.Username, sealed, at(a.RotatedAt), at(a.NextAt), a.Attempt, plain(a.Error)}
	}
	if err := db.onlyIf(ctx, query, args...); err != nil {
		return fmt.Errorf("keeping the account %s%s: %w", a.Mount, a.Name, err)
	}
	a.Version++
	return nil
}

// DropAccount removes the account where the stored version is a.Version; ErrStale otherwise, also where there is none.
func (db *DB) DropAccount(ctx context.Context, a *rotation.Account) error {
	err := db.onlyIf(ctx, "DELETE FROM accounts WHERE mount = $1 AND name = $2 AND version = $3", a.Mount, a.Name, a.Version)
	if err != nil {
		return fmt.Errorf("removing the account %s%s: %w", a.Mount, a.Name, err)
	}
	return nil
}

// onlyIf runs a statement that must change a row.
func (db *DB) onlyIf(ctx context.Context, query string, args ...any) error {
	changed, err := db.change(ctx, query, args...)
	if err == nil && !changed {
		return rotation.ErrStale
	}
	return err
}

// Account finds one; ErrNoAccount where there is none.
func (db *DB) Account(ctx context.Context, mount, name string) (*rotation.Account, error) {
	found, err := db.accounts(ctx, "SELECT "+accountColumns+" FROM accounts WHERE mount = $1 AND name = $2", mount, name)
	if err == nil && len(found) == 0 {
		err = rotation.ErrNoAccount
	}
	if err != nil {
		return nil, fmt.Errorf("the account %s%s: %w", mount, name, err)
	}
	return found[0], nil
}

// Accounts lists every account by mount and name.
func (db *DB) Accounts(ctx context.Context) ([]*rotation.Account, error) {
	found, err := db.accounts(ctx, "SELECT "+accountColumns+" FROM accounts ORDER BY mount, name")
	if err != nil {
		return nil, fmt.Errorf("listing accounts: %w", err)
	}
	return found, nil
}

// DueAccounts lists up to limit accounts whose NextAt is at or before now, oldest first, by index.
func (db *DB) DueAccounts(ctx context.Context, now time.Time, limit int) ([]*rotation.Account, error) {
	found, err := db.accounts(ctx, "SELECT "+accountColumns+` FROM accounts
WHERE next_at IS NOT NULL AND next_at <= $1 ORDER BY next_at LIMIT $2`, nanos(now), max(limit, 0))
	if err != nil {
		return nil, fmt.Errorf("listing accounts that are due: %w", err)
	}
	return found, nil
}

func (db *DB) accounts(ctx context.Context, query string, args ...any) ([]*rotation.Account, error) {
	var found []*rotation.Account
	err := db.read(ctx, func(scan func(...any) error) error {
		var a rotation.Account
		var sealed []byte
		err := scan(&a.Mount, &a.Name, &a.Target, &a.Username, &sealed, (*stamp)(&a.RotatedAt), (*stamp)(&a.NextAt), &a.Attempt, &a.Error, &a.Version)
		if err != nil {
			return err
		}
		if err := db.keys.OpenPasswords(&a, sealed); err != nil {
			return fmt.Errorf("the passwords of %s%s: %w", a.Mount, a.Name, err)
		}
		found = append(found, &a)
		return nil
	}, query, args...)
	return found, err
}
