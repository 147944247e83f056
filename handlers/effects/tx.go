package effects

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"
)

// Tx is the transaction an effect is made in. Statements are written once for
// both databases, with $1, $2 … for parameters. Errors may be printed: what
// could repeat a row's values is left out of them.
//
// What needs no answer is queued: it is sent together with the next statement that is
// waited for, at the latest with the commit, so that a transaction on PostgreSQL is a
// few round trips however many statements it has. An error of a queued statement is
// returned by whoever sends it.
type Tx struct {
	session  session
	dialect  Dialect
	now      time.Time
	queue    []statement
	onCommit []func()
}

// Row is one row of an answer.
type Row interface {
	Scan(dest ...any) error
}

// session is the connection of one transaction.
type session interface {
	// send runs statements one after another, up to the first that fails, in one round
	// trip where there are any.
	send(ctx context.Context, sts []statement) error
	// commit commits behind further statements; of those none has a scan.
	commit(ctx context.Context, sts []statement) error
	// close gives the connection back. What was not committed is rolled back, also where
	// ctx has ended.
	close(ctx context.Context)
}

// statement is one statement to be sent.
type statement struct {
	query string
	args  []any
	// in is the relation input, or nil for a statement with args of its own.
	in *Rows
	// scan takes the rows of the answer; nil for a statement that has none.
	scan func(Row) error
	// written takes the number of rows that were written.
	written *int64
	// fails words an error of this statement; nil leaves it as it is.
	fails func(error) error
}

// err is a driver's error as it is returned.
func (st *statement) err(err error) error {
	if err = safe(err); err != nil && st.fails != nil {
		return st.fails(err)
	}
	return err
}

// Dialect tells the database, for the rare statement that differs.
func (t *Tx) Dialect() Dialect { return t.dialect }

// Now is when the transaction began, UTC, in milliseconds, by the store's clock.
func (t *Tx) Now() time.Time { return t.now }

// OnCommit runs f once the transaction is committed; not at all if it is not.
// Counting in a metric belongs here, since Apply may run more than once.
func (t *Tx) OnCommit(f func()) { t.onCommit = append(t.onCommit, f) }

// Exec runs a statement and returns how many rows it wrote.
func (t *Tx) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	var written int64
	t.queue = append(t.queue, statement{query: query, args: args, written: &written})
	err := t.Send(ctx)
	return written, err
}

// Query runs a query and calls scan for each row.
func (t *Tx) Query(ctx context.Context, scan func(Row) error, query string, args ...any) error {
	t.queue = append(t.queue, statement{query: query, args: args, scan: scan})
	return t.Send(ctx)
}

// ExecRows runs a statement that reads the relation input and returns how many
// rows it wrote. With no rows it does nothing.
func (t *Tx) ExecRows(ctx context.Context, in *Rows, query string) (int64, error) {
	var written int64
	t.enqueue(statement{query: query, in: in, written: &written})
	err := t.Send(ctx)
	return written, err
}

// QueryRows runs a query, or a statement with RETURNING, that reads the relation
// input and calls scan for each row it gives. With no rows it does nothing.
func (t *Tx) QueryRows(ctx context.Context, in *Rows, query string, scan func(Row) error) error {
	t.QueueQuery(in, query, scan)
	return t.Send(ctx)
}

// Queue queues a statement that reads the relation input. With no rows it does nothing.
func (t *Tx) Queue(in *Rows, query string) { t.enqueue(statement{query: query, in: in}) }

// QueueNew queues an insert of rows that are new. Where another transaction was first
// with one of them, it is ErrRace.
func (t *Tx) QueueNew(in *Rows, query string) {
	t.enqueue(statement{query: query, in: in, fails: raced})
}

// QueueQuery queues a query as QueryRows runs it. Scan is called inside the call that
// sends it.
func (t *Tx) QueueQuery(in *Rows, query string, scan func(Row) error) {
	t.enqueue(statement{query: query, in: in, scan: scan})
}

func (t *Tx) enqueue(st statement) {
	if st.in.Len() > 0 {
		t.queue = append(t.queue, st)
	}
}

// Send sends what is queued and waits for the answers.
func (t *Tx) Send(ctx context.Context) error {
	if len(t.queue) == 0 {
		return nil
	}
	sts := t.queue
	t.queue = nil
	return t.session.send(ctx, sts)
}

// commit sends what is left and commits. A row that cannot be read must not be found
// behind the commit, so queries are answered first.
func (t *Tx) commit(ctx context.Context) error {
	for i := range t.queue {
		if t.queue[i].scan != nil {
			if err := t.Send(ctx); err != nil {
				return err
			}
			break
		}
	}
	sts := t.queue
	t.queue = nil
	return t.session.commit(ctx, sts)
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

// Lookup says how a statement finds the rows of a table that input names.
type Lookup struct {
	Table, As string
	// Keys are columns of the table's key, by the same names in input.
	Keys []string
	// Lock locks the rows that are found until the transaction ends, in the order of
	// input. In SQLite a transaction already has the whole file.
	Lock bool
}

// From is the FROM clause, with input and the table. Each row of input is looked up in
// the table's index: PostgreSQL keeps the plan of a statement for long, and one that it
// made for a small table reads the whole of it when it is large.
func (l Lookup) From(d Dialect) string {
	on := make([]string, len(l.Keys))
	for i, key := range l.Keys {
		on[i] = l.As + "." + key + " = input." + key
	}
	match := strings.Join(on, " AND ")
	if d == SQLite {
		return "FROM input CROSS JOIN " + l.Table + " AS " + l.As + " ON " + match
	}
	lock := " OFFSET 0" // Keeps the planner from turning the lookup into a join.
	if l.Lock {
		lock = " FOR UPDATE"
	}
	return "FROM input CROSS JOIN LATERAL (SELECT * FROM " + l.Table + " AS " + l.As + " WHERE " + match + lock + ") AS " + l.As
}

// each reads rows to their end; a statement with RETURNING has only then run.
func each(rows *sql.Rows, err error, scan func(Row) error) error {
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
