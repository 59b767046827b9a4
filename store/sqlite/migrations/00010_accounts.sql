-- +goose Up
-- Accounts that stay on their target: static roles, and the users as which Bailiff works (mount '').
CREATE TABLE accounts (
    mount      TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    target     TEXT    NOT NULL,
    username   TEXT    NOT NULL,
    secrets    BLOB,              -- sealed JSON of the passwords; where: accounts|<mount><name>|secrets
    rotated_at INTEGER,
    next_at    INTEGER,
    attempt    INTEGER NOT NULL,
    error      TEXT    NOT NULL,
    version    INTEGER NOT NULL,
    PRIMARY KEY (mount, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX accounts_due ON accounts (next_at) WHERE next_at IS NOT NULL;
