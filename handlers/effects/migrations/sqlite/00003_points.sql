-- +goose Up
CREATE TABLE points_orders (
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

CREATE TABLE points_order_refs (
    namespace TEXT NOT NULL,
    account   TEXT NOT NULL,
    ref       TEXT NOT NULL,
    claims    TEXT NOT NULL,
    state     TEXT NOT NULL,
    PRIMARY KEY (namespace, account, ref)
) STRICT, WITHOUT ROWID;

CREATE TABLE points_ledger (
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    namespace    TEXT    NOT NULL,
    order_key    TEXT    NOT NULL,
    customer_ref TEXT,
    delta        INTEGER NOT NULL,
    target       INTEGER NOT NULL,
    event_id     TEXT    NOT NULL,
    recorded_at  TEXT    NOT NULL
) STRICT;
CREATE INDEX points_ledger_order ON points_ledger (namespace, order_key);

CREATE TABLE points_balances (
    namespace    TEXT    NOT NULL,
    customer_ref TEXT    NOT NULL,
    balance      INTEGER NOT NULL,
    updated_at   TEXT    NOT NULL,
    PRIMARY KEY (namespace, customer_ref)
) STRICT, WITHOUT ROWID;

-- +goose Down
DROP TABLE points_balances;
DROP TABLE points_ledger;
DROP TABLE points_order_refs;
DROP TABLE points_orders;
