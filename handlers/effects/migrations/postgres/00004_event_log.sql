-- +goose Up
CREATE TABLE event_log (
    seq           bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,
    grp           text        NOT NULL,
    event_id      text        NOT NULL,
    facts         text        NOT NULL,
    type          text        NOT NULL,
    conflict_of   text,
    account       text        NOT NULL,
    namespace     text        NOT NULL,
    provider      text        NOT NULL,
    order_ref     text,
    part          integer     NOT NULL,
    entry_id      text        NOT NULL,
    event         text        NOT NULL,
    callback_id   text        NOT NULL,
    sha256        text        NOT NULL,
    callback_part integer     NOT NULL,
    raw           bytea,
    item          bytea,
    headers       text,
    key_id        text,
    signed_at     timestamptz,
    occurred_at   timestamptz,
    received_at   timestamptz NOT NULL,
    appended_at   timestamptz NOT NULL,
    PRIMARY KEY (event_id, facts)
);
CREATE INDEX event_log_order ON event_log (order_ref, namespace) WHERE order_ref IS NOT NULL;
CREATE INDEX event_log_callback ON event_log (callback_id);
CREATE INDEX event_log_received ON event_log (received_at);

-- +goose Down
DROP TABLE event_log;
