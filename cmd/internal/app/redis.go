package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/paybell/paybell/gateway"
	"github.com/paybell/paybell/streams"
)

// checkTimeout bounds the question how well the server keeps what it confirms.
const checkTimeout = 5 * time.Second

// buildRedis opens the client that writes and settles, to the configured server or
// to the engine inside the process.
func (a *App) buildRedis(ctx context.Context) error {
	if a.cfg.EmbeddedRedis() {
		engine, err := startEmbedded(a.cfg.Embedded.Address)
		if err != nil {
			return err
		}
		a.closeLast("embedded engine", func() error { engine.Close(); return nil })
		a.cfg.Streams.Redis.Address = engine.Addr()
		a.embedded = true
		a.log.Info("embedded engine: for trying out and for tests", "redis", engine.Addr(), "journal", a.cfg.Journal.Mode)
		if a.cfg.Journal.Mode == gateway.JournalRefuse {
			a.log.Warn("embedded engine without a journal: a restart forgets what it holds")
		}
	}
	a.durability = streams.NewWatch(a.cfg.Streams, a.log, a.reg)
	a.deployment = streams.NewDeployment(a.layout)
	client, err := streams.NewWriteClient(a.cfg.Streams, a.durability.Look, a.deployment.Look)
	if err != nil {
		return err
	}
	a.closeLast("redis", client.Close)
	a.redis = a.seams.redis(client)
	return a.watchDurability(ctx)
}

// redisTime is Redis's own clock.
func (a *App) redisTime(ctx context.Context) (time.Time, error) { return a.redis.Time(ctx).Result() }

// ready reports whether a callback can be kept now.
func (a *App) ready(ctx context.Context) error {
	var err error
	if a.embedded {
		err = a.redis.Ping(ctx).Err()
	} else {
		err = streams.Writable(ctx, a.redis) // a server may answer and take nothing
	}
	if err == nil {
		err = a.durability.Err()
	}
	if problem := a.partitions.Load(); problem != nil {
		err = problem
	}
	a.redisAway.Store(err != nil)
	switch {
	case a.keeper == nil:
	case a.embedded:
		err = errors.Join(err, a.keeper.Ready())
	case err != nil:
		if full := a.keeper.Ready(); full != nil {
			err = errors.Join(err, full)
		} else {
			err = nil
		}
	}
	if err != nil {
		return readyError{fmt.Errorf("neither redis nor journal keeps a callback: %w", err)}
	}
	return nil
}

// broken says in public what a server lacks of what is promised; "" where it lacks nothing.
func broken(err error) string {
	if breach, ok := errors.AsType[*streams.BreachError](err); ok {
		return "redis does not keep what is promised: " + breach.Lacks
	}
	if errors.Is(err, streams.ErrDurability) {
		return "redis does not keep what is promised"
	}
	return ""
}

// readyError keeps internals off the public listener.
type readyError struct{ error }

// PublicReason is what /readyz says.
func (e readyError) PublicReason() string {
	if problem, ok := errors.AsType[*partitionsError](e.error); ok {
		return problem.words + ", and no journal keeps callbacks"
	}
	if text := broken(e.error); text != "" {
		return text + ", and no journal keeps callbacks"
	}
	return "redis is away and no journal keeps callbacks"
}

func (e readyError) Unwrap() error { return e.error }
