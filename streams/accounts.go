package streams

import "context"

// RecordAccounts records accounts, by name, that the deployment does not know yet, and
// returns what it knows of all: text that says what their events are told apart by.
func RecordAccounts(ctx context.Context, rdb Client, layout Layout, accounts map[string]string) (map[string]string, error) {
	pipe := rdb.Pipeline()
	for name, text := range accounts {
		pipe.HSetNX(ctx, layout.Accounts(), name, text)
	}
	known := pipe.HGetAll(ctx, layout.Accounts())
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, unavailable("streams: record the accounts", err)
	}
	return known.Val(), nil
}

// MoveAccount replaces what the deployment knows of an account.
func MoveAccount(ctx context.Context, rdb Client, layout Layout, name, text string) error {
	if err := rdb.HSet(ctx, layout.Accounts(), name, text).Err(); err != nil {
		return unavailable("streams: move account "+name, err)
	}
	return nil
}
