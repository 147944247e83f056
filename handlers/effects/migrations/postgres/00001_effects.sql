-- +goose Up
CREATE TABLE effects (
    grp        text        NOT NULL,
    event_id   text        NOT NULL,
    facts      text        NOT NULL,
    applied_at timestamptz NOT NULL,
    PRIMARY KEY (grp, event_id)
);

CREATE TABLE effect_conflicts (
    grp         text        NOT NULL,
    event_id    text        NOT NULL,
    facts       text        NOT NULL,
    kept_facts  text        NOT NULL,
    part        integer     NOT NULL,
    entry_id    text        NOT NULL,
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (grp, event_id, facts)
);

CREATE TABLE effect_fences (
    grp   text    NOT NULL,
    part  integer NOT NULL,
    epoch bigint  NOT NULL,
    PRIMARY KEY (grp, part)
) WITH (fillfactor = 50);

-- +goose Down
DROP TABLE effect_fences;
DROP TABLE effect_conflicts;
DROP TABLE effects;
