-- +goose Up
-- What decided at the login of whom a lease was issued to: JSON of names and values; empty: nothing.
ALTER TABLE leases ADD COLUMN claims TEXT NOT NULL DEFAULT '';

-- The same by claim, once for each token: leases_token finds the leases of those.
CREATE TABLE token_claims (
    digest BLOB NOT NULL, -- SHA-256 of name, a zero byte and value
    token  TEXT NOT NULL, -- accessor
    PRIMARY KEY (digest, token)
) STRICT, WITHOUT ROWID;
