-- What the parser has read. One transaction writes a file, its rows, its rejected rows and its event.
CREATE TABLE files (
    file_id        uuid PRIMARY KEY,
    bucket         text NOT NULL,
    key            text NOT NULL,
    version        text NOT NULL,
    caller         text NOT NULL,
    filename       text,
    format         text NOT NULL CHECK (format IN ('csv', 'ndjson')),
    sha256         text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    size_bytes     bigint NOT NULL CHECK (size_bytes >= 0),
    rows_accepted  bigint NOT NULL CHECK (rows_accepted >= 0),
    rows_rejected  bigint NOT NULL CHECK (rows_rejected >= 0),
    parsed_at      timestamptz NOT NULL DEFAULT now(),
    UNIQUE (bucket, key, version)
);

CREATE TABLE records (
    file_id      uuid NOT NULL REFERENCES files ON DELETE CASCADE,
    line         bigint NOT NULL CHECK (line > 0),
    content      jsonb NOT NULL,
    PRIMARY KEY (file_id, line)
);

CREATE TABLE rejected_rows (
    file_id      uuid NOT NULL REFERENCES files ON DELETE CASCADE,
    line         bigint NOT NULL CHECK (line > 0),
    reason       text NOT NULL,
    start        text NOT NULL,
    PRIMARY KEY (file_id, line)
);

CREATE TABLE outbox (
    event_id      uuid PRIMARY KEY,
    topic         text NOT NULL,
    key           text NOT NULL,
    payload       jsonb NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    published_at  timestamptz
);

CREATE INDEX outbox_unpublished ON outbox (created_at) WHERE published_at IS NULL;
