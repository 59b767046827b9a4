-- +goose Up
-- Small sealed things by space and key: tokens, entities, what auth methods are set up with, wrapped answers. What is
-- compared by its order or its beginning is kept as bytes.
CREATE TABLE documents (
    space      text COLLATE "C" NOT NULL,
    key        bytea    NOT NULL,
    version    bigint NOT NULL,
    body       bytea,              -- sealed; where: documents|<space>|<key>
    keys       text COLLATE "C" NOT NULL,  -- JSON of what else it is found by; document_keys says it once more
    expires_at bigint,
    seq        bigint NOT NULL   -- of its last change
) WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
CREATE UNIQUE INDEX documents_key ON documents (space, key);
CREATE UNIQUE INDEX documents_seq ON documents (seq);
CREATE INDEX documents_expiry     ON documents (space, expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE document_keys (
    space text COLLATE "C" NOT NULL,
    name  bytea NOT NULL,
    value bytea NOT NULL,
    key   bytea NOT NULL,          -- of the document
    PRIMARY KEY (space, name, value, key)
);
CREATE INDEX document_keys_of ON document_keys (space, key);

-- Documents that were removed, for those who follow the changes.
CREATE TABLE document_graves (
    space      text COLLATE "C" NOT NULL,
    key        bytea    NOT NULL,
    seq        bigint NOT NULL,
    removed_at bigint NOT NULL,
    PRIMARY KEY (space, key)
);
CREATE UNIQUE INDEX document_graves_seq ON document_graves (seq);
CREATE INDEX document_graves_age        ON document_graves (removed_at);

-- One row: the highest seq that was given out, and the highest of a grave that was cleared. Who writes documents locks it
-- first, so that one does at a time and a lower seq is never seen after a higher one.
CREATE TABLE document_state (
    one     boolean PRIMARY KEY DEFAULT true CHECK (one),
    seq     bigint NOT NULL,
    horizon bigint NOT NULL
) WITH (fillfactor = 10);
INSERT INTO document_state (seq, horizon) VALUES (0, 0);
