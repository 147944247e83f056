-- +goose Up
CREATE TABLE callback_accounts (
	name TEXT PRIMARY KEY,
	provider TEXT NOT NULL,
	namespace TEXT NOT NULL
);

-- +goose Down
DROP TABLE callback_accounts;
