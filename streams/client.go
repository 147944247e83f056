package streams

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/paybell/paybell/configs/secret"
)

// Client is a connection pool to Redis: one server now, and what go-redis makes
// of Sentinel or Cluster later.
type Client = redis.UniversalClient

// clientName begins the name that a server knows our connections by.
const clientName = "paybell-"

// NewWriteClient returns the client that appends, takes and settles. It never
// sends a command twice by itself: go-redis would repeat an XADD whose reply was
// lost. onConnect is called with every new connection before it is used. The caller
// closes the client.
func NewWriteClient(o Options, onConnect ...func(context.Context, *redis.Conn) error) (Client, error) {
	return newClient(o.Redis, clientName+"write", o.Redis.Connections, func(ctx context.Context, c *redis.Conn) error {
		for _, f := range append(onConnect, loadScripts) {
			if err := f(ctx, c); err != nil {
				return err
			}
		}
		return nil
	})
}

// leaseConnections are few: what goes over them is short, and sent together.
const leaseConnections = 4

// NewLeaseClient returns the client that takes and renews leases, and tells that members
// live: its connections are never ones that large answers, or calls that Redis takes its
// time for, keep busy. onConnect is as for NewWriteClient. The caller closes the client.
func NewLeaseClient(o Options, onConnect ...func(context.Context, *redis.Conn) error) (Client, error) {
	return newClient(o.Redis, clientName+"lease", leaseConnections, func(ctx context.Context, c *redis.Conn) error {
		for _, f := range onConnect {
			if err := f(ctx, c); err != nil {
				return err
			}
		}
		return nil
	})
}

// NewReadClient returns the client of a Feed: its waits keep connections blocked inside
// Redis, which must not be ones that an append needs. Closing it ends every wait at once.
func NewReadClient(o Options) (Client, error) {
	redis := o.Redis
	redis.ReadTimeout += o.Block // an answer may take so long
	return newClient(redis, clientName+"read", o.Partitions+4, nil)
}

func newClient(o RedisOptions, name string, connections int, onConnect func(context.Context, *redis.Conn) error) (Client, error) {
	if _, err := o.TLS.config(); err != nil {
		return nil, fmt.Errorf("streams: redis tls: %w", err)
	}
	opts := &redis.Options{
		Addr:       o.Address,
		ClientName: name,
		DB:         o.DB,
		Dialer:     o.dial,
		OnConnect:  onConnect,
		MaxRetries: -1,
		// A dead server is told at once; whoever asks decides whether to ask again.
		DialerRetries:      1,
		DialerRetryTimeout: time.Millisecond,
		DialTimeout:        o.DialTimeout,
		ReadTimeout:        o.ReadTimeout,
		WriteTimeout:       o.WriteTimeout,
		// A caller's deadline ends the read; the connection is closed with it.
		ContextTimeoutEnabled: true,
		PoolSize:              connections,
		MaxActiveConns:        connections,
		PoolTimeout:           o.ReadTimeout,
		// Pipelines share the pool, so that PoolSize is all there is.
		PipelinePoolSize: -1,
		ReadBufferSize:   64 << 10,
		WriteBufferSize:  64 << 10,
		// These belong to Redis Cloud and cost others a command a connection.
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if !o.Password.IsZero() {
		if _, err := o.Password.Read(); err != nil {
			return nil, fmt.Errorf("streams: redis password: %w", err)
		}
		opts.CredentialsProviderContext = func(context.Context) (string, string, error) {
			s, err := o.Password.Read()
			if err != nil {
				return "", "", fmt.Errorf("streams: redis password: %w", err)
			}
			return o.Username, s.Value.Reveal(), nil
		}
	}
	return redis.NewClient(opts), nil
}

// dial reads the files of TLS again, as the password is: certificates are renewed while a
// process runs.
func (o RedisOptions) dial(ctx context.Context, network, address string) (net.Conn, error) {
	plain := &net.Dialer{Timeout: o.DialTimeout, KeepAlive: 5 * time.Minute}
	c, err := o.TLS.config()
	switch {
	case err != nil:
		return nil, fmt.Errorf("streams: redis tls: %w", err)
	case c == nil:
		return plain.DialContext(ctx, network, address)
	}
	return (&tls.Dialer{NetDialer: plain, Config: c}).DialContext(ctx, network, address)
}

// config builds the TLS configuration; nil where TLS is off.
func (o TLSOptions) config() (*tls.Config, error) {
	if !o.Enabled {
		return nil, nil //nolint:nilnil // go-redis takes nil for plain text
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: o.ServerName}
	if o.CAFile != "" {
		pem, err := secret.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("ca_file: holds no certificate")
		}
	}
	if o.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("cert_file: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
