package effects

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/stdlib"
)

// What a transaction begins and ends with. What is locked must be read as the last
// owner of the lock left it, which is what read committed does and a server's default
// may not.
const (
	pgBegin    = "BEGIN ISOLATION LEVEL READ COMMITTED"
	pgCommit   = "COMMIT"
	pgRollback = "ROLLBACK"
)

// rollbackTimeout bounds the wait for a server to undo what is given up anyway.
const rollbackTimeout = 5 * time.Second

// errRolledBack: a transaction that has failed answers its commit by a rollback.
var errRolledBack = errors.New("effects: the commit rolled back")

// pgSession is a transaction on PostgreSQL. It is begun together with its first
// statements.
type pgSession struct {
	conn  *sql.Conn
	begun bool
}

func beginPostgres(ctx context.Context, db *sql.DB) (session, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	return &pgSession{conn: conn}, nil
}

// with runs f on the driver's connection.
func (s *pgSession) with(f func(*pgx.Conn) error) error {
	return s.conn.Raw(func(driverConn any) error {
		c, ok := driverConn.(*stdlib.Conn)
		if !ok {
			return fmt.Errorf("effects: a connection is a %T", driverConn)
		}
		return f(c.Conn())
	})
}

// send implements session. The statements go out in one pipeline.
func (s *pgSession) send(ctx context.Context, sts []statement) error {
	return s.pipe(ctx, sts, false)
}

// commit implements session. Where a statement fails the server passes over the rest of
// the pipeline, and with it over the commit.
func (s *pgSession) commit(ctx context.Context, sts []statement) error {
	return s.pipe(ctx, sts, true)
}

func (s *pgSession) pipe(ctx context.Context, sts []statement, commit bool) error {
	if !s.begun && len(sts) == 0 {
		return nil // Nothing was said: there is no transaction.
	}
	return s.with(func(c *pgx.Conn) error {
		b := &pgx.Batch{}
		if !s.begun {
			s.begun = true
			b.Queue(pgBegin).Query(begun)
			if k := known(c.PgConn()); k.shared {
				b.Queue(pgLocal, k.stall).Query(begun)
			}
		}
		for i := range sts {
			sts[i].queue(b)
		}
		if commit {
			b.Queue(pgCommit).Query(committed)
		}
		return safe(c.SendBatch(ctx, b).Close())
	})
}

// begun reads the answer to what a transaction begins with.
func begun(rows pgx.Rows) error {
	rows.Close()
	if err := rows.Err(); err != nil {
		return &wayError{fmt.Errorf("effects: begin: %w", safe(err))}
	}
	return nil
}

// committed reads the answer to a commit.
func committed(rows pgx.Rows) error {
	rows.Close()
	err := rows.Err()
	if err == nil && rows.CommandTag().String() != pgCommit {
		err = errRolledBack
	}
	if err != nil {
		return fmt.Errorf("effects: commit: %w", safe(err))
	}
	return nil
}

// queue appends the statement to a batch.
func (st *statement) queue(b *pgx.Batch) {
	query, args := st.query, st.args
	if st.in != nil {
		var with string
		with, args = st.in.postgres()
		query = with + query
	}
	b.Queue(query, args...).Query(func(rows pgx.Rows) error {
		for st.scan != nil && rows.Next() {
			if err := st.scan(rows); err != nil {
				return fmt.Errorf("effects: read a row: %w", err)
			}
		}
		rows.Close()
		if st.written != nil {
			*st.written = rows.CommandTag().RowsAffected()
		}
		return st.err(rows.Err())
	})
}

// close implements session. A connection that cannot be rolled back is not used again.
func (s *pgSession) close(ctx context.Context) {
	_ = s.with(func(c *pgx.Conn) error { // The driver forgets what fails here.
		if c.IsClosed() || c.PgConn().TxStatus() == 'I' {
			return nil
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
		defer cancel()
		if _, err := c.Exec(ctx, pgRollback); err != nil {
			return driver.ErrBadConn
		}
		return nil
	})
	_ = s.conn.Close() // It goes back to the pool, or was closed before.
}

// raced is what a unique violation means to a transaction that meant to be first.
func raced(err error) error {
	var db *DatabaseError
	if errors.As(err, &db) && db.Code == pgUniqueViolation {
		return fmt.Errorf("%w: %w", ErrRace, err)
	}
	return err
}

// pgUniqueViolation is the SQLSTATE of a key that is there already.
const pgUniqueViolation = "23505"

// pgTexts is a column of texts as the driver reads an array: by pointers, since a string
// in an interface is an allocation for each row.
type pgTexts struct {
	values []string
	null   []bool
}

var _ pgtype.ArrayGetter = pgTexts{}

// Dimensions implements pgtype.ArrayGetter.
func (t pgTexts) Dimensions() []pgtype.ArrayDimension {
	return []pgtype.ArrayDimension{{Length: int32(len(t.values)), LowerBound: 1}} //nolint:gosec // Rows of a batch.
}

// Index implements pgtype.ArrayGetter.
func (t pgTexts) Index(i int) any {
	if t.null != nil && t.null[i] {
		return nil
	}
	return (*pgText)(&t.values[i])
}

// IndexType implements pgtype.ArrayGetter.
func (t pgTexts) IndexType() any { return (*pgText)(nil) }

// pgText is one of the texts.
type pgText string

// TextValue implements pgtype.TextValuer.
func (t *pgText) TextValue() (pgtype.Text, error) {
	if t == nil {
		return pgtype.Text{}, nil
	}
	return pgtype.Text{String: string(*t), Valid: true}, nil
}
