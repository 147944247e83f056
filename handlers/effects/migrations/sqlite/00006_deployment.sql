-- +goose Up
CREATE TABLE deployment (
	one INTEGER PRIMARY KEY DEFAULT 1 CHECK (one = 1),
	id TEXT NOT NULL,
	database_id TEXT NOT NULL,
	oldest_schema INTEGER NOT NULL
);
INSERT INTO deployment (id, database_id, oldest_schema) VALUES ('', '', 5);

-- +goose Down
DROP TABLE deployment;
