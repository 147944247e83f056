package effects

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"database/sql/driver"
	"encoding/hex"
	"sync/atomic"

	"modernc.org/sqlite"
)

// MigrationsLock is the advisory lock of migrating processes.
const MigrationsLock = migrationsLock

// Shared reports whether a store takes the sessions of its database for shared.
func Shared(s *Store) bool { return s.pooled.shared.Load() }

// StatementName is the name that the driver gives to a statement.
func StatementName(query string) string {
	digest := sha256.Sum256([]byte(query))
	return "stmtcache_" + hex.EncodeToString(digest[:24])
}

// SQLiteTraffic counts what is run on a SQLite file.
type SQLiteTraffic struct{ Transactions, Statements, Parsed atomic.Int64 }

// CountSQLite has a store write to its file through a connection that is counted.
func CountSQLite(s *Store) (*SQLiteTraffic, error) {
	c, err := sqlite.NewConnector(sqliteDSN(s.opts.SQLite, s.opts.BusyTimeout, false))
	if err != nil {
		return nil, err
	}
	if err := s.write.Close(); err != nil {
		return nil, err
	}
	t := &SQLiteTraffic{}
	s.write = sql.OpenDB(countingConnector{keepingConnector{parsingConnector{c, t}}, t})
	s.write.SetMaxOpenConns(1)
	return t, nil
}

// parsingConnector counts the statements that are parsed.
type parsingConnector struct {
	driver.Connector
	t *SQLiteTraffic
}

func (c parsingConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return parsingConn{conn.(sqliteConn), c.t}, nil
}

type parsingConn struct {
	sqliteConn
	t *SQLiteTraffic
}

func (c parsingConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	c.t.Parsed.Add(1)
	return c.sqliteConn.PrepareContext(ctx, query)
}

func (c parsingConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	c.t.Parsed.Add(1)
	return c.sqliteConn.ExecContext(ctx, query, args)
}

func (c parsingConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	c.t.Parsed.Add(1)
	return c.sqliteConn.QueryContext(ctx, query, args)
}

// countingConnector counts the statements that are run, BEGIN and COMMIT included.
type countingConnector struct {
	driver.Connector
	t *SQLiteTraffic
}

func (c countingConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return countingConn{conn.(sqliteConn), c.t}, nil
}

type countingConn struct {
	sqliteConn
	t *SQLiteTraffic
}

func (c countingConn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	c.t.Transactions.Add(1)
	c.t.Statements.Add(2)
	return c.sqliteConn.BeginTx(ctx, o)
}

func (c countingConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	c.t.Statements.Add(1)
	return c.sqliteConn.ExecContext(ctx, query, args)
}

func (c countingConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	c.t.Statements.Add(1)
	return c.sqliteConn.QueryContext(ctx, query, args)
}
