// Package app is the paybell process as a value: it builds the door, the workers
// and what they stand on from a configuration, runs them, and stops them in the
// order in which nothing is lost.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/paybell/paybell/configs"
	"github.com/paybell/paybell/gateway"
	"github.com/paybell/paybell/gateway/admin"
	"github.com/paybell/paybell/handlers/effects"
	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/workers"
)

// ConfigError is what an operator cures in the configuration.
type ConfigError struct{ Err error }

// Error implements error.
func (e *ConfigError) Error() string { return e.Err.Error() }

// Unwrap returns the problems, which may be joined.
func (e *ConfigError) Unwrap() error { return e.Err }

// Role says which halves of paybell a process is.
type Role struct{ Gateway, Workers bool }

// App is one process. Build it with New, run it once with Run.
type App struct {
	cfg *configs.Config
	// asked is cfg as it was read, before bounds were made of it.
	asked   configs.Config
	role    Role
	log     *slog.Logger
	version string
	reg     *prometheus.Registry

	seams  seams
	layout streams.Layout
	redis  streams.Client
	// deployment is what Redis, database and journal have to agree on; identified is
	// closed when they were seen to.
	deployment *streams.Deployment
	identified chan struct{}
	// agree compares them once more, and gives a Redis that lost its record what it held.
	agree func(context.Context) error
	// reminded is why the last try of that failed.
	reminded string
	// databaseAway is why the database could not be asked at the start.
	databaseAway error
	// waits is why the groups do not run yet; nil when they do.
	waits atomic.Pointer[error]
	// durability watches whether the server keeps what is promised.
	durability *streams.Watch
	embedded   bool
	accounts   []gateway.Account
	door       *gateway.Gateway // nil without a gateway
	admin      *admin.Admin
	// keyEnds is when keys end; nil without a gateway.
	keyEnds *prometheus.GaugeVec
	writer  *streams.Writer
	keeper  *gateway.Keeper // nil without a journal
	pool    *workers.Pool   // nil without workers
	ledger  *streams.Ledger // nil where no group is declared
	// redisAway is what the last question of /readyz found.
	redisAway atomic.Bool
	// partitions is what is wrong with their number, in words; nil while nothing is.
	partitions atomic.Pointer[partitionsError]
	parts      []part
	cleanups   []cleanup
	close      func() error

	public, operator net.Listener
}

// New builds the process: it reads secrets, opens listeners and connections, and
// starts nothing but the embedded engine. When it fails, all is closed again.
func New(ctx context.Context, cfg *configs.Config, role Role, log *slog.Logger, version string) (_ *App, err error) {
	a := &App{cfg: cfg, asked: *cfg, role: role, log: log, version: version, reg: prometheus.NewRegistry(), seams: newSeams()}
	a.close = sync.OnceValue(func() error { return runCleanups(a.cleanups) })
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Close())
		}
	}()
	a.reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if a.accounts, err = Preflight(ctx, cfg, role, a.seams.now); err != nil {
		return nil, err
	}
	a.accounts = a.seams.accounts(a.accounts)
	notes, err := Size(cfg, role)
	if err != nil {
		return nil, err
	}
	for _, note := range notes {
		log.Warn("a bound is lower than configured", "bound", note)
	}
	if role.Gateway && len(a.accounts) == 0 {
		return nil, &ConfigError{errNoAccounts} // nobody has made the sandbox's
	}
	if role.Gateway {
		if err := a.watchKeys(); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("data_dir: %w", err)
	}
	if err := followPartitions(ctx, cfg, log); err != nil {
		return nil, err
	}
	if a.layout, err = streams.NewLayout(cfg.Streams.Prefix, cfg.Streams.Partitions); err != nil {
		return nil, fmt.Errorf("streams: %w", err)
	}
	if err := a.buildRedis(ctx); err != nil {
		return nil, err
	}
	a.writer = streams.NewWriter(a.redis, a.layout, cfg.Streams.Writer, a.reg)
	a.writer.Guard(a.durability.Err)
	a.writer.Belongs(a.deployment)
	a.add("writer", a.writer.Run)
	if err := a.watchPartitions(); err != nil {
		return nil, err
	}
	var store *effects.Store
	if role.Workers {
		if store, err = a.openStore(ctx); err != nil {
			return nil, err
		}
	}
	if err := a.buildAdmin(ctx, store); err != nil {
		return nil, err
	}
	if role.Workers {
		if err := a.buildGroups(store); err != nil {
			return nil, err
		}
	}
	if role.Gateway {
		if err := a.buildGateway(ctx); err != nil {
			return nil, err
		}
	}
	if err := a.identify(ctx, store); err != nil {
		return nil, err
	}
	return a, nil
}

// Addr is where callbacks are received; nil without a gateway.
func (a *App) Addr() net.Addr { return addrOf(a.public) }

// AdminAddr is the operator's door.
func (a *App) AdminAddr() net.Addr { return addrOf(a.operator) }

// Embedded reports whether an engine inside the process stands in for Redis.
func (a *App) Embedded() bool { return a.embedded }

func addrOf(l net.Listener) net.Addr {
	if l == nil {
		return nil
	}
	return l.Addr()
}

// Export shows a metric of what is outside the process's parts.
func (a *App) Export(c prometheus.Collector) error {
	if err := a.reg.Register(c); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	return nil
}

// Run serves until ctx ends or a part fails, then stops: the door closes and
// drains, reading stops, attempts finish within their grace, what is left stays
// pending, connections are closed.
func (a *App) Run(ctx context.Context) error {
	err := runParts(ctx, a.log, a.parts)
	return errors.Join(err, a.Close())
}

// Close closes what New opened. Run has closed it when it returns; Close is for an App
// that is not run. Calling it again does nothing.
func (a *App) Close() error { return a.close() }

func (a *App) add(name string, run func(context.Context) error) {
	a.parts = append(a.parts, part{name, run})
}

// closeListener closes what nobody may have served on.
func (a *App) closeListener(name string, l net.Listener) {
	a.closeLast(name, func() error {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
}

func (a *App) closeLast(name string, do func() error) {
	a.cleanups = append(a.cleanups, cleanup{name, do})
}
