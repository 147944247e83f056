package effects

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// What a server, a pooler or a certificate says to settings that it will never take.
const (
	wordsPassword  = "the server does not know this user and password"
	wordsHBA       = "the server allows no such connection (pg_hba.conf): look at user, database and sslmode"
	wordsDatabase  = "the server has no database of this name"
	wordsParameter = "the server refuses a start-up parameter of the DSN"
	wordsPooler    = "the pooler refuses a start-up parameter of the DSN: set it for the role instead (ALTER ROLE ... SET ...)"
	wordsName      = "the server's certificate is for another name: look at host and sslmode"
	wordsCA        = "the server's certificate is of an authority that is not trusted: look at sslrootcert"
	wordsClient    = "the server does not take our certificate: look at sslcert and sslkey"
	wordsNoTLS     = "the server speaks no TLS: look at port and sslmode"
)

// refusals are what a connection was refused by that no later one with the same DSN would
// be spared. Text is looked for where a pooler has one SQLSTATE for everything.
var refusals = []struct{ code, text, words string }{
	{"28P01", "", wordsPassword},
	{"28000", "", wordsHBA},
	{"3D000", "", wordsDatabase},
	{"22023", "", wordsParameter},
	{"42704", "", wordsParameter},
	{"08P01", "unsupported startup parameter", wordsPooler},
	{"08P01", "no such database", wordsDatabase},
	{"08P01", "bouncer config error", wordsDatabase},
	{"08P01", "no such user", wordsPassword},
	{"08P01", "password authentication failed", wordsPassword},
	{"08P01", "SASL authentication failed", wordsPassword},
	{"08P01", "no pg_hba.conf entry", wordsHBA},
	{"08P01", "does not exist", wordsDatabase},
}

// Misconfigured says, in words, which setting the first connection to a database failed by,
// or which one of the database's own it may not have; nil where waiting may help: nobody
// listens, nothing is answered in time, or the server has no connection left.
func Misconfigured(err error) error {
	if errors.Is(err, ErrNotDurable) {
		return fmt.Errorf("database: %w", ErrNotDurable)
	}
	words := refusal(err)
	if words == "" && !errors.Is(err, ErrUnfit) {
		return nil
	}
	// What it was wrapped in says that the database is away.
	if connecting, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		err = connecting
	} else if way, ok := errors.AsType[*wayError](err); ok {
		err = way.error
	}
	if words == "" {
		return fmt.Errorf("database: %w", err)
	}
	return fmt.Errorf("database: %s: %w", words, safe(err))
}

// refusal are the words for an error that tells by itself which setting is wrong.
func refusal(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		if !onTheWay(err) {
			return ""
		}
		for _, r := range refusals {
			if r.code == pg.Code && strings.Contains(pg.Message, r.text) {
				return r.words
			}
		}
		return ""
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return wordsName
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return wordsCA
	}
	op, network := errors.AsType[*net.OpError](err)
	switch {
	case network && op.Op == "remote error" && strings.Contains(op.Error(), "certificate"):
		return wordsClient // a TLS alert of the server, of which crypto/tls exports the text alone
	case err != nil && !network && strings.Contains(err.Error(), "server refused TLS connection"):
		return wordsNoTLS // the driver has no other name for it
	}
	return ""
}
