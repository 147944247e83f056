package effects

import (
	"context"
	"database/sql/driver"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// pooled is what the connections to PostgreSQL have in common.
//
// A pooler in transaction mode, such as PgBouncer, gives each transaction the next free
// session of the server. Nothing that belongs to a session may then be relied on, neither
// prepared statements nor settings, and nothing may be left behind in one: it is another
// program's next. Poolers answer for the server when a connection is made, so they are told
// by the process id: the one that a client is given to cancel by is not the one that its
// statements see.
type pooled struct {
	log *slog.Logger
	// stall is how long a transaction may stand still, in milliseconds.
	stall string
	// now numbers connections by the refusals that they were opened after. A connection to
	// what was the writer before a failover refuses every write for as long as it lives, so
	// the first refusal takes all those out of use that are as old.
	now atomic.Int64
	// shared is true when sessions were found to be shared: new connections then leave
	// nothing in them. It stays so for as long as the process lives.
	shared atomic.Bool
}

// connection is what is known of one connection.
type connection struct {
	// born is its generation.
	born int64
	// shared: each of its transactions may run in another session, and sets for itself how
	// long it may stand still.
	shared bool
	stall  string
}

// connectionKey is where a connection keeps what is known of it.
const connectionKey = "paybell"

// known returns what is known of a connection that has been prepared.
func known(c *pgconn.PgConn) connection {
	k, _ := c.CustomData()[connectionKey].(connection)
	return k
}

// end is told that a connection is of no use any more. What another one of the same
// generation has told before is no news.
func (p *pooled) end(c *pgconn.PgConn) {
	if k, ok := c.CustomData()[connectionKey].(connection); ok {
		p.now.CompareAndSwap(k.born, k.born+1)
	}
}

// check discards an idle connection of an earlier generation; the next one is opened
// to wherever the DSN leads now.
func (p *pooled) check(_ context.Context, c *pgx.Conn) error {
	if known(c.PgConn()).born != p.now.Load() {
		return driver.ErrBadConn
	}
	return nil
}

// forget notes that sessions are shared.
func (p *pooled) forget(why string) {
	if p.shared.CompareAndSwap(false, true) {
		p.log.Info("the database is behind a pooler: statements are not prepared by name, and settings are made in each transaction", "why", why)
	}
}

// mode chooses how a new connection sends statements. By name and prepared is the fastest,
// and leaves them in the session; without a name the server plans each anew, and their
// types are asked for once a connection. A DSN that names another mode has its way.
func (p *pooled) mode(_ context.Context, cfg *pgx.ConnConfig) error {
	if p.shared.Load() && cfg.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement {
		cfg.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	}
	return nil
}

// pgPrepare looks at a new connection, and makes the settings of its session where the
// session is its own: how long a transaction may stand still, and that tables are read by
// their indexes even where one was small when a plan was made. The plan is kept, and the
// table grows. They are not sent at the start of the connection: poolers refuse start-up
// parameters that they do not know. What another program has left in a session that is shared is not asked for, see pgLocal.
const pgPrepare = `SELECT pg_backend_pid(), current_setting('server_version_num')::bigint,
	CASE pg_backend_pid() WHEN $1::bigint THEN current_setting('synchronous_commit') ELSE (SELECT reset_val FROM pg_settings WHERE name = 'synchronous_commit') END,
	current_setting('array_nulls'), current_setting('bytea_output'),
	CASE pg_backend_pid() WHEN $1::bigint THEN set_config('idle_in_transaction_session_timeout', $2, false) END,
	CASE pg_backend_pid() WHEN $1::bigint THEN set_config('enable_seqscan', 'off', false) END`

// pgLocal makes the same settings for one transaction, and has its commit reach the disk
// whatever somebody else has left in the session.
const pgLocal = `SELECT set_config('idle_in_transaction_session_timeout', $1, true), set_config('enable_seqscan', 'off', true),
	set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true)`

// prepare looks at each new connection, because a failover or a changed role may
// bring other settings than the process started with.
func (p *pooled) prepare(ctx context.Context, c *pgx.Conn) error {
	err := p.look(ctx, c)
	if err != nil {
		_ = c.Close(ctx) // The driver forgets a connection that is refused here, and the socket is closed in any case.
	}
	return err
}

func (p *pooled) look(ctx context.Context, c *pgx.Conn) error {
	k := connection{born: p.now.Load(), shared: p.shared.Load(), stall: p.stall}
	c.PgConn().CustomData()[connectionKey] = k
	// A mode without prepared statements, set in the DSN for a pooler, asks Go for types.
	c.TypeMap().RegisterDefaultPgType(pgTexts{}, "_text")
	if err := fits(c.PgConn().ParameterStatus); err != nil {
		return &wayError{err}
	}
	given := int64(c.PgConn().PID())
	own := given
	if k.shared {
		own = -1 // Nobody's.
	}
	configured := c.Config().DefaultQueryExecMode
	mode := pgx.QueryExecModeExec // Without a name: it is not known yet whose session it is.
	if configured == pgx.QueryExecModeSimpleProtocol {
		mode = configured
	}
	var pid, version int64
	var durable, nulls, bytea string
	if err := c.QueryRow(ctx, pgPrepare, mode, own, p.stall).Scan(&pid, &version, &durable, &nulls, &bytea, nil, nil); err != nil {
		return &wayError{fmt.Errorf("effects: prepare a connection: %w", err)}
	}
	switch {
	case version < oldestPostgres:
		return &wayError{fmt.Errorf("%w: the server is PostgreSQL %d, and 13 is the oldest that is supported", ErrUnfit, version/10000)}
	case nulls != "on":
		return &wayError{fmt.Errorf("%w: array_nulls is %s and not on: what is not known would be kept as a text", ErrUnfit, nulls)}
	case bytea != "hex" && (configured == pgx.QueryExecModeExec || configured == pgx.QueryExecModeSimpleProtocol):
		return &wayError{fmt.Errorf("%w: bytea_output is %s and not hex, which the mode in the DSN cannot read: take default_query_exec_mode out of it", ErrUnfit, bytea)}
	case strings.EqualFold(durable, "off"):
		return ErrNotDurable
	case pid != given:
		p.forget("the server's process id is not the one that the connection was given")
	}
	if !p.shared.Load() {
		return nil
	}
	if configured == pgx.QueryExecModeCacheStatement {
		return driver.ErrBadConn // The next one is opened in another mode.
	}
	k.shared = true
	c.PgConn().CustomData()[connectionKey] = k
	return nil
}

// oldestPostgres is the first version that has all that is used, as server_version_num.
const oldestPostgres = 130000

// fits returns an ErrUnfit where a text or a time would not mean in the database what it
// means here. status are the settings that the server reports by itself.
func fits(status func(name string) string) error {
	for _, s := range []struct{ name, want, cure string }{
		{"server_encoding", "UTF8", "some texts could not be kept: make the database again with ENCODING 'UTF8'"},
		{"client_encoding", "UTF8", "texts would be kept as other ones: take it out of the DSN"},
		{"standard_conforming_strings", "on", "texts would be read as other ones: take it out of the DSN"},
		{"DateStyle", "ISO", "times would be read as other ones: take it out of the DSN"},
	} {
		is := status(s.name)
		// A pooler tells a setting as the DSN spells it, such as utf-8.
		first, _, _ := strings.Cut(strings.ReplaceAll(is, "-", ""), ",")
		if is != "" && !strings.EqualFold(first, s.want) {
			return fmt.Errorf("%w: %s is %s and not %s: %s", ErrUnfit, s.name, is, s.want, s.cure)
		}
	}
	return nil
}

// lostStatement reports whether an SQLSTATE says that a prepared statement is there
// already, or is not: the session is another one than the statement was prepared in.
func lostStatement(code string) bool { return code == "42P05" || code == "26000" }
