package streams

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// What a server, or its certificate, says to settings that it will never take.
const (
	wordsPassword = "the server does not know this user and password: look at streams.redis.username and streams.redis.password"
	wordsNoAuth   = "the server asks for a password: set streams.redis.password"
	wordsNoPerm   = "the server does not allow its user what paybell needs: look at the user's ACL"
	wordsDenied   = "the server is in protected mode: set a password there, and streams.redis.password"
	wordsDB       = "the server has no database of this number: look at streams.redis.db"
	wordsCluster  = "the server is a node of a Redis Cluster: " + cureCluster
	wordsSentinel = "the server has no databases, as a Redis Sentinel: " + cureSentinel
	wordsName     = "the server's certificate is for another name: look at streams.redis.address and streams.redis.tls.server_name"
	wordsCA       = "the server's certificate is of an authority that is not trusted: look at streams.redis.tls.ca_file"
	wordsClient   = "the server does not take our certificate: look at streams.redis.tls.cert_file"
	wordsTLS      = "the server speaks TLS: set streams.redis.tls.enabled"
	wordsPlain    = "the server speaks plain text on this port: look at streams.redis.address, or set streams.redis.tls.enabled to false"
)

// replies are beginnings of error replies that no later connection with the same settings
// would be spared.
var replies = []struct{ prefix, words string }{
	{"WRONGPASS ", wordsPassword},
	{"NOAUTH ", wordsNoAuth},
	{"NOPERM ", wordsNoPerm},
	{"DENIED ", wordsDenied},
	{"ERR DB index is out of range", wordsDB},
	{"ERR SELECT is not allowed in cluster mode", wordsCluster},
	{"ERR unknown command 'select'", wordsSentinel},
}

// Misconfigured says, in words, which setting the first connection to a server failed by,
// as Check has reported it; nil where waiting may help: nobody listens, nothing is
// answered in time, or the server loads its data.
func Misconfigured(ctx context.Context, o Options, err error) error {
	if words := refusal(err); words != "" {
		return fmt.Errorf("streams: redis %s: %s: %w", o.Redis.Address, words, err)
	}
	// An end that hears the wrong protocol hangs up, or waits for the rest of it.
	netErr, timeout := errors.AsType[net.Error](err)
	timeout = timeout && netErr.Timeout()
	switch {
	case !o.Redis.TLS.Enabled && errors.Is(err, io.EOF) && speaksTLS(ctx, o.Redis):
		return fmt.Errorf("streams: redis %s: %s: %w", o.Redis.Address, wordsTLS, err)
	case o.Redis.TLS.Enabled && timeout && speaksPlain(ctx, o.Redis):
		return fmt.Errorf("streams: redis %s: %s: %w", o.Redis.Address, wordsPlain, err)
	}
	return nil
}

// refusal are the words for an error that tells by itself which setting is wrong.
func refusal(err error) string {
	if reply, ok := errors.AsType[redis.Error](err); ok {
		for _, r := range replies {
			if strings.HasPrefix(reply.Error(), r.prefix) {
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
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" && strings.Contains(op.Error(), "certificate") {
		return wordsClient // a TLS alert of the server, of which crypto/tls exports the text alone
	}
	return ""
}

// speaksTLS reports whether a server answers a TLS handshake, whoever it is.
func speaksTLS(ctx context.Context, o RedisOptions) bool {
	return probed(ctx, o, func(conn net.Conn) bool {
		c := tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // Nothing is sent through it.
		err := c.HandshakeContext(ctx)
		op, alert := errors.AsType[*net.OpError](err)
		return err == nil || alert && op.Op == "remote error"
	})
}

// speaksPlain reports whether a server answers a command in plain text, be it by an error.
func speaksPlain(ctx context.Context, o RedisOptions) bool {
	return probed(ctx, o, func(conn net.Conn) bool {
		var first [1]byte
		_, err := conn.Write([]byte("PING\r\n"))
		if err == nil {
			_, err = io.ReadFull(conn, first[:])
		}
		return err == nil && (first[0] == '+' || first[0] == '-')
	})
}

// probed opens a connection for one question.
func probed(ctx context.Context, o RedisOptions, ask func(net.Conn) bool) bool {
	d := net.Dialer{Timeout: o.DialTimeout}
	conn, err := d.DialContext(ctx, "tcp", o.Address)
	if err != nil {
		return false
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(o.DialTimeout)); err != nil {
		return false
	}
	return ask(conn)
}
