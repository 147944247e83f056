package effects

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// Tx is the transaction an effect is made in. Statements are written once for
// both databases, with $1, $2 … for parameters. Errors may be printed: what
// could repeat a row's values is left out of them.
type Tx struct {
	tx       *sql.Tx
	dialect  Dialect
	now      time.Time
	onCommit []func()
}

// Dialect tells the database, for the rare statement that differs.
func (t *Tx) Dialect() Dialect { return t.dialect }

// Now is when the transaction began, UTC, in milliseconds, by the store's clock.
func (t *Tx) Now() time.Time { return t.now }

// OnCommit runs f once the transaction is committed; not at all if it is not.
// Counting in a metric belongs here, since Apply may run more than once.
func (t *Tx) OnCommit(f func()) { t.onCommit = append(t.onCommit, f) }

// ForUpdate is the clause that locks the rows of a SELECT until the transaction
// ends. In SQLite it is empty: a transaction already has the whole file.
func (t *Tx) ForUpdate(table string) string {
	if t.dialect == SQLite {
		return ""
	}
	return " FOR UPDATE OF " + table
}

// Exec runs a statement.
func (t *Tx) Exec(ctx context.Context, query string, args ...any) (sql.Result, error) {
	res, err := t.tx.ExecContext(ctx, query, bind(t.dialect, args)...)
	return res, safe(err)
}

// Query runs a query and calls scan for each row.
func (t *Tx) Query(ctx context.Context, scan func(*sql.Rows) error, query string, args ...any) error {
	rows, err := t.tx.QueryContext(ctx, query, bind(t.dialect, args)...)
	return each(rows, err, scan)
}

// ExecRows runs a statement that reads the relation input and returns how many
// rows it wrote. With no rows it does nothing.
func (t *Tx) ExecRows(ctx context.Context, in *Rows, query string) (int64, error) {
	var written int64
	err := withRows(t.dialect, in, func(with string, args []any) error {
		res, err := t.tx.ExecContext(ctx, with+query, args...)
		if err != nil {
			return safe(err)
		}
		n, err := res.RowsAffected()
		written += n
		return err
	})
	return written, err
}

// QueryRows runs a query, or a statement with RETURNING, that reads the relation
// input and calls scan for each row it gives. With no rows it does nothing.
func (t *Tx) QueryRows(ctx context.Context, in *Rows, query string, scan func(*sql.Rows) error) error {
	return withRows(t.dialect, in, func(with string, args []any) error {
		rows, err := t.tx.QueryContext(ctx, with+query, args...)
		return each(rows, err, scan)
	})
}

func withRows(d Dialect, in *Rows, run func(with string, args []any) error) error {
	if in.Len() == 0 {
		return nil
	}
	if d == Postgres {
		return run(in.postgres())
	}
	for from := 0; from < in.Len(); from += in.perStatement() {
		if err := run(in.sqlite(from, min(in.Len(), from+in.perStatement()))); err != nil {
			return err
		}
	}
	return nil
}

// Forget deletes dedup keys of a group, for events whose effect is deleted in the
// same transaction: delivered again, they have it again.
func (t *Tx) Forget(ctx context.Context, group string, eventIDs []string) error {
	in := NewRows(Text("event_id"), Text("grp").Same(group))
	for _, id := range eventIDs {
		in.Add(id)
	}
	_, err := t.ExecRows(ctx, in, `DELETE FROM effects WHERE (grp, event_id) IN (SELECT grp, event_id FROM input)`)
	return err
}

// bind fits parameters to the dialect.
func bind(d Dialect, args []any) []any {
	if d == Postgres {
		return args
	}
	out := make([]any, len(args))
	for i, a := range args {
		out[i] = sqliteValue(a)
	}
	return out
}

// each reads rows to their end; a statement with RETURNING has only then run.
func each(rows *sql.Rows, err error, scan func(*sql.Rows) error) error {
	if err != nil {
		return safe(err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return fmt.Errorf("effects: read a row: %w", err)
		}
	}
	return safe(rows.Err())
}
