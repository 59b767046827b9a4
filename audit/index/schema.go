package index

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"

	_ "modernc.org/sqlite" // the driver
)

// layout is counted up when the tables change; an index of another layout is built anew.
const layout = 1

const schema = `
CREATE TABLE place (one INTEGER PRIMARY KEY CHECK (one = 1), layout INTEGER NOT NULL, seq INTEGER NOT NULL, hash BLOB NOT NULL);
CREATE TABLE paths (id INTEGER PRIMARY KEY, w TEXT NOT NULL, alias TEXT NOT NULL, UNIQUE (w, alias));
CREATE INDEX paths_alias ON paths (alias) WHERE alias <> '';
CREATE TABLE names (id INTEGER PRIMARY KEY, w TEXT NOT NULL, alias TEXT NOT NULL, UNIQUE (w, alias));
CREATE TABLE by_path (path INTEGER NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (path, seq)) WITHOUT ROWID;
CREATE TABLE by_name (name INTEGER NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (name, seq)) WITHOUT ROWID;
CREATE TABLE by_mark (mark INTEGER NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (mark, seq)) WITHOUT ROWID;
CREATE TABLE days (day INTEGER PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL);
CREATE TABLE sums (
	path INTEGER NOT NULL, day INTEGER NOT NULL, name INTEGER NOT NULL, via TEXT NOT NULL, op TEXT NOT NULL, status TEXT NOT NULL,
	n INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
	PRIMARY KEY (path, day, name, via, op, status)
) WITHOUT ROWID;
`

// connect opens the database at path. Losing its last commits in a power cut does no harm: they are made again.
func connect(path string) (*sql.DB, error) {
	q := url.Values{"_pragma": {"journal_mode(WAL)", "synchronous(NORMAL)", "busy_timeout(5000)", "cache_size(-16000)"}, "_txlock": {"immediate"}}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: path, RawQuery: q.Encode()}).String())
	if err != nil {
		return nil, fmt.Errorf("open the index of the audit log: %w", err)
	}
	db.SetMaxOpenConns(4)
	return db, nil
}

// prepare makes the tables where they are not there. It fails where those that are there are of another layout or broken.
func prepare(ctx context.Context, db *sql.DB) error {
	var n int
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_master").Scan(&n); err != nil {
		return err
	}
	if n == 0 {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback() //nolint:errcheck // after a commit there is nothing to roll back
		if _, err := tx.ExecContext(ctx, schema); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO place VALUES (1, ?, 0, x'')", layout); err != nil {
			return err
		}
		return tx.Commit()
	}
	var got int
	if err := db.QueryRowContext(ctx, "SELECT layout FROM place").Scan(&got); err != nil {
		return err
	}
	if got != layout {
		return fmt.Errorf("its layout is %d, not %d", got, layout)
	}
	return nil
}
