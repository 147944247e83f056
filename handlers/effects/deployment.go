package effects

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
)

// Ownership says whose a database is.
type Ownership struct {
	// Database is the database's own id, made once. A copy has the same.
	Database string
	// Deployment is the id of the deployment whose effects it keeps, "" while none has
	// claimed it.
	Deployment string
}

// Ownership reads whose the database is. An error wraps ErrAway where it cannot be asked
// now.
func (s *Store) Ownership(ctx context.Context) (Ownership, error) {
	if err := s.setDeployment(ctx, `UPDATE deployment SET database_id = $1 WHERE database_id = ''`, strings.ToLower(rand.Text())); err != nil {
		return Ownership{}, err
	}
	o, _, err := s.deployment(ctx)
	return o, err
}

// Claim makes a database that belongs to nobody that deployment's, and returns whose it
// is. Of several that claim it at the same time, one does.
func (s *Store) Claim(ctx context.Context, id string) (string, error) {
	if err := s.setDeployment(ctx, `UPDATE deployment SET id = $1 WHERE id = ''`, id); err != nil {
		return "", err
	}
	o, _, err := s.deployment(ctx)
	return o.Deployment, err
}

// Move makes the database that deployment's, whoever's it was: its effects are then
// taken for effects of the events of that deployment.
func (s *Store) Move(ctx context.Context, id string) error {
	return s.setDeployment(ctx, `UPDATE deployment SET id = $1`, id)
}

func (s *Store) setDeployment(ctx context.Context, query, id string) error {
	if _, err := s.write.ExecContext(ctx, query, id); err != nil {
		return away("effects: set the deployment", err)
	}
	return nil
}

// deployment also returns the schema that the oldest build may know that runs beside
// what the database was last migrated by.
func (s *Store) deployment(ctx context.Context) (o Ownership, oldestSchema int64, err error) {
	err = s.write.QueryRowContext(ctx, `SELECT id, database_id, oldest_schema FROM deployment`).Scan(&o.Deployment, &o.Database, &oldestSchema)
	if err != nil {
		return Ownership{}, 0, away("effects: read the deployment", err)
	}
	return o, oldestSchema, nil
}

// away wraps an error, and ErrAway where it is the database's.
func away(doing string, err error) error {
	if general(err) {
		return fmt.Errorf("%s: %w: %w", doing, ErrAway, safe(err))
	}
	return fmt.Errorf("%s: %w", doing, safe(err))
}
