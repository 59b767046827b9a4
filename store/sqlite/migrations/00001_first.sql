-- +goose Up
CREATE TABLE meta (
    key   TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE objects (
    kind       TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    version    INTEGER NOT NULL,
    body       BLOB    NOT NULL,
    secrets    BLOB,              -- sealed JSON of field names and values; where: objects|<kind>/<name>|secrets
    source     TEXT    NOT NULL,
    updated_at INTEGER,
    updated_by TEXT    NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT;

CREATE TABLE access_keys (
    id         TEXT    NOT NULL PRIMARY KEY,
    access_id  TEXT    NOT NULL,
    hash       BLOB    NOT NULL CHECK (length(hash) = 32),
    note       TEXT    NOT NULL,
    created_at INTEGER,
    expires_at INTEGER,
    disabled   INTEGER NOT NULL CHECK (disabled IN (0, 1))
) STRICT, WITHOUT ROWID;

CREATE TABLE leases (
    seq             INTEGER PRIMARY KEY, -- microseconds since 1970 when it was added, or one more than the last
    id              TEXT    NOT NULL,
    mount           TEXT    NOT NULL,
    role            TEXT    NOT NULL,
    producer        TEXT    NOT NULL,
    target          TEXT    NOT NULL,
    identity        TEXT    NOT NULL,
    access_id       TEXT    NOT NULL,
    request_id      TEXT    NOT NULL,
    principal       TEXT    NOT NULL,
    max_expires_at  INTEGER,
    intent_deadline INTEGER,
    data            BLOB,                -- sealed; where: leases|<id>|data
    open            INTEGER NOT NULL,    -- 1 until it is revoked; written once more, then
    state           TEXT    NOT NULL CHECK (state IN ('pending', 'active', 'revoking', 'stuck', 'revoked')),
    issued_at       INTEGER,
    expires_at      INTEGER,
    next_at         INTEGER,
    attempt         INTEGER NOT NULL,
    cause           TEXT    NOT NULL,
    error           TEXT    NOT NULL,
    CHECK (open = (state <> 'revoked'))
) STRICT;

-- Each index also holds seq, so that what it finds for equal keys comes in the order of seq. Only leases_due and
-- leases_cause are written when a lease moves between open states.
CREATE UNIQUE INDEX leases_id ON leases (id);
CREATE INDEX leases_due       ON leases (next_at) WHERE open = 1 AND next_at IS NOT NULL;
CREATE INDEX leases_open      ON leases (open) WHERE open = 1;
CREATE INDEX leases_open_id   ON leases (id) WHERE open = 1;
CREATE INDEX leases_identity  ON leases (identity, open);
CREATE INDEX leases_target    ON leases (target, open);
CREATE INDEX leases_role      ON leases (mount, role, open);
CREATE INDEX leases_cause     ON leases (cause) WHERE cause <> '';

-- How many leases are in each state, so that nobody has to count them.
CREATE TABLE lease_counts (
    state TEXT    NOT NULL PRIMARY KEY,
    n     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO lease_counts (state, n) VALUES ('pending', 0), ('active', 0), ('revoking', 0), ('stuck', 0), ('revoked', 0);

-- +goose StatementBegin
CREATE TRIGGER leases_added AFTER INSERT ON leases BEGIN
    UPDATE lease_counts SET n = n + 1 WHERE state = new.state;
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER leases_moved AFTER UPDATE OF state ON leases WHEN old.state <> new.state BEGIN
    UPDATE lease_counts SET n = n - 1 WHERE state = old.state;
    UPDATE lease_counts SET n = n + 1 WHERE state = new.state;
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER leases_removed AFTER DELETE ON leases BEGIN
    UPDATE lease_counts SET n = n - 1 WHERE state = old.state;
END;
-- +goose StatementEnd
