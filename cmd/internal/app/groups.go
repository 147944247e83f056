package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/paybell/paybell/handlers"
	"github.com/paybell/paybell/handlers/effects"
	"github.com/paybell/paybell/handlers/eventlog"
	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/workers"
)

// openStore opens the database. A SQLite file belongs to this process and is
// migrated by it; a shared database is migrated on purpose, by the migrate command.
func (a *App) openStore(ctx context.Context) (*effects.Store, error) {
	store, err := effects.Open(ctx, a.cfg.Database, effects.Deps{Logger: a.log, Registerer: a.reg, Now: a.seams.now})
	if err != nil {
		return nil, databaseError(err)
	}
	a.closeLast("database", store.Close)
	if store.Dialect() == effects.SQLite {
		_, err = store.Migrate(ctx)
		return store, err
	}
	switch err = checkMigrated(ctx, store); {
	case errors.Is(err, effects.ErrAway) && effects.Misconfigured(err) == nil:
		// The door opens all the same, and the groups pause until the database is back.
		a.log.Error("the database is away", "err", err)
		a.databaseAway = err
	case err != nil:
		return nil, databaseError(err)
	}
	a.add("database", func(ctx context.Context) error { return a.watchDatabase(ctx, store) })
	return store, nil
}

// databaseError makes an error that the configuration cures a ConfigError.
func databaseError(err error) error {
	if wrong := effects.Misconfigured(err); wrong != nil {
		return &ConfigError{wrong}
	}
	return err
}

// checkMigrated asks once, and not for long: a database that hangs is away, too.
func checkMigrated(ctx context.Context, store *effects.Store) error {
	asking, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	err := store.CheckMigrated(asking)
	if asking.Err() != nil && ctx.Err() == nil && err != nil && !errors.Is(err, effects.ErrNotMigrated) {
		return fmt.Errorf("%w: %w", effects.ErrAway, err)
	}
	return err
}

// watchEvery is how often a database is asked whether its schema still is one to write to.
const watchEvery = 5 * time.Second

// watchDatabase looks at the schema until ctx ends: somebody may migrate it under a build
// that then does not know it. The groups pause for as long as that is so, and nothing that
// the database answers ends the process, whose door keeps callbacks without it.
func (a *App) watchDatabase(ctx context.Context, store *effects.Store) error {
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	told := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		err := checkMigrated(ctx, store)
		text := ""
		if err != nil {
			if wrong := effects.Misconfigured(err); wrong != nil {
				err = wrong
			}
			text = err.Error()
		}
		if text == told || ctx.Err() != nil {
			continue
		}
		if told = text; err != nil {
			a.log.Error("groups cannot use the database", "err", err)
		} else {
			a.log.Info("groups can use the database again")
		}
	}
}

// group is one built-in group that is enabled.
type group struct {
	name    string
	options workers.Options
}

func (a *App) enabledGroups() []group {
	g := a.cfg.Groups
	var out []group
	for _, c := range []struct {
		enabled bool
		group
	}{
		{g.OrderStatus.Enabled, group{handlers.OrderStatus, g.OrderStatus.Worker}},
		{g.Points.Enabled, group{handlers.Points, g.Points.Worker}},
		{g.EventLog.Enabled, group{handlers.EventLog, g.EventLog.Worker}},
	} {
		if c.enabled {
			out = append(out, c.group)
		}
	}
	return out
}

// buildGroups makes a pool of the enabled groups.
func (a *App) buildGroups(store *effects.Store) error {
	enabled := a.enabledGroups()
	reader, err := streams.NewReadClient(a.cfg.Streams)
	if err != nil {
		return err
	}
	feed := streams.NewFeed(reader, a.layout, a.cfg.Streams.Block)
	a.closeLast("redis reader", func() error {
		defer feed.Close() // its waits end with the client
		return reader.Close()
	})
	leases, err := streams.NewLeaseClient(a.cfg.Streams, a.deployment.Look)
	if err != nil {
		return err
	}
	a.closeLast("redis leases", leases.Close)
	recovery := a.buildRecovery(store)
	pool := workers.NewPool(a.log, a.reg, time.Now)
	bytes := prefetchBytes(a.cfg.Groups.PrefetchBytes, a.memory())
	feed.Bound(bytes / feedShare)
	pool.Bound(bytes - bytes/feedShare)
	a.log.Info("prefetch of all groups together", "bytes", bytes)
	a.pool = pool
	for _, g := range enabled {
		log, err := streams.NewGroup(a.redis, feed, a.layout, g.name, a.cfg.Instance, a.cfg.Streams.Group(), a.log, a.reg)
		if err != nil {
			return err
		}
		log.LeaseBy(a.seams.redis(leases))
		h, err := handlers.Builtin(g.name, handlers.Deps{Store: store, Points: a.cfg.Groups.Points.Award, Registerer: a.reg, Logger: a.log, Step: a.seams.step})
		if err != nil {
			return fmt.Errorf("group %s: %w", g.name, err)
		}
		watch := workers.Watch{Store: h, Recover: recovery}
		if err := pool.AddEffects(a.seams.log(workers.On(log)), a.seams.handler(h), watch, g.options); err != nil {
			return err
		}
	}
	if err := a.buildTrimmer(enabled); err != nil {
		return err
	}
	a.add("groups", a.whenIdentified(pool.Run))
	if !a.cfg.Groups.EventLog.Enabled {
		return nil
	}
	purger, err := eventlog.NewPurger(store, a.cfg.Groups.EventLog.Keep, eventlog.PurgerDeps{
		Logger: a.log, Registerer: a.reg, Clocks: map[string]func(context.Context) (time.Time, error){"redis": a.redisTime},
	})
	if err != nil {
		return err
	}
	a.add("event log retention", a.whenIdentified(purger.Run))
	return nil
}

// buildRecovery is what is done about entries that Redis has lost. The embedded engine
// has none of them after a restart, and its journal brings them again.
func (a *App) buildRecovery(store *effects.Store) func(ctx context.Context, partition int, since, until time.Time) error {
	if a.embedded {
		return nil
	}
	var reader *eventlog.Reader
	if a.cfg.Groups.EventLog.Enabled {
		reader = eventlog.NewReader(store)
	}
	return newRecovery(a.cfg, reader, a.writer, a.log).run
}

// buildTrimmer makes worker processes trim: they are where groups get done with
// entries. With no group declared, nobody could be waited for, and nothing is trimmed.
func (a *App) buildTrimmer(enabled []group) error {
	own := make([]string, len(enabled))
	for i, g := range enabled {
		own[i] = g.name
	}
	if len(own)+len(a.cfg.Streams.DeclaredGroups) == 0 {
		a.log.Warn("no group is declared, so the streams are not trimmed")
		return nil
	}
	o := a.cfg.Streams.Trim()
	if a.embedded {
		o.Keep.Age = 0 // all that it has is gone with the process
	}
	trim, err := streams.NewTrimmer(a.redis, a.layout, own, a.cfg.Streams.DeclaredGroups, o, a.log, a.reg)
	if err != nil {
		return err
	}
	if a.ledger != nil {
		a.add("ledger", a.ledger.Run)
	}
	a.add("trimmer", a.whenIdentified(a.seams.trimmer(trim.Run, a.redis, a.layout)))
	return nil
}
