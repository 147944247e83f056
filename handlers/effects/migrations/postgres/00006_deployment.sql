-- +goose Up
CREATE TABLE deployment (
	one boolean PRIMARY KEY DEFAULT true CHECK (one),
	id text NOT NULL,
	database_id text NOT NULL,
	oldest_schema bigint NOT NULL
);
INSERT INTO deployment (id, database_id, oldest_schema) VALUES ('', '', 5);

-- +goose Down
DROP TABLE deployment;
