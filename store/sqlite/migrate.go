package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrations embed.FS

// applicationID marks the file as ours ("Bail"): see PRAGMA application_id.
const applicationID = 0x4261696c

// prepare checks that the file is not newer than we are and brings its schema up to date.
func prepare(ctx context.Context, db *sql.DB, log *slog.Logger) error {
	if err := claim(ctx, db); err != nil {
		return err
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, files, goose.WithDisableGlobalRegistry(true))
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

// inspect refuses a database of something else, on a connection that changes nothing in it.
func inspect(ctx context.Context, path string) error {
	db, err := pool(path, 1, readPragmas)
	if err != nil {
		return err
	}
	var id, tables int
	err = db.QueryRowContext(ctx, "PRAGMA application_id").Scan(&id)
	if err == nil {
		err = db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&tables)
	}
	if err == nil && id != applicationID && (id != 0 || tables != 0) {
		err = ErrForeign
	}
	return errors.Join(err, db.Close())
}

// claim marks the database as ours, which inspect has found to be ours or empty.
func claim(ctx context.Context, db *sql.DB) error {
	var mode string
	if err := db.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode); err != nil {
		return err
	}
	if mode != "wal" {
		return errors.New("its file system can't hold a write-ahead log (it lacks shared memory): use a local disk")
	}
	var id int
	if err := db.QueryRowContext(ctx, "PRAGMA application_id").Scan(&id); err != nil || id == applicationID {
		return err
	}
	_, err := db.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d", applicationID))
	return err
}
