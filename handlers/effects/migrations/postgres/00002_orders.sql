-- +goose Up
CREATE TABLE orders (
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
CREATE INDEX orders_updated_at ON orders (updated_at);
CREATE INDEX orders_order_ref ON orders (order_ref) WHERE order_ref IS NOT NULL;

CREATE TABLE order_refs (
    namespace text NOT NULL,
    account   text NOT NULL,
    ref       text NOT NULL,
    claims    text NOT NULL,
    state     text NOT NULL,
    PRIMARY KEY (namespace, account, ref)
) WITH (fillfactor = 80);

CREATE TABLE order_history (
    seq           bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,
    event_id      text        NOT NULL PRIMARY KEY,
    namespace     text        NOT NULL,
    order_key     text        NOT NULL,
    account       text        NOT NULL,
    type          text        NOT NULL,
    outcome       text        NOT NULL,
    status_before text,
    status_after  text,
    occurred_at   timestamptz,
    received_at   timestamptz NOT NULL,
    recorded_at   timestamptz NOT NULL,
    part          integer     NOT NULL,
    entry_id      text        NOT NULL
);
CREATE INDEX order_history_order ON order_history (namespace, order_key);

-- +goose Down
DROP TABLE order_history;
DROP TABLE order_refs;
DROP TABLE orders;
