-- +goose Up
CREATE TABLE points_orders (
    namespace        text        NOT NULL,
    order_key        text        NOT NULL,
    order_ref        text,
    status           text        NOT NULL,
    currency         text,
    captured_minor   bigint,
    captured_value   text,
    refunded_minor   bigint,
    refunded_value   text,
    customer_ref     text,
    conflicts        text        NOT NULL,
    shared_reference boolean     NOT NULL,
    state            text        NOT NULL,
    created_at       timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL,
    PRIMARY KEY (namespace, order_key)
) WITH (fillfactor = 80);

CREATE TABLE points_order_refs (
    namespace text NOT NULL,
    account   text NOT NULL,
    ref       text NOT NULL,
    claims    text NOT NULL,
    state     text NOT NULL,
    PRIMARY KEY (namespace, account, ref)
) WITH (fillfactor = 80);

CREATE TABLE points_ledger (
    seq          bigint      NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    namespace    text        NOT NULL,
    order_key    text        NOT NULL,
    customer_ref text,
    delta        bigint      NOT NULL,
    target       bigint      NOT NULL,
    event_id     text        NOT NULL,
    recorded_at  timestamptz NOT NULL
);
CREATE INDEX points_ledger_order ON points_ledger (namespace, order_key);

CREATE TABLE points_balances (
    namespace    text        NOT NULL,
    customer_ref text        NOT NULL,
    balance      bigint      NOT NULL,
    updated_at   timestamptz NOT NULL,
    PRIMARY KEY (namespace, customer_ref)
) WITH (fillfactor = 80);

-- +goose Down
DROP TABLE points_balances;
DROP TABLE points_ledger;
DROP TABLE points_order_refs;
DROP TABLE points_orders;
