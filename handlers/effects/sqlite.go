package effects

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"

	"modernc.org/sqlite"
)

// sqliteSession is a transaction on a SQLite file.
type sqliteSession struct{ tx *sql.Tx }

func beginSQLite(ctx context.Context, db *sql.DB) (session, error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	return sqliteSession{tx}, nil
}

// send implements session.
func (s sqliteSession) send(ctx context.Context, sts []statement) error {
	for i := range sts {
		if err := s.run(ctx, &sts[i]); err != nil {
			return err
		}
	}
	return nil
}

// commit implements session.
func (s sqliteSession) commit(ctx context.Context, sts []statement) error {
	if err := s.send(ctx, sts); err != nil {
		return err
	}
	if err := s.tx.Commit(); err != nil {
		return fmt.Errorf("effects: commit: %w", err)
	}
	return nil
}

// close implements session.
func (s sqliteSession) close(context.Context) {
	_ = s.tx.Rollback() // After a commit there is nothing to roll back; else the error is told.
}

func (s sqliteSession) run(ctx context.Context, st *statement) error {
	if st.in == nil {
		return s.one(ctx, st, st.query, sqliteArgs(st.args))
	}
	return st.in.sqlite(func(with string, args []any) error { return s.one(ctx, st, with+st.query, args) })
}

func (s sqliteSession) one(ctx context.Context, st *statement, query string, args []any) error {
	if st.scan != nil {
		rows, err := s.tx.QueryContext(ctx, query, args...)
		return st.err(each(rows, err, st.scan))
	}
	res, err := s.tx.ExecContext(ctx, query, args...)
	if err == nil && st.written != nil {
		var n int64
		n, err = res.RowsAffected()
		*st.written += n
	}
	return st.err(err)
}

// sqliteArgs fits parameters to SQLite.
func sqliteArgs(args []any) []any {
	out := make([]any, len(args))
	for i, a := range args {
		out[i] = sqliteValue(a)
	}
	return out
}

// keptStatements bounds the statements that a connection keeps.
const keptStatements = 256

// keepingConnector opens connections that keep their statements: parsing one costs more
// than running it.
type keepingConnector struct{ driver.Connector }

// Connect implements driver.Connector.
func (c keepingConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	whole, ok := conn.(sqliteConn)
	if !ok {
		_ = conn.Close() // The error below is the one to tell.
		return nil, fmt.Errorf("effects: a connection is a %T", conn)
	}
	return &keepingConn{sqliteConn: whole, kept: map[string]keptStatement{}}, nil
}

// sqliteConn is what the driver's connections can do.
type sqliteConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
}

var _ sqliteConn = (*keepingConn)(nil)

// keptStatement is a prepared statement that waits for its next use.
type keptStatement interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

// keepingConn is a connection that keeps its statements by their text. database/sql
// uses it from one goroutine at a time.
type keepingConn struct {
	sqliteConn
	kept map[string]keptStatement
}

// ExecContext implements driver.ExecerContext. A text without parameters may be a
// script, and is run once most of the time.
func (c *keepingConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if len(args) == 0 {
		return c.sqliteConn.ExecContext(ctx, query, args)
	}
	st, err := c.take(ctx, query)
	if err != nil {
		return nil, err
	}
	defer c.keep(query, st)
	return st.ExecContext(ctx, args)
}

// QueryContext implements driver.QueryerContext.
func (c *keepingConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if len(args) == 0 {
		return c.sqliteConn.QueryContext(ctx, query, args)
	}
	st, err := c.take(ctx, query)
	if err != nil {
		return nil, err
	}
	rows, err := st.QueryContext(ctx, args)
	if err != nil {
		c.keep(query, st)
		return nil, err
	}
	return &keptRows{Rows: rows, done: func() { c.keep(query, st) }}, nil
}

// take returns the statement of a text, which nobody else uses until it is kept again.
func (c *keepingConn) take(ctx context.Context, query string) (keptStatement, error) {
	if st, ok := c.kept[query]; ok {
		delete(c.kept, query)
		return st, nil
	}
	st, err := c.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	whole, ok := st.(keptStatement)
	if !ok {
		_ = st.Close() // The error below is the one to tell.
		return nil, fmt.Errorf("effects: a statement is a %T", st)
	}
	return whole, nil
}

// keep keeps a statement for its next use, in the place of another one where there are
// too many.
func (c *keepingConn) keep(query string, st keptStatement) {
	if _, twice := c.kept[query]; twice {
		_ = st.Close() // It has been run.
		return
	}
	if len(c.kept) >= keptStatements {
		for other, old := range c.kept {
			_ = old.Close() // It has been run.
			delete(c.kept, other)
			break
		}
	}
	c.kept[query] = st
}

// Close implements driver.Conn.
func (c *keepingConn) Close() error {
	var errs []error
	for _, st := range c.kept {
		errs = append(errs, st.Close())
	}
	clear(c.kept)
	return errors.Join(append(errs, c.sqliteConn.Close())...)
}

// keptRows give their statement back when they are closed.
type keptRows struct {
	driver.Rows
	done func()
}

// Close implements driver.Rows.
func (r *keptRows) Close() error {
	err := r.Rows.Close()
	r.done()
	return err
}

// openKeeping opens a pool of connections that keep their statements.
func openKeeping(dsn string) (*sql.DB, error) {
	c, err := sqlite.NewConnector(dsn)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(keepingConnector{c}), nil
}
