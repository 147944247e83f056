package effects

import (
	"errors"
	"fmt"
	"time"

	"github.com/paybell/paybell/configs/secret"
)

// Options say where effects are kept. Exactly one of SQLite and Postgres is set.
type Options struct {
	// SQLite is the path of the database file. It is made if it is missing; its
	// directory must exist.
	SQLite string `yaml:"sqlite,omitempty"`
	// Postgres names where the DSN of a PostgreSQL 13 or later is read from, as a
	// URL or in key=value form. TLS is asked for in it (sslmode=verify-full), and a
	// schema of paybell's own where the database is shared (search_path=paybell; behind a
	// pooler that is set for the role instead).
	Postgres secret.Source `yaml:"postgres,omitempty"`
	// MaxConnections bounds the connections to PostgreSQL, which is the number of
	// batches that commit at the same time. SQLite has one writer, always.
	MaxConnections int `yaml:"max_connections"`
	// ReadConnections bounds the connections that read a SQLite file.
	ReadConnections int `yaml:"read_connections"`
	// IdleTimeout closes connections that had nothing to do for so long.
	IdleTimeout time.Duration `yaml:"idle_timeout"`
	// BusyTimeout is how long SQLite waits for another process to end its write.
	BusyTimeout time.Duration `yaml:"busy_timeout"`
	// StallTimeout is how long PostgreSQL waits for the next statement of an open
	// transaction before it ends it. A worker that stands still inside one would
	// otherwise keep its orders from the partition's next owner.
	StallTimeout time.Duration `yaml:"stall_timeout"`
	// Retries is how often a transaction that lost a race (deadlock, serialization
	// failure, busy file) is run again at once, before its events are retried
	// on the group's policy.
	Retries int `yaml:"retries"`
}

// DefaultOptions returns the defaults; where effects are kept is left to be said.
func DefaultOptions() Options {
	return Options{
		MaxConnections:  16,
		ReadConnections: 4,
		IdleTimeout:     5 * time.Minute,
		BusyTimeout:     5 * time.Second,
		StallTimeout:    15 * time.Second,
		Retries:         5,
	}
}

// Validate reports every problem; it reads no secret and opens nothing.
func (o Options) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch {
	case o.SQLite == "" && o.Postgres.IsZero():
		bad("sqlite: name a file, or set postgres")
	case o.SQLite != "" && !o.Postgres.IsZero():
		bad("sqlite: cannot be set together with postgres")
	}
	if !o.Postgres.IsZero() {
		if err := o.Postgres.Validate(); err != nil {
			bad("postgres: %w", err)
		}
	}
	if o.MaxConnections < 1 || o.MaxConnections > 1000 {
		bad("max_connections: must be between 1 and 1000")
	}
	if o.ReadConnections < 1 || o.ReadConnections > 100 {
		bad("read_connections: must be between 1 and 100")
	}
	if o.IdleTimeout < time.Second {
		bad("idle_timeout: must be at least 1s")
	}
	if o.BusyTimeout < 100*time.Millisecond || o.BusyTimeout > time.Minute {
		bad("busy_timeout: must be between 100ms and 1m")
	}
	if o.StallTimeout < time.Second || o.StallTimeout > time.Hour {
		bad("stall_timeout: must be between 1s and 1h")
	}
	if o.Retries < 0 || o.Retries > 100 {
		bad("retries: must be between 0 and 100")
	}
	return errors.Join(errs...)
}
