-- +goose Up
CREATE TABLE event_log (
    seq           INTEGER PRIMARY KEY AUTOINCREMENT,
    grp           TEXT    NOT NULL,
    event_id      TEXT    NOT NULL,
    facts         TEXT    NOT NULL,
    type          TEXT    NOT NULL,
    conflict_of   TEXT,
    account       TEXT    NOT NULL,
    namespace     TEXT    NOT NULL,
    provider      TEXT    NOT NULL,
    order_ref     TEXT,
    part          INTEGER NOT NULL,
    entry_id      TEXT    NOT NULL,
    event         TEXT    NOT NULL,
    callback_id   TEXT    NOT NULL,
    sha256        TEXT    NOT NULL,
    callback_part INTEGER NOT NULL,
    raw           BLOB,
    item          BLOB,
    headers       TEXT,
    key_id        TEXT,
    signed_at     TEXT,
    occurred_at   TEXT,
    received_at   TEXT    NOT NULL,
    appended_at   TEXT    NOT NULL,
    UNIQUE (event_id, facts)
) STRICT;
CREATE INDEX event_log_order ON event_log (order_ref, namespace) WHERE order_ref IS NOT NULL;
CREATE INDEX event_log_callback ON event_log (callback_id);
CREATE INDEX event_log_received ON event_log (received_at);

-- +goose Down
DROP TABLE event_log;
