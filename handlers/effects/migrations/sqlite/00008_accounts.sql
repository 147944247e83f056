-- +goose Up
CREATE TABLE accounts (
	name TEXT PRIMARY KEY,
	provider TEXT NOT NULL,
	namespace TEXT NOT NULL
);

-- +goose Down
DROP TABLE accounts;
