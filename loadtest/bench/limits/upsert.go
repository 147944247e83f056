package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"strings"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/redis/go-redis/v9"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

const table = `CREATE TABLE IF NOT EXISTS upserted (order_ref text PRIMARY KEY, status text NOT NULL, amount bigint NOT NULL, currency text NOT NULL, event_id text NOT NULL)`

// columns is how many parameters a row takes.
const columns = 5

func upsert(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("upsert", flag.ExitOnError)
	driver := flags.String("driver", "pgx", "pgx or sqlite")
	source := flags.String("source", "", "the database")
	g, err := newGroup(flags, args)
	if err != nil {
		return err
	}
	defer g.rdb.Close()
	db, err := sql.Open(*driver, *source)
	if err != nil {
		return err
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(ctx, table); err != nil {
		return err
	}
	whole, err := db.PrepareContext(ctx, statement(batch))
	if err != nil {
		return err
	}
	return g.each(ctx, func(entries []redis.XMessage) error {
		if err := write(ctx, db, whole, entries); err != nil {
			return err
		}
		ids := make([]string, len(entries))
		for i, e := range entries {
			ids[i] = e.ID
		}
		return g.rdb.XAck(ctx, "bench", g.name, ids...).Err()
	})
}

// statement upserts n rows.
func statement(n int) string {
	var b strings.Builder
	b.WriteString("INSERT INTO upserted (order_ref, status, amount, currency, event_id) VALUES ")
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "($%d,$%d,$%d,$%d,$%d)", i*columns+1, i*columns+2, i*columns+3, i*columns+4, i*columns+5)
	}
	b.WriteString(" ON CONFLICT (order_ref) DO UPDATE SET status = excluded.status, amount = excluded.amount, event_id = excluded.event_id")
	return b.String()
}

// write upserts a batch in one transaction.
func write(ctx context.Context, db *sql.DB, whole *sql.Stmt, entries []redis.XMessage) (err error) {
	args := make([]any, 0, columns*len(entries))
	for _, e := range entries {
		body, _ := e.Values["body"].(string) // decode refuses an empty one
		p, err := decode([]byte(body))
		if err != nil {
			return err
		}
		o := &p.Data.Object
		args = append(args, o.Metadata.Order, o.Status, o.AmountReceived, o.Currency, p.ID)
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if len(entries) == batch {
		_, err = tx.StmtContext(ctx, whole).ExecContext(ctx, args...) //nolint:sqlclosecheck // it ends with the transaction
	} else {
		_, err = tx.ExecContext(ctx, statement(len(entries)), args...)
	}
	if err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}
