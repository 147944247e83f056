package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/paybell/paybell/configs"
	"github.com/paybell/paybell/gateway"
	"github.com/paybell/paybell/handlers/effects"
	"github.com/paybell/paybell/streams"
)

var (
	errNoAccounts = errors.New("accounts: none is configured, so no callback could be verified")
	errNoDatabase = errors.New("database: name where effects are kept: postgres, or a sqlite file of this one process")
)

// Preflight reads every secret and file that a process of the role would read when it
// starts, opens no connection, and returns all problems at once as a ConfigError, each
// with its path. What it returns are the accounts.
func Preflight(ctx context.Context, c *configs.Config, role Role, now func() time.Time) ([]gateway.Account, error) {
	accounts, err := Accounts(c, now)
	problems := []error{err, embeddedProblem(c, role)}
	if role.Gateway && len(c.Accounts) == 0 && !c.EmbeddedRedis() {
		problems = append(problems, errNoAccounts)
	}
	if _, err := c.Admin.ReadToken(); err != nil {
		problems = append(problems, fmt.Errorf("admin.token: %w", err))
	}
	problems = append(problems, redisProblems(c.Streams)...)
	if role.Workers {
		problems = append(problems, databaseProblem(ctx, c))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, &ConfigError{err}
	}
	return accounts, nil
}

// CheckDatabase reads what the database is named by, and returns a ConfigError where it
// cannot be used.
func CheckDatabase(ctx context.Context, c *configs.Config) error {
	if err := databaseProblem(ctx, c); err != nil {
		return &ConfigError{err}
	}
	return nil
}

func databaseProblem(ctx context.Context, c *configs.Config) error {
	switch {
	case !c.DatabaseNamed():
		return errNoDatabase
	case c.Database.SQLite != "": // it is made where it is missing
		return nil
	}
	store, err := effects.Open(ctx, c.Database, effects.Deps{}) // speaks to no server yet
	if err != nil {
		return fmt.Errorf("database: %w", err)
	}
	return store.Close()
}

func redisProblems(o streams.Options) []error {
	var problems []error
	if p := o.Redis.Password; !p.IsZero() {
		if _, err := p.Read(); err != nil {
			problems = append(problems, fmt.Errorf("streams.redis.password: %w", err))
		}
	}
	t := o.Redis.TLS
	// A client reads the files and connects later; it tells of the first bad one alone.
	for _, part := range []streams.TLSOptions{
		{Enabled: t.Enabled, CAFile: t.CAFile},
		{Enabled: t.Enabled, CertFile: t.CertFile, KeyFile: t.KeyFile},
	} {
		o.Redis = streams.RedisOptions{TLS: part}
		client, err := streams.NewWriteClient(o)
		if err == nil {
			err = client.Close()
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("streams.redis.tls: %w", err))
		}
	}
	return problems
}

// embeddedProblem says why the embedded engine cannot stand in for Redis.
func embeddedProblem(c *configs.Config, role Role) error {
	if !c.EmbeddedRedis() {
		return nil
	}
	if !role.Gateway || !role.Workers {
		return errors.New("streams.redis.address: must be set: only serve has an engine inside the process, and it would see nothing of this one's")
	}
	host, _, err := net.SplitHostPort(c.Embedded.Address)
	if err != nil {
		return fmt.Errorf("embedded.address: %w", err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("embedded.address: %s is not a loopback address: the embedded engine has no password", c.Embedded.Address)
	}
	return nil
}
