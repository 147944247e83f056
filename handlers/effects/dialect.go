package effects

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
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

// fitsSQLite returns an ErrUnfit where a text would not be kept as it is, or a commit would
// not outlive a power cut. An encoding is a file's for ever, and a file system may refuse
// the mode that the connection asks for.
func (s *Store) fitsSQLite(ctx context.Context) error {
	for _, pragma := range []struct{ name, want, cure string }{
		{"encoding", "UTF-8", "texts would not be kept as they are: name another file"},
		{"journal_mode", "wal", "a commit may not outlive a power cut: keep the file on a local disk"},
		{"synchronous", "2", "a commit may not outlive a power cut"},
	} {
		var is string
		if err := s.write.QueryRowContext(ctx, "PRAGMA "+pragma.name).Scan(&is); err != nil {
			return fmt.Errorf("effects: look at the SQLite file: %w", err)
		}
		if is != pragma.want {
			return fmt.Errorf("%w: %s of the SQLite file is %s and not %s: %s", ErrUnfit, pragma.name, is, pragma.want, pragma.cure)
		}
	}
	return nil
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
func openPostgres(o Options, log *slog.Logger) (*sql.DB, *pooled, error) {
	dsn, err := o.Postgres.Read()
	if err != nil {
		return nil, nil, fmt.Errorf("effects: postgres: %w", err)
	}
	cfg, err := pgx.ParseConfig(dsn.Value.Reveal())
	if err != nil {
		// The parser's own text repeats parts of the DSN.
		return nil, nil, fmt.Errorf("%w (%s)", ErrDSN, dsn.Name)
	}
	if _, ok := cfg.RuntimeParams["application_name"]; !ok {
		cfg.RuntimeParams["application_name"] = "paybell"
	}
	setDefault(cfg.RuntimeParams, "client_encoding", "UTF8")
	setDefault(cfg.RuntimeParams, "standard_conforming_strings", "on")
	setDefault(cfg.RuntimeParams, "datestyle", "ISO, MDY")
	setDefault(cfg.RuntimeParams, "timezone", "UTC")
	p := &pooled{log: log, stall: strconv.FormatInt(o.StallTimeout.Milliseconds(), 10)}
	closeFatal := cfg.OnPgError
	cfg.OnPgError = func(c *pgconn.PgConn, err *pgconn.PgError) bool {
		switch {
		case err.Code == pgReadOnly:
			p.end(c)
		case lostStatement(err.Code):
			p.forget("a prepared statement was not the connection's own")
			p.end(c)
		}
		return closeFatal(c, err)
	}
	db := stdlib.OpenDB(*cfg, stdlib.OptionBeforeConnect(p.mode), stdlib.OptionAfterConnect(p.prepare), stdlib.OptionResetSession(p.check))
	db.SetMaxOpenConns(o.MaxConnections)
	db.SetMaxIdleConns(o.MaxConnections)
	db.SetConnMaxIdleTime(o.IdleTimeout)
	return db, p, nil
}

// setDefault sets a start-up parameter that the DSN leaves out. It goes before what is set
// for the role or the database, and poolers know these: they restore them for each client.
func setDefault(params map[string]string, name, value string) {
	for known := range params {
		if strings.EqualFold(known, name) {
			return
		}
	}
	params[name] = value
}
