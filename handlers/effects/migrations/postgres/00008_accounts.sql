-- +goose Up
CREATE TABLE callback_accounts (
	name text PRIMARY KEY,
	provider text NOT NULL,
	namespace text NOT NULL
);

-- +goose Down
DROP TABLE callback_accounts;
