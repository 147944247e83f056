-- +goose Up
CREATE TABLE orders (
    namespace        TEXT    NOT NULL,
    order_key        TEXT    NOT NULL,
    order_ref        TEXT,
    status           TEXT    NOT NULL,
    currency         TEXT,
    captured_minor   INTEGER,
    captured_value   TEXT,
    refunded_minor   INTEGER,
    refunded_value   TEXT,
    customer_ref     TEXT,
    conflicts        TEXT    NOT NULL,
    shared_reference INTEGER NOT NULL,
    state            TEXT    NOT NULL,
    created_at       TEXT    NOT NULL,
    updated_at       TEXT    NOT NULL,
    PRIMARY KEY (namespace, order_key)
) STRICT, WITHOUT ROWID;
CREATE INDEX orders_updated_at ON orders (updated_at);
CREATE INDEX orders_order_ref ON orders (order_ref) WHERE order_ref IS NOT NULL;

CREATE TABLE order_refs (
    namespace TEXT NOT NULL,
    account   TEXT NOT NULL,
    ref       TEXT NOT NULL,
    claims    TEXT NOT NULL,
    state     TEXT NOT NULL,
    PRIMARY KEY (namespace, account, ref)
) STRICT, WITHOUT ROWID;

CREATE TABLE order_history (
    seq           INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id      TEXT    NOT NULL UNIQUE,
    namespace     TEXT    NOT NULL,
    order_key     TEXT    NOT NULL,
    account       TEXT    NOT NULL,
    type          TEXT    NOT NULL,
    outcome       TEXT    NOT NULL,
    status_before TEXT,
    status_after  TEXT,
    occurred_at   TEXT,
    received_at   TEXT    NOT NULL,
    recorded_at   TEXT    NOT NULL,
    part          INTEGER NOT NULL,
    entry_id      TEXT    NOT NULL
) STRICT;
CREATE INDEX order_history_order ON order_history (namespace, order_key);

-- +goose Down
DROP TABLE order_history;
DROP TABLE order_refs;
DROP TABLE orders;
