-- +goose Up
-- Small sealed things by space and key: tokens, entities, what auth methods are set up with, wrapped answers. What is
-- compared by its order or its beginning is kept as bytes.
CREATE TABLE documents (
    space      TEXT    NOT NULL,
    key        BLOB    NOT NULL,
    version    INTEGER NOT NULL,
    body       BLOB,              -- sealed; where: documents|<space>|<key>
    keys       TEXT    NOT NULL,  -- JSON of what else it is found by; document_keys says it once more
    expires_at INTEGER,
    seq        INTEGER NOT NULL   -- of its last change
) STRICT;
CREATE UNIQUE INDEX documents_key ON documents (space, key);
CREATE UNIQUE INDEX documents_seq ON documents (seq);
CREATE INDEX documents_expiry     ON documents (space, expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE document_keys (
    space TEXT NOT NULL,
    name  BLOB NOT NULL,
    value BLOB NOT NULL,
    key   BLOB NOT NULL,          -- of the document
    PRIMARY KEY (space, name, value, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX document_keys_of ON document_keys (space, key);

-- Documents that were removed, for those who follow the changes.
CREATE TABLE document_graves (
    space      TEXT    NOT NULL,
    key        BLOB    NOT NULL,
    seq        INTEGER NOT NULL,
    removed_at INTEGER NOT NULL,
    PRIMARY KEY (space, key)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX document_graves_seq ON document_graves (seq);
CREATE INDEX document_graves_age        ON document_graves (removed_at);

-- One row: the highest seq that was given out, and the highest of a grave that was cleared.
CREATE TABLE document_state (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    seq     INTEGER NOT NULL,
    horizon INTEGER NOT NULL
) STRICT;
INSERT INTO document_state (one, seq, horizon) VALUES (1, 0, 0);
