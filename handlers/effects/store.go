package effects

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Deps are what a Store is given.
type Deps struct {
	// Logger defaults to one that discards.
	Logger *slog.Logger
	// Registerer takes the metrics; nil keeps them unregistered.
	Registerer prometheus.Registerer
	// Now defaults to time.Now.
	Now func() time.Time
}

// Store is a database that keeps effects. It is safe for concurrent use, also by
// several processes on one database.
type Store struct {
	opts    Options
	dialect Dialect
	write   *sql.DB
	read    *sql.DB
	log     *slog.Logger
	now     func() time.Time
	metrics *metrics
	pooled  *pooled // nil on SQLite
	// refused is why the schema is not one to write to, as of the last CheckMigrated.
	refused atomic.Pointer[error]
}

// Open opens the database without migrating it. A SQLite file is opened at
// once; a PostgreSQL server is first spoken to when it is needed (see Ping).
func Open(ctx context.Context, o Options, d Deps) (*Store, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("effects: %w", err)
	}
	s := &Store{opts: o, dialect: SQLite, log: d.Logger, now: d.Now}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	var err error
	if o.SQLite != "" {
		s.write, s.read, err = openSQLite(o)
	} else {
		s.dialect = Postgres
		s.write, s.pooled, err = openPostgres(o, s.log)
		s.read = s.write
	}
	if err != nil {
		return nil, err
	}
	if s.dialect == SQLite {
		// The writer goes first: it is the one that may turn the file to WAL.
		if err := s.Ping(ctx); err != nil {
			return nil, errors.Join(err, s.Close())
		}
		if err := s.fitsSQLite(ctx); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	if s.metrics, err = newMetrics(d.Registerer, s.write, s.pooled); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Dialect tells which database it is.
func (s *Store) Dialect() Dialect { return s.dialect }

// Now is the store's clock, UTC, in milliseconds.
func (s *Store) Now() time.Time { return s.now().UTC().Truncate(time.Millisecond) }

// Clock is the database's own clock, which all processes on it share. SQLite has none
// but the process's.
func (s *Store) Clock(ctx context.Context) (time.Time, error) {
	if s.dialect == SQLite {
		return s.Now(), nil
	}
	var now Time
	err := s.Query(ctx, func(row Row) error { return row.Scan(&now) }, `SELECT now()`)
	return now.Time, err
}

// Ping reports whether the database answers, and answers durably.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.write.PingContext(ctx); err != nil {
		return fmt.Errorf("effects: ping: %w", safe(err))
	}
	return nil
}

// Close closes every connection. Call it when no handler runs any more.
func (s *Store) Close() error {
	var err error
	if s.read != s.write {
		err = s.read.Close()
	}
	if err = errors.Join(err, s.write.Close()); err != nil {
		return fmt.Errorf("effects: close: %w", err)
	}
	return nil
}

// Query runs a query outside of any transaction and calls scan for each row. It
// cannot write to a SQLite file.
func (s *Store) Query(ctx context.Context, scan func(Row) error, query string, args ...any) error {
	if s.dialect == SQLite {
		args = sqliteArgs(args)
	}
	rows, err := s.read.QueryContext(ctx, query, args...)
	return each(rows, err, scan)
}

// QueryRows runs a query that reads the relation input, outside of any
// transaction, and calls scan for each row it gives. With no rows it does nothing.
func (s *Store) QueryRows(ctx context.Context, in *Rows, query string, scan func(Row) error) error {
	run := func(with string, args []any) error {
		rows, err := s.read.QueryContext(ctx, with+query, args...)
		return each(rows, err, scan)
	}
	switch {
	case in.Len() == 0:
		return nil
	case s.dialect == Postgres:
		return run(in.postgres())
	default:
		return in.sqlite(run)
	}
}

// Update runs f in a transaction that belongs to no event, such as a purge. What
// lost a race is run again a bounded number of times.
func (s *Store) Update(ctx context.Context, f func(context.Context, *Tx) error) error {
	return s.retrying(ctx, func() error {
		return s.transaction(ctx, nil, f)
	})
}

// transaction runs f between BEGIN and COMMIT, with a stop at each step for the
// tests that crash there. Whatever goes wrong rolls back.
func (s *Store) transaction(ctx context.Context, at func(Step) error, f func(context.Context, *Tx) error) (err error) {
	defer func() {
		// An ended context rolls back behind our back, and what comes of that says
		// nothing of the context.
		if err != nil && ctx.Err() != nil && !errors.Is(err, ctx.Err()) {
			err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}()
	begin := beginPostgres
	if s.dialect == SQLite {
		begin = beginSQLite
	}
	db, err := begin(ctx, s.write)
	if err != nil {
		return &wayError{fmt.Errorf("effects: begin: %w", safe(err))}
	}
	defer db.close(ctx)
	t := &Tx{session: db, dialect: s.dialect, now: s.Now()}
	if err := stop(at, StepBegun); err != nil {
		return err
	}
	if err := f(ctx, t); err != nil {
		return err
	}
	if err := stop(at, StepApplied); err != nil {
		return err
	}
	if err := t.commit(ctx); err != nil {
		return err
	}
	for _, f := range t.onCommit {
		f()
	}
	return stop(at, StepCommitted)
}

// retrying runs f again while it loses races, with a growing, jittered pause.
func (s *Store) retrying(ctx context.Context, f func() error) error {
	for n := 0; ; n++ {
		err := f()
		reason := passing(err)
		if err == nil || reason == "" || n >= s.opts.Retries {
			return err
		}
		s.metrics.retries.WithLabelValues(reason).Inc()
		pause := time.NewTimer(time.Duration(rand.Int64N(int64(5*time.Millisecond) << min(n, 6)))) //nolint:gosec // Jitter need not be unguessable.
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return err
		}
	}
}
