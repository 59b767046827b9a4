-- +goose Up
-- What decided at the login of whom a lease was issued to: JSON of names and values; empty: nothing.
ALTER TABLE leases ADD COLUMN claims text NOT NULL DEFAULT '';

-- The same by claim, once for each token: leases_token finds the leases of those. Values may be too long for an index.
CREATE TABLE token_claims (
    digest bytea NOT NULL, -- SHA-256 of name, a zero byte and value
    token  text COLLATE "C" NOT NULL, -- accessor
    PRIMARY KEY (digest, token)
);
