package effects

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"

	"github.com/paybell/paybell/workers"
)

// Errors of effects.
var (
	// ErrStaleOwner: a newer owner of the (group, partition) has made effects since
	// the delivery was taken. The delivery is that owner's to run.
	ErrStaleOwner = fmt.Errorf("effects: a newer owner holds the partition: %w", workers.ErrReplaced)
	// ErrNotDurable: the PostgreSQL session answers a commit before it is on disk.
	ErrNotDurable = errors.New("effects: synchronous_commit is off: a crash of the database would lose settled effects")
	// ErrUnfit: a setting of the database is one under which text, time or a commit would
	// mean something else than what is stored.
	ErrUnfit = errors.New("effects: the database cannot be used as it is set")
	// ErrDSN: the PostgreSQL DSN cannot be read. Its text is not repeated, it holds a password.
	ErrDSN = errors.New("effects: the PostgreSQL DSN cannot be parsed")
	// ErrNotMigrated: the schema is older than this build; paybell migrate brings it
	// up to date.
	ErrNotMigrated = errors.New("effects: the database is not migrated")
	// ErrNewerSchema: the schema was made by a build that is later than this one, which
	// does not understand it.
	ErrNewerSchema = errors.New("effects: the schema of the database is newer than this build")
	// ErrAway: the database cannot be asked now.
	ErrAway = errors.New("effects: the database is away")
	// ErrRace is returned by an Apply that lost a race for a row it meant to be
	// first with. The transaction is rolled back and run again.
	ErrRace = errors.New("effects: another transaction was first")
)

// DatabaseError is an error that PostgreSQL reported. Its text leaves out what
// may repeat a row's values: the detail always, and the message of data and
// integrity errors.
type DatabaseError struct {
	// Code is the SQLSTATE; Table and Constraint are set where the server names them.
	Code, Table, Constraint string
	message                 string
	err                     error
}

// Error implements error.
func (e *DatabaseError) Error() string {
	var b strings.Builder
	b.WriteString("effects: postgres error " + e.Code)
	for _, part := range [...]struct{ name, value string }{
		{"table", e.Table}, {"constraint", e.Constraint}, {"message", e.message},
	} {
		if part.value != "" {
			b.WriteString(", " + part.name + " " + part.value)
		}
	}
	return b.String()
}

// Unwrap returns the driver's error. Do not print it.
func (e *DatabaseError) Unwrap() error { return e.err }

// safe replaces a driver's error by one that may be logged.
func safe(err error) error {
	var known *DatabaseError
	var pg *pgconn.PgError
	if errors.As(err, &known) || !errors.As(err, &pg) {
		return err
	}
	out := &DatabaseError{Code: pg.Code, Table: pg.TableName, Constraint: pg.ConstraintName, err: err}
	if class := pg.Code[:min(2, len(pg.Code))]; class != "22" && class != "23" || onTheWay(err) {
		out.message = pg.Message
	}
	return out
}

// wayError is a failure on the way to the events: of a connection that is prepared, or
// of a transaction that is begun.
type wayError struct{ error }

// Unwrap implements errors.Unwrap.
func (e *wayError) Unwrap() error { return e.error }

// onTheWay reports whether err came before anything was said about an event or a row,
// whatever its SQLSTATE: a bad start-up parameter of the DSN is of class 22.
func onTheWay(err error) bool {
	_, connecting := errors.AsType[*pgconn.ConnectError](err)
	_, beginning := errors.AsType[*wayError](err)
	return connecting || beginning
}

// SQLite's primary result codes that are looked at here.
const (
	sqliteError    = 1
	sqliteBusy     = 5
	sqliteLocked   = 6
	sqliteReadOnly = 8
	sqliteIOErr    = 10
	sqliteCorrupt  = 11
	sqliteFull     = 13
	sqliteCantOpen = 14
	sqliteNotADB   = 26
)

// sqliteCode returns the primary result code of a SQLite error, or 0.
func sqliteCode(err error) int {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code() & 0xff
	}
	return 0
}

// pgCode returns the SQLSTATE of a PostgreSQL error, or "".
func pgCode(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return ""
}

// passing names why the same transaction may well commit when it is run again
// now, or "": it lost a race against another one.
func passing(err error) string {
	switch pgCode(err) {
	case "40001":
		return "serialization"
	case "40P01":
		return "deadlock"
	case "55P03":
		return "lock"
	case "42P05", "26000": // see lostStatement
		return "statement"
	}
	switch sqliteCode(err) {
	case sqliteBusy, sqliteLocked:
		return "busy"
	}
	if errors.Is(err, ErrRace) {
		return "race"
	}
	return ""
}

// general reports whether err is about the database or the way to it, so that it
// says nothing about any one event. Its deliveries are given workers.Unavailable.
func general(err error) bool {
	var network net.Error
	switch {
	case passing(err) != "":
		// A race lost again and again is the database's load, but one that Apply
		// itself declares may be its own fault.
		return !errors.Is(err, ErrRace)
	case errors.Is(err, driver.ErrBadConn), errors.Is(err, sql.ErrConnDone), errors.Is(err, net.ErrClosed),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, ErrNotDurable),
		onTheWay(err), errors.As(err, &network), pgconn.SafeToRetry(err):
		return true
	}
	switch sqliteCode(err) {
	case sqliteError:
		return strings.Contains(err.Error(), "no such table") || strings.Contains(err.Error(), "no such column")
	case sqliteReadOnly, sqliteIOErr, sqliteCorrupt, sqliteFull, sqliteCantOpen, sqliteNotADB:
		return true
	}
	code := pgCode(err)
	return code != "" && slices.ContainsFunc(generalCodes[:], func(prefix string) bool { return strings.HasPrefix(code, prefix) })
}

// pgReadOnly is the SQLSTATE of a write in a read-only transaction: a standby, or a
// database that was set so.
const pgReadOnly = "25006"

// generalCodes are classes of SQLSTATE, and single codes, that are about the
// database.
var generalCodes = [...]string{
	"08", // Connection exceptions.
	pgReadOnly,
	"25P03", // The transaction stood still too long (Options.StallTimeout).
	"25P04", // The transaction took longer than transaction_timeout (see tooSlow).
	"28",    // Invalid authorization.
	"3D",    // No such database.
	"42501", // Insufficient privilege.
	"42P01", // Undefined table: not migrated.
	"42703", // Undefined column: not migrated.
	"53",    // Insufficient resources.
	"57",    // Operator intervention, shutdown, and a canceled statement (see tooSlow).
	"58",    // System errors.
	"XX",    // Internal errors, corruption.
}

// hopeless reports whether no later attempt can do better: the event holds a
// value that the database can never store, such as text with a NUL (class 22) or a
// key too long for an index (class 54).
func hopeless(err error) bool {
	code := pgCode(err)
	return strings.HasPrefix(code, "22") || strings.HasPrefix(code, "54")
}
