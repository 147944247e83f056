-- +goose Up
ALTER TABLE effect_fences ADD COLUMN position bigint NOT NULL DEFAULT 0;
ALTER TABLE effect_fences ADD COLUMN newest bigint NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE effect_fences DROP COLUMN newest;
ALTER TABLE effect_fences DROP COLUMN position;
