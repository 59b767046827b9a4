package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	schema = "bailiff"

	// openLock is the number of the lock that those who open the store take in turn.
	openLock = 0x4261696c696666 // "Bailiff"
)

// prepare makes the schema, checks that it is not newer than we are and brings it up to date. Nodes that start together do
// it one after the other.
func prepare(ctx context.Context, c *pgx.ConnConfig, log *slog.Logger) (err error) {
	c = c.Copy()
	c.RuntimeParams = maps.Clone(c.RuntimeParams)
	delete(c.RuntimeParams, "statement_timeout") // large tables take their time
	delete(c.RuntimeParams, "idle_in_transaction_session_timeout")
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectTimeout)
		defer cancel()
		err = errors.Join(err, conn.Close(ctx)) // which gives the lock back
	}()
	var encoding string
	if err := conn.QueryRow(ctx, "SHOW server_encoding").Scan(&encoding); err != nil {
		return err
	}
	if encoding != "UTF8" {
		return fmt.Errorf("the database's encoding is %s: it must be UTF8", encoding)
	}
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1)", int64(openLock)); err != nil {
		return err
	}
	var there bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", schema).Scan(&there); err != nil {
		return err
	}
	if !there {
		if _, err := conn.Exec(ctx, "CREATE SCHEMA "+schema); err != nil {
			return fmt.Errorf("making the schema %s, for which the user needs CREATE on the database: %w", schema, err)
		}
	}
	return migrate(ctx, c, log)
}

// migrate runs the steps that are missing.
func migrate(ctx context.Context, c *pgx.ConnConfig, log *slog.Logger) (err error) {
	db := stdlib.OpenDB(*c)
	db.SetConnMaxIdleTime(time.Minute)
	defer func() { err = errors.Join(err, db.Close()) }()
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("reading the schema's versions: %w", err)
	}
	have, want, err := p.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("reading the schema's version: %w", err)
	}
	if have > want {
		return fmt.Errorf("%w (schema %d, known here: %d)", ErrNewer, have, want)
	}
	done, err := p.Up(ctx)
	if err != nil {
		return fmt.Errorf("bringing the schema up to date: %w", err)
	}
	if len(done) > 0 && have > 0 {
		log.Info("the store's schema was brought up to date", "from", have, "to", want)
	}
	return nil
}
