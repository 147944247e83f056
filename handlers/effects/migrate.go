package effects

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pressly/goose/v3"
)

//go:embed migrations
var migrations embed.FS

// migrationsTable keeps goose's bookkeeping under our name, for databases that
// other programs migrate with goose too.
const migrationsTable = "paybell_migrations"

// Migration is one step of the schema.
type Migration struct {
	Version int64  `json:"version"`
	Name    string `json:"name"`
	// AppliedAt is zero while the migration is pending.
	AppliedAt time.Time `json:"applied_at,omitzero"`
}

// Pending reports whether the migration has yet to be applied.
func (m Migration) Pending() bool { return m.AppliedAt.IsZero() }

// Migrate brings the schema up to date and returns the migrations it applied.
// Several processes may call it at the same time. Each migration is one
// transaction, so that a kill leaves it applied or not.
func (s *Store) Migrate(ctx context.Context) (out []Migration, err error) {
	p, err := s.provider()
	if err != nil {
		return nil, err
	}
	if s.dialect == Postgres {
		unlock, err := s.lockMigrations(ctx)
		if err != nil {
			return nil, fmt.Errorf("effects: migrate: %w", inWords(err))
		}
		defer unlock()
	}
	for {
		before, err := p.GetDBVersion(ctx)
		if err == nil {
			var results []*goose.MigrationResult
			results, err = p.Up(ctx)
			if partial, ok := errors.AsType[*goose.PartialError](err); ok {
				results = partial.Applied
			}
			for _, r := range results {
				out = append(out, Migration{Version: r.Source.Version, Name: path.Base(r.Source.Path), AppliedAt: s.Now()})
			}
		}
		if err == nil {
			return out, nil
		}
		// SQLite has no lock between processes that outlives a transaction: another one
		// may have applied the same migration first, and be at the next one. Whoever
		// fails goes on from where the other is, as long as that is further on.
		if after, again := p.GetDBVersion(ctx); again != nil || after <= before {
			return out, fmt.Errorf("effects: migrate: %w", inWords(err))
		}
	}
}

// lockTimeout bounds the wait for another process that migrates, and lockEvery is how often
// it is looked for.
const (
	lockTimeout = 5 * time.Minute
	lockEvery   = 250 * time.Millisecond
)

// lockMigrations waits until no other process migrates, and keeps others from it until
// unlock is called. The lock is a transaction's that stays open for as long, on a connection
// of its own: one of a session would go astray behind a pooler. Who waits holds no
// transaction, which a pooler could have too few sessions for.
func (s *Store) lockMigrations(ctx context.Context) (unlock func(), err error) {
	s.write.SetMaxOpenConns(max(s.opts.MaxConnections, 2))
	restore := func() { s.write.SetMaxOpenConns(s.opts.MaxConnections) }
	waiting, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	t := time.NewTicker(lockEvery)
	defer t.Stop()
	for {
		tx, err := s.tryMigrationsLock(ctx)
		if err != nil {
			restore()
			return nil, err
		}
		if tx != nil {
			return func() {
				_ = tx.Rollback() // It has written nothing; where the connection is gone, the lock is too.
				restore()
			}, nil
		}
		select {
		case <-t.C:
		case <-waiting.Done():
			restore()
			return nil, fmt.Errorf("wait for another process that migrates: %w", context.Cause(waiting))
		}
	}
}

// tryMigrationsLock returns the transaction that holds the lock, or nil while another
// process does.
func (s *Store) tryMigrationsLock(ctx context.Context) (*sql.Tx, error) {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	var locked bool
	_, err = tx.ExecContext(ctx, `SET LOCAL idle_in_transaction_session_timeout = 0`)
	if err == nil {
		err = tx.QueryRowContext(ctx, `SELECT pg_try_advisory_xact_lock($1)`, int64(migrationsLock)).Scan(&locked)
	}
	if err != nil || !locked {
		_ = tx.Rollback() // It has written nothing.
		return nil, err
	}
	return tx, nil
}

// inWords is an error of a migration as it is told.
func inWords(err error) error {
	switch pg, ok := errors.AsType[*pgconn.PgError](err); {
	case ok && pg.Code == pgReadOnly:
		return fmt.Errorf("the database takes no writes: it is a standby, or default_transaction_read_only is on: %w", safe(err))
	case ok && strings.Contains(pg.Message, "query_wait_timeout"):
		return fmt.Errorf("the pooler has too few connections, and migrating needs two at the same time: name the server itself in the DSN, or raise pool_size: %w", safe(err))
	}
	return safe(err)
}

// MigrationStatus lists every migration of this build, oldest first.
func (s *Store) MigrationStatus(ctx context.Context) ([]Migration, error) {
	p, err := s.provider()
	if err != nil {
		return nil, err
	}
	states, err := p.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("effects: migration status: %w", safe(err))
	}
	out := make([]Migration, 0, len(states))
	for _, st := range states {
		m := Migration{Version: st.Source.Version, Name: path.Base(st.Source.Path)}
		if st.State == goose.StateApplied {
			m.AppliedAt = st.AppliedAt.UTC()
		}
		out = append(out, m)
	}
	return out, nil
}

// CheckMigrated returns ErrNotMigrated unless every migration is applied, and
// ErrNewerSchema where a later build has made the schema one that this build does not
// understand. One that it does understand is no error: a deployment rolls. After either
// error handlers of this store take nothing, until it is called again and finds neither.
func (s *Store) CheckMigrated(ctx context.Context) error {
	err := s.checkMigrated(ctx)
	switch {
	case err == nil:
		s.refused.Store(nil)
	case errors.Is(err, ErrNotMigrated), errors.Is(err, ErrNewerSchema):
		s.refused.Store(&err)
	}
	return err
}

func (s *Store) checkMigrated(ctx context.Context) error {
	all, err := s.MigrationStatus(ctx)
	if err != nil && general(err) {
		return fmt.Errorf("%w: %w", ErrAway, err)
	}
	if err != nil {
		return err
	}
	for _, m := range all {
		if m.Pending() {
			return fmt.Errorf("%w: %s", ErrNotMigrated, m.Name)
		}
	}
	_, oldest, err := s.deployment(ctx)
	if err != nil {
		return err
	}
	if newest := all[len(all)-1].Version; oldest > newest {
		return fmt.Errorf("%w: this one knows it up to %d, it takes %d: run that paybell, or a later one", ErrNewerSchema, newest, oldest)
	}
	return nil
}

// provider is goose bound to this store; nothing of goose's global state is used.
func (s *Store) provider() (*goose.Provider, error) {
	opts := []goose.ProviderOption{
		goose.WithDisableGlobalRegistry(true),
		goose.WithTableName(migrationsTable),
		goose.WithSlog(s.log),
	}
	dialect := goose.DialectSQLite3
	if s.dialect == Postgres {
		dialect = goose.DialectPostgres
	}
	dir, err := fs.Sub(migrations, "migrations/"+string(s.dialect))
	if err != nil {
		return nil, fmt.Errorf("effects: embedded migrations: %w", err)
	}
	p, err := goose.NewProvider(dialect, s.write, dir, opts...)
	if err != nil {
		return nil, fmt.Errorf("effects: embedded migrations: %w", err)
	}
	return p, nil
}

// migrationsLock is the advisory lock that migrating processes take, older builds for
// their session: "paybell" as a number, so that it is not the one other programs with
// goose take.
const migrationsLock = 0x7061796265_6c6c
