-- +goose Up
CREATE TABLE accounts (
	name text PRIMARY KEY,
	provider text NOT NULL,
	namespace text NOT NULL
);

-- +goose Down
DROP TABLE accounts;
