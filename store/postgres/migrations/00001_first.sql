-- +goose Up
-- Times are nanoseconds since 1970; NULL is none. Words that are compared by their order or their beginning are kept in
-- the collation "C", which is that of bytes.
CREATE TABLE meta (
    key   text COLLATE "C" PRIMARY KEY,
    value bytea NOT NULL
);

-- One row: how often objects or access keys were changed. Who changes them locks it first, so that one does at a time.
CREATE TABLE changes (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    n   bigint  NOT NULL
);
INSERT INTO changes (n) VALUES (0);

CREATE TABLE objects (
    kind       text COLLATE "C" NOT NULL,
    name       text COLLATE "C" NOT NULL,
    version    bigint NOT NULL,
    body       bytea  NOT NULL,
    secrets    bytea,            -- sealed JSON of field names and values; where: objects|<kind>/<name>|secrets
    source     text   NOT NULL,
    updated_at bigint,
    updated_by text   NOT NULL,
    PRIMARY KEY (kind, name)
);

CREATE TABLE access_keys (
    id         text COLLATE "C" PRIMARY KEY,
    access_id  text COLLATE "C" NOT NULL,
    hash       bytea   NOT NULL CHECK (length(hash) = 32),
    note       text    NOT NULL,
    created_at bigint,
    expires_at bigint,
    disabled   boolean NOT NULL
);

CREATE TABLE leases (
    seq             bigint PRIMARY KEY, -- microseconds since 1970 when it was added, then 10 bits that tell nodes apart
    id              text COLLATE "C" NOT NULL,
    mount           text COLLATE "C" NOT NULL,
    role            text COLLATE "C" NOT NULL,
    producer        text COLLATE "C" NOT NULL,
    target          text COLLATE "C" NOT NULL,
    identity        text COLLATE "C" NOT NULL,
    access_id       text    NOT NULL,
    request_id      text    NOT NULL,
    principal       text    NOT NULL,
    token           text COLLATE "C" NOT NULL,
    outlives        boolean NOT NULL,
    share_key       text COLLATE "C" NOT NULL,
    max_expires_at  bigint,
    intent_deadline bigint,
    data            bytea,              -- sealed; where: leases|<id>|data
    open            boolean NOT NULL,   -- until it is revoked
    state           text COLLATE "C" NOT NULL CHECK (state IN ('pooled', 'pending', 'active', 'revoking', 'stuck', 'revoked')),
    issued_at       bigint,
    expires_at      bigint,
    next_at         bigint,
    end_at          bigint,             -- of a lease that is to be revoked: when that should have happened
    attempt         integer NOT NULL,
    cause           text COLLATE "C" NOT NULL,
    error           text    NOT NULL,
    holders         integer NOT NULL,
    version         bigint  NOT NULL,
    claimed_by      text    NOT NULL DEFAULT '',
    claimed_until   bigint,             -- in no index, so that a claim costs little
    CHECK (open = (state <> 'revoked'))
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);

CREATE UNIQUE INDEX leases_id ON leases (id);
CREATE INDEX leases_due       ON leases (next_at, seq) WHERE open AND next_at IS NOT NULL;
CREATE INDEX leases_end       ON leases (end_at) WHERE open AND end_at IS NOT NULL;
CREATE INDEX leases_open      ON leases (seq) WHERE open;
CREATE INDEX leases_identity  ON leases (identity, open, seq);
CREATE INDEX leases_target    ON leases (target, open, seq);
CREATE INDEX leases_role      ON leases (mount, role, open, seq);
CREATE INDEX leases_token     ON leases (token, open, seq) WHERE token <> '';
CREATE INDEX leases_share     ON leases (share_key, open, seq) WHERE share_key <> '';
CREATE INDEX leases_cause     ON leases (cause, seq) WHERE cause <> '';

-- How many leases there are of each kind, so that nobody has to count them. The lines of one kind, added up, are right;
-- there are several, so that those who write at once don't wait for each other.
CREATE TABLE lease_tally (
    part     integer NOT NULL,
    mount    text COLLATE "C" NOT NULL,
    role     text COLLATE "C" NOT NULL,
    target   text COLLATE "C" NOT NULL,
    producer text COLLATE "C" NOT NULL,
    state    text COLLATE "C" NOT NULL,
    cause    text COLLATE "C" NOT NULL,
    n        bigint NOT NULL,
    PRIMARY KEY (mount, role, target, producer, state, cause, part)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_threshold = 500);

-- +goose StatementBegin
CREATE FUNCTION leases_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO lease_tally AS t (part, mount, role, target, producer, state, cause, n)
    SELECT pg_backend_pid() % 16, mount, role, target, producer, state, cause, count(*)
    FROM added GROUP BY mount, role, target, producer, state, cause ORDER BY mount, role, target, producer, state, cause
    ON CONFLICT (mount, role, target, producer, state, cause, part) DO UPDATE SET n = t.n + excluded.n;
    RETURN NULL;
END $$;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE FUNCTION leases_moved() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO lease_tally AS t (part, mount, role, target, producer, state, cause, n)
    SELECT pg_backend_pid() % 16, mount, role, target, producer, state, cause, sum(n) FROM (
        SELECT mount, role, target, producer, state, cause, 1 AS n FROM moved
        UNION ALL SELECT mount, role, target, producer, state, cause, -1 FROM stood
    ) AS both_sides GROUP BY mount, role, target, producer, state, cause HAVING sum(n) <> 0
    ORDER BY mount, role, target, producer, state, cause
    ON CONFLICT (mount, role, target, producer, state, cause, part) DO UPDATE SET n = t.n + excluded.n;
    RETURN NULL;
END $$;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE FUNCTION leases_removed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO lease_tally AS t (part, mount, role, target, producer, state, cause, n)
    SELECT pg_backend_pid() % 16, mount, role, target, producer, state, cause, -count(*)
    FROM removed GROUP BY mount, role, target, producer, state, cause ORDER BY mount, role, target, producer, state, cause
    ON CONFLICT (mount, role, target, producer, state, cause, part) DO UPDATE SET n = t.n + excluded.n;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER leases_added AFTER INSERT ON leases REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION leases_added();
CREATE TRIGGER leases_moved AFTER UPDATE ON leases REFERENCING OLD TABLE AS stood NEW TABLE AS moved FOR EACH STATEMENT EXECUTE FUNCTION leases_moved();
CREATE TRIGGER leases_removed AFTER DELETE ON leases REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION leases_removed();

CREATE TABLE revocations (
    nr         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- in the order in which they were added
    id         text COLLATE "C" NOT NULL UNIQUE,
    selector   text    NOT NULL,                                -- JSON
    by         text    NOT NULL,
    reason     text    NOT NULL,
    request_id text    NOT NULL,
    created_at bigint,
    up_to      bigint  NOT NULL,
    cursor     bigint  NOT NULL,
    marked     bigint  NOT NULL,
    expanded   boolean NOT NULL,
    done_at    bigint,
    revoked    bigint  NOT NULL,
    open       bigint  NOT NULL,
    sessions   bigint  NOT NULL
);
CREATE INDEX revocations_open  ON revocations (nr) WHERE done_at IS NULL;
CREATE INDEX revocations_up_to ON revocations (up_to);

-- Accounts that stay on their target: static roles, and the users as which Bailiff works (mount '').
CREATE TABLE accounts (
    mount      text COLLATE "C" NOT NULL,
    name       text COLLATE "C" NOT NULL,
    target     text    NOT NULL,
    username   text    NOT NULL,
    secrets    bytea,             -- sealed JSON of the passwords; where: accounts|<mount><name>|secrets
    rotated_at bigint,
    next_at    bigint,
    attempt    integer NOT NULL,
    error      text    NOT NULL,
    version    bigint  NOT NULL,
    PRIMARY KEY (mount, name)
);
CREATE INDEX accounts_due ON accounts (next_at) WHERE next_at IS NOT NULL;
