package effects

import (
	"context"
	"database/sql"
	"fmt"
)

// Account is what orders and event ids are told apart by: which protocol an account
// speaks, and the namespace its orders are in.
type Account struct{ Name, Provider, Namespace string }

// Accounts records those that are not known yet, and returns all that are, as they were
// first recorded or last moved. An error wraps ErrAway where the database cannot be asked
// now.
func (s *Store) Accounts(ctx context.Context, record []Account) (known []Account, err error) {
	for _, a := range record {
		_, err := s.write.ExecContext(ctx, `INSERT INTO callback_accounts (name, provider, namespace) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING`,
			a.Name, a.Provider, a.Namespace)
		if err != nil {
			return nil, away("effects: record account "+a.Name, err)
		}
	}
	rows, err := s.write.QueryContext(ctx, `SELECT name, provider, namespace FROM callback_accounts ORDER BY name`)
	err = each(rows, err, func(row Row) error {
		var a Account
		err := row.Scan(&a.Name, &a.Provider, &a.Namespace)
		known = append(known, a)
		return err
	})
	if err != nil {
		return nil, away("effects: read the accounts", err)
	}
	return known, nil
}

// MoveAccount lets an account go on as it is given here. What was made under its
// namespace before stays there.
func (s *Store) MoveAccount(ctx context.Context, a Account) error {
	result, err := s.write.ExecContext(ctx, `UPDATE callback_accounts SET provider = $2, namespace = $3 WHERE name = $1`, a.Name, a.Provider, a.Namespace)
	if err != nil {
		return away("effects: move account "+a.Name, err)
	}
	n, err := result.RowsAffected()
	if err == nil && n == 0 {
		err = sql.ErrNoRows
	}
	if err != nil {
		return fmt.Errorf("effects: move account %s: %w", a.Name, err)
	}
	return nil
}
