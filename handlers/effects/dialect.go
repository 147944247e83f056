package effects

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// Dialect names one of the two databases.
type Dialect string

// The databases there are.
const (
	SQLite   Dialect = "sqlite"
	Postgres Dialect = "postgres"
)

// openSQLite opens the one writer and the pool of readers of a file.
func openSQLite(o Options) (write, read *sql.DB, err error) {
	path, err := filepath.Abs(o.SQLite)
	if err != nil {
		return nil, nil, fmt.Errorf("effects: resolve the SQLite path: %w", err)
	}
	// The file holds raw callbacks. SQLite gives its -wal and -shm files the mode
	// of the file itself, so making it here keeps all three private.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("effects: open the SQLite file: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, nil, fmt.Errorf("effects: open the SQLite file: %w", err)
	}
	write, err = openKeeping(sqliteDSN(path, o.BusyTimeout, false))
	if err != nil {
		return nil, nil, fmt.Errorf("effects: open the SQLite file: %w", err)
	}
	// SQLite has one writer at a time whatever we do; waiting for it here keeps
	// the order fair and lets the wait end with the context.
	write.SetMaxOpenConns(1)
	read, err = openKeeping(sqliteDSN(path, o.BusyTimeout, true))
	if err != nil {
		_ = write.Close() // Nothing was written; the error above is the one to tell.
		return nil, nil, fmt.Errorf("effects: open the SQLite file: %w", err)
	}
	read.SetMaxOpenConns(o.ReadConnections)
	read.SetMaxIdleConns(o.ReadConnections)
	read.SetConnMaxIdleTime(o.IdleTimeout)
	return write, read, nil
}

// sqliteDSN words the connection. In WAL mode synchronous=FULL syncs the log at
// every commit; with NORMAL a power cut could take back the last commits after
// their entries were settled, and lose their effects (G4). One sync a batch is
// what this costs: about 1 ms on the disk it was measured on. _txlock=immediate takes the
// write lock at BEGIN, so that no transaction can fail half way for want of it.
func sqliteDSN(path string, busy time.Duration, readOnly bool) string {
	q := url.Values{}
	q.Add("_pragma", "busy_timeout("+strconv.FormatInt(busy.Milliseconds(), 10)+")")
	q.Add("_pragma", "journal_mode(WAL)")
	q.Add("_pragma", "synchronous(FULL)")
	q.Set("_txlock", "immediate")
	if readOnly {
		q.Add("_pragma", "query_only(1)")
		q.Set("_txlock", "deferred")
	}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode()
}

// openPostgres opens the pool. It connects when the first connection is asked
// for, so that a database that is down does not keep the process from starting.
func openPostgres(o Options) (*sql.DB, error) {
	dsn, err := o.Postgres.Read()
	if err != nil {
		return nil, fmt.Errorf("effects: postgres: %w", err)
	}
	cfg, err := pgx.ParseConfig(dsn.Value.Reveal())
	if err != nil {
		// The parser's own text repeats parts of the DSN.
		return nil, fmt.Errorf("%w (%s)", ErrDSN, dsn.Name)
	}
	if _, ok := cfg.RuntimeParams["application_name"]; !ok {
		cfg.RuntimeParams["application_name"] = "paybell"
	}
	var g generation
	closeFatal := cfg.OnPgError
	cfg.OnPgError = func(c *pgconn.PgConn, err *pgconn.PgError) bool {
		if err.Code == pgReadOnly {
			g.end(c)
		}
		return closeFatal(c, err)
	}
	db := stdlib.OpenDB(*cfg, stdlib.OptionAfterConnect(g.prepare(o.StallTimeout)), stdlib.OptionResetSession(g.check))
	db.SetMaxOpenConns(o.MaxConnections)
	db.SetMaxIdleConns(o.MaxConnections)
	db.SetConnMaxIdleTime(o.IdleTimeout)
	return db, nil
}

// generation numbers connections by the refused write that they were opened after. A
// connection to what was the writer before a failover refuses every write for as long
// as it lives, so the first refusal takes all those out of use that are as old.
type generation struct{ now atomic.Int64 }

// generationKey is where a connection keeps its generation.
const generationKey = "paybell_generation"

// end is told that a connection refused to write. What another one of the same
// generation has told before is no news.
func (g *generation) end(c *pgconn.PgConn) {
	if born, ok := c.CustomData()[generationKey].(int64); ok {
		g.now.CompareAndSwap(born, born+1)
	}
}

// check discards an idle connection of an earlier generation; the next one is opened
// to wherever the DSN leads now.
func (g *generation) check(_ context.Context, c *pgx.Conn) error {
	if c.PgConn().CustomData()[generationKey] != g.now.Load() {
		return driver.ErrBadConn
	}
	return nil
}

// prepare looks at each new connection, because a failover or a changed role may
// bring other settings than the process started with, and bounds how long a
// transaction of it may stand still. Tables are read by their indexes even where one
// was small when the plan was made: the plan is kept, and the table grows. The settings
// are not sent at the start of the connection: poolers refuse start-up parameters they
// do not know.
func (g *generation) prepare(stall time.Duration) func(context.Context, *pgx.Conn) error {
	timeout := strconv.FormatInt(stall.Milliseconds(), 10)
	return func(ctx context.Context, c *pgx.Conn) error {
		c.PgConn().CustomData()[generationKey] = g.now.Load()
		// A mode without prepared statements, set in the DSN for a pooler, asks Go for types.
		c.TypeMap().RegisterDefaultPgType(pgTexts{}, "_text")
		var durable string
		err := c.QueryRow(ctx, `SELECT current_setting('synchronous_commit'),
			set_config('idle_in_transaction_session_timeout', $1, false),
			set_config('enable_seqscan', 'off', false)`, timeout).Scan(&durable, nil, nil)
		switch {
		case err != nil:
			err = &wayError{fmt.Errorf("effects: prepare a connection: %w", err)}
		case strings.EqualFold(durable, "off"):
			err = ErrNotDurable
		default:
			return nil
		}
		_ = c.Close(ctx) // The driver forgets a connection that is refused here, and the socket is closed in any case.
		return err
	}
}
