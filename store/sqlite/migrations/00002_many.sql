-- +goose Up
-- A table's CHECK can't be changed, so that the leases move into a new one.
CREATE TABLE leases_2 (
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
    token           TEXT    NOT NULL,
    outlives        INTEGER NOT NULL CHECK (outlives IN (0, 1)),
    share_key       TEXT    NOT NULL,
    max_expires_at  INTEGER,
    intent_deadline INTEGER,
    data            BLOB,                -- sealed; where: leases|<id>|data
    open            INTEGER NOT NULL,    -- 1 until it is revoked; written once more, then
    state           TEXT    NOT NULL CHECK (state IN ('pooled', 'pending', 'active', 'revoking', 'stuck', 'revoked')),
    issued_at       INTEGER,
    expires_at      INTEGER,
    next_at         INTEGER,
    end_at          INTEGER,             -- of a lease that is to be revoked: when that should have happened
    attempt         INTEGER NOT NULL,
    cause           TEXT    NOT NULL,
    error           TEXT    NOT NULL,
    holders         INTEGER NOT NULL,
    version         INTEGER NOT NULL,
    CHECK (open = (state <> 'revoked'))
) STRICT;

INSERT INTO leases_2 (seq, id, mount, role, producer, target, identity, access_id, request_id, principal, token, outlives, share_key,
    max_expires_at, intent_deadline, data, open, state, issued_at, expires_at, next_at, end_at, attempt, cause, error, holders, version)
SELECT seq, id, mount, role, producer, target, identity, access_id, request_id, principal, '', 0, '',
    max_expires_at, intent_deadline, data, open, state, issued_at, expires_at, next_at,
    CASE WHEN state IN ('revoking', 'stuck') THEN min(coalesce(next_at, expires_at), coalesce(expires_at, next_at)) END,
    attempt, cause, error, 0, 1
FROM leases ORDER BY seq;

DROP TABLE leases; -- with its indexes and triggers
DROP TABLE lease_counts;
ALTER TABLE leases_2 RENAME TO leases;

-- Each index also holds seq, so that what it finds for equal keys comes in the order of seq. Only leases_due, leases_end and
-- leases_cause are written when a lease moves between open states; leases_identity, leases_token and leases_share also when
-- it leaves the pool.
CREATE UNIQUE INDEX leases_id ON leases (id);
CREATE INDEX leases_due       ON leases (next_at) WHERE open = 1 AND next_at IS NOT NULL;
CREATE INDEX leases_end       ON leases (end_at) WHERE open = 1 AND end_at IS NOT NULL;
CREATE INDEX leases_open      ON leases (open) WHERE open = 1;
CREATE INDEX leases_open_id   ON leases (id) WHERE open = 1;
CREATE INDEX leases_identity  ON leases (identity, open);
CREATE INDEX leases_target    ON leases (target, open);
CREATE INDEX leases_role      ON leases (mount, role, open);
CREATE INDEX leases_token     ON leases (token, open) WHERE token <> '';
CREATE INDEX leases_share     ON leases (share_key, open) WHERE share_key <> '';
CREATE INDEX leases_cause     ON leases (cause) WHERE cause <> '';

-- How many leases there are of each kind, so that nobody has to count them.
CREATE TABLE lease_tally (
    mount    TEXT    NOT NULL,
    role     TEXT    NOT NULL,
    target   TEXT    NOT NULL,
    producer TEXT    NOT NULL,
    state    TEXT    NOT NULL,
    cause    TEXT    NOT NULL,
    n        INTEGER NOT NULL,
    PRIMARY KEY (mount, role, target, producer, state, cause)
) STRICT, WITHOUT ROWID;
INSERT INTO lease_tally SELECT mount, role, target, producer, state, cause, count(*) FROM leases
GROUP BY mount, role, target, producer, state, cause;

-- +goose StatementBegin
CREATE TRIGGER leases_added AFTER INSERT ON leases BEGIN
    INSERT INTO lease_tally VALUES (new.mount, new.role, new.target, new.producer, new.state, new.cause, 1)
        ON CONFLICT DO UPDATE SET n = n + 1;
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER leases_moved AFTER UPDATE OF state, cause ON leases WHEN old.state <> new.state OR old.cause <> new.cause BEGIN
    UPDATE lease_tally SET n = n - 1 WHERE mount = old.mount AND role = old.role AND target = old.target AND producer = old.producer
        AND state = old.state AND cause = old.cause;
    INSERT INTO lease_tally VALUES (new.mount, new.role, new.target, new.producer, new.state, new.cause, 1)
        ON CONFLICT DO UPDATE SET n = n + 1;
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER leases_removed AFTER DELETE ON leases BEGIN
    UPDATE lease_tally SET n = n - 1 WHERE mount = old.mount AND role = old.role AND target = old.target AND producer = old.producer
        AND state = old.state AND cause = old.cause;
END;
-- +goose StatementEnd

CREATE TABLE revocations (
    seq        INTEGER PRIMARY KEY, -- in the order in which they were added
    id         TEXT    NOT NULL UNIQUE,
    selector   TEXT    NOT NULL,    -- JSON
    by         TEXT    NOT NULL,
    reason     TEXT    NOT NULL,
    request_id TEXT    NOT NULL,
    created_at INTEGER,
    up_to      INTEGER NOT NULL,
    cursor     INTEGER NOT NULL,
    marked     INTEGER NOT NULL,
    expanded   INTEGER NOT NULL CHECK (expanded IN (0, 1)),
    done_at    INTEGER,
    revoked    INTEGER NOT NULL,
    open       INTEGER NOT NULL,
    sessions   INTEGER NOT NULL
) STRICT;
CREATE INDEX revocations_open ON revocations (seq) WHERE done_at IS NULL;
