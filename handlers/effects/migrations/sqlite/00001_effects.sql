-- +goose Up
CREATE TABLE effects (
    grp        TEXT NOT NULL,
    event_id   TEXT NOT NULL,
    facts      TEXT NOT NULL,
    applied_at TEXT NOT NULL,
    PRIMARY KEY (grp, event_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE effect_conflicts (
    grp         TEXT    NOT NULL,
    event_id    TEXT    NOT NULL,
    facts       TEXT    NOT NULL,
    kept_facts  TEXT    NOT NULL,
    part        INTEGER NOT NULL,
    entry_id    TEXT    NOT NULL,
    recorded_at TEXT    NOT NULL,
    PRIMARY KEY (grp, event_id, facts)
) STRICT, WITHOUT ROWID;

CREATE TABLE effect_fences (
    grp   TEXT    NOT NULL,
    part  INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    PRIMARY KEY (grp, part)
) STRICT, WITHOUT ROWID;

-- +goose Down
DROP TABLE effect_fences;
DROP TABLE effect_conflicts;
DROP TABLE effects;
