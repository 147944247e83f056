package app

import (
	"context"
	"errors"
	"log/slog"

	"github.com/paybell/paybell/streams"
)

// watchDurability refuses a server that cannot keep what the configuration
// promises, or is not reached for a wrong setting, and goes on watching one that can. A
// server that is away is no reason not to start: callbacks go to the journal or get
// their retryable reply, and it is asked again.
func (a *App) watchDurability(ctx context.Context) error {
	if err := ask(ctx, a.deployment, a.durability, a.redis, a.cfg.Streams, a.log); err != nil {
		return err
	}
	a.add("durability", func(ctx context.Context) error { return a.durability.Run(ctx, a.redis) })
	return nil
}

// ask asks a server for the first time whether it keeps what the options promise; one
// that does not is a ConfigError, and so is one of another layout or deployment, and a
// connection that the settings do not allow. One that is away has not answered, and until
// it does nothing that the watch guards is appended.
func ask(ctx context.Context, deployment *streams.Deployment, watch *streams.Watch, rdb streams.Client, o streams.Options, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	err := watch.Check(ctx, rdb)
	if mismatch(err) {
		err = deployment.Verify(ctx, rdb) // the same without the words of a server that is away
	}
	switch {
	case errors.Is(err, streams.ErrDurability), mismatch(err):
		return &ConfigError{err}
	case err != nil:
		if wrong := streams.Misconfigured(ctx, o, err); wrong != nil {
			return &ConfigError{wrong}
		}
		log.Error("redis is away", "address", o.Redis.Address, "err", err)
	}
	return nil
}
